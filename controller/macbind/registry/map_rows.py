"""The map of a pool, straight from the registry: a few queries in the order of the addresses, read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import bindparam, select

from macbind.core.address_map import MapState, Span, bounds, gateways, paint
from macbind.core.pool import Pool
from macbind.registry.fast_sql import Statement
from macbind.registry.tables import allocation as al
from macbind.registry.tables import evidence as ev
from macbind.registry.tables import free_extent as fe
from macbind.registry.transaction import View

_ROWS = 2000
"""Rows that are held at a time."""

_HELD = Statement(
    select(al.c.ip, al.c.pinned, al.c.free_at, al.c.renumbers_from)
    .where(al.c.pool_id == bindparam("p"), al.c.ip > bindparam("after"), al.c.ip <= bindparam("high"))
    .order_by(al.c.ip)
    .limit(bindparam("n"))
)
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
        yield from rows
        if len(rows) < _ROWS:
            return
        after = getattr(rows[-1], key)


def _held(view: View, number: int, low: int, high: int) -> Iterator[Span]:
    for ip, pinned, free_at, renumbers_from in _pages(view, _HELD, "ip", number, low, high):
        if free_at is not None:
            yield ip, ip, MapState.RESTING
        elif renumbers_from is not None:
            yield ip, ip, MapState.RENUMBERING
        else:
            yield ip, ip, MapState.RESERVED if pinned else MapState.ALLOCATED


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
