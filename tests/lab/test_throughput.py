"""Forty thousand machines come and go, through the real registry, the real writer and the real dhcpd."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from contract.dhcpd_site import Site, open_site, pool_of
from contract.writing import Controller, hosts_named
from labkit.wait import until
from macbind.core.allocation import State
from macbind.core.findings import DhcpdState
from macbind.engine.confirmations import Waiter
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.queries import find, usage
from macbind.registry.release import release

POOL = pool_of("10.4.0.0/15")
BATCHES, PER_BATCH = 8, 5_000
DEADLINE_S = 400.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A dhcpd that knows nobody."""
    with open_site(tmp_path) as site:
        yield site


@pytest.fixture
def controller(tmp_path: Path, site: Site) -> Iterator[Controller]:
    """A registry and a writer that serves."""
    with Controller(tmp_path, POOL, site.server(), busy_timeout_s=60.0) as controller:
        controller.wait_state(DhcpdState.SERVING)
        yield controller


def bind(controller: Controller, names: Sequence[str], group: str) -> Waiter:
    """Allocates in one transaction; the waiter is told when dhcpd has confirmed all of it."""
    waiter = Waiter()
    with controller.registry.write("test") as txn:
        for one in allocate(txn, Wanted(POOL.name, tuple(names), group=group)):
            controller.confirmations.expect_bound(waiter, one, ["main"])
    controller.writer.wake()
    return waiter


def free(controller: Controller, group: str) -> Waiter:
    """Releases in one transaction; the waiter is told when dhcpd has confirmed all of it."""
    waiter = Waiter()
    with controller.registry.write("test") as txn:
        for one in release(txn, group=group):
            controller.confirmations.expect_gone(waiter, one, ["main"])
    controller.writer.wake()
    return waiter


@pytest.mark.timeout(900)
def test_forty_thousand_machines_come_and_go(site: Site, controller: Controller) -> None:
    """40,000 addresses are bound and released in batches; dhcpd lives through it, and nothing remains."""
    pid = site.dhcpd.pid
    groups = {f"g{number}": hosts_named(PER_BATCH, f"vm{number}-") for number in range(BATCHES)}
    for waiter in [bind(controller, names, group) for group, names in groups.items()]:
        waiter.future.result(DEADLINE_S)
    with controller.registry.read() as view:
        assert usage(view, POOL.name).allocated == BATCHES * PER_BATCH
        last = find(view, names=["vm7-4999"])[0]
    assert last.state is State.BOUND
    lease = site.machine(last.mac).dora()
    assert lease is not None
    assert lease.address == last.address
    for waiter in [free(controller, group) for group in groups]:
        waiter.future.result(DEADLINE_S)
    assert site.dhcpd.pid == pid
    assert controller.all() == []
    with controller.registry.read() as view:
        assert usage(view, POOL.name).free == POOL.plan.size
    assert controller.agrees_with(site)


@pytest.mark.timeout(900)
def test_ten_thousand_machines_at_once(site: Site, controller: Controller) -> None:
    """A batch of 10,000 is one transaction, and all of it is bound; a restarted dhcpd gets it all again."""
    bind(controller, hosts_named(10_000), "all").future.result(DEADLINE_S)
    with controller.registry.read() as view:
        assert usage(view, POOL.name).allocated == len(find(view, group="all")) == 10_000
    assert controller.agrees_with(site)
    before = controller.writer.status().compared_at
    site.dhcpd.kill()
    site.dhcpd.restart(keep_leases=False)
    until(lambda: controller.writer.status().compared_at != before, DEADLINE_S, "all to be compared again")
    controller.wait_settled(DEADLINE_S)
    assert controller.agrees_with(site)
