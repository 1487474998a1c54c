"""The free space of a pool as ranges, straight from the registry."""

import random
from ipaddress import IPv4Address

import pytest

from contract.book import Book, ip, make_pool
from macbind.core.errors import NotFound
from macbind.core.free_range import FreeRange
from macbind.registry.lookups import free_ranges


def ranges(book: Book, pool: str = "farm", **which: object) -> list[str]:
    """The ranges as texts."""
    with book.read() as view:
        return [f"{one.lo}-{one.hi} {one.size}" for one in free_ranges(view, pool, **which)]  # type: ignore[arg-type]


def test_gaps_are_what_is_neither_held_nor_excluded_nor_used(book: Book) -> None:
    """A range ends at an allocation, at what is excluded, and at what others use."""
    book.open(make_pool(exclude=["10.1.1.9"]))
    assert ranges(book) == ["10.1.1.1-10.1.1.8 8", "10.1.1.10-10.1.1.14 5"]
    book.one("a", address=ip("10.1.1.4"))
    book.show(book.seen("10.1.1.12"))
    assert ranges(book) == [
        "10.1.1.1-10.1.1.3 3",
        "10.1.1.5-10.1.1.8 4",
        "10.1.1.10-10.1.1.11 2",
        "10.1.1.13-10.1.1.14 2",
    ]
    with pytest.raises(NotFound, match="no pool 'nope'"):
        ranges(book, "nope")


def test_pages_of_any_size_make_the_same_list(book: Book) -> None:
    """Also of a /8 with many holes; a page begins after any address, within a range, too."""
    book.open(make_pool(subnet="10.0.0.0/8"))
    chosen = random.Random(7).sample(range(int(ip("10.0.0.1")), int(ip("10.255.255.254"))), 50)
    for number, one in enumerate(chosen):
        book.one(f"vm-{number}", address=IPv4Address(one))
    with book.read() as view:
        everything = free_ranges(view, "farm")
        assert sum(one.size for one in everything) == (1 << 24) - 2 - 50
        for limit in (1, 2, 3, 7, 1000):
            pages: list[FreeRange] = []
            while page := free_ranges(view, "farm", after=pages[-1].hi if pages else None, limit=limit):
                assert len(page) <= limit
                pages += page
            assert pages == everything
        inside = IPv4Address(int(everything[3].lo) + 1)
        rest = free_ranges(view, "farm", after=inside, limit=1)
        assert rest == [FreeRange("farm", IPv4Address(int(inside) + 1), everything[3].hi)]
