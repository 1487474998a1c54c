"""Calls that are repeated wait only for those DHCP servers that have not confirmed yet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from contract.book import Book, make_pool
from labkit.wait import until
from macbind.core.allocation import Allocation, State
from macbind.core.errors import DhcpdUnavailable
from macbind.core.pool import Confirm
from macbind.dhcp.isc.connection import OmapiClient, tcp
from macbind.dhcp.isc.server import IscDhcpd
from macbind.engine.confirmations import Confirmations
from macbind.engine.dhcp_writer import DhcpWriter
from macbind.engine.group_commit import GroupCommitter
from macbind.engine.last_seen import LastSeen
from macbind.registry.allocate import Wanted
from macbind.registry.leader import leader_for
from macbind.registry.pending_changes import PendingChange
from macbind.service.addresses import Addresses
from macbind.service.changes import KNOWN_AWAY_S, Changes
from macbind.service.machines_seen import MachinesSeen
from macbind.service.peers import Peers
from macbind.service.waiting import Deadline

TWO = ("d1", "d2")
LATE_S, SOON_S = 0.05, 60.0
"""A deadline that ends before anybody confirms, and one that is only met if nobody else is waited for."""


@dataclass
class Desk:
    """The use cases on a registry with a pool of two DHCP servers, the first of which is quick."""

    book: Book
    confirmations: Confirmations
    addresses: Addresses
    writers: dict[str, DhcpWriter]

    async def while_the_second_confirms(
        self, call: Coroutine[Any, Any, Any], one: Allocation, generation: int | None
    ) -> Any:
        """Makes a call; the second DHCP server confirms and reports when the call has begun to wait."""
        calling = asyncio.create_task(call)
        await asyncio.to_thread(until, self._waits_or_is(calling), SOON_S, "the call to wait")
        self.book.confirm("d2")
        self.confirmations.confirmed("d2", [PendingChange(one.address, 1, None, generation)])
        return await calling

    def _waits_or_is(self, calling: asyncio.Task[Any]) -> Callable[[], bool]:
        return lambda: bool(self.confirmations._waiting) or calling.done()


@pytest.fixture
def desk(book: Book) -> Iterator[Desk]:
    """A desk; released addresses rest, so their rows stay."""
    book.open(make_pool(dhcpds=TWO, cooldown_s=600), dhcpds=TWO)
    committer, confirmations = GroupCommitter(book.registry, lambda: None), Confirmations()
    committer.start()
    writers: dict[str, DhcpWriter] = {}
    changes = Changes(committer, confirmations, lambda: Peers(writers))
    machines = MachinesSeen(book.registry, Peers, LastSeen())
    yield Desk(book, confirmations, Addresses(book.registry, changes, machines), writers)
    committer.close()


def test_a_repeated_allocation_waits_for_the_slow_server_only(desk: Desk) -> None:
    """The quick one has confirmed long ago and does not report again."""

    async def ask(within_s: float) -> Allocation:
        wanted = Wanted("farm", ("vm",))
        (made,) = await desk.addresses.allocate(wanted, "test", Deadline(within_s))
        return made

    with pytest.raises(DhcpdUnavailable):
        asyncio.run(ask(LATE_S))
    desk.book.confirm("d1")
    (one,) = desk.book.find(names=["vm"])
    made = asyncio.run(desk.while_the_second_confirms(ask(SOON_S), one, one.generation))
    assert (made.state, made.generation) == (State.BOUND, one.generation)


def test_a_repeated_release_waits_for_the_slow_server_only(desk: Desk) -> None:
    """The same for a release."""
    one = desk.book.one("vm")
    desk.book.confirm(*TWO)

    async def ask(within_s: float) -> list[str]:
        released = await desk.addresses.release("test", Deadline(within_s), name="vm")
        return [one.name for one in released.allocations]

    with pytest.raises(DhcpdUnavailable):
        asyncio.run(ask(LATE_S))
    desk.book.confirm("d1")
    assert asyncio.run(desk.while_the_second_confirms(ask(SOON_S), one, None)) == ["vm"]


def begin(desk: Desk, name: str, away_s: float = 0.0) -> None:
    """Adds the writer of a DHCP server that has been away for so long, or is there; it does not run."""
    server = IscDhcpd(name, lambda: OmapiClient(name, tcp("127.0.0.1", 1), None))
    leader = leader_for(desk.book.url, desk.book.registry.ids.dhcpds[name])
    writer = desk.writers[name] = DhcpWriter(server, desk.book.registry, leader, desk.confirmations)
    writer._away_since = time.monotonic() - away_s if away_s else None


@pytest.mark.parametrize("call", ["allocate", "release"])
def test_nobody_waits_for_a_server_that_has_been_away_for_long(desk: Desk, call: str) -> None:
    """A call that needs it fails at once, and what is recorded stays."""
    begin(desk, "d1")
    begin(desk, "d2", KNOWN_AWAY_S + 1)
    if call == "release":
        desk.book.one("vm")
        desk.book.confirm(*TWO)

    async def ask() -> None:
        deadline = Deadline(600)
        asked: Coroutine[Any, Any, object] = desk.addresses.release("test", deadline, name="vm")
        if call == "allocate":
            asked.close()
            asked = desk.addresses.allocate(Wanted("farm", ("vm",)), "test", deadline)
        with pytest.raises(DhcpdUnavailable, match="d2 has not confirmed"):
            await asked
        assert not deadline.is_over

    asyncio.run(ask())
    (one,) = desk.book.find(released=True)
    assert one.state is (State.PENDING if call == "allocate" else State.RELEASING)


def test_one_that_is_there_is_enough(desk: Desk) -> None:
    """With `any`, who waits for the one that is there goes on waiting; the answer says who has confirmed."""
    begin(desk, "d1")
    begin(desk, "d2", KNOWN_AWAY_S + 1)

    async def ask() -> Allocation:
        wanted = Wanted("farm", ("vm",))
        calling = asyncio.create_task(
            desk.addresses.allocate(wanted, "test", Deadline(600), confirm=Confirm.ANY)
        )
        await asyncio.to_thread(until, lambda: bool(desk.book.find()), 60, "the call to be recorded")
        (one,) = await asyncio.to_thread(desk.book.find)
        assert not calling.done()
        await asyncio.to_thread(desk.book.confirm, "d1")
        desk.confirmations.confirmed("d1", [PendingChange(one.address, 1, None, one.generation)])
        return (await calling)[0]

    made = asyncio.run(ask())
    assert (made.state, made.confirmed_by) == (State.PENDING, ("d1",))


def test_one_that_another_controller_serves_is_waited_for(desk: Desk) -> None:
    """It is away from here only: what the other controller records ends the call."""
    begin(desk, "d1")
    begin(desk, "d2", KNOWN_AWAY_S + 1)
    desk.confirmations.is_served_elsewhere = lambda name: name == "d2"

    async def ask() -> Allocation:
        calling = asyncio.create_task(desk.addresses.allocate(Wanted("farm", ("vm",)), "test", Deadline(600)))
        await asyncio.to_thread(until, lambda: bool(desk.book.find()), 60, "the call to be recorded")
        await asyncio.to_thread(desk.book.confirm, *TWO)
        await asyncio.to_thread(desk.confirmations.recheck, desk.book.registry)
        return (await calling)[0]

    assert asyncio.run(ask()).confirmed_by == TWO
