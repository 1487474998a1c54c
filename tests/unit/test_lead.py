"""The lead of a DHCP server: kept for a moment, given up without reach, taken again with it, handed over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from typing_extensions import override

from labkit.wait import until
from macbind.core.address_plan import AddressPlan
from macbind.core.binding import Binding
from macbind.core.binding_plan import Change
from macbind.core.errors import DhcpdUnavailable, MacbindError, RegistryUnavailable
from macbind.core.evidence import Evidence
from macbind.dhcp.port import Audit, DhcpServer, HealthWatch
from macbind.engine import lead as leads
from macbind.engine.lead import Alone, LeadHolder, Others
from macbind.registry.leader import FileLeader

AWAY = DhcpdUnavailable("It cannot be reached.")


class Server(DhcpServer):
    """A server that can be reached or not, and does nothing."""

    name = "d1"

    def __init__(self) -> None:
        self.is_reached = True
        self.connects = 0

    @override
    def connect(self) -> None:
        self.connects += 1
        if not self.is_reached:
            raise AWAY

    @override
    def close(self) -> None:
        pass

    @override
    def fileno(self) -> int:
        raise NotImplementedError

    @override
    def observe(self, macs: Sequence[object]) -> list[Binding | None]:
        raise NotImplementedError

    @override
    def apply(self, changes: Sequence[Change]) -> list[MacbindError | None]:
        raise NotImplementedError

    @override
    def audit(self, plans: Sequence[AddressPlan], pause: Callable[[float], object]) -> Audit | None:
        raise NotImplementedError

    @override
    def still_has(self, plans: Sequence[AddressPlan], gone: Sequence[Evidence]) -> list[bool]:
        raise NotImplementedError

    @override
    def forget(self, names: Sequence[str]) -> int:
        raise NotImplementedError

    @override
    def health(self) -> HealthWatch:
        raise NotImplementedError


class Company(Others):
    """Others who claim what they are told to; counts what they are told."""

    def __init__(self) -> None:
        self.is_claiming = self.is_behind = False
        self.news = 0

    @override
    def claims(self, dhcpd: str) -> bool:
        return self.is_claiming

    @override
    def may_claim(self, dhcpd: str) -> bool:
        return self.is_behind

    @override
    def look_soon(self) -> None:
        self.news += 1


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[FileLeader]:
    """A rival's hand on the same lock."""
    lock = FileLeader(tmp_path / "lock")
    yield lock
    lock.release()


@pytest.fixture
def server() -> Server:
    """A server that is reached."""
    return Server()


@pytest.fixture
def lead(tmp_path: Path, server: Server) -> Iterator[LeadHolder]:
    """The lead of that server, which nobody has."""
    lead = LeadHolder(server, FileLeader(tmp_path / "lock"), Alone())
    yield lead
    lead.let_go()


def lose(lead: LeadHolder, server: Server) -> None:
    """Loses a server for so long that the lead is given up."""
    server.is_reached = False

    def is_lost() -> bool:
        lead.broke(AWAY)
        return not lead.is_held

    until(is_lost, 30, "the lead to be given up")


def test_lead_is_kept_while_a_server_starts_anew(
    lead: LeadHolder, lock: FileLeader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was well a moment ago is not given up at once."""
    monkeypatch.setattr(leads, "PATIENCE_S", 3600.0)
    assert lead.take()
    lead.reach()
    lead.check()
    lead.broke(AWAY)
    assert lead.is_held
    assert not lock.acquire()


def test_server_that_was_never_reached_is_left_to_others_at_once(
    lead: LeadHolder, server: Server, lock: FileLeader
) -> None:
    """It was never well."""
    server.is_reached = False
    assert lead.take()
    with pytest.raises(DhcpdUnavailable):
        lead.reach()
    lead.broke(AWAY)
    assert not lead.is_held
    assert lock.acquire()


def test_who_has_lost_a_server_reaches_it_before_it_leads_again(
    lead: LeadHolder, server: Server, lock: FileLeader
) -> None:
    """Until then the lock is free for others, and is taken only if they have not."""
    assert lead.take()
    lead.check()
    lose(lead, server)
    with pytest.raises(DhcpdUnavailable):
        lead.take()
    assert lock.acquire()
    server.is_reached = True
    assert not lead.take(), "the other one leads by now"
    lock.release()
    server.connects = 0
    assert lead.take()
    lead.reach()
    assert server.connects == 1, "whoever was reached again stands by as anybody, and connects once"


def test_registry_that_is_away_says_nothing_about_the_server(lead: LeadHolder, server: Server) -> None:
    """The next try takes the lock first, as ever."""
    assert lead.take()
    lead.broke(RegistryUnavailable("It is away."))
    assert not lead.is_held
    assert lead.take()
    assert server.connects == 0


def test_lead_is_handed_over_to_who_claims_it(tmp_path: Path, server: Server, lock: FileLeader) -> None:
    """Nobody else takes it meanwhile; what changes is told."""
    company = Company()
    lead = LeadHolder(server, FileLeader(tmp_path / "lock"), company)
    assert lead.take()
    assert not lead.is_claimed
    company.is_claiming = True
    assert lead.is_claimed
    lead.hand_over()
    assert (lead.is_held, company.news) == (False, 2)
    assert lock.acquire()


def test_server_that_should_be_led_is_claimed_if_it_is_reached(
    tmp_path: Path, server: Server, lock: FileLeader
) -> None:
    """And no longer when there is no reason, or when it is led."""
    company, stopping = Company(), threading.Event()
    stopping.set()
    lead = LeadHolder(server, FileLeader(tmp_path / "lock"), company)
    assert lock.acquire()
    assert not lead.take()
    lead.look_soon()
    lead.wait(stopping)
    assert (lead.is_wanted, server.connects) == (False, 0)
    company.is_behind = True
    server.is_reached = False

    def wants() -> bool:
        lead.look_soon()
        lead.wait(stopping)
        return lead.is_wanted

    assert not wants()
    server.is_reached = True
    until(wants, 30, "the server to be looked for again")
    company.is_behind = False
    assert not wants()
    company.is_behind = True
    until(wants, 30, "the server to be looked for again")
    lock.release()
    assert lead.take()
    assert not lead.is_wanted
    lead.let_go()
