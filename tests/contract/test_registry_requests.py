"""Requests with a key: a repeat finds what it made, and a late one makes nothing new."""

from __future__ import annotations

import pytest

from contract.book import Book, addresses, make_pool
from macbind.core.allocation import Allocation
from macbind.core.errors import Conflict, InvalidRequest
from macbind.core.origin import key_of
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.release import release
from macbind.registry.requests import KEEP, trim_requests


def ask(book: Book, name: str, key: str | None) -> list[Allocation]:
    """Allocates in a transaction of its own."""
    with book.write() as txn:
        return allocate(txn, Wanted("farm", (name,), request=key))


def test_a_repeat_finds_its_own(book: Book) -> None:
    """Also much later, and when others have come meanwhile."""
    book.open(make_pool())
    made = ask(book, "a", "k1")
    ask(book, "b", "k2")
    book.later(3600)
    assert ask(book, "a", "k1") == made
    assert addresses(book.find()) == ["10.1.1.1", "10.1.1.2"]


def test_a_late_repeat_makes_nothing(book: Book) -> None:
    """What was released since is not allocated again by a request that was on its way for long."""
    book.open(make_pool())
    ask(book, "a", "k1")
    with book.write() as txn:
        release(txn, name="a")
    book.later(1)
    with pytest.raises(Conflict, match="was carried out already"):
        ask(book, "a", "k1")
    assert book.find() == []
    assert [one.name for one in ask(book, "a", "k2")] == ["a"]
    with pytest.raises(Conflict, match="was carried out already"):
        ask(book, "a", "k1")  # the name has another's allocation
    assert len(book.find()) == 1


def test_what_is_refused_leaves_no_key(book: Book) -> None:
    """A request that made nothing may be repeated when it is possible."""
    book.open(make_pool(ranges=("10.1.1.1-10.1.1.1",)))
    ask(book, "a", "k1")
    with pytest.raises(Exception, match="has no unoccupied address"):
        ask(book, "b", "k2")
    book.open(make_pool(ranges=("10.1.1.1-10.1.1.2",)))
    assert [one.name for one in ask(book, "b", "k2")] == ["b"]


def test_keys_are_forgotten_after_a_day(book: Book) -> None:
    """And not before."""
    book.open(make_pool())
    ask(book, "a", "k1")
    with book.write() as txn:
        assert trim_requests(txn) == 0
    book.later(KEEP.total_seconds() + 1)
    with book.write() as txn:
        assert trim_requests(txn) == 1
        assert trim_requests(txn) == 0


def test_a_key_is_its_callers_own() -> None:
    """Another caller with the same key has another request, and nobody sees the key in the registry."""
    assert key_of("api:a", "k") != key_of("api:b", "k")
    assert key_of("api:a", "k") == key_of("api:a", "k")
    assert "secret-key" not in key_of("api:a", "secret-key")
    for wrong in ("", "a b", "x" * 65, "ä", "a\n"):
        with pytest.raises(InvalidRequest, match="Idempotency-Key must be"):
            key_of("api:a", wrong)
