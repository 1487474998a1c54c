"""What the addresses of a pool are, in numbers that add up to its size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from sqlalchemy import and_, func, or_, select

from macbind.core.address_plan import AddressPlan
from macbind.core.pool import Pool, PoolStates
from macbind.registry.free_space import chunks
from macbind.registry.queries import usage
from macbind.registry.tables import allocation as al
from macbind.registry.transaction import View

_GAPS = 100
"""Ranges that one question names; SQLite refuses one of a thousand."""


def pool_states(view: View, name: str) -> PoolStates:
    """How many addresses of a pool are what.

    Free ranges, rows and evidence tile a pool. So rows are outside of it exactly if all together are more than it
    has. Only then they are counted.
    """
    found, pool = usage(view, name), view.pool(name)
    allocated, reserved, releasing = found.allocated - found.pinned, found.pinned, found.releasing
    outside = 0
    if found.free + found.allocated + found.releasing + found.used_by_others > found.size:
        beyond = _outside(view, pool)
        allocated, reserved, releasing = allocated - beyond[0], reserved - beyond[1], releasing - beyond[2]
        outside = sum(beyond)
    return PoolStates(
        pool=name,
        size=found.size,
        free=found.free,
        allocated=allocated,
        reserved=reserved,
        releasing=releasing,
        used_by_others=found.used_by_others,
        outside=outside,
    )


def _outside(view: View, pool: Pool) -> tuple[int, int, int]:
    """The rows of a pool with addresses that it does not hand out: allocated, reserved, releasing."""
    live = al.c.free_at.is_(None)
    totals = [0, 0, 0]
    for gaps in chunks(list(_gaps(pool.plan)), _GAPS):
        counts = view.db.execute(
            select(
                func.count().filter(live, al.c.pinned.is_(False)),
                func.count().filter(live, al.c.pinned.is_(True)),
                func.count().filter(~live),
            ).where(
                al.c.pool_id == view.ids.pools[pool.name],
                or_(*(and_(al.c.ip >= lo, al.c.ip <= hi) for lo, hi in gaps)),
            )
        ).one()
        totals = [have + more for have, more in zip(totals, counts, strict=True)]
    return totals[0], totals[1], totals[2]


def _gaps(plan: AddressPlan) -> Iterator[tuple[int, int]]:
    """What lies around and between the ranges of a plan. A gateway by rule has no row, so it parts nothing."""
    ranges: Sequence[tuple[int, int]] = [(int(one.lo), int(one.hi)) for one in plan.joined(plan.rules)]
    edges = [(-1, -1), *ranges, (1 << 32, 1 << 32)]
    for (_, last), (first, _) in pairwise(edges):
        if last + 1 < first:
            yield last + 1, first - 1
