"""The rows of the page's table: the same as the allocations, however they stand."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Address

from contract.book import Book, ip, make_pool
from macbind.core.allocation import State
from macbind.core.pool import PoolMode
from macbind.registry.labels import relabel
from macbind.registry.table_rows import TableRow, table_rows
from macbind.service.table import Table


def rows(book: Book, pool: str = "farm", **which: object) -> list[TableRow]:
    """The rows of a pool."""
    with book.read() as view:
        return table_rows(view, pool, **{"limit": 1000, **which})  # type: ignore[arg-type]


def check(book: Book, pool: str = "farm") -> list[str]:
    """Holds rows against allocations; returns their states."""
    held = book.find(pool=pool, released=True)
    assert rows(book, pool) == [
        (
            int(one.address),
            one.mac.value,
            one.name,
            one.generation,
            one.state,
            one.group,
            one.domain,
            one.created_at.timestamp(),
            one.pinned,
            None if one.renumbers_from is None else int(one.renumbers_from),
            one.doubted_at is not None,
            one.labels or None,
        )
        for one in held
    ]
    return [str(one.state) for one in held]


def test_rows_are_the_allocations_in_every_state(book: Book) -> None:
    """Pending, bound, bound by some of the DHCP servers only, releasing, cooling; reserved, labelled."""
    book.open(make_pool(dhcpds=("d1", "d2"), cooldown_s=600), dhcpds=("d1", "d2"))
    assert rows(book) == []
    book.allocate("a", "b", "c", group="web")
    assert check(book) == [State.PENDING] * 3
    book.confirm("d1")
    assert check(book) == [State.PENDING] * 3
    book.confirm("d2")
    book.reserve("printer", "10.1.1.9", mac="00:11:22:33:44:55")
    with book.write() as txn:
        relabel(txn, "a", {"job": "4711", "kept": ""}, [])
    assert check(book) == [*[State.BOUND] * 3, State.PENDING]
    book.release("b")
    assert check(book) == [State.BOUND, State.RELEASING, State.BOUND, State.PENDING]
    book.confirm("d1")
    book.confirm("d2")
    assert check(book) == [State.BOUND, State.COOLING, State.BOUND, State.BOUND]
    book.later(timedelta(hours=1).total_seconds())
    book.sweep()
    assert check(book) == [State.BOUND] * 3


def test_addresses_of_a_static_pool_are_bound_without_a_word(book: Book) -> None:
    """dhcpd has them in its configuration; a reservation beside the pool is told live."""
    book.open(make_pool(mode=PoolMode.STATIC, ranges=["10.1.1.1-10.1.1.5"]))
    book.allocate("a")
    book.reserve("beside", "10.1.1.9")
    assert check(book) == [State.BOUND, State.PENDING]


def test_rows_of_one_pool_in_pages_and_by_their_addresses(book: Book) -> None:
    """Pages follow each other without a gap; addresses that nobody holds, or another pool has, have no row."""
    book.open(make_pool(), make_pool("other", subnet="10.9.0.0/28"))
    book.allocate("a", "b", "c")
    other = book.one("d", pool="other")
    assert [one.name for one in rows(book, "other")] == ["d"]
    table = Table(book.registry)
    first = table.page("farm", limit=2)
    assert ([one.name for one in first.rows], first.next) == (["a", "b"], ip("10.1.1.2"))
    last = table.page("farm", after=first.next, limit=2)
    assert ([one.name for one in last.rows], last.next) == (["c"], None)
    asked = [ip("10.1.1.3"), ip("10.1.1.1"), IPv4Address("10.1.1.8"), other.address]
    some = table.page("farm", addresses=asked, limit=2)
    assert ([one.name for one in some.rows], some.next) == (["a", "c"], None)
