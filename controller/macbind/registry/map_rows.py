"""The map of a pool, straight from the registry: a few queries in the order of the addresses, read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Select, bindparam, case, func, select, text

from macbind.core.address_map import MapState, Span, bounds, gateways, paint
from macbind.core.pool import Pool
from macbind.registry.fast_sql import Statement
from macbind.registry.tables import allocation as al
from macbind.registry.tables import evidence as ev
from macbind.registry.tables import free_extent as fe
from macbind.registry.transaction import View

_ROWS = 10_000
"""Rows that are held at a time."""

_KINDS = (MapState.ALLOCATED, MapState.RESERVED, MapState.RENUMBERING, MapState.RESTING)


def _held_runs() -> Select[Any]:
    """Rows as runs, made by the database: in a run, the address grows as its number among those of its kind does."""
    kind = case(
        (al.c.free_at.is_not(None), 3), (al.c.renumbers_from.is_not(None), 2), (al.c.pinned, 1), else_=0
    )
    held = (
        select(al.c.ip, kind.label("kind"))
        .where(al.c.pool_id == bindparam("p"), al.c.ip > bindparam("after"), al.c.ip <= bindparam("high"))
        .order_by(al.c.ip)
        .limit(bindparam("n"))
        .subquery()
    )
    number = func.row_number().over(partition_by=held.c.kind, order_by=held.c.ip)
    numbered = select(held.c.ip, held.c.kind, (held.c.ip - number).label("run")).subquery()
    return (
        select(
            func.min(numbered.c.ip).label("lo"),
            func.max(numbered.c.ip).label("hi"),
            numbered.c.kind,
        )
        .group_by(numbered.c.kind, numbered.c.run)
        .order_by(text("lo"))
    )


_HELD = Statement(_held_runs())
_FREE = Statement(
    select(fe.c.lo, fe.c.hi)
    .where(fe.c.pool_id == bindparam("p"), fe.c.hi > bindparam("after"), fe.c.lo <= bindparam("high"))
    .order_by(fe.c.hi)
    .limit(bindparam("n"))
)
_USED = Statement(
    select(ev.c.ip)
    .where(ev.c.ip > bindparam("after"), ev.c.ip <= bindparam("high"))
    .distinct()
    .order_by(ev.c.ip)
    .limit(bindparam("n"))
)


def spans(view: View, name: str, first: int | None = None, last: int | None = None) -> Iterator[Span]:
    """What the addresses of a pool are, in their order; read it while the transaction is open.

    Args:
        view: The open transaction.
        name: The pool.
        first: Only from this address on; from the lowest of its map by default.
        last: Only up to this address; up to the highest by default.

    Raises:
        NotFound: There is no such pool.
    """
    pool = view.pool(name)
    lowest, highest = bounds(pool.plan)
    low = lowest if first is None else max(lowest, first)
    high = highest if last is None else min(highest, last)
    number = view.ids.pools[name]
    dynamic = ((int(one.lo), int(one.hi), MapState.DYNAMIC) for one in sorted(pool.subnet.dynamic))
    layers = [
        _held(view, number, low, high),
        _free(view, number, low, high),
        _used(view, pool, number, low, high),
        gateways(pool.plan, low, high),
        dynamic,
    ]
    return paint(low, high, layers)


def _pages(view: View, statement: Statement, key: str, number: int, low: int, high: int) -> Iterator[Any]:
    """The rows of a statement from ``low`` on, so many at a time."""
    after = low - 1
    while True:
        rows = statement.all(view.db, {"p": number, "after": after, "high": high, "n": _ROWS})
        if not rows:
            return
        yield from rows
        after = getattr(rows[-1], key)


def _held(view: View, number: int, low: int, high: int) -> Iterator[Span]:
    for lo, hi, kind in _pages(view, _HELD, "hi", number, low, high):
        yield lo, hi, _KINDS[kind]


def _free(view: View, number: int, low: int, high: int) -> Iterator[Span]:
    for lo, hi in _pages(view, _FREE, "hi", number, low, high):
        yield lo, hi, MapState.FREE


def _used(view: View, pool: Pool, number: int, low: int, high: int) -> Iterator[Span]:
    """Addresses with evidence that the pool would hand out otherwise."""
    ranges = iter(pool.plan.assignable)
    mine = next(ranges, None)
    for (ip,) in _pages(view, _USED, "ip", number, low, high):
        while mine is not None and int(mine.hi) < ip:
            mine = next(ranges, None)
        if mine is not None and int(mine.lo) <= ip:
            yield ip, ip, MapState.USED_BY_OTHERS
