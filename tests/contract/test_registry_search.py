"""Searching, and parts of a transaction that leave nothing behind, on both databases."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from contract.book import Book, ip, make_pool
from macbind.core.allocation import Allocation
from macbind.core.errors import PoolExhausted
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.release import release
from macbind.registry.reserve import reserve
from macbind.registry.transaction import Transaction


def spellings(one: Allocation) -> list[str]:
    """Every text under which people look for an allocation."""
    mac = str(one.mac)
    bare = mac.replace(":", "")
    dotted = ".".join(bare[at : at + 4] for at in (0, 4, 8))
    texts = [one.name, one.group or "", one.domain or "", str(one.address)]
    return [*texts, mac, mac.upper(), mac.replace(":", "-"), bare, dotted]


def test_a_search_finds_what_its_text_is_part_of(book: Book) -> None:
    """For any part of any spelling: exactly those allocations that have it, as a look at each of them says."""
    book.open(make_pool(subnet="10.0.0.0/8", ranges=["10.1.0.1-10.1.255.254"]))
    dice = random.Random(11)
    for number in range(60):
        address = ip(f"10.1.{dice.randrange(256)}.{dice.randrange(1, 255)}")
        if not book.find(addresses=[address]):
            group, domain = dice.choice([None, "red", "a/b"]), dice.choice([None, "D\\o%m"])
            book.one(f"Vm_{number}", group=group, domain=domain, address=address)
    everything = book.find()
    texts = {text for one in everything for text in spellings(one) if text}
    for text in sorted(texts):
        begin = dice.randrange(len(text))
        part = text[begin : begin + dice.randrange(3, 12)]
        if len(part.strip("-:.")) < 3 or ("-" in part and len(part) < 5):
            continue
        found = {one.name for one in book.find(search=part)}
        plain = {
            one.name
            for one in everything
            if any(part.lower() in spelling.lower() for spelling in spellings(one))
        }
        assert found == plain, part


@pytest.mark.parametrize("text", ["%", "_", "\\", "nothing", "'", '"', "%s", ":p", "é", "0:16:3e:1:1:3:4"])
def test_patterns_are_plain_text(book: Book, text: str) -> None:
    """What means something to SQL means only itself."""
    book.open(make_pool())
    book.one("vm")
    assert book.find(search=text) == []


def test_a_search_joins_other_questions(book: Book) -> None:
    """Group, MAC, pages, released ones and addresses count as without it."""
    book.open(make_pool())
    for name in ("red-1", "red-2", "blue-1"):
        book.one(name, group=name.partition("-")[0])
    assert [one.name for one in book.find(search="red", limit=1)] == ["red-1"]
    assert [one.name for one in book.find(search="red", after=ip("10.1.1.1"))] == ["red-2"]
    assert [one.name for one in book.find(search="-1")] == ["red-1", "blue-1"]
    assert [one.name for one in book.find(search="-1", group="blue")] == ["blue-1"]
    assert len(book.find(search="16-3")) == 3
    assert book.find(search="red", addresses=[ip("10.1.1.3")]) == []
    book.release("red-1")
    assert [one.name for one in book.find(search="red")] == ["red-2"]
    assert [one.name for one in book.find(search="red", released=True)] == ["red-1", "red-2"]


CHANGES: list[Callable[[Transaction], object]] = [
    lambda txn: allocate(txn, Wanted("farm", ("new", "newer"), group="g")),
    lambda txn: release(txn, name="kept"),
    lambda txn: reserve(txn, "desk", ip("10.1.1.9")),
    lambda txn: release(txn, name="pinned", pinned=True),
]


@pytest.mark.parametrize("number", range(len(CHANGES)), ids=["allocate", "release", "reserve", "unreserve"])
def test_what_is_undone_leaves_nothing(book: Book, number: int) -> None:
    """No row, mark, entry of the log or generation; a change beside it in the same transaction stays."""
    book.open(make_pool())
    book.one("kept")
    book.reserve("pinned", "10.1.1.5")
    book.confirm()
    with book.write() as txn:
        first = allocate(txn, Wanted("farm", ("before",)))[0]
        with txn.undone():
            assert CHANGES[number](txn)
        second = allocate(txn, Wanted("farm", ("after",)))[0]
    assert second.generation == first.generation + 1
    assert [one.name for one in book.find(released=True)] == ["kept", "before", "after", "pinned"]
    assert {str(one.address) for one in book.due()} == {str(first.address), str(second.address)}
    assert [name for _, _, name in book.history()].count("before") == 1
    assert not {"new", "newer", "desk"} & {name for _, _, name in book.history()}


def test_a_refusal_is_undone_too(book: Book) -> None:
    """The transaction goes on after it."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.2"]))
    with book.write() as txn:
        with pytest.raises(PoolExhausted), txn.undone():
            allocate(txn, Wanted("farm", ("a", "b", "c")))
        allocate(txn, Wanted("farm", ("a", "b")))
    assert [one.name for one in book.find()] == ["a", "b"]
