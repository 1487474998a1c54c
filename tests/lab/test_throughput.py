"""A hundred thousand machines come and go, through the real registry, the real writer and the real dhcpd."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.dhcpd_site import Site, open_site, pool_of
from contract.writing import Controller, hosts_named
from labkit.wait import until
from macbind.model import DhcpdState, State
from macbind.registry.transaction import Wanted

POOL = pool_of("10.4.0.0/15")
MACHINES, PER_BATCH = 100_000, 5_000
DEADLINE_S = 240.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A dhcpd that knows nobody."""
    with open_site(tmp_path) as site:
        yield site


@pytest.fixture
def controller(tmp_path: Path, site: Site) -> Iterator[Controller]:
    """A registry and a writer that serves."""
    with Controller(tmp_path, POOL, site.server()) as controller:
        controller.wait_state(DhcpdState.SERVING)
        yield controller


def wait_backlog(controller: Controller, most: int) -> None:
    """Waits until dhcpd has yet to confirm at most so many addresses."""

    def is_small() -> bool:
        assert controller.defects == []
        with controller.registry.read() as view:
            return view.backlog("main") <= most

    until(is_small, DEADLINE_S, f"the backlog to shrink to {most}")


@pytest.mark.timeout(300)
def test_a_hundred_thousand_machines_come_and_go(site: Site, controller: Controller) -> None:
    """100,000 addresses are bound and released in batches; dhcpd lives through it, and nothing remains."""
    pid = site.dhcpd.pid
    groups = [f"g{number}" for number in range(MACHINES // PER_BATCH)]
    for group in groups:
        with controller.registry.write("test") as txn:
            txn.allocate(Wanted(POOL.name, tuple(hosts_named(PER_BATCH, f"{group}-")), group=group))
        controller.writer.wake()
    wait_backlog(controller, 0)
    with controller.registry.read() as view:
        assert view.usage(POOL.name).allocated == MACHINES
        last = view.find(group=groups[-1])[-1]
    assert last.state is State.BOUND
    lease = site.machine(last.mac).dora()
    assert lease is not None
    assert lease.address == last.address
    for group in groups:
        with controller.registry.write("test") as txn:
            txn.release(group=group)
        controller.writer.wake()
    wait_backlog(controller, 0)
    assert site.dhcpd.pid == pid
    assert controller.all() == []
    with controller.registry.read() as view:
        assert view.usage(POOL.name).free == POOL.plan.size
    assert controller.agrees_with(site)


@pytest.mark.timeout(120)
def test_ten_thousand_machines_at_once(site: Site, controller: Controller) -> None:
    """A batch of 10,000 is one transaction, and all of it is bound; a restarted dhcpd gets it all again."""
    made = controller.allocate(*hosts_named(10_000))
    assert len({one.address for one in made}) == len({one.mac for one in made}) == 10_000
    wait_backlog(controller, 0)
    assert controller.agrees_with(site)
    site.dhcpd.kill()
    site.dhcpd.restart(keep_leases=False)
    controller.wait_state(DhcpdState.COMPARING)
    controller.wait_settled(DEADLINE_S)
    assert controller.agrees_with(site)
