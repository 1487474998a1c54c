"""The last hour of pools, counted from the audit log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from contract.book import Book, make_pool
from macbind.registry.growth import growth
from macbind.registry.queries import usage
from macbind.service.trends import MINUTES, PoolTrend, Trends


def trends(book: Book) -> list[PoolTrend]:
    """The trends of all pools, which nobody has counted yet."""
    with book.read() as view:
        pools = [usage(view, name) for name in sorted(view.pools)]
    return Trends(book.registry).of(pools)


def test_the_hour_before_the_start_is_known(book: Book) -> None:
    """How full the pool was in each minute, and when it will be full."""
    book.open(make_pool(), make_pool("other", subnet="10.9.0.0/28"))
    now = datetime.now(UTC)
    book.now = now - timedelta(minutes=90)
    book.allocate("old-1", "old-2")
    book.now = now - timedelta(minutes=20)
    book.allocate("a", "b", "c")
    book.now = now - timedelta(minutes=10)
    book.release(name="a")
    book.allocate("d", "e", pool="other")
    book.now = now - timedelta(minutes=5)
    book.allocate("f", "g", "h")
    book.now = now
    farm, other = trends(book)
    assert len(farm.held) == MINUTES
    assert farm.held[0] == 2
    assert farm.held[-30] == 2
    assert farm.held[-15] == 5
    assert farm.held[-7] == 4
    assert farm.held[-1] == 7
    # Two more in 15 minutes, and six of fourteen are free: no dhcpd has confirmed the release yet.
    assert farm.exhausted_in_s == 6 / 2 * 15 * 60
    assert other.held[-1] == 2
    assert other.exhausted_in_s is not None


def test_a_pool_that_becomes_emptier_is_never_full(book: Book) -> None:
    """No time is told for it."""
    book.open(make_pool())
    book.now = datetime.now(UTC) - timedelta(minutes=30)
    book.allocate("a", "b")
    book.now = datetime.now(UTC)
    book.release(name="a")
    assert trends(book)[0].exhausted_in_s is None


def test_each_change_is_counted_once(book: Book) -> None:
    """Whatever the last number is; a minute begins with its first moment."""
    book.open(make_pool())
    book.now = datetime.now(UTC).replace(second=0, microsecond=1000)
    book.allocate("a", "b")
    book.now += timedelta(seconds=59, milliseconds=998)
    book.allocate("c")
    oldest = (book.now - timedelta(hours=1)).timestamp()
    with book.read() as view:
        first = growth(view, 0, oldest)
        again = growth(view, first.last, oldest)
    assert first.by_minute == {("farm", int(book.now.timestamp()) // 60): 3}
    assert (again.by_minute, again.last) == ({}, first.last)
    with book.read() as view:
        assert growth(view, 0, (book.now + timedelta(hours=1)).timestamp()).by_minute == {}
