"""Free space as intervals: finding, taking and giving back addresses in O(log n).

The free extents of a pool are disjoint, never touch, and together with its allocations tile the pool exactly.
Every function expects its caller to be in a write transaction, of which there is only one at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from macbind.registry.schema import free_extent as fe
from macbind.registry.statement import Statement

_T = TypeVar("_T")

Extent = tuple[int, int]
"""Lowest and highest address of a free interval."""

CHUNK = 500
"""Rows per look-up; well below every database's limit of bound parameters."""

_MINE = select(fe.c.lo, fe.c.hi).where(fe.c.pool_id == bindparam("p"))
_LOWEST = Statement(_MINE.order_by(fe.c.hi).limit(bindparam("n")))
_COVERING = Statement(_MINE.where(fe.c.hi >= bindparam("ip")).order_by(fe.c.hi).limit(1))
_ENDING_AT = Statement(_MINE.where(fe.c.hi.in_(bindparam("ends", expanding=True))))
_BEGINNING_AT = Statement(_MINE.where(fe.c.lo.in_(bindparam("ends", expanding=True))))
_KEY = (fe.c.pool_id == bindparam("p"), fe.c.hi == bindparam("key"))
_DELETE = Statement(delete(fe).where(*_KEY))
_RAISE_LO = Statement(update(fe).where(*_KEY).values(lo=bindparam("new")))
_INSERT = Statement(insert(fe), keys=("pool_id", "lo", "hi"))


def chunks(items: Sequence[_T], size: int = CHUNK) -> Iterable[Sequence[_T]]:
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


def take_lowest(db: Connection, pool_id: int, count: int) -> list[int]:
    """Takes the ``count`` lowest free addresses, or as many as there are."""
    taken: list[int] = []
    while len(taken) < count:
        rows = _LOWEST.all(db, {"p": pool_id, "n": min(CHUNK, count - len(taken))})
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


def give_back(db: Connection, pool_id: int, addresses: Iterable[int]) -> None:
    """Makes addresses free again and merges them with their free neighbours."""
    freed = runs(sorted(addresses))
    left: dict[int, Extent] = {}
    right: dict[int, Extent] = {}
    for some in chunks(freed):
        for row in _ENDING_AT.all(db, {"p": pool_id, "ends": [lo - 1 for lo, _ in some]}):
            left[row.hi] = (row.lo, row.hi)
        for row in _BEGINNING_AT.all(db, {"p": pool_id, "ends": [hi + 1 for _, hi in some]}):
            right[row.lo] = (row.lo, row.hi)
    merged: list[Extent] = []
    for first, last in freed:
        lo = left[first - 1][0] if first - 1 in left else first
        hi = right[last + 1][1] if last + 1 in right else last
        if merged and lo <= merged[-1][1] + 1:  # both merged with the same free neighbour between them
            merged[-1] = (merged[-1][0], hi)
        else:
            merged.append((lo, hi))
    gone = {hi for _, hi in (*left.values(), *right.values())}
    _DELETE.run_each(db, [{"p": pool_id, "key": hi} for hi in sorted(gone)])
    _INSERT.run_each(db, [{"pool_id": pool_id, "lo": lo, "hi": hi} for lo, hi in merged])


def rebuild(db: Connection, pool_id: int, assignable: Iterable[Extent], occupied: Iterable[int]) -> None:
    """Replaces the free extents by ``assignable`` minus ``occupied`` (sorted)."""
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
    for some in chunks(rows, 10_000):
        _INSERT.run_each(db, [{"pool_id": pool_id, "lo": lo, "hi": hi} for lo, hi in some])
