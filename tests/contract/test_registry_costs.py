"""What changes nothing writes nothing: no generation, no row, no flush, and nobody is woken for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text

from contract.book import Book, make_pool
from macbind.registry import evidence
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.release import expire, release
from macbind.registry.reserve import reserve
from macbind.registry.resting import sweep
from macbind.registry.transaction import Transaction


class Count:
    """The database's own count of what a transaction has changed: without a change there is no flush."""

    def __init__(self, txn: Transaction) -> None:
        self._txn, self._before = txn, self._now(txn)

    @staticmethod
    def _now(txn: Transaction) -> object:
        if txn.db.dialect.name == "postgresql":  # a transaction has a number once it writes
            return txn.db.scalar(text("SELECT pg_current_xact_id_if_assigned()"))
        return txn.db.scalar(text("SELECT total_changes()"))

    def has_changed(self) -> bool:
        """Whether anything was changed since."""
        return self._now(self._txn) != self._before


def _again(txn: Transaction) -> object:
    return allocate(txn, Wanted("farm", ("vm",)))


def _group_again(txn: Transaction) -> object:
    return allocate(txn, Wanted("farm", ("g-1", "g-2"), group="g", whole_group=True))


def _reserve_again(txn: Transaction) -> object:
    return reserve(txn, "printer", txn.pools["farm"].plan.subnet[9])


def _release_what_is_gone(txn: Transaction) -> object:
    return release(txn, name="never-there")


def _chores(txn: Transaction) -> object:
    expire(txn)
    evidence.expire(txn)
    return [sweep(txn, pool, txn.sizes.chores) for pool in txn.pools.values()]


@pytest.mark.parametrize(
    "work",
    [_again, _group_again, _reserve_again, _release_what_is_gone, _chores],
    ids=lambda work: work.__name__.strip("_"),
)
def test_what_changes_nothing_writes_nothing(book: Book, work: Callable[[Transaction], object]) -> None:
    """A repeated request, and chores without anything due, cost a read; the same work done first has news."""
    book.open(make_pool())
    book.one("vm")
    book.allocate("g-1", "g-2", group="g")
    book.reserve("printer", "10.1.1.9")
    with book.write() as txn:
        count = Count(txn)
        work(txn)
        assert not txn.has_news
        assert not count.has_changed()


def test_what_changes_something_has_news(book: Book) -> None:
    """An allocation and its release are written, and DHCP servers hear of both."""
    book.open(make_pool())
    for work in (_again, lambda txn: release(txn, name="vm")):
        with book.write() as txn:
            count = Count(txn)
            work(txn)
            assert txn.has_news
            assert count.has_changed()
