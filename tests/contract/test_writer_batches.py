"""How much a writer does at a time, and what it asks of a server that has nothing to do."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typing_extensions import override

from contract.book import make_pool
from contract.dhcpd_site import Site, open_site
from contract.relay import Relay
from contract.writing import Controller, hosts_named
from labkit.wait import until
from macbind.core.allocation import State
from macbind.core.binding_plan import Change, Ensure, Remove
from macbind.core.errors import MacbindError
from macbind.core.findings import DhcpdState
from macbind.dhcp.port import DhcpServer
from macbind.engine import dhcp_writer

POOL = make_pool(subnet="10.0.0.0/8", ranges=["10.1.1.3-10.1.9.250"], dhcpds=("main",))
MANY = 200


class Slow(Relay):
    """Notes what each batch is made of; a batch of removals waits until it is let through."""

    def __init__(self, inner: DhcpServer) -> None:
        super().__init__(inner)
        self.batches: list[tuple[int, int]] = []
        self.removing, self.passes = threading.Event(), threading.Event()

    @override
    def apply(self, changes: Sequence[Change]) -> list[MacbindError | None]:
        removals = sum(isinstance(one, Remove) for one in changes)
        self.batches.append((sum(isinstance(one, Ensure) for one in changes), removals))
        if removals:
            self.removing.set()
            assert self.passes.wait(60)
        return self.inner.apply(changes)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A dhcpd without a dynamic range."""
    with open_site(tmp_path) as site:
        yield site


def test_a_new_binding_waits_for_no_more_than_a_small_batch(tmp_path: Path, site: Site) -> None:
    """Of many removals that are due before it, only those that are on their way already."""
    server = Slow(site.server())
    with Controller(tmp_path, POOL, server) as controller:
        names = hosts_named(MANY)
        controller.allocate(*names)
        controller.wait_settled(60)
        controller.release(*names)
        assert server.removing.wait(60)
        controller.allocate("new")
        server.passes.set()
        controller.wait_settled(60)
        assert controller.states() == {"new": State.BOUND}
    first = next(index for index, (_, removals) in enumerate(server.batches) if removals)
    assert server.batches[first] == (0, dhcp_writer.FIRST_REMOVALS)
    ensured, removed = server.batches[first + 1]
    assert ensured == 1
    assert removed <= 2 * dhcp_writer.FIRST_REMOVALS
    assert sum(removals for _, removals in server.batches) == MANY


def test_an_idle_connection_is_looked_at(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is silent without having closed the connection is found out although nobody asks for anything."""
    monkeypatch.setattr(dhcp_writer, "LOOK_S", 0.2)
    with Controller(tmp_path, POOL, site.server(timeout_s=1.0)) as controller:
        controller.wait_state(DhcpdState.SERVING)
        site.dhcpd.freeze()
        controller.wait_state(DhcpdState.UNAVAILABLE, 60)
        site.dhcpd.thaw()
        controller.wait_state(DhcpdState.SERVING, 60)


@pytest.mark.parametrize(
    ("size", "removals", "seconds", "following"),
    [
        (64, 64, 0.1, 128),
        (64, 20, 0.1, 64),
        (64, 64, 0.4, 64),
        (64, 64, 3.0, 32),
        (64, 10, 3.0, 5),
        (64, 3, 3.0, dhcp_writer.FEWEST_REMOVALS),
        (1000, 1000, 0.1, 1000),
        (64, 0, 9.0, 64),
    ],
)
def test_the_next_batch_suits_the_last_one(
    tmp_path: Path, site: Site, size: int, removals: int, seconds: float, following: int
) -> None:
    """Larger after a quick one that was full, smaller after a long one, and never above the largest."""
    controller = Controller(tmp_path, POOL, site.server())
    controller.writer._removals = size
    controller.writer._suit(removals, seconds)
    assert controller.writer._removals == following
    controller.registry.close()


def test_the_wake_is_not_lost(tmp_path: Path, site: Site) -> None:
    """What becomes due while a batch of removals is on its way is done, whoever is first to notice."""
    server = Slow(site.server())
    server.passes.set()
    with Controller(tmp_path, POOL, server) as controller:
        for number in range(20):
            names = hosts_named(30, f"r{number}-")
            controller.allocate(*names)
            controller.release(*names)
            controller.allocate(f"stays-{number}")
        until(lambda: set(controller.states().values()) == {State.BOUND}, 60, "all to be done")
        assert len(controller.states()) == 20
