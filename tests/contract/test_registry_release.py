"""Giving back: releases, cool-downs and expiry, and what dhcpd has to confirm on the way."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from contract.book import Book, addresses, ip, make_pool
from macbind.core.allocation import State
from macbind.core.binding_plan import Ensure, Remove
from macbind.core.errors import AddressInUse, PoolExhausted
from macbind.registry.audit import history
from macbind.registry.pending_changes import Confirmed, PendingChange, backlog, desired, doubt
from macbind.registry.queries import find, has_chores, renumberings
from macbind.registry.release import release
from macbind.registry.transaction import Transaction

TWO = ("d1", "d2")


# -- releasing -----------------------------------------------------------------------------------------


def test_an_address_goes_through_its_states(book: Book) -> None:
    """Pending, bound, releasing, free: each step is dhcpd's confirmation or a request."""
    book.open(make_pool())
    assert book.one("a").state is State.PENDING
    book.confirm()
    assert book.state("10.1.1.1") == "bound"
    (released,) = book.release("a")
    assert (released.state, released.released_at) == (State.RELEASING, book.now)
    assert book.find() == []
    book.confirm()
    assert book.state("10.1.1.1") == "free"


def test_release_by_name_group_and_address(book: Book) -> None:
    """Each way of naming an allocation releases exactly what it names."""
    book.open(make_pool(), make_pool("other", subnet="10.2.0.0/28"))
    book.allocate("a", "b")
    book.allocate("g-1", "g-2", group="g")
    book.allocate("g-3", group="g", pool="other")
    assert addresses(book.release("a")) == ["10.1.1.1"]
    assert addresses(book.release(address=ip("10.1.1.2"))) == ["10.1.1.2"]
    assert addresses(book.release(group="g")) == ["10.1.1.3", "10.1.1.4", "10.2.0.1"]
    assert book.find() == []


def test_releasing_twice_is_no_error(book: Book) -> None:
    """A second release returns what still waits for dhcpd, then nothing; the log has one entry."""
    book.open(make_pool())
    book.one("a")
    book.confirm()
    first = book.release("a")
    assert book.release("a") == first
    assert book.release(address=ip("10.1.1.1")) == first
    book.confirm()
    assert book.release("a") == book.release("never-there") == book.release(group="g") == []
    assert [action for _, action, _ in book.history()] == ["allocate", "release"]


def test_the_generation_fences_late_releases(book: Book) -> None:
    """A release that means a former generation touches neither the present holder nor its release."""
    book.open(make_pool())
    first = book.one("a")
    book.confirm()
    book.release("a", generation=first.generation)
    book.confirm()
    second = book.one("a")
    assert second.address == first.address
    assert book.release("a", generation=first.generation) == []
    assert book.release(address=first.address, generation=first.generation) == []
    assert book.find() == [second]
    (gone,) = book.release(address=second.address, generation=second.generation)
    assert gone.state is State.RELEASING
    assert book.release(address=first.address, generation=first.generation) == []


def test_a_never_told_address_still_needs_dhcpds_word(book: Book) -> None:
    """An allocation released before dhcpd confirmed it may be there already, so its removal is confirmed."""
    book.open(make_pool())
    book.one("a")
    book.release("a")
    (due,) = book.due()
    assert isinstance(due.change, Remove)
    assert book.state("10.1.1.1") == "releasing"
    assert addresses(book.allocate("b")) == ["10.1.1.2"]


@pytest.mark.invariant(2)
def test_every_dhcpd_must_confirm(book: Book) -> None:
    """With two dhcpds an allocation is bound, and its address free, only when both have confirmed."""
    book.open(make_pool(dhcpds=TWO, ranges=["10.1.1.1-10.1.1.1"]), dhcpds=TWO)
    book.one("a")
    book.confirm("d1")
    assert book.state("10.1.1.1") == "pending"
    book.confirm("d2")
    assert book.state("10.1.1.1") == "bound"
    book.release("a")
    book.confirm("d2")
    assert book.state("10.1.1.1") == "releasing"
    for wanted in (None, ip("10.1.1.1")):
        with pytest.raises((PoolExhausted, AddressInUse)):
            book.one("b", address=wanted)
    book.confirm("d1")
    assert addresses(book.allocate("b")) == ["10.1.1.1"]


# -- cool-down -----------------------------------------------------------------------------------------


@pytest.mark.invariant(2)
def test_a_cool_down_rests_the_address(book: Book) -> None:
    """A released address is passed by until its cool-down is over."""
    book.open(make_pool(cooldown_s=60))
    book.one("a")
    book.confirm()
    book.release("a")
    book.confirm()
    assert book.state("10.1.1.1") == "cooling"
    book.later(59)
    assert addresses(book.allocate("b")) == ["10.1.1.2"]
    book.later(2)
    assert addresses(book.allocate("c")) == ["10.1.1.1"]


def test_a_cool_down_counts_from_the_release(book: Book) -> None:
    """A cool-down that ended while dhcpd was away holds nobody up: the confirmation frees the address."""
    book.open(make_pool(cooldown_s=60))
    book.one("a")
    book.confirm()
    book.release("a")
    book.later(61)
    assert (book.state("10.1.1.1"), book.sweep()) == ("releasing", 0)
    book.confirm()
    assert book.state("10.1.1.1") == "free"


def test_an_exhausted_pool_cuts_rests_short(book: Book) -> None:
    """A full pool takes resting addresses, the longest rested first, but none that a dhcpd may hold."""
    book.open(make_pool(cooldown_s=3600, ranges=["10.1.1.1-10.1.1.4"]))
    book.allocate("a", "b", "c", "d")
    book.confirm()
    for name in ("c", "a", "b"):
        book.release(name)
        book.later(1)
        if name != "b":
            book.confirm()
    assert addresses(book.allocate("x")) == ["10.1.1.3"]
    assert addresses(book.allocate("y")) == ["10.1.1.1"]
    with pytest.raises(PoolExhausted):
        book.one("z")
    book.confirm()
    assert addresses(book.allocate("z")) == ["10.1.1.2"]


def test_free_addresses_come_before_resting_ones(book: Book) -> None:
    """One request takes what is free first, and the rest from what rests."""
    book.open(make_pool(cooldown_s=3600, ranges=["10.1.1.1-10.1.1.4"]))
    book.allocate("a", "b")
    book.confirm()
    book.release("b")
    book.later(1)
    book.release("a")
    book.confirm()
    assert addresses(book.allocate("w", "x", "y")) == ["10.1.1.3", "10.1.1.4", "10.1.1.2"]
    with pytest.raises(PoolExhausted, match="has 1 unoccupied addresses, 2 were asked for"):
        book.allocate("p", "q")
    assert book.state("10.1.1.1") == "cooling"


def test_a_wanted_address_is_given_from_its_rest(book: Book) -> None:
    """Who wants a resting address by number gets it."""
    book.open(make_pool(cooldown_s=3600))
    book.one("a")
    book.confirm()
    book.release("a")
    book.confirm()
    assert addresses(book.allocate("b", address=ip("10.1.1.1"))) == ["10.1.1.1"]


def test_an_address_put_aside_rests_at_least_so_long(book: Book) -> None:
    """Putting aside lengthens a rest, never shortens it, and means released addresses only."""
    book.open(make_pool(cooldown_s=100))
    book.allocate("a", "b")
    book.put_aside("10.1.1.2", 1000)
    assert book.state("10.1.1.2") == "pending"
    book.confirm()
    book.release("a")
    book.put_aside("10.1.1.1", 50)
    book.confirm()
    book.later(99)
    assert book.sweep() == 0
    book.put_aside("10.1.1.1", 300)
    book.later(299)
    assert book.sweep() == 0
    book.later(2)
    assert book.sweep() == 1
    assert [action for _, action, _ in book.history(address=ip("10.1.1.1"))] == [
        "allocate",
        "release",
        "put aside",
    ]


def test_sweeping_returns_the_longest_rested(book: Book) -> None:
    """A limited sweep frees the addresses that have rested longest, and only of its pool."""
    book.open(make_pool(cooldown_s=10), make_pool("other", subnet="10.2.0.0/28", cooldown_s=10))
    book.allocate("a", "b", "c")
    book.allocate("o", pool="other")
    book.confirm()
    for name in ("b", "c", "o", "a"):
        book.release(name)
        book.later(1)
    book.confirm()
    book.later(20)
    assert book.sweep(limit=2) == 2
    assert [book.state(f"10.1.1.{last}") for last in (1, 2, 3)] == ["cooling", "free", "free"]
    assert book.sweep() == 1
    assert book.state("10.2.0.1") == "cooling"


# -- expiry --------------------------------------------------------------------------------------------


def test_expired_allocations_are_released(book: Book) -> None:
    """What has expired is released with the reason on record; pins and others stay."""
    book.open(make_pool())
    book.allocate("a", "b", expires_at=book.now + timedelta(seconds=60))
    book.one("c", expires_at=book.now + timedelta(seconds=61))
    book.one("d")
    book.reserve("p", "10.1.1.9")
    book.later(60)
    assert book.expire() == ["a", "b"]
    assert book.expire() == []
    assert [one.name for one in book.find()] == ["c", "d", "p"]
    assert book.history()[-2:] == [("keeper", "release", "a"), ("keeper", "release", "b")]
    with book.read() as view:
        assert history(view, name="a")[0].detail["reason"] == "expired"


def test_chores_are_due_only_when_there_is_something_to_do(book: Book) -> None:
    """Housekeeping is asked for by expiry and by rested addresses, not by what it cannot change yet."""
    book.open(make_pool(cooldown_s=100))

    def chores() -> bool:
        with book.read() as view:
            return has_chores(view, book.now)

    book.reserve("p", "10.1.1.9")
    book.one("a", expires_at=book.now + timedelta(seconds=60))
    assert not chores()
    book.later(61)
    assert chores(), "expired, whether or not dhcpd has confirmed it"
    assert book.expire() == ["a"]
    assert not chores(), "expired and released: it only rests"
    book.later(101)
    assert not chores(), "rested, but dhcpd has yet to confirm that it is gone"
    book.confirm(done=[item for item in book.due() if str(item.address) == "10.1.1.1"])
    assert (book.state("10.1.1.1"), chores()) == ("free", False)
    book.one("b")
    book.confirm()
    book.release("b")
    book.confirm()
    assert not chores()
    book.later(101)
    assert chores()
    assert book.sweep() == 1
    assert not chores()


# -- dhcpd's part --------------------------------------------------------------------------------------


def test_what_is_due_is_the_difference(book: Book) -> None:
    """A dhcpd is asked to hold what is allocated and to hold nothing of what is released, lowest first."""
    book.open(make_pool(dhcpds=TWO), make_pool("solo", subnet="10.2.0.0/28"), dhcpds=TWO)
    made = book.allocate("a", "b")
    book.allocate("s", pool="solo")
    book.release("a")
    first, second = book.due("d2")
    assert isinstance(first.change, Remove)
    assert (first.change.mac, first.change.generation) == (made[0].mac, made[0].generation)
    assert isinstance(second.change, Ensure)
    assert second.change.binding.name == f"macbind-10.1.1.2-g{made[1].generation}"
    assert second.confirms == made[1].generation
    assert [str(item.address) for item in book.due("d1")] == ["10.1.1.1", "10.1.1.2", "10.2.0.1"]
    assert book.due("d1", limit=1) == book.due("d1")[:1]
    with book.read() as view:
        assert (backlog(view, "d1"), backlog(view, "d2")) == (3, 2)


@pytest.mark.invariant(4)
def test_a_mark_renewed_during_a_look_survives(book: Book) -> None:
    """A confirmation of a look that began before the last change neither ends the question nor answers it."""
    book.open(make_pool())
    book.one("a")
    looked = book.due()
    book.release("a")
    book.confirm(done=looked)
    (due,) = book.due()
    assert isinstance(due.change, Remove)
    assert due.seq > looked[0].seq
    assert book.state("10.1.1.1") == "releasing"
    book.confirm()
    assert book.state("10.1.1.1") == "free"


@pytest.mark.invariant(5)
def test_a_late_confirmation_cannot_speak_for_a_successor(book: Book) -> None:
    """What a stopped controller reports much later changes nothing of what was confirmed since."""
    book.open(make_pool(cooldown_s=1))
    book.one("a")
    bound = book.due()
    book.confirm()
    book.release("a")
    gone = book.due()
    book.confirm()
    book.confirm(done=bound)
    assert book.state("10.1.1.1") == "cooling"
    book.later(2)
    book.one("b")
    book.confirm()
    for late in (bound, gone):
        book.confirm(done=late)
        assert book.state("10.1.1.1") == "bound"
        assert book.due() == []


def test_confirming_is_idempotent(book: Book) -> None:
    """The same confirmation twice is the same as once."""
    book.open(make_pool())
    book.allocate("a", "b")
    looked = book.due()
    book.confirm(done=looked)
    book.confirm(done=looked)
    assert [book.state(text) for text in ("10.1.1.1", "10.1.1.2")] == ["bound", "bound"]
    book.release("a")
    looked = book.due()
    book.confirm(done=looked)
    book.confirm(done=looked)
    assert book.state("10.1.1.1") == "free"
    book.confirm(done=[])


def test_a_confirmation_of_something_else_is_ignored(book: Book) -> None:
    """Items that were never asked about do nothing."""
    book.open(make_pool())
    book.one("a")
    (due,) = book.due()
    book.confirm(done=[replace(due, seq=due.seq + 1), PendingChange(ip("10.1.1.7"), 1, None, None)])
    assert book.due() == [due]


def test_doubt_asks_again(book: Book) -> None:
    """A doubted address counts as unconfirmed and is looked at again, also during another look."""
    book.open(make_pool(dhcpds=TWO), dhcpds=TWO)
    book.allocate("a", "b")
    book.confirm(*TWO)

    def doubted(*texts: str) -> None:
        with book.write() as txn:
            doubt(txn, "d2", [ip(text) for text in texts])

    doubted("10.1.1.1", "10.1.1.1", "10.1.1.14")
    assert (book.state("10.1.1.1"), book.state("10.1.1.2")) == ("pending", "bound")
    looked = book.due("d2")
    assert [str(item.address) for item in looked] == ["10.1.1.1"]
    assert book.due("d1") == []
    doubted("10.1.1.1")
    book.confirm("d2", done=looked)
    assert book.state("10.1.1.1") == "pending"
    book.confirm("d2")
    assert book.state("10.1.1.1") == "bound"
    doubted()


def test_doubt_of_a_released_address_keeps_it(book: Book) -> None:
    """An address a dhcpd is asked about again is not given out before the answer."""
    book.open(make_pool(dhcpds=TWO, ranges=["10.1.1.1-10.1.1.1"]), dhcpds=TWO)
    book.one("a")
    book.confirm(*TWO)
    book.release("a")
    book.confirm("d1")
    with book.write() as txn:
        doubt(txn, "d1", [ip("10.1.1.1")])
    book.confirm("d2")
    assert book.state("10.1.1.1") == "releasing"
    with pytest.raises(PoolExhausted):
        book.one("b")
    book.confirm("d1")
    assert book.state("10.1.1.1") == "free"


def test_what_should_be_is_paged(book: Book) -> None:
    """The reservations a dhcpd should hold come in the order of addresses; pages of others' are skipped."""
    book.open(
        make_pool(),
        make_pool("other", subnet="10.1.2.0/28", dhcpds=("d2",)),
        make_pool("last", subnet="10.1.3.0/28", dhcpds=TWO),
        dhcpds=TWO,
    )
    book.allocate(*(f"a{number}" for number in range(6)))
    book.allocate(*(f"b{number}" for number in range(14)), pool="other")
    book.allocate(*(f"c{number}" for number in range(6)), pool="last")
    book.release("a2")
    found, after = [], -1
    with book.read() as view:
        while page := desired(view, "d1", after=after, limit=4):
            assert len(page) <= 4
            found += page
            after = int(page[-1].address)
    assert [str(one.address) for one in found] == [
        *(f"10.1.1.{last}" for last in (1, 2, 4, 5, 6)),
        *(f"10.1.3.{last}" for last in range(1, 7)),
    ]
    assert all(one.binding.owner == (one.address, one.generation) for one in found)


def test_confirmations_can_be_asked_for(book: Book) -> None:
    """The record says who holds which generation, and who holds nothing."""
    book.open(make_pool(dhcpds=TWO), dhcpds=TWO)
    made = book.one("a")
    here = made.address

    def record(dhcpd: str, generation: int | None) -> bool:
        with book.read() as view:
            confirmed = Confirmed(view, [here])
            if generation is None:
                return confirmed.has_let_go(dhcpd, here, made.generation)
            return confirmed.holds(dhcpd, here, generation)

    assert not record("d1", made.generation)
    assert not record("d1", None)
    book.confirm("d1")
    assert record("d1", made.generation)
    assert not record("d2", made.generation)
    assert not record("d1", made.generation - 1)
    book.release("a")
    assert not record("d1", None)
    book.confirm("d1")
    assert (record("d1", None), record("d2", None)) == (True, False)


@pytest.mark.parametrize(
    "work",
    [
        lambda txn: release(txn, name="vm7"),
        renumberings,
        lambda txn: renumberings(txn, name="vm7"),
        lambda txn: find(txn, group="few", pool="farm", released=True),
    ],
    ids=["release", "renumberings", "renumberings of a name", "group in a pool"],
)
def test_no_row_is_read_but_those_asked_for(book: Book, work: Callable[[Transaction], object]) -> None:
    """However many allocations there are, those of a name, a group or a renumbering are looked up in an index."""
    book.open(make_pool(subnet="10.1.0.0/20"))
    book.allocate(*(f"vm{number}" for number in range(2000)))
    book.allocate("a", "b", group="few")
    with book.write() as txn:
        if txn.db.dialect.name == "postgresql":
            txn.db.execute(text("ANALYZE allocation"))
            count = text("SELECT seq_scan FROM pg_stat_xact_user_tables WHERE relname = 'allocation'")
            before = txn.db.scalar(count)
            work(txn)
            assert txn.db.scalar(count) == before
            txn.db.execute(text("SELECT max(gen) FROM allocation"))
            assert txn.db.scalar(count) > before  # so it is counted
        else:
            asked: list[str] = []
            file = txn.db.connection.driver_connection
            assert isinstance(file, sqlite3.Connection)
            file.set_trace_callback(asked.append)
            work(txn)
            file.set_trace_callback(None)
            plans = [str(row) for one in asked for row in file.execute(f"EXPLAIN QUERY PLAN {one}")]
            assert any("SEARCH allocation" in plan for plan in plans)
            assert [plan for plan in plans if "SCAN allocation" in plan or "(pool_id=?)" in plan] == []
