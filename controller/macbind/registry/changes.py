"""The audit log in the order in which it was written, for whoever follows it.

One transaction writes at a time, in PostgreSQL, too. So a change with a lower number is never seen after one with a
higher number, and whoever has seen a number has seen all before it. Numbers may be missing: of what was undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address

from sqlalchemy import func, select

from macbind.core.event import Change, Gap
from macbind.registry.tables import audit
from macbind.registry.transaction import View


@dataclass(frozen=True, slots=True)
class Log:
    """A part of the audit log.

    Attributes:
        changes: In their order.
        gap: What is missing before the first of them; None if nothing is.
    """

    changes: list[Change]
    gap: Gap | None


def newest(view: View) -> int:
    """The number of the last change; 0 if there is none."""
    return int(view.db.scalar(select(func.max(audit.c.id))) or 0)


def changes(view: View, after: int, limit: int) -> Log:
    """The changes after this number, at most so many."""
    oldest = int(view.db.scalar(select(func.min(audit.c.id))) or 0)
    rows = view.db.execute(select(audit).where(audit.c.id > after).order_by(audit.c.id).limit(limit))
    found = [
        Change(
            id=row.id,
            at=datetime.fromtimestamp(row.at, UTC),
            actor=row.actor,
            action=row.action,
            address=None if row.ip is None else IPv4Address(row.ip),
            generation=row.gen,
            name=row.name,
            pool=row.detail.get("pool"),
            group=row.detail.get("group"),
            detail=row.detail,
            request=row.request,
        )
        for row in rows
    ]
    return Log(found, Gap(after, oldest) if after < oldest - 1 else None)
