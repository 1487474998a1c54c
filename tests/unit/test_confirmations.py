"""Waiting for dhcpds: every order in which expectations, reports, refusals and doubts can meet."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from typing_extensions import override

from contract.book import Book, ip, make_pool
from macbind.core.allocation import Allocation, State
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import Conflict, DhcpdRefused, StorageFailed
from macbind.engine.confirmations import Confirmations, Waiter
from macbind.registry.pending_changes import PendingChange
from macbind.registry.reserve import change_options

TWO = ("d1", "d2")


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    """A registry with a pool that two dhcpds serve."""
    book = Book(f"sqlite:///{tmp_path}/registry.db")
    book.open(make_pool(dhcpds=TWO), dhcpds=TWO)
    yield book
    book.close()


@pytest.fixture
def pending(book: Book) -> Allocation:
    """An allocation nobody has confirmed."""
    return book.one("a")


def _done(allocation: Allocation, generation: int | None = None) -> list[PendingChange]:
    return [PendingChange(allocation.address, 1, None, generation)]


def _bound(allocation: Allocation) -> list[PendingChange]:
    return _done(allocation, allocation.generation)


def _empty(confirmations: Confirmations) -> bool:
    return not confirmations._waiting and not confirmations._released


def test_all_must_confirm(pending: Allocation) -> None:
    """A waiter is resolved by the last dhcpd, whichever that is, and not before."""
    for order in permutations(TWO):
        confirmations, waiter = Confirmations(), Waiter()
        confirmations.expect_bound(waiter, pending, TWO)
        assert (waiter.has_to_wait, waiter.addresses, waiter.dhcpds) == (True, {pending.address}, set(TWO))
        for name in order:
            assert not waiter.future.done()
            confirmations.confirmed(name, _bound(pending))
            confirmations.confirmed(name, _bound(pending))
        assert waiter.future.result(0) is None
        assert (waiter.has_to_wait, waiter.dhcpds, _empty(confirmations)) == (True, set(), True)


def test_several_addresses_make_one_waiter(book: Book) -> None:
    """A waiter for a group is resolved when every member is confirmed everywhere."""
    confirmations, waiter = Confirmations(), Waiter()
    group = book.allocate("g-1", "g-2", "g-3", group="g")
    for one in group:
        confirmations.expect_bound(waiter, one, TWO)
    for name in TWO:
        for one in group:
            assert not waiter.future.done()
            confirmations.confirmed(name, _bound(one))
    assert waiter.future.done()


def test_other_reports_do_not_count(pending: Allocation) -> None:
    """Another address, another generation, another dhcpd and the opposite resolve nothing."""
    confirmations, waiter = Confirmations(), Waiter()
    confirmations.expect_bound(waiter, pending, ["d1"])
    confirmations.confirmed("d2", _bound(pending))
    confirmations.confirmed("d1", _done(pending, pending.generation - 1))
    confirmations.confirmed("d1", _done(pending, None))
    confirmations.confirmed("d1", _bound(replace(pending, address=ip("10.1.1.9"))))
    assert not waiter.future.done()
    confirmations.forget(waiter)
    assert _empty(confirmations)


def test_gone_is_awaited_as_well(pending: Allocation) -> None:
    """Who waits for an address to be gone is resolved by that, not by the address being held."""
    confirmations, waiter = Confirmations(), Waiter()
    confirmations.expect_gone(waiter, pending, ["d1"])
    confirmations.confirmed("d1", _bound(pending))
    assert not waiter.future.done()
    confirmations.confirmed("d1", _done(pending))
    assert waiter.future.done()


def test_a_bound_allocation_has_nothing_to_wait_for(pending: Allocation) -> None:
    """An allocation that was bound before is awaited only from dhcpds whose content is in doubt."""
    confirmations, waiter = Confirmations(), Waiter()
    bound = replace(pending, state=State.BOUND)
    confirmations.expect_bound(waiter, bound, TWO)
    assert not waiter.has_to_wait
    confirmations.in_doubt("d2")
    confirmations.expect_bound(waiter, bound, TWO)
    assert (waiter.has_to_wait, waiter.dhcpds) == (True, {"d2"})
    confirmations.forget(waiter)
    confirmations.trusted("d2")
    confirmations.expect_bound(waiter, bound, TWO)
    assert not waiter.has_to_wait


def test_several_wait_for_one_thing(pending: Allocation) -> None:
    """All who wait for the same are resolved together; who forgot is left alone."""
    confirmations = Confirmations()
    waiters = [Waiter() for _ in range(4)]
    for waiter in waiters:
        confirmations.expect_bound(waiter, pending, ["d1"])
    confirmations.forget(waiters[0])
    confirmations.forget(waiters[0])
    confirmations.confirmed("d1", _bound(pending))
    assert [waiter.future.done() for waiter in waiters] == [False, True, True, True]
    assert _empty(confirmations)


def test_a_refusal_fails_those_who_wait_for_exactly_this(pending: Allocation) -> None:
    """A refusal fails its waiters at once, with all they waited for, and nobody else."""
    confirmations, error = Confirmations(), DhcpdRefused("no")
    both, one, gone = Waiter(), Waiter(), Waiter()
    confirmations.expect_bound(both, pending, TWO)
    confirmations.expect_bound(one, pending, ["d2"])
    confirmations.expect_gone(gone, pending, ["d1"])
    confirmations.refused("d1", pending.address, pending.generation, error)
    assert both.future.exception(0) is error
    assert not one.future.done()
    assert not gone.future.done()
    confirmations.confirmed("d2", _bound(pending))
    assert (one.future.exception(0), both.future.exception(0)) == (None, error)
    confirmations.refused("d1", pending.address, pending.generation, error)
    confirmations.confirmed("d1", _bound(pending))
    assert not gone.future.done()


def test_an_early_refusal_is_not_taken_for_success(pending: Allocation) -> None:
    """A refusal that comes before the caller looks still has to be looked at: the waiter says it has to wait."""
    confirmations, waiter = Confirmations(), Waiter()
    confirmations.expect_bound(waiter, pending, ["d1"])
    confirmations.refused("d1", pending.address, pending.generation, DhcpdRefused("no"))
    assert waiter.has_to_wait
    assert waiter.future.done()


def test_a_job_that_runs_again_waits_anew(pending: Allocation) -> None:
    """After a rollback a waiter that was resolved meanwhile waits for what its second run expects."""
    confirmations, waiter = Confirmations(), Waiter()
    confirmations.expect_bound(waiter, pending, ["d1"])
    confirmations.confirmed("d1", _bound(pending))
    assert waiter.future.done()
    confirmations.forget(waiter)
    assert not waiter.has_to_wait
    confirmations.expect_bound(waiter, pending, ["d2"])
    assert not waiter.future.done()
    confirmations.confirmed("d2", _bound(pending))
    assert waiter.future.result(0) is None


class Held(Future[None]):
    """A future whose writer is interrupted at the moment in which it resolves it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = threading.Event(), threading.Event()

    @override
    def set_result(self, result: None) -> None:
        self.reached.set()
        assert self.go_on.wait(60)
        super().set_result(result)

    @override
    def set_exception(self, exception: BaseException | None) -> None:
        self.reached.set()
        assert self.go_on.wait(60)
        super().set_exception(exception)


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_report_on_its_way_says_nothing_of_what_is_awaited_next(
    pending: Allocation, *, is_refused: bool
) -> None:
    """A caller takes another address while the first one is confirmed: only the other one counts."""
    confirmations, waiter, held = Confirmations(), Waiter(), Held()
    waiter.future = held
    other = replace(pending, address=ip("10.1.1.9"))
    confirmations.expect_bound(waiter, pending, ["d1"])

    def report() -> None:
        if is_refused:
            confirmations.refused("d1", pending.address, pending.generation, DhcpdRefused("no"))
        else:
            confirmations.confirmed("d1", _bound(pending))

    writer = threading.Thread(target=report)
    writer.start()
    assert held.reached.wait(60)
    confirmations.forget(waiter)
    confirmations.expect_bound(waiter, other, ["d1"])
    held.go_on.set()
    writer.join()
    assert not waiter.future.done()
    confirmations.confirmed("d1", _bound(other))
    assert waiter.future.result(0) is None


def test_what_is_missing_can_be_asked_while_writers_report(pending: Allocation) -> None:
    """A caller whose time is over says what was not confirmed, while more of it is."""
    confirmations, waiter = Confirmations(), Waiter()
    many = [replace(pending, address=pending.address + number) for number in range(3000)]
    for one in many:
        confirmations.expect_bound(waiter, one, ["d1"])

    def report() -> None:
        for one in many:
            confirmations.confirmed("d1", _bound(one))

    writer = threading.Thread(target=report)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        writer.start()
        while not waiter.future.done():
            assert waiter.dhcpds <= {"d1"}
            assert len(waiter.addresses) <= len(many)
    finally:
        sys.setswitchinterval(before)
        writer.join()


def test_every_order_of_two_waiters_and_their_ends(pending: Allocation) -> None:
    """Confirmation, refusal and forgetting in any order resolve each waiter once and leave nothing behind."""
    steps = ("confirm d1", "confirm d2", "refuse d1", "refuse d2", "forget first")
    for order in permutations(steps):
        confirmations, first, second = Confirmations(), Waiter(), Waiter()
        confirmations.expect_bound(first, pending, TWO)
        confirmations.expect_bound(second, pending, ["d2"])
        done = first.future
        for step in order:
            what, who = step.split()
            if what == "confirm":
                confirmations.confirmed(who, _bound(pending))
            elif what == "refuse":
                confirmations.refused(who, pending.address, pending.generation, DhcpdRefused(who))
            else:
                confirmations.forget(first)
        assert _empty(confirmations), order
        assert (second.future.exception(0) is None) == (
            order.index("confirm d2") < order.index("refuse d2")
        ), order
        expected = _first_ends(order)
        assert done.done() == (expected is not None), order
        if expected is not None:
            assert str(done.exception(0) or "bound") == expected, order


def _first_ends(order: tuple[str, ...]) -> str | None:
    missing = set(TWO)
    for step in order:
        what, who = step.split()
        if what == "forget":
            return None
        if what == "refuse" and who in missing:
            return who
        if what == "confirm":
            missing.discard(who)
            if not missing:
                return "bound"
    return None


def test_the_record_resolves_what_was_missed(book: Book, pending: Allocation) -> None:
    """What another controller recorded is found by asking the registry."""
    confirmations, waiter, gone = Confirmations(), Waiter(), Waiter()
    confirmations.expect_bound(waiter, pending, TWO)
    confirmations.recheck(book.registry)
    book.confirm("d1")
    confirmations.recheck(book.registry)
    assert waiter.dhcpds == {"d2"}
    book.confirm("d2")
    confirmations.recheck(book.registry)
    assert waiter.future.result(0) is None
    confirmations.expect_gone(gone, pending, TWO)
    confirmations.recheck(book.registry)
    assert gone.dhcpds == set(TWO), "it is held"
    book.release("a")
    confirmations.recheck(book.registry)
    assert gone.dhcpds == set(TWO), "it is released, and nobody has confirmed"
    book.confirm(*TWO)
    confirmations.recheck(book.registry)
    assert gone.future.result(0) is None
    assert _empty(confirmations)


def test_who_waits_for_what_has_ended_is_told(book: Book, pending: Allocation) -> None:
    """Also if somebody else has its address; not before it is committed, and not if its binding was made anew."""
    confirmations, early, waiter, renewed = Confirmations(), Waiter(), Waiter(), Waiter()
    confirmations.expect_bound(early, replace(pending, generation=pending.generation + 100), TWO)
    confirmations.expect_bound(waiter, pending, TWO)
    other = book.one("other")
    confirmations.expect_bound(renewed, other, TWO)
    with book.write() as txn:
        change_options(txn, other, DhcpOptions(hostname="x"))
    confirmations.recheck(book.registry)
    assert not waiter.future.done()
    book.release("a")
    confirmations.recheck(book.registry)
    with pytest.raises(Conflict, match=r"'a' \(10\.1\.1\.1\) has ended before dhcpd confirmed it"):
        waiter.future.result(0)
    assert not early.future.done()
    assert not renewed.future.done()
    again = Waiter()
    confirmations.expect_bound(again, pending, TWO)
    book.confirm(*TWO)
    book.one("b")
    confirmations.recheck(book.registry)
    assert isinstance(again.future.exception(0), Conflict)


def test_a_later_generation_proves_a_release(book: Book, pending: Allocation) -> None:
    """Who waits for a release that another controller confirmed is told, though the address is another's already."""
    confirmations, gone, still = Confirmations(), Waiter(), Waiter()
    book.confirm(*TWO)
    confirmations.expect_gone(gone, pending, TWO)
    book.release("a")
    book.confirm(*TWO)
    assert book.one("b").address == pending.address
    confirmations.recheck(book.registry)
    assert gone.future.done(), "b has it, and nobody has confirmed that yet"
    book.confirm(*TWO)
    confirmations.expect_gone(still, book.release("b")[0], TWO)
    confirmations.recheck(book.registry)
    assert still.dhcpds == set(TWO), "both hold it"
    book.confirm(*TWO)
    confirmations.recheck(book.registry)
    assert still.future.done()
    assert _empty(confirmations)


def test_what_is_confirmed_is_not_awaited_again(pending: Allocation) -> None:
    """A repeat waits for those DHCP servers only that have not confirmed, or whose content is in doubt."""
    confirmations, waiter = Confirmations(), Waiter()
    confirmations.expect_bound(waiter, pending, TWO, ["d1"])
    assert waiter.dhcpds == {"d2"}
    confirmations.forget(waiter)
    confirmations.in_doubt("d1")
    confirmations.expect_bound(waiter, pending, TWO, TWO)
    assert waiter.dhcpds == {"d1"}


def test_a_configuration_changes_what_is_awaited(book: Book, pending: Allocation) -> None:
    """Nobody waits for a dhcpd that is gone, or that no longer serves the pool; a renewed binding counts."""
    confirmations, bound, gone = Confirmations(), Waiter(), Waiter()
    confirmations.expect_bound(bound, pending, TWO)
    confirmations.expect_gone(gone, replace(pending, address=ip("10.1.1.9")), ["d2"])
    confirmations.in_doubt("d2")
    options = DhcpOptions(domain_name="new.example")
    changes = book.registry.apply({"farm": make_pool(options=options)}, ["d1"])
    confirmations.reconsider(book.registry, ["d1"], changes.generations)
    assert gone.future.done()
    assert (bound.future.done(), bound.dhcpds) == (False, {"d1"})
    (renewed,) = book.find(names=["a"])
    assert renewed.generation == changes.generation > pending.generation
    confirmations.confirmed("d1", _bound(renewed))
    assert bound.future.done()
    assert _empty(confirmations)


def test_a_renewed_binding_that_was_confirmed_in_between_is_found(book: Book, pending: Allocation) -> None:
    """What a writer records between the change and the look at it is not missed."""
    confirmations, waiter = Confirmations(), Waiter()
    confirmations.expect_bound(waiter, pending, ["d1"])
    changes = book.registry.apply({"farm": make_pool(options=DhcpOptions(domain_name="x.example"))}, ["d1"])
    book.confirm("d1")
    confirmations.reconsider(book.registry, ["d1"], changes.generations)
    assert waiter.future.done()


def test_a_record_in_doubt_does_not_count(book: Book, pending: Allocation) -> None:
    """While a dhcpd is being compared, what the registry recorded of it earlier resolves nobody."""
    confirmations, waiter = Confirmations(), Waiter()
    confirmations.in_doubt("d1")
    confirmations.expect_bound(waiter, pending, TWO)
    book.confirm(*TWO)
    confirmations.recheck(book.registry)
    assert waiter.dhcpds == {"d1"}
    confirmations.trusted("d1")
    confirmations.recheck(book.registry)
    assert waiter.future.done()


def test_only_long_waits_are_looked_after(book: Book, pending: Allocation) -> None:
    """Housekeeping leaves those alone who have just begun to wait."""
    confirmations, waiter = Confirmations(), Waiter()
    confirmations.expect_bound(waiter, pending, TWO)
    book.confirm(*TWO)
    confirmations.recheck(book.registry, older_than_s=3600)
    assert not waiter.future.done()
    confirmations.recheck(book.registry)
    assert waiter.future.done()
    confirmations.recheck(book.registry)


def test_reports_of_many_threads_resolve_once(pending: Allocation) -> None:
    """Racing writers, refusals and callers resolve every waiter exactly once."""
    confirmations = Confirmations()
    calls: list[Future[None]] = []
    for _ in range(200):
        waiter = Waiter()
        waiter.future.add_done_callback(calls.append)
        confirmations.expect_bound(waiter, pending, TWO)
        start = threading.Barrier(4)
        work = (
            lambda: confirmations.confirmed("d1", _bound(pending)),
            lambda: confirmations.confirmed("d2", _bound(pending)),
            lambda: confirmations.refused("d2", pending.address, pending.generation, DhcpdRefused("no")),
        )
        threads = [
            threading.Thread(target=lambda one=one, start=start: (start.wait(), one())) for one in work
        ]
        for thread in threads:
            thread.start()
        start.wait()
        for thread in threads:
            thread.join()
        assert waiter.future.done()
    assert len(calls) == 200
    assert _empty(confirmations)


# -- one of several is enough --------------------------------------------------------------------------------------


def test_one_is_enough_whichever_it_is(pending: Allocation) -> None:
    """The first that confirms resolves the waiter, and nobody waits for the other one any more."""
    for name in TWO:
        confirmations, waiter = Confirmations(), Waiter()
        confirmations.expect_bound(waiter, pending, TWO, one_is_enough=True)
        assert not waiter.future.done()
        confirmations.confirmed(name, _bound(pending))
        assert waiter.future.result(0) is None
        assert waiter.confirmed == {(name, pending.address, pending.generation)}
        assert _empty(confirmations)


def test_each_of_a_group_needs_one(book: Book) -> None:
    """Every member by some server; different ones will do."""
    confirmations, waiter = Confirmations(), Waiter()
    first, second = book.allocate("g-1", "g-2", group="g")
    for one in (first, second):
        confirmations.expect_bound(waiter, one, TWO, one_is_enough=True)
    confirmations.confirmed("d1", _bound(first))
    assert not waiter.future.done()
    confirmations.confirmed("d2", _bound(second))
    assert waiter.future.done()
    assert _empty(confirmations)


def test_a_storage_failure_is_no_confirmation(pending: Allocation) -> None:
    """A server that cannot write it down confirms nothing: the other one is awaited, and counts as the last."""
    failure = StorageFailed("No space.")
    for outcome in ("confirmed", "refused"):
        confirmations, waiter = Confirmations(), Waiter()
        confirmations.expect_bound(waiter, pending, TWO, one_is_enough=True)
        confirmations.refused("d1", pending.address, pending.generation, failure)
        assert not waiter.future.done()
        assert waiter.dhcpds == {"d2"}
        if outcome == "confirmed":
            confirmations.confirmed("d2", _bound(pending))
            assert waiter.future.result(0) is None
        else:
            confirmations.refused("d2", pending.address, pending.generation, failure)
            assert waiter.future.exception(0) is failure
        assert _empty(confirmations)


def test_another_refusal_counts_at_once(pending: Allocation) -> None:
    """A server on which somebody else has the address would serve him: no other server makes that right."""
    confirmations, waiter = Confirmations(), Waiter()
    confirmations.expect_bound(waiter, pending, TWO, one_is_enough=True)
    refusal = DhcpdRefused("A foreign host has it.")
    confirmations.refused("d2", pending.address, pending.generation, refusal)
    assert waiter.future.exception(0) is refusal
    assert _empty(confirmations)


def test_what_one_has_confirmed_before_is_enough_unless_it_is_in_doubt(pending: Allocation) -> None:
    """A repeated call returns at once; a server whose content is unknown does not count."""
    confirmations, waiter = Confirmations(), Waiter()
    confirmations.expect_bound(waiter, pending, TWO, ["d2"], one_is_enough=True)
    assert not waiter.has_to_wait
    confirmations.in_doubt("d2")
    confirmations.expect_bound(waiter, pending, TWO, ["d2"], one_is_enough=True)
    assert waiter.dhcpds == set(TWO)
    confirmations.confirmed("d1", _bound(pending))
    assert waiter.future.done()


def test_it_is_known_who_waits_for_nobody_that_is_there(pending: Allocation) -> None:
    """With one of two away, only who needs both cannot end; a release needs both."""
    confirmations = Confirmations()
    both, either, gone = Waiter(), Waiter(), Waiter()
    confirmations.expect_bound(both, pending, TWO)
    confirmations.expect_bound(either, pending, TWO, one_is_enough=True)
    confirmations.expect_gone(gone, pending, TWO)
    assert [one.cannot_end(()) for one in (both, either, gone)] == [False, False, False]
    assert [one.cannot_end({"d1"}) for one in (both, either, gone)] == [True, False, True]
    assert [one.cannot_end({"d1", "d2"}) for one in (both, either, gone)] == [True, True, True]


def test_a_renewed_binding_needs_one_as_well(book: Book, pending: Allocation) -> None:
    """Who waits for one of several servers waits for one of them after a changed configuration, too."""
    confirmations, waiter = Confirmations(), Waiter()
    confirmations.expect_bound(waiter, pending, TWO, one_is_enough=True)
    pool = make_pool(dhcpds=TWO, options=DhcpOptions(domain_name="new.example"))
    changes = book.registry.apply({"farm": pool}, TWO)
    confirmations.reconsider(book.registry, TWO, changes.generations)
    renewed = book.find()[0]
    assert renewed.generation > pending.generation
    confirmations.confirmed("d2", _bound(renewed))
    assert waiter.future.done()
    assert _empty(confirmations)
