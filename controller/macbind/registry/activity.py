"""Questions to the audit log: what was allocated and released lately, and when."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address

from sqlalchemy import bindparam, func, or_, select

from macbind.registry.fast_sql import Statement
from macbind.registry.free_space import chunks
from macbind.registry.tables import audit
from macbind.registry.transaction import View

_UPS, _DOWNS = ("allocate", "reserve", "renumber"), ("release", "unreserve")
_LOOK = 5000
"""Changes that are read at a time."""
_NEWEST = 1000
"""Addresses that are looked up at a time, at most."""

_NEW = Statement(
    select(audit.c.id, audit.c.at, audit.c.action, audit.c.detail)
    .where(audit.c.id > bindparam("after"), audit.c.at >= bindparam("oldest"))
    .order_by(audit.c.id)
    .limit(_LOOK)
)
_FIRST = Statement(select(func.min(audit.c.id).label("id")).where(audit.c.at >= bindparam("oldest")))
_RELEASED = Statement(
    select(audit.c.ip, func.max(audit.c.at).label("at"))
    .where(audit.c.ip.in_(bindparam("ips", expanding=True)), or_(*(audit.c.action == one for one in _DOWNS)))
    .group_by(audit.c.ip)
)


@dataclass(frozen=True, slots=True)
class Counted:
    """Changes that were counted.

    Attributes:
        last: The number of the last change that was read.
        changes: Of each that took or gave back an address: its pool, its minute since 1970, whether it gave back.
        more: Whether there may be more.
    """

    last: int
    changes: list[tuple[str, int, bool]]
    more: bool


def counted(view: View, after: int, oldest: float) -> Counted:
    """The changes after a number, and from a moment on (seconds since 1970); of many only the first.

    Args:
        view: The open transaction.
        after: The number of the last change that was counted; 0 for none.
        oldest: What is older does not count.
    """
    if not after:
        first = _FIRST.first(view.db, {"oldest": oldest})
        after = 0 if first is None or first.id is None else first.id - 1
    rows = _NEW.all(view.db, {"after": after, "oldest": oldest})
    changes = [
        (str(row.detail.get("pool")), int(row.at) // 60, row.action in _DOWNS)
        for row in rows
        if row.action in _UPS or row.action in _DOWNS
    ]
    return Counted(rows[-1].id if rows else after, changes, len(rows) == _LOOK)


def released_at(view: View, addresses: Collection[IPv4Address]) -> dict[IPv4Address, float]:
    """When these addresses were last released (seconds since 1970); of very many, only of some."""
    ips = [int(one) for one in addresses][-_NEWEST:]
    return {
        IPv4Address(row.ip): row.at
        for some in chunks(ips, view.sizes.rows)
        for row in _RELEASED.all(view.db, {"ips": some})
    }
