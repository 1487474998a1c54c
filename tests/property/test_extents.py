"""Free extents against a plain set of integers: whatever is taken and given back, they agree."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import Connection, create_engine, insert, select

from macbind.registry import free_space
from macbind.registry.tables import free_extent, metadata
from macbind.registry.tables import pool as pool_table

_SPACE = 60
_ADDRESS = st.integers(0, _SPACE - 1)
_POOLS = st.sampled_from([1, 2])
_SIZE = st.sampled_from([1, 2, 3, 7, 500])


def _intervals(draw: st.DrawFn) -> list[free_space.Extent]:
    """Sorted intervals that do not touch, as an address plan has them."""
    return free_space.runs(sorted(draw(st.sets(_ADDRESS, max_size=_SPACE))))


_RANGES = st.composite(_intervals)()


def _expand(intervals: list[free_space.Extent]) -> set[int]:
    return {ip for lo, hi in intervals for ip in range(lo, hi + 1)}


def _stored(db: Connection, pool_id: int) -> list[free_space.Extent]:
    query = select(free_extent.c.lo, free_extent.c.hi).where(free_extent.c.pool_id == pool_id)
    return [(lo, hi) for lo, hi in db.execute(query.order_by(free_extent.c.lo))]


class FreeSpace(RuleBasedStateMachine):
    """Two pools' extents, and the sets they should be."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = create_engine("sqlite://")
        self.db = self.engine.connect()
        metadata.create_all(self.db)
        for number in (1, 2):
            self.db.execute(
                insert(pool_table), {"id": number, "name": str(number), "layout": "", "extra": ""}
            )
        self.free: dict[int, set[int]] = {1: set(), 2: set()}
        self.whole: dict[int, set[int]] = {1: set(), 2: set()}

    def teardown(self) -> None:
        """Closes the database."""
        self.db.close()
        self.engine.dispose()

    @initialize(first=_RANGES, second=_RANGES)
    def lay_out(self, first: list[free_space.Extent], second: list[free_space.Extent]) -> None:
        """Both pools begin with nothing taken."""
        for pool, ranges in ((1, first), (2, second)):
            free_space.rebuild(self.db, pool, ranges, [])
            self.whole[pool], self.free[pool] = _expand(ranges), _expand(ranges)

    @rule(pool=_POOLS, count=st.integers(0, _SPACE + 5), size=_SIZE)
    def take_lowest(self, pool: int, count: int, size: int) -> None:
        """The lowest ones are taken, as many as there are."""
        expected = sorted(self.free[pool])[:count]
        assert free_space.take_lowest(self.db, pool, count, size) == expected
        self.free[pool] -= set(expected)

    @rule(pool=_POOLS, ip=_ADDRESS)
    def take(self, pool: int, ip: int) -> None:
        """One is taken if it is free."""
        assert free_space.take(self.db, pool, ip) == (ip in self.free[pool])
        self.free[pool].discard(ip)

    @rule(pool=_POOLS, ips=st.sets(_ADDRESS), size=_SIZE)
    def take_all(self, pool: int, ips: set[int], size: int) -> None:
        """Those that are free are taken, whatever the others are."""
        free_space.take_all(self.db, pool, ips, size)
        self.free[pool] -= ips

    @precondition(lambda self: any(self.whole[pool] - self.free[pool] for pool in (1, 2)))
    @rule(data=st.data(), size=_SIZE)
    def give_back(self, data: st.DataObject, size: int) -> None:
        """Any of those that are taken come back, in any order, next to each other or not."""
        pool = data.draw(st.sampled_from([pool for pool in (1, 2) if self.whole[pool] - self.free[pool]]))
        taken = sorted(self.whole[pool] - self.free[pool])
        back = data.draw(st.lists(st.sampled_from(taken), min_size=1, unique=True))
        free_space.give_back(self.db, pool, back, size)
        self.free[pool] |= set(back)

    @rule(pool=_POOLS, ranges=_RANGES, occupied=st.sets(_ADDRESS), size=_SIZE)
    def rebuild(self, pool: int, ranges: list[free_space.Extent], occupied: set[int], size: int) -> None:
        """Laid out anew, the pool is its ranges without what is occupied, inside of them or not."""
        free_space.rebuild(self.db, pool, ranges, sorted(occupied), size)
        self.whole[pool] = _expand(ranges)
        self.free[pool] = self.whole[pool] - occupied

    @invariant()
    def extents_are_the_runs_of_the_free_addresses(self) -> None:
        """Disjoint, sorted, never touching, and exactly what is free; the other pool is untouched."""
        for pool in (1, 2):
            assert _stored(self.db, pool) == free_space.runs(sorted(self.free[pool]))


TestFreeSpace = FreeSpace.TestCase
TestFreeSpace.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.sets(st.integers(0, 200)))
def test_runs_are_maximal(addresses: set[int]) -> None:
    """Runs hold exactly the addresses, and between two of them something is missing."""
    runs = free_space.runs(sorted(addresses))
    assert _expand(runs) == addresses
    assert all(left[1] + 1 < right[0] for left, right in pairwise(runs))


@given(st.lists(st.integers()), st.integers(1, 7))
def test_chunks_are_the_items_in_order(items: list[int], size: int) -> None:
    """Chunks together are the items, and none is longer than asked."""
    chunks = list(free_space.chunks(items, size))
    assert [item for chunk in chunks for item in chunk] == items
    assert all(1 <= len(chunk) <= size for chunk in chunks)
    assert len(chunks) == -(-len(items) // size)


@given(st.data())
@pytest.mark.invariant(2)
def test_giving_back_merges_with_every_neighbour(data: st.DataObject) -> None:
    """Of a whole interval, some taken, any part comes back at once: what is free are maximal runs."""
    taken = data.draw(st.sets(st.integers(0, 11)))
    back = data.draw(st.sets(st.sampled_from(sorted(taken)))) if taken else set()
    engine = create_engine("sqlite://")
    with engine.connect() as db:
        metadata.create_all(db)
        db.execute(insert(pool_table), {"id": 1, "name": "1", "layout": "", "extra": ""})
        free_space.rebuild(db, 1, [(0, 11)], sorted(taken))
        free_space.give_back(db, 1, back)
        assert _stored(db, 1) == free_space.runs(sorted(set(range(12)) - taken | back))
    engine.dispose()
