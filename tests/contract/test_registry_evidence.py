"""Addresses that others use are passed over, for as long as they are seen to."""

from __future__ import annotations

import time
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any

import pytest

from contract.book import Book, addresses, ip, make_pool
from macbind.core.allocation import Allocation
from macbind.core.domain import Domain, DomainState, Phase
from macbind.core.errors import AddressInUse, PoolExhausted
from macbind.core.evidence import Evidence, Source
from macbind.core.mac_address import MacAddress
from macbind.core.sizes import Sizes
from macbind.registry import claims, evidence
from macbind.registry.queries import has_chores, usage
from macbind.registry.release import release
from macbind.registry.renumber import begin_renumber
from macbind.service.used_addresses import used_addresses

PRINTER = "aa:bb:cc:00:00:01"


def _used_by_others(book: Book, pool: str = "farm") -> int:
    with book.read() as view:
        return usage(view, pool).used_by_others


def _run(book: Book, one: Allocation, phase: Phase = Phase.RUNNING) -> None:
    """Records that a domain of the hypervisor 'local' uses an allocation."""
    state = DomainState.ACTIVE if phase is Phase.RUNNING else DomainState.OFF
    macs = frozenset({one.mac})
    domain = Domain("uuid-1", "the-domain", "local", state, macs, macs)
    with book.write("libvirt") as txn:
        (claim,) = claims.of_macs(txn, [one.mac])
        assert claims.record(txn, claim, domain, phase)


# -- what allocate does ----------------------------------------------------------------------------------------


def test_an_address_that_a_foreign_host_has_is_passed_over(book: Book) -> None:
    """One machine gets the next address, a group the next ones, and the pool says how many it passes over."""
    book.open(make_pool())
    book.show(book.seen("10.1.1.1"), book.seen("10.1.1.3", "scanner", "aa:bb:cc:00:00:02"))
    assert str(book.one("vm").address) == "10.1.1.2"
    assert addresses(book.allocate("g1", "g2", group="g")) == ["10.1.1.4", "10.1.1.5"]
    assert _used_by_others(book) == 2


def test_an_address_that_somebody_uses_is_refused_by_name(book: Book) -> None:
    """Whoever wants it by address hears who has it, and what shows that; nothing is allocated."""
    book.open(make_pool())
    vm = book.one("vm")
    book.show(book.seen("10.1.1.3"))

    def renumber() -> None:
        with book.write() as txn:
            begin_renumber(txn, "vm", ip("10.1.1.3"), "token", 45)

    for take in (
        lambda: book.one("other", address=ip("10.1.1.3")),
        lambda: book.reserve("other", "10.1.1.3"),
        lambda: book.reserve("other", "10.1.1.3", "aa:bb:cc:00:00:02"),
        renumber,
    ):
        with pytest.raises(
            AddressInUse, match=r"10\.1\.1\.3 is used by 'printer': a host of dhcpd 'd1'"
        ) as error:
            take()
        assert error.value.details["holder"] == "printer"
        assert error.value.details["mac"] == PRINTER
    assert addresses(book.find()) == [str(vm.address)]


def test_an_address_outside_of_the_ranges_that_somebody_uses_is_not_reserved(book: Book) -> None:
    """A reservation may be of any address of the subnet, and evidence counts there, too."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.4"]))
    book.show(book.seen("10.1.1.9"))
    with pytest.raises(AddressInUse, match="printer"):
        book.reserve("pin", "10.1.1.9")
    book.show()
    assert str(book.reserve("pin", "10.1.1.9").address) == "10.1.1.9"


def test_an_admin_says_whose_the_address_is(book: Book) -> None:
    """A reservation for the very MAC that uses the address is made; not while another one uses it, too."""
    book.open(make_pool())
    book.show(book.seen("10.1.1.1"))
    book.show(book.seen("10.1.1.1", "lease", "aa:bb:cc:00:00:02", source=Source.LEASE), source=Source.LEASE)
    with pytest.raises(AddressInUse, match="'lease'"):
        book.reserve("printer", "10.1.1.1", PRINTER)
    until = book.now - timedelta(seconds=1)
    book.show(
        book.seen("10.1.1.1", "lease", "aa:bb:cc:00:00:02", source=Source.LEASE, until=until),
        source=Source.LEASE,
    )
    assert str(book.reserve("printer", "10.1.1.1", PRINTER).mac) == PRINTER
    book.check()
    own = make_pool().plan.scheme.encode(ip("10.1.1.2"))
    book.show(book.seen("10.1.1.2", "old-vm", str(own)))
    assert book.reserve("old", "10.1.1.2").mac == own
    assert _used_by_others(book) == 0
    book.release("printer", pinned=True)
    book.confirm()
    book.show(book.seen("10.1.1.1"))
    assert str(book.one("vm").address) == "10.1.1.3"


def test_a_mac_that_uses_another_address_is_not_bound(book: Book) -> None:
    """One MAC has one address; the message names the address that it uses."""
    book.open(make_pool())
    book.show(book.seen("10.1.1.3"))
    with pytest.raises(AddressInUse, match=f"The MAC {PRINTER} uses 10.1.1.3") as error:
        book.reserve("printer", "10.1.1.9", PRINTER)
    assert error.value.details["holder"] == "printer"


def test_asking_again_finds_what_was_allocated(book: Book) -> None:
    """Evidence against an allocated address takes nothing from its holder, who finds it again."""
    book.open(make_pool())
    vm = book.one("vm")
    book.confirm()
    book.show(book.seen("10.1.1.1"))
    assert book.one("vm").address == vm.address
    assert _used_by_others(book) == 0
    assert str(book.one("next").address) == "10.1.1.2"


def test_an_exhausted_pool_says_how_many_others_use(book: Book) -> None:
    """The admin learns why addresses are missing."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.4"]))
    book.show(*(book.seen(f"10.1.1.{last}", f"h{last}") for last in (2, 3)))
    book.allocate("a", "b")
    with pytest.raises(PoolExhausted) as error:
        book.one("c")
    assert error.value.details["used_by_others"] == 2
    assert "2 are passed over, because others use them" in error.value.hint


# -- how it begins and ends ------------------------------------------------------------------------------------


def test_what_is_no_longer_shown_is_free_again(book: Book) -> None:
    """The lowest address comes back when its last evidence ends, whoever saw it."""
    book.open(make_pool())
    book.show(book.seen("10.1.1.1"), book.seen("10.1.1.2"))
    answer = book.seen("10.1.1.1", PRINTER, source=Source.ANSWER, origin="br0")
    with book.write() as txn:
        evidence.add(txn, [answer, answer])
    book.show(book.seen("10.1.1.2"))
    assert book.evidence() == [f"10.1.1.1 answer {PRINTER}", "10.1.1.2 host printer"]
    assert str(book.one("vm").address) == "10.1.1.3"
    for _ in range(2):  # what is gone is no error
        with book.write() as txn:
            evidence.withdraw(txn, Source.ANSWER, "br0", [ip("10.1.1.1"), ip("10.1.1.9")])
        book.check()
    assert str(book.one("vm2").address) == "10.1.1.1"


def test_sources_and_origins_do_not_withdraw_each_other(book: Book) -> None:
    """Each look speaks for itself only."""
    book.open(make_pool(), dhcpds=["d1", "d2"])
    book.show(book.seen("10.1.1.1"))
    book.show(book.seen("10.1.1.2", origin="d2"), origin="d2")
    book.show(book.seen("10.1.1.3", source=Source.RANGE), source=Source.RANGE)
    book.show(source=Source.LEASE)
    book.show(origin="elsewhere")
    assert len(book.evidence()) == 3
    assert str(book.one("vm").address) == "10.1.1.4"


def test_a_look_that_shows_what_is_known_writes_nothing(book: Book) -> None:
    """`since` stays through changes of the holder; the same look again changes no row."""
    book.open(make_pool())
    book.show(book.seen("10.1.1.1"))
    began = book.now
    book.later(60)
    book.show(book.seen("10.1.1.1"))
    with book.read() as view:
        (one,) = evidence.of_addresses(view, [ip("10.1.1.1"), ip("10.1.1.2")])
    assert (one.since, one.seen_at) == (began, began)
    book.show(book.seen("10.1.1.1", "plotter"))
    with book.read() as view:
        (one,) = evidence.all_of(view, source=Source.HOST, limit=5)
    assert (one.holder, one.since, one.seen_at) == ("plotter", began, book.now)


def test_evidence_with_a_time_ends_by_itself(book: Book) -> None:
    """Housekeeping hears of it, and the address is free then, not before."""
    book.open(make_pool())
    with book.write() as txn:
        evidence.add(
            txn,
            [book.seen("10.1.1.1", source=Source.EXCHANGE, until=book.now + timedelta(seconds=60))],
        )
    for seconds, ended in ((59, False), (1, True)):
        book.later(seconds)
        with book.read() as view:
            assert has_chores(view, book.now) is ended
        with book.write() as txn:
            evidence.expire(txn)
        assert (book.evidence() == []) is ended
    assert str(book.one("vm").address) == "10.1.1.1"


def test_a_lease_that_the_server_forgot_counts_until_its_end(book: Book) -> None:
    """A dhcpd that starts without the range drops its leases, and the machines go on."""
    book.open(make_pool())
    until = book.now + timedelta(seconds=600)
    lease = book.seen("10.1.1.1", "client", source=Source.LEASE, until=until)
    book.show(lease, source=Source.LEASE)
    book.later(300)
    book.show(source=Source.LEASE)
    assert str(book.one("a").address) == "10.1.1.2"
    book.later(301)
    with book.write() as txn:
        evidence.expire(txn)  # it may have been renewed since: a look decides
    assert str(book.one("b").address) == "10.1.1.3"
    book.show(source=Source.LEASE)
    assert str(book.one("c").address) == "10.1.1.1"


def test_a_lease_that_was_given_back_ends_at_once(book: Book) -> None:
    """The server shows it as ended, and nothing is to be waited for."""
    book.open(make_pool())
    lease = book.seen("10.1.1.1", source=Source.LEASE, until=book.now + timedelta(seconds=600))
    book.show(lease, source=Source.LEASE)
    book.later(10)
    book.show(book.seen("10.1.1.1", source=Source.LEASE, until=book.now), source=Source.LEASE)
    assert book.evidence() == []


def test_a_lease_whose_server_cannot_be_looked_at_counts_for_a_day(book: Book) -> None:
    """Nothing is held for ever by a server that is gone."""
    book.open(make_pool())
    book.show(book.seen("10.1.1.1", source=Source.LEASE, until=book.now), source=Source.HOST)
    lease = book.seen("10.1.1.2", source=Source.LEASE, until=book.now + timedelta(seconds=1))
    book.show(lease, source=Source.LEASE)
    book.later(evidence.UNSEEN_LEASE_S + 2)
    with book.write() as txn:
        evidence.expire(txn)
    assert book.evidence() == []


# -- releases --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cooldown_s", [0.0, 30.0])
def test_a_released_address_that_others_use_does_not_become_free(book: Book, cooldown_s: float) -> None:
    """Neither when its rest ends, nor when it would be cut short."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.2"], cooldown_s=cooldown_s))
    book.allocate("a", "b")
    book.confirm()
    book.show(book.seen("10.1.1.1"))
    book.release("a")
    book.confirm()
    with pytest.raises(PoolExhausted):
        book.one("c")
    with pytest.raises(AddressInUse, match="printer"):
        book.one("c", address=ip("10.1.1.1"))
    book.later(31)
    book.sweep()
    book.check()
    with pytest.raises(PoolExhausted):
        book.one("c")
    book.show()
    assert str(book.one("c").address) == "10.1.1.1"


@pytest.mark.parametrize("phase", [Phase.DEFINED, Phase.RUNNING, Phase.HELD, Phase.MIGRATED])
@pytest.mark.parametrize(
    "how", [{"name": "vm"}, {"group": "g"}, {"address": ip("10.1.1.1")}], ids=["name", "group", "address"]
)
def test_an_address_whose_machine_may_still_run_is_not_given_to_the_next(
    book: Book, phase: Phase, how: dict[str, Any]
) -> None:
    """Whoever releases it; the machine's domain is named as the holder."""
    book.open(make_pool(), hypervisors=["local"])
    vm = book.one("vm", group="g")
    _run(book, vm, phase)
    book.release(**how)
    book.confirm()
    assert str(book.one("next").address) == "10.1.1.2"
    with pytest.raises(AddressInUse, match="'the-domain': a domain of the hypervisor 'local'"):
        book.one("other", address=vm.address)
    assert book.reserve("again", "10.1.1.1").mac == vm.mac
    book.release("again", pinned=True)
    book.confirm()
    book.show(source=Source.DOMAIN, origin="local")
    assert str(book.one("other").address) == "10.1.1.1"


@pytest.mark.parametrize("phase", [Phase.HELD, Phase.MIGRATED])
def test_a_machine_that_is_away_counts_until_an_admin_has_had_its_address(book: Book, phase: Phase) -> None:
    """No list of domains ends it; a reservation by hand that ends does, and a refused one does not."""
    book.open(make_pool(), hypervisors=["local"])
    vm = book.one("vm")
    _run(book, vm, phase)
    book.release("vm")
    book.show(source=Source.DOMAIN, origin="local")
    book.confirm()
    assert book.one("next").address != vm.address
    book.reserve("mine", str(vm.address))
    with book.write("macbind") as txn:
        release(txn, name="mine", pinned=True, reason="dhcpd_refused")
    book.confirm()
    assert book.one("third").address != vm.address
    with book.read() as view:
        (found,) = [one for some in used_addresses(view).values() for one in some]
    assert found.code == "machine_away"
    assert f"reserve NAME {vm.address}" in found.hint
    book.reserve("mine", str(vm.address))
    book.release("mine", pinned=True)
    book.confirm()
    assert book.one("fourth").address == vm.address


def test_an_expired_allocation_whose_machine_runs_is_not_given_to_the_next(book: Book) -> None:
    """Time is over, the machine is not."""
    book.open(make_pool(), hypervisors=["local"])
    _run(book, book.one("vm", expires_at=book.now + timedelta(seconds=30)))
    book.later(31)
    assert book.expire() == ["vm"]
    book.confirm()
    assert str(book.one("next").address) == "10.1.1.2"


def test_a_machine_that_was_seen_to_end_leaves_no_evidence(book: Book) -> None:
    """A domain that ended, one of an unwatched hypervisor, and none at all: the address is free at once."""
    book.open(make_pool(), hypervisors=["local"])
    vm = book.one("vm")
    _run(book, vm)
    with book.write("libvirt") as txn:
        release(txn, address=vm.address, reason="its domain is gone", still_used=False)
    book.confirm()
    assert book.evidence() == []
    _run(book, book.one("vm2"), Phase.ENDED)
    book.release("vm2")
    book.open(make_pool())
    _run(book, book.one("vm3"))
    book.release("vm3")
    book.confirm()
    assert book.evidence() == []
    assert str(book.one("next").address) == "10.1.1.1"


# -- configurations --------------------------------------------------------------------------------------------


def test_changed_ranges_pass_over_what_others_use(book: Book) -> None:
    """A pool that grows over a used address does not hand it out; one that shrinks and grows again neither."""
    book.open(make_pool(ranges=["10.1.1.4-10.1.1.6"]))
    book.show(book.seen("10.1.1.2"), book.seen("10.1.1.5"))
    for ranges in (["10.1.1.1-10.1.1.6"], ["10.1.1.3-10.1.1.4"], ["10.1.1.1-10.1.1.6"]):
        book.open(make_pool(ranges=ranges))
    assert addresses(book.allocate("a", "b", "c", "d")) == ["10.1.1.1", "10.1.1.3", "10.1.1.4", "10.1.1.6"]
    book.show()
    assert addresses(book.allocate("e", "f")) == ["10.1.1.2", "10.1.1.5"]


@pytest.mark.parametrize("ranges", [["10.1.1.1-10.1.1.9"], ["10.1.1.1-10.1.1.8"]], ids=["same", "changed"])
def test_evidence_ends_with_whoever_saw_it(book: Book, ranges: list[str]) -> None:
    """A dhcpd, a hypervisor or an interface that is no longer configured withdraws what it showed."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.9"]), dhcpds=["d1", "d2"], hypervisors=["local"])
    book.one("held", address=ip("10.1.1.5"))
    book.show(book.seen("10.1.1.1"), book.seen("10.1.1.2"))
    book.show(*(book.seen(f"10.1.1.{last}", origin="d2") for last in (2, 3, 5)), origin="d2")
    for source, origin, address in ((Source.DOMAIN, "local", "10.1.1.4"), (Source.ANSWER, "br0", "10.1.1.6")):
        book.show(book.seen(address, source=source, origin=origin), source=source, origin=origin)
    book.open(make_pool(ranges=ranges))
    assert book.evidence() == ["10.1.1.1 host printer", "10.1.1.2 host printer"]
    assert addresses(book.allocate("a", "b", "c")) == ["10.1.1.3", "10.1.1.4", "10.1.1.6"]


def test_a_lease_of_a_dhcpd_that_is_dropped_counts_until_its_end(book: Book) -> None:
    """Its machine goes on with the address; with the dhcpd only that is forgotten which has no end."""
    book.open(make_pool(), dhcpds=["d1", "d2"])
    lease = book.seen("10.1.1.1", source=Source.LEASE, origin="d2", until=book.now + timedelta(seconds=600))
    book.show(lease, source=Source.LEASE, origin="d2")
    book.open(make_pool())
    assert str(book.one("a").address) == "10.1.1.2"
    book.later(600 + evidence.UNSEEN_LEASE_S)
    with book.write() as txn:
        evidence.expire(txn)
    assert str(book.one("b").address) == "10.1.1.1"


# -- sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 500])
def test_no_size_of_the_pieces_matters(book: Book, rows: int) -> None:
    """Many addresses at once, next to each other and not."""
    book.open(make_pool(), sizes=Sizes(rows=rows, extents=rows))
    book.show(*(book.seen(f"10.1.1.{last}") for last in (1, 2, 3, 5, 9, 14)))
    book.check()
    assert str(book.one("a").address) == "10.1.1.4"
    book.show(*(book.seen(f"10.1.1.{last}") for last in (2, 3, 4, 14)))
    book.check()
    assert addresses(book.allocate("b", "c")) == ["10.1.1.1", "10.1.1.5"]
    book.show()
    book.check()


def test_sixty_thousand_addresses_of_others_are_taken_at_once(book: Book) -> None:
    """A range over a whole pool, and every second address of it; each look is a matter of seconds."""
    book.open(make_pool(subnet="10.1.0.0/16"))
    first = int(ip("10.1.0.1"))
    own = MacAddress.parse(PRINTER)

    def ranged(step: int) -> list[Evidence]:
        return [
            Evidence(Source.RANGE, "d1", IPv4Address(first + number), own, "a range", book.now, book.now)
            for number in range(0, 60_000, step)
        ]

    for found, lowest in ((ranged(1), 60_000), (ranged(2), 1), ([], 0)):
        began = time.process_time()  # whatever else the machine does
        book.show(*found, source=Source.RANGE)
        assert time.process_time() - began < 20
        book.check()
        assert int(book.one("vm").address) - first == lowest
        book.release("vm")
        book.confirm()
