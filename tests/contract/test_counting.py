"""What the registry tells those who count: the states of a pool's addresses, and releases that are complete."""

from __future__ import annotations

import random
import time
from collections import Counter
from datetime import timedelta
from ipaddress import IPv4Address

from typing_extensions import override

from contract.book import Book, ip, make_pool
from contract.domain_site import Bench
from macbind.core.pool import PoolStates
from macbind.core.release_cause import ReleaseCause
from macbind.engine.meter import Meter, count_released
from macbind.registry.pending_changes import confirm, doubt, pending_changes
from macbind.registry.pool_states import pool_states
from macbind.registry.renumber import begin_renumber, drop_renumber, finish_renumber
from macbind.registry.store import Registry

TWO = ("d1", "d2")


class Counts(Meter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.of: Counter[ReleaseCause] = Counter()
        self.seconds: list[float] = []

    @override
    def released(self, cause: ReleaseCause, seconds: float) -> None:
        self.of[cause] += 1
        self.seconds.append(seconds)

    @override
    def repaired(self, dhcpd: str, *, mended: int, removed: int) -> None:
        raise AssertionError("no comparison here")


def confirm_all(book: Book, counts: Counts, dhcpd: str = "d1", registry: Registry | None = None) -> None:
    """A dhcpd does all that is due, and the releases that are complete by it are counted."""
    writer = registry or book.registry
    with writer.write("writer", now=book.now) as txn:
        completed = confirm(txn, dhcpd, pending_changes(txn, dhcpd, 1000))
    count_released(counts, writer, completed)


def states(book: Book, pool: str = "farm") -> PoolStates:
    """The states of a pool's addresses, which add up to its size."""
    with book.read() as view:
        found = pool_states(view, pool)
    parts = found.free, found.allocated, found.reserved, found.releasing, found.used_by_others
    assert sum(parts) == found.size
    assert min(*parts, found.outside) >= 0
    return found


# -- states ------------------------------------------------------------------------------------------


def test_each_address_of_a_pool_has_one_state(book: Book) -> None:
    """Free, allocated, reserved, releasing, resting and used by others; what is not handed out is apart."""
    book.open(make_pool(ranges=["10.1.1.1-10.1.1.10"], cooldown_s=60))
    assert states(book) == PoolStates("farm", 10, 10, 0, 0, 0, 0, 0)
    book.allocate("a", "b", "c", "d")
    book.reserve("inside", "10.1.1.9")
    book.show(book.seen("10.1.1.10"), book.seen("10.1.1.1", "b"), book.seen("10.1.1.12", "c"))
    assert states(book) == PoolStates("farm", 10, 4, 4, 1, 0, 1, 0)
    book.release("a")
    book.release("b")
    assert states(book) == PoolStates("farm", 10, 4, 2, 1, 2, 1, 0)
    book.confirm()
    assert states(book) == PoolStates("farm", 10, 4, 2, 1, 2, 1, 0)
    book.reserve("outside", "10.1.1.13")
    book.reserve("ends", "10.1.1.14")
    book.release("ends", pinned=True)
    assert states(book) == PoolStates("farm", 10, 4, 2, 1, 2, 1, 2)


def test_allocations_of_a_range_that_was_taken_out_are_outside(book: Book) -> None:
    """When a pool becomes smaller, what it handed out before is counted apart, whatever state it is in."""
    book.open(make_pool(subnet="10.1.0.0/16", ranges=["10.1.1.0/24"]))
    book.allocate(*(f"vm-{number}" for number in range(20)))
    book.confirm()
    for number in (1, 15):
        book.release(f"vm-{number}")
    book.open(make_pool(subnet="10.1.0.0/16", ranges=["10.1.1.0-10.1.1.9"], dhcpds=("d1",)))
    found = states(book)
    assert (found.allocated, found.releasing, found.outside) == (9, 1, 10)


def test_pools_with_very_many_holes_are_counted(book: Book) -> None:
    """No size of a question is too much for the database: hundreds of ranges, with something in every gap."""
    gaps = random.Random(7).sample(range(2, 4000, 2), 350)
    holes = [str(IPv4Address(int(ip("10.1.0.0")) + one)) for one in gaps]
    book.open(make_pool(subnet="10.1.0.0/16", ranges=["10.1.0.0/20"], exclude=holes))
    for number, one in enumerate(holes[:40]):
        book.reserve(f"r-{number}", one)
    book.allocate("a", "b")
    found = states(book)
    assert (found.size, found.allocated, found.reserved, found.outside) == (4095 - 350, 2, 0, 40)


def test_gateways_by_rule_part_nothing(book: Book) -> None:
    """A pool with a gateway in each of its blocks is counted with what lies outside of it."""
    book.open(make_pool(subnet="10.0.0.0/8", ranges=["10.1.0.0/16"], gateway="x.x.x.1"))
    book.allocate("a", "b", "c")
    book.reserve("outside", "10.2.0.2")
    found = states(book)
    assert (found.allocated, found.reserved, found.outside) == (3, 0, 1)


# -- releases ----------------------------------------------------------------------------------------


def test_a_release_counts_when_the_last_dhcpd_has_confirmed(book: Book) -> None:
    """The first of two confirmations completes nothing, and the second one completes it once."""
    book.open(make_pool(dhcpds=TWO), dhcpds=TWO)
    counts = Counts()
    book.one("a")
    for one in TWO:
        confirm_all(book, counts, one)
    began = time.monotonic()
    book.release("a")
    confirm_all(book, counts, "d1")
    assert not counts.of
    confirm_all(book, counts, "d2")
    assert counts.of == {ReleaseCause.ASKED: 1}
    assert 0 <= counts.seconds[0] <= time.monotonic() - began
    confirm_all(book, counts, "d2")
    assert counts.of.total() == 1


def test_an_address_that_rests_counts_once(book: Book) -> None:
    """It is complete when it is gone from dhcpd, not when its rest is over, nor when dhcpd is looked at again."""
    book.open(make_pool(cooldown_s=60))
    counts = Counts()
    book.one("a")
    confirm_all(book, counts)
    book.release("a")
    confirm_all(book, counts)
    assert counts.of == {ReleaseCause.ASKED: 1}
    with book.write() as txn:
        doubt(txn, "d1", [ip("10.1.1.1")])
    confirm_all(book, counts)
    book.later(61)
    assert book.sweep() == 1
    assert counts.of.total() == 1


def test_each_release_has_its_cause(book: Book) -> None:
    """Asked for, expired, renumbered, withdrawn; a group counts each of its addresses."""
    book.open(make_pool())
    counts = Counts()
    book.one("expires", expires_at=book.now + timedelta(seconds=5))
    book.allocate("g-1", "g-2", group="g")
    book.allocate("moves", "stays")
    book.reserve("pinned", "10.1.1.14")
    confirm_all(book, counts)
    book.later(6)
    assert book.expire() == ["expires"]
    book.release(group="g")
    book.release("pinned", pinned=True)
    with book.write() as txn:
        begun = begin_renumber(txn, "moves", ip("10.1.1.9"), "t", 60.0)
        dropped = begin_renumber(txn, "stays", ip("10.1.1.10"), "u", 60.0)
        finish_renumber(txn, "moves", "t")
        drop_renumber(txn, dropped, "why not")
    assert begun.new.address == ip("10.1.1.9")
    confirm_all(book, counts)
    assert counts.of == {
        ReleaseCause.EXPIRED: 1,
        ReleaseCause.ASKED: 3,
        ReleaseCause.RENUMBERED: 1,
        ReleaseCause.WITHDRAWN: 1,
    }


def test_what_another_controller_has_released_is_told_from_ours(book: Book) -> None:
    """A release that was begun elsewhere, or before a restart, counts as such, with its age by the time of day."""
    book.open(make_pool())
    counts = Counts()
    book.one("a")
    confirm_all(book, counts)
    book.release("a")
    book.later(30)
    other = Registry.open(book.url, book.registry.pools, ["d1"])
    try:
        confirm_all(book, counts, registry=other)
    finally:
        other.close()
    assert counts.of == {ReleaseCause.ELSEWHERE: 1}
    assert counts.seconds == [30.0]


def test_a_destroyed_machine_is_timed_from_the_word_of_libvirt(bench: Bench) -> None:
    """The cause is that the machine ended; the time begins before the change was asked for."""
    counts = Counts()
    one = bench.allocate("vm")
    domain = bench.driver.createXML(bench.xml("vm", one.mac))
    bench.until_used("vm")
    with bench.registry.write("writer") as txn:
        confirm(txn, "main", pending_changes(txn, "main", 10))
    began = time.monotonic()
    domain.destroy()
    bench.until_free("vm")
    with bench.registry.write("writer") as txn:
        completed = confirm(txn, "main", pending_changes(txn, "main", 10))
    count_released(counts, bench.registry, completed)
    assert counts.of == {ReleaseCause.ENDED: 1}
    assert 0 < counts.seconds[0] <= time.monotonic() - began
