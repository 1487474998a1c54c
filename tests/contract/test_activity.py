"""The last hour of a registry, counted from its audit log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from contract.book import Book, make_pool
from macbind.core.pool import PoolUsage
from macbind.registry.activity import counted
from macbind.registry.queries import usage
from macbind.service.activity import MINUTES, ActivityReport


def report(book: Book) -> ActivityReport:
    """A report that has not counted anything yet."""

    def pools() -> list[PoolUsage]:
        with book.read() as view:
            return [usage(view, name) for name in sorted(view.pools)]

    return ActivityReport(book.registry, pools, lambda: 3)


def test_the_hour_before_the_start_is_known(book: Book) -> None:
    """What was allocated and released in each minute, how full the pool was, and when it will be full."""
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
    found = report(book).activity()
    assert (found.waiting, found.releases, found.release_p50_s) == (3, 0, None)
    farm, other = found.pools
    assert len(farm.held) == len(farm.allocated) == len(farm.released) == MINUTES
    assert sum(farm.allocated) == 6  # not what was before the hour
    assert sum(farm.released) == 1
    assert farm.held[0] == 2
    assert farm.held[-1] == 7
    assert sum(other.allocated) == 2
    # Two more in 15 minutes, and six of fourteen are free: no dhcpd has confirmed the release yet.
    assert farm.exhausted_in_s == 6 / 2 * 15 * 60
    assert found.pools[1].exhausted_in_s is not None


def test_a_pool_that_becomes_emptier_is_never_full(book: Book) -> None:
    """No time is told for it."""
    book.open(make_pool())
    book.now = datetime.now(UTC) - timedelta(minutes=30)
    book.allocate("a", "b")
    book.now = datetime.now(UTC)
    book.release(name="a")
    assert report(book).activity().pools[0].exhausted_in_s is None


def test_a_release_is_measured_until_it_is_confirmed(book: Book) -> None:
    """From the audit log's time of the release until dhcpd's word; an address that nobody released does not count."""
    book.open(make_pool())
    one, two = book.allocate("a", "b")
    book.now = datetime.now(UTC) - timedelta(seconds=4)
    book.release(name="a")
    made = report(book)
    made.gone([one.address, two.address])
    found = made.activity()
    assert found.releases == 1
    assert found.release_p50_s is not None
    assert 4 <= found.release_p50_s < 60
    assert found.release_p50_s == found.release_p99_s


def test_each_change_is_counted_once(book: Book) -> None:
    """Whatever the last number is."""
    book.open(make_pool())
    book.now = datetime.now(UTC)
    book.allocate("a", "b")
    oldest = (book.now - timedelta(hours=1)).timestamp()
    with book.read() as view:
        first = counted(view, 0, oldest)
        again = counted(view, first.last, oldest)
    assert [one[0] for one in first.changes] == ["farm", "farm"]
    assert (again.changes, again.last) == ([], first.last)
    with book.read() as view:
        assert counted(view, 0, (book.now + timedelta(hours=1)).timestamp()).changes == []
