"""Several controllers on one registry, some of them killed in the middle of what they do."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, closing
from multiprocessing.connection import wait
from typing import Any

import pytest

from contract import workers
from contract.book import Book, addresses, make_pool
from contract.invariant import check_history, check_invariant
from labkit.postgres import Postgres
from labkit.wait import until
from macbind.core.errors import Conflict
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.audit import history
from macbind.registry.pending_changes import backlog, confirm, doubt, pending_changes
from macbind.registry.queries import find, usage
from macbind.registry.release import release
from macbind.registry.reserve import reserve
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction

WORKERS, KILLS, CHANGES = 8, 12, 300
_POOLS = (make_pool("a"), make_pool("b", subnet="10.2.0.0/28", prefix="52:54:00"))


class Rival:
    """A second controller on the same database."""

    def __init__(self, book: Book) -> None:
        self._registry = Registry.open(book.url, book.registry.pools, ["d1"])

    def close(self) -> None:
        """Closes its registry."""
        self._registry.close()

    def start(self, work: Callable[[Transaction], Any]) -> Future[Any]:
        """Has it do ``work`` in a transaction, at the same time as whatever happens next."""
        future: Future[Any] = Future()
        began = threading.Event()

        def run() -> None:
            began.set()
            try:
                with self._registry.write("rival") as txn:
                    result = work(txn)
            except Exception as error:  # noqa: BLE001  # the test asks for it
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=run, daemon=True).start()
        began.wait()
        return future


def test_batches_that_cross_pools_do_not_lock_each_other_out(book: Book) -> None:
    """Two controllers that change the same pools in opposite order both succeed, one after the other."""
    book.open(*_POOLS)
    with closing(Rival(book)) as rival:
        for turn in range(10):
            with book.write() as txn:
                mine = allocate(txn, Wanted("a", (f"mine-a{turn}",)))
                theirs = rival.start(
                    lambda other, turn=turn: [
                        *allocate(other, Wanted("b", (f"theirs-b{turn}",))),
                        *allocate(other, Wanted("a", (f"theirs-a{turn}",))),
                        *release(other, name=f"theirs-b{turn}"),
                    ]  # type: ignore[misc]
                )
                mine += allocate(txn, Wanted("b", (f"mine-b{turn}",)))
            assert not {one.address for one in theirs.result(60)} & {one.address for one in mine}
            book.confirm()
            for name in (f"mine-a{turn}", f"mine-b{turn}", f"theirs-a{turn}"):
                book.release(name)
            book.confirm()


@pytest.mark.invariant(1)
def test_two_controllers_and_one_name(book: Book) -> None:
    """Who comes second with a name finds the first one's allocation, in the same pool or as a conflict."""
    book.open(*_POOLS)
    with closing(Rival(book)) as rival:
        with book.write() as txn:
            (made,) = allocate(txn, Wanted("a", ("same",)))
            found = rival.start(lambda other: allocate(other, Wanted("a", ("same",))))
            refused = rival.start(lambda other: allocate(other, Wanted("b", ("same",))))
        assert found.result(60) == [made]
        with pytest.raises(Conflict, match="'same' is already allocated"):
            refused.result(60)


@pytest.mark.invariant(1)
def test_two_controllers_and_one_mac(book: Book) -> None:
    """A foreign MAC that two admins pin at once belongs to one of them."""
    mac = make_pool("x", prefix="00:80:77").plan.scheme.encode(_POOLS[0].plan.assignable[0].lo)
    book.open(*_POOLS)
    with closing(Rival(book)) as rival:
        with book.write() as txn:
            reserve(txn, "one", _POOLS[0].plan.subnet[3], mac=mac)
            second = rival.start(lambda other: reserve(other, "two", _POOLS[1].plan.subnet[3], mac=mac))
        error = second.exception(60)
        assert str(error).startswith(f"The MAC {mac} belongs to 'one' (10.1.1.3).")


def test_a_late_release_cannot_take_a_successors_address(book: Book) -> None:
    """A release that waited while its address changed hands releases nothing."""
    book.open(*_POOLS)
    book.allocate("victim", pool="a")
    book.confirm()
    with closing(Rival(book)) as rival:
        with book.write() as txn:
            late = rival.start(lambda other: release(other, name="victim"))
            release(txn, name="victim")
            confirm(txn, "d1", pending_changes(txn, "d1", 100))
            (successor,) = allocate(txn, Wanted("a", ("successor",)))
        assert addresses([successor]) == ["10.1.1.1"]
        assert late.result(60) == []
        assert book.find() == [successor]


def test_a_doubt_during_a_release_is_no_collision(book: Book) -> None:
    """A writer that doubts an address just when it is released asks the same question, not an impossible one."""
    book.open(*_POOLS)
    (made,) = book.allocate("x", pool="a")
    book.confirm()
    with closing(Rival(book)) as rival:
        with book.write() as txn:
            release(txn, name="x")
            late = rival.start(lambda other: doubt(other, "d1", [made.address]))
        assert late.result(60) is None
    book.confirm()
    assert book.state("10.1.1.1") == "free"


def test_a_look_sees_one_state(book: Book) -> None:
    """All questions of one look are answered as of its first, whatever is committed meanwhile."""
    book.open(*_POOLS)
    with book.read() as view:
        before = usage(view, "a")
        book.allocate("x", "y", pool="a")
        assert (usage(view, "a"), find(view), backlog(view, "d1")) == (before, [], 0)
    assert len(book.find()) == 2


def test_a_stopped_controller_delays_others_but_fails_none(postgres: Postgres) -> None:
    """PostgreSQL ends the transaction of a controller that was stopped before others give up waiting."""
    book = Book(postgres.emptied())
    book.open(*_POOLS)
    with workers.process(workers.hold_write_lock, book.url) as (holder, pipe):
        assert workers.say(pipe) == "held"
        assert holder.pid is not None
        os.kill(holder.pid, signal.SIGSTOP)
        assert addresses(book.allocate("x", pool="a")) == ["10.1.1.1"]
    book.close()


def test_controllers_start_at_once(url: str) -> None:
    """Six processes that open an empty database at the same moment all succeed and share it."""
    with ExitStack() as stack:
        pipes = [stack.enter_context(workers.process(workers.open_registry, url))[1] for _ in range(6)]
        for pipe in pipes:
            assert workers.say(pipe) == "ready"
        for pipe in pipes:
            pipe.send("go")
        made = sorted(workers.say(pipe) for pipe in pipes)
    assert made == [f"10.1.1.{last}" for last in range(1, 7)]


@pytest.mark.invariant(2)
def test_killed_controllers_leave_a_sound_registry(url: str) -> None:
    """Eight processes use two crowded pools and are killed at random: no address has two holders, ever."""
    rng = random.Random(20300101)
    pools = {pool.name: pool for pool in workers.stress_pools()}
    registry = Registry.open(url, pools, workers.DHCPDS)

    def changes() -> int:
        with registry.read() as view:
            return len(history(view, limit=CHANGES))

    with closing(registry), ExitStack() as stack:

        def start() -> tuple[Any, Any]:
            return stack.enter_context(workers.process(workers.use, url, rng.randrange(1 << 30)))

        running = [start() for _ in range(WORKERS)]
        for _ in range(KILLS):
            victim = rng.randrange(WORKERS)
            assert workers.say(running[victim][1]) == "open"
            ended = wait([one.sentinel for one, _ in running], timeout=rng.uniform(0.05, 0.7))
            assert not ended, "a worker ended by itself: its traceback is above"
            running[victim][0].kill()
            running[victim] = start()
        until(lambda: changes() == CHANGES, 180, "the workers to have done enough")
        check_invariant(url, pools)
        for _, pipe in running:
            pipe.send("stop")
        for word in ("open", "stopped"):
            assert [workers.say(pipe) for _, pipe in running] == [word] * WORKERS
    check_invariant(url, pools)
    check_history(url)
    _all_works_again(Book(url))


def _all_works_again(book: Book) -> None:
    book.open(*workers.stress_pools(), dhcpds=workers.DHCPDS)
    for one in book.find():
        book.release(address=one.address, pinned=one.pinned)
    book.later(3600)
    book.now = max(book.now, *(one.released_at for one in book.find(released=True) if one.released_at))
    book.confirm(*workers.DHCPDS)
    for pool in workers.stress_pools():
        book.sweep(pool.name)
        with book.read() as view:
            now = usage(view, pool.name)
        assert (now.free, now.allocated, now.releasing) == (pool.plan.size, 0, 0)
        made = book.allocate(*(f"{pool.name}{number}" for number in range(pool.plan.size)), pool=pool.name)
        assert [one.address for one in made] == [address for item in pool.plan.assignable for address in item]
    book.close()
