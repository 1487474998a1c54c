"""Threads of one process that change the registry take turns."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from contract.book import Book, make_pool
from macbind.core.errors import RegistryUnavailable

_DEADLINE_S = 60


def _start(work: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=work, args=args)
    thread.start()
    return thread


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
