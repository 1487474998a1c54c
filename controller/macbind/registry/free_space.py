"""Free space as intervals: finding, taking and giving back addresses in O(log n).

The free extents of a pool are disjoint, never touch, and together with its allocations tile the pool exactly.
Every function expects its caller to be in a write transaction, of which there is only one at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TypeVar

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from macbind.core.sizes import Sizes
from macbind.registry.fast_sql import Statement
from macbind.registry.tables import free_extent as fe

_T = TypeVar("_T")

Extent = tuple[int, int]
"""Lowest and highest address of a free interval."""

_ROWS = Sizes().rows

_MINE = select(fe.c.lo, fe.c.hi).where(fe.c.pool_id == bindparam("p"))
_LOWEST = Statement(_MINE.order_by(fe.c.hi).limit(bindparam("n")))
_COVERING = Statement(_MINE.where(fe.c.hi >= bindparam("ip")).order_by(fe.c.hi).limit(1))
_ENDING_WITHIN = Statement(
    _MINE.where(fe.c.hi >= bindparam("lo"), fe.c.hi <= bindparam("hi")).order_by(fe.c.hi)
)
_ENDING_AT = Statement(_MINE.where(fe.c.hi.in_(bindparam("ends", expanding=True))))
_BEGINNING_AT = Statement(_MINE.where(fe.c.lo.in_(bindparam("ends", expanding=True))))
_KEY = (fe.c.pool_id == bindparam("p"), fe.c.hi == bindparam("key"))
_DELETE = Statement(delete(fe).where(*_KEY))
_RAISE_LO = Statement(update(fe).where(*_KEY).values(lo=bindparam("new")))
_INSERT = Statement(insert(fe), keys=("pool_id", "lo", "hi"))


def chunks(items: Sequence[_T], size: int = _ROWS) -> Iterable[Sequence[_T]]:
    """The items in runs of at most ``size``."""
    return (items[start : start + size] for start in range(0, len(items), size))


def runs(addresses: Iterable[int]) -> list[Extent]:
    """Sorted addresses as maximal intervals."""
    found: list[Extent] = []
    for ip in addresses:
        if found and found[-1][1] == ip - 1:
            found[-1] = (found[-1][0], ip)
        else:
            found.append((ip, ip))
    return found


def lowest(db: Connection, pool_id: int, count: int) -> list[int]:
    """The ``count`` lowest free addresses, or as many as there are; they stay free."""
    rows = _LOWEST.all(db, {"p": pool_id, "n": count})
    return list(itertools.islice((ip for lo, hi in rows for ip in range(lo, hi + 1)), count))


def take_lowest(db: Connection, pool_id: int, count: int, size: int = _ROWS) -> list[int]:
    """Takes the ``count`` lowest free addresses, or as many as there are, looking up ``size`` extents at a time."""
    taken: list[int] = []
    while len(taken) < count:
        rows = _LOWEST.all(db, {"p": pool_id, "n": min(size, count - len(taken))})
        if not rows:
            break
        emptied = []
        for lo, hi in rows:
            last = min(hi, lo + count - len(taken) - 1)
            taken.extend(range(lo, last + 1))
            if last < hi:
                _RAISE_LO.run(db, {"p": pool_id, "key": hi, "new": last + 1})
                break
            emptied.append({"p": pool_id, "key": hi})
            if len(taken) == count:
                break
        _DELETE.run_each(db, emptied)
    return taken


def take(db: Connection, pool_id: int, ip: int) -> bool:
    """Takes one given address; False if it is not free."""
    row = _COVERING.first(db, {"p": pool_id, "ip": ip})
    if row is None or row.lo > ip:
        return False
    lo, hi = row
    if ip < hi:
        _RAISE_LO.run(db, {"p": pool_id, "key": hi, "new": ip + 1})
    else:
        _DELETE.run(db, {"p": pool_id, "key": hi})
    if lo < ip:
        _INSERT.run(db, {"pool_id": pool_id, "lo": lo, "hi": ip - 1})
    return True


def take_all(db: Connection, pool_id: int, addresses: Iterable[int], size: int = _ROWS) -> None:
    """Takes those of the addresses that are free; ``size`` intervals of them at a time."""
    for some in chunks(runs(sorted(addresses)), size):
        extents = _between(db, pool_id, some)
        left = subtract(extents, some)
        _DELETE.run_each(db, [{"p": pool_id, "key": hi} for _, hi in sorted({*extents}.difference(left))])
        made = sorted(set(left).difference(extents))
        _INSERT.run_each(db, [{"pool_id": pool_id, "lo": lo, "hi": hi} for lo, hi in made])


def _between(db: Connection, pool_id: int, intervals: Sequence[Extent]) -> list[Extent]:
    """All free extents from the one before the first interval to the one behind the last."""
    lo, hi = intervals[0][0] - 1, intervals[-1][1]
    rows = _ENDING_WITHIN.all(db, {"p": pool_id, "lo": lo, "hi": hi})
    rows += _COVERING.all(db, {"p": pool_id, "ip": hi + 1})
    return [(row.lo, row.hi) for row in rows]


def _neighbours(db: Connection, pool_id: int, intervals: Sequence[Extent]) -> list[Extent]:
    """The free extents that the intervals touch."""
    if not intervals:
        return []
    rows = _ENDING_AT.all(db, {"p": pool_id, "ends": [lo - 1 for lo, _ in intervals]})
    rows += _BEGINNING_AT.all(db, {"p": pool_id, "ends": [hi + 1 for _, hi in intervals]})
    return [(row.lo, row.hi) for row in rows]


def subtract(extents: Iterable[Extent], taken: Sequence[Extent]) -> list[Extent]:
    """Sorted intervals without other sorted intervals."""
    left: list[Extent] = []
    index = 0
    for lo, hi in extents:
        start = lo
        while index < len(taken) and taken[index][1] < lo:
            index += 1
        following = index
        while following < len(taken) and taken[following][0] <= hi:
            first, last = taken[following]
            if start < first:
                left.append((start, first - 1))
            start, following = last + 1, following + 1
        if start <= hi:
            left.append((start, hi))
    return left


def give_back(db: Connection, pool_id: int, addresses: Iterable[int], size: int = _ROWS) -> None:
    """Makes addresses free again and merges them with their free neighbours.

    Up to ``size`` intervals are looked up one by one; of more, all that is free between them is read at once.
    """
    freed = runs(sorted(addresses))
    near = _neighbours(db, pool_id, freed) if len(freed) <= size else _between(db, pool_id, freed)
    left = {hi: (lo, hi) for lo, hi in near}
    right = {lo: (lo, hi) for lo, hi in near}
    merged: list[Extent] = []
    gone: set[int] = set()
    for first, last in freed:
        lo, hi = first, last
        if first - 1 in left:
            lo, key = left[first - 1]
            gone.add(key)
        if last + 1 in right:
            hi = right[last + 1][1]
            gone.add(hi)
        if merged and lo <= merged[-1][1] + 1:  # both merged with the same free neighbour between them
            merged[-1] = (merged[-1][0], hi)
        else:
            merged.append((lo, hi))
    _DELETE.run_each(db, [{"p": pool_id, "key": hi} for hi in sorted(gone)])
    _INSERT.run_each(db, [{"pool_id": pool_id, "lo": lo, "hi": hi} for lo, hi in merged])


def rebuild(
    db: Connection,
    pool_id: int,
    assignable: Iterable[Extent],
    occupied: Iterable[int],
    size: int = Sizes().extents,
) -> None:
    """Replaces the free extents by ``assignable`` minus ``occupied`` (sorted), writing ``size`` at a time."""
    db.execute(delete(fe).where(fe.c.pool_id == pool_id))
    rows: list[Extent] = []
    taken = iter(occupied)
    ip = next(taken, None)
    for lo, hi in assignable:
        start = lo
        while ip is not None and ip <= hi:
            if ip >= start:
                if ip > start:
                    rows.append((start, ip - 1))
                start = ip + 1
            ip = next(taken, None)
        if start <= hi:
            rows.append((start, hi))
    for some in chunks(rows, size):
        _INSERT.run_each(db, [{"pool_id": pool_id, "lo": lo, "hi": hi} for lo, hi in some])
