"""Threads of one process that change the registry take turns."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from contract.book import Book, make_pool
from labkit.wait import until
from macbind.errors import RegistryUnavailable
from macbind.registry.turn import Turn

_DEADLINE_S = 20


def _start(work: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=args)
    thread.start()
    return thread


def _until_waiting(turn: Turn, count: int) -> None:
    until(lambda: len(turn._waiting) == count, _DEADLINE_S, "the thread to wait")


def test_turns_come_in_the_order_of_asking() -> None:
    """Whoever has waited longest is next, even if the last holder asks again at once."""
    turn, served = Turn(), list[int]()
    assert turn.take(0)

    def ask(number: int) -> None:
        assert turn.take(_DEADLINE_S)
        served.append(number)
        turn.give()

    threads = []
    for number in range(5):
        threads.append(_start(ask, number))
        _until_waiting(turn, number + 1)
    turn.give()
    assert turn.take(_DEADLINE_S)
    assert served == [0, 1, 2, 3, 4]
    turn.give()
    for thread in threads:
        thread.join()
    assert turn.take(0)


def test_who_gives_up_is_passed_over() -> None:
    """A turn that did not come in time is not waited for by those behind."""
    turn = Turn()
    assert turn.take(0)
    assert not turn.take(0.01)

    def ask() -> None:
        assert turn.take(_DEADLINE_S)
        turn.give()

    later = _start(ask)
    _until_waiting(turn, 1)
    turn.give()
    later.join(_DEADLINE_S)
    assert turn.take(0)


def test_no_turn_is_lost_or_given_twice() -> None:
    """However threads ask, give up and let go, at most one has the turn and it is free in the end."""
    turn, inside, most = Turn(), list[int](), list[int]()

    def worker(number: int) -> None:
        for round_ in range(300):
            if turn.take(0.0001 * (round_ % 4)):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)
                turn.give()

    threads = [_start(worker, number) for number in range(6)]
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert turn.take(0)


def test_a_change_waits_for_its_turn_only_so_long(book: Book) -> None:
    """A change behind one that does not end fails with a hint; the turn is free again after an error."""
    book.open(make_pool(), busy_timeout_s=0.2)
    leave = threading.Event()
    entered = threading.Event()

    def hold() -> None:
        with book.write():
            entered.set()
            leave.wait(_DEADLINE_S)

    holder = _start(hold)
    assert entered.wait(_DEADLINE_S)
    with pytest.raises(RegistryUnavailable, match="busy with another change"):
        book.one("a")
    leave.set()
    holder.join()
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), book.write():
            _ = 1 // 0
    assert book.one("a").name == "a"
