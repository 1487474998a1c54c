"""The rows of the page's table, straight from the registry: as little of each as the table shows, many at a time.

An allocation as a value costs ten times as much, and a page lists tens of thousands.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from sqlalchemy import bindparam, case, func, or_, select

from macbind.core.allocation import State
from macbind.core.pool import Pool
from macbind.registry.fast_sql import Statement
from macbind.registry.free_space import chunks
from macbind.registry.queries import LABELS
from macbind.registry.tables import allocation as al
from macbind.registry.tables import confirmed as co
from macbind.registry.tables import pending as pe
from macbind.registry.transaction import View

_OF_IT = co.c.ip == al.c.ip
_BOUND_BY = (
    select(func.count())
    .where(_OF_IT, co.c.gen == al.c.gen, co.c.dhcpd_id.in_(bindparam("dhcpds", expanding=True)))
    .scalar_subquery()
)
_IS_HELD = or_(select(co.c.ip).where(_OF_IT).exists(), select(pe.c.ip).where(pe.c.ip == al.c.ip).exists())
_COLUMNS = (
    al.c.ip,
    al.c.mac,
    al.c.name,
    al.c.gen,
    al.c.grp,
    al.c.domain,
    al.c.created_at,
    al.c.pinned,
    al.c.free_at,
    al.c.renumbers_from,
    al.c.doubted_at,
    al.c.labels,
    case((al.c.free_at.is_(None), _BOUND_BY), else_=case((_IS_HELD, 1), else_=0)).label("dhcpds"),
)
_ALL = select(*_COLUMNS).where(al.c.pool_id == bindparam("pool")).order_by(al.c.ip)
_PAGE = Statement(_ALL.where(al.c.ip > bindparam("after")).limit(bindparam("limit")))
_THESE = Statement(_ALL.where(al.c.ip.in_(bindparam("ips", expanding=True))))


class TableRow(NamedTuple):
    """One allocation, as JSON an array; addresses and MACs are numbers, and times are seconds since 1970."""

    address: int
    mac: int
    name: str
    generation: int
    state: State
    group: str | None
    domain: str | None
    created_at: float
    is_reserved: bool
    renumbers_from: int | None
    is_doubted: bool
    labels: dict[str, str] | None


def table_rows(
    view: View,
    name: str,
    *,
    addresses: Sequence[IPv4Address] | None = None,
    after: IPv4Address | None = None,
    limit: int,
) -> list[TableRow]:
    """Allocations of a pool in the order of their addresses, released ones included.

    Args:
        view: The open transaction.
        name: The pool.
        addresses: Only these addresses.
        after: Only addresses above this one.
        limit: At most so many.

    Raises:
        NotFound: There is no such pool.
    """
    pool = view.pool(name)
    where: dict[str, Any] = {
        "pool": view.ids.pools[name],
        "dhcpds": [view.ids.dhcpds[one] for one in pool.dhcpds],
    }
    if addresses is None:
        rows = _PAGE.all(view.db, where | {"after": -1 if after is None else int(after), "limit": limit})
    else:
        rows = [
            row
            for some in chunks(sorted({int(one) for one in addresses}), view.sizes.rows)
            for row in _THESE.all(view.db, where | {"ips": some})
        ][:limit]
    labels: dict[int, dict[str, str]] = {}
    for some in chunks([row.ip for row in rows if row.labels], view.sizes.rows):
        for ip, key, text in LABELS.all(view.db, {"ips": some}):
            labels.setdefault(ip, {})[key] = text
    return [
        TableRow(
            ip,
            mac,
            holder,
            gen,
            _state(pool, ip, dhcpds, is_released=free_at is not None),
            group,
            domain,
            created_at,
            pinned,
            renumbers_from,
            doubted_at is not None,
            labels.get(ip),
        )
        for (
            ip,
            mac,
            holder,
            gen,
            group,
            domain,
            created_at,
            pinned,
            free_at,
            renumbers_from,
            doubted_at,
            _,
            dhcpds,
        ) in rows
    ]


def _state(pool: Pool, ip: int, dhcpds: int, *, is_released: bool) -> State:
    """The state of an address, which so many of the DHCP servers hold that are asked for it."""
    if is_released:
        return State.RELEASING if dhcpds else State.COOLING
    if dhcpds >= len(pool.dhcpds) or not pool.needs_binding(IPv4Address(ip)):
        return State.BOUND
    return State.PENDING
