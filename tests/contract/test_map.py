"""The map of a pool, straight from the registry."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from sqlalchemy import insert

from contract.book import Book, ip, make_pool
from macbind.core.address_map import MapState, block_size, bounds, fold, total
from macbind.core.errors import InvalidRequest, NotFound
from macbind.registry import free_space
from macbind.registry.map_rows import spans
from macbind.registry.queries import usage
from macbind.registry.tables import allocation as al
from macbind.service.maps import Maps


def runs(book: Book, **part: str) -> list[str]:
    """The runs as texts."""
    first, last = (ip(part[key]) if key in part else None for key in ("first", "last"))
    found = Maps(book.registry).runs("farm", first=first, last=last)
    return [f"{one.first}-{one.last} {one.state}" for one in found.runs]


def test_every_state_is_on_the_map(book: Book) -> None:
    """What is held, reserved, resting, used by others, a gateway, dynamic, excluded or free is told as such."""
    book.open(
        make_pool(
            subnet="10.1.1.0/27",
            ranges=["10.1.1.2-10.1.1.20"],
            exclude=["10.1.1.9"],
            gateways=["10.1.1.1"],
            dynamic=["10.1.1.24-10.1.1.26"],
            cooldown_s=3600,
        )
    )
    book.allocate("a", "b")
    book.reserve("printer", "10.1.1.22")
    gone = book.one("gone", address=ip("10.1.1.6"))
    book.release(name=gone.name)
    book.show(
        book.seen("10.1.1.8"), book.seen("10.1.1.28")
    )  # the pool does not hand the second one out anyway
    assert runs(book) == [
        "10.1.1.0-10.1.1.0 excluded",
        "10.1.1.1-10.1.1.1 gateway",
        "10.1.1.2-10.1.1.3 allocated",
        "10.1.1.4-10.1.1.5 free",
        "10.1.1.6-10.1.1.6 resting",
        "10.1.1.7-10.1.1.7 free",
        "10.1.1.8-10.1.1.8 used_by_others",
        "10.1.1.9-10.1.1.9 excluded",
        "10.1.1.10-10.1.1.20 free",
        "10.1.1.21-10.1.1.21 excluded",
        "10.1.1.22-10.1.1.22 reserved",
        "10.1.1.23-10.1.1.23 excluded",
        "10.1.1.24-10.1.1.26 dynamic",
        "10.1.1.27-10.1.1.31 excluded",
    ]
    assert runs(book, first="10.1.1.3", last="10.1.1.4") == [
        "10.1.1.3-10.1.1.3 allocated",
        "10.1.1.4-10.1.1.4 free",
    ]


def test_a_part_that_is_not_there_is_refused(book: Book) -> None:
    """So is a pool that is not there; each in a sentence of its own."""
    book.open(make_pool())
    with pytest.raises(InvalidRequest, match="no such part") as refused:
        runs(book, first="10.1.1.9", last="10.1.1.8")
    assert refused.value.hint == "It goes from 10.1.1.0 to 10.1.1.15."
    with pytest.raises(NotFound, match="no pool 'nope'"):
        Maps(book.registry).blocks("nope")


def test_pages_of_any_size_make_the_same_map(book: Book) -> None:
    """The pages join without a gap, whatever was allocated."""
    book.open(make_pool(subnet="10.1.0.0/16", gateway="x.x.x.1"))
    for number in range(0, 3000, 7):
        book.one(f"vm-{number}", address=ip(f"10.1.{number // 200}.{2 + number % 200}"))
    maps = Maps(book.registry)
    whole = maps.runs("farm", limit=100_000)
    assert whole.next is None
    for limit in (1, 2, 3, 7, 1000):
        pages, following = [], None
        while True:
            page = maps.runs("farm", first=following, limit=limit)
            assert len(page.runs) <= limit
            pages += page.runs
            following = page.next
            if following is None or len(pages) > 60:
                break
        assert pages == whole.runs[: len(pages)]


def test_the_map_of_a_slash_8_agrees_with_the_numbers_and_is_quick(book: Book) -> None:
    """50,000 allocations all over a /8: blocks add up to the pool's numbers, in little memory and time."""
    book.open(make_pool(subnet="10.0.0.0/8"))
    step, count = 331, 50_000
    ips = [int(ip("10.0.0.5")) + step * number for number in range(count)]
    with book.write() as txn:
        number = txn.ids.pools["farm"]
        free_space.take_all(txn.db, number, ips)
        for some in free_space.chunks(ips, 10_000):
            txn.db.execute(
                insert(al),
                [
                    {
                        "ip": one, "mac": one, "pool_id": number, "name": f"vm-{one}", "gen": 1, "options": {},
                        "pinned": False, "created_at": 0.0,
                    }
                    for one in some
                ],
            )  # fmt: skip
    with book.read() as view:
        low, high = bounds(view.pool("farm").plan)
        assert high - low == (1 << 24) - 1
        size = block_size(low, high, 4096)
        started = time.process_time()
        blocks = list(fold(spans(view, "farm"), size))
        took = time.process_time() - started
        numbers = usage(view, "farm")
        tracemalloc.start()
        seen = sum(1 for _ in fold(spans(view, "farm"), size))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    counts = total(blocks)
    assert seen == len(blocks) == 4096
    assert sum(counts.values()) == 1 << 24
    assert counts[MapState.ALLOCATED] == numbers.allocated == count
    assert counts[MapState.FREE] == numbers.free
    assert peak < 8 << 20, f"{peak >> 20} MiB"
    print(f"{count:,} allocations took {took:.2f} s of processor time")
    assert took < 5.0  # well below a second on an idle machine
    book.abandon()  # rows that no dhcpd has heard of are no sound registry
