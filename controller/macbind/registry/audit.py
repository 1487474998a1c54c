"""The audit log: who changed which address, when and why."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from ipaddress import IPv4Address

from sqlalchemy import (
    ColumnElement,
    delete,
    func,
    or_,
    select,
)

from macbind.core.allocation import Allocation, AuditEntry, check_name, place_of
from macbind.core.errors import NotFound
from macbind.core.labels import NO_LABELS, Wanted
from macbind.registry.queries import named
from macbind.registry.tables import audit
from macbind.registry.transaction import Transaction, View


def history(
    view: View,
    *,
    address: IPv4Address | None = None,
    name: str | None = None,
    pool: str | None = None,
    actor: str | None = None,
    action: str | None = None,
    request: str | None = None,
    labels: Wanted = NO_LABELS,
    since: datetime | None = None,
    pools: Collection[str] | None = None,
    limit: int = 100,
) -> list[AuditEntry]:
    """The latest changes, newest first.

    Args:
        view: The open transaction.
        address: Only of this address.
        name: Only of this name.
        pool: Only of this pool.
        actor: Only by this actor; the name of a user stands for all its processes.
        action: Only this action.
        request: Only of the request with this id.
        labels: Only of allocations that had all of these labels.
        since: Only from this time on (UTC).
        pools: Only of these pools.
        limit: At most so many.
    """
    where: list[ColumnElement[bool]] = []
    if pool is not None:
        where.append(audit.c.detail["pool"].as_string() == pool)
    if pools is not None:
        where.append(audit.c.detail["pool"].as_string().in_(sorted(pools)))
    if actor is not None:
        where.append(or_(audit.c.actor == actor, audit.c.actor.startswith(f"{actor} (", autoescape=True)))
    if action is not None:
        where.append(audit.c.action == action)
    if request is not None:
        where.append(audit.c.request == request)
    for key, value in labels.items():
        text = audit.c.detail["labels"][key].as_string()
        where.append(text.is_not(None) if value is None else text == value)
    if since is not None:
        where.append(audit.c.at >= since.timestamp())
    if address is not None:
        where.append(audit.c.ip == int(address))
    if name is not None:
        where.append(audit.c.name == name)
    rows = view.db.execute(select(audit).where(*where).order_by(audit.c.id.desc()).limit(limit))
    return [
        AuditEntry(
            at=datetime.fromtimestamp(row.at, UTC),
            actor=row.actor,
            action=row.action,
            address=None if row.ip is None else IPv4Address(row.ip),
            generation=row.gen,
            name=row.name,
            detail=row.detail,
            id=row.id,
            request=row.request,
        )
        for row in rows
    ]


def remark(txn: Transaction, name: str) -> Allocation:
    """Writes a row that changes nothing: what somebody is about to do elsewhere, and why (see ``txn.actor``).

    Raises:
        NotFound: There is no such allocation.
    """
    one = named(txn, [check_name(name)]).get(name)
    if one is None:
        raise NotFound(f"There is no allocation '{name}'.", hint="`macbind list` shows all.", name=name)
    txn.log([("remark", int(one.address), one.generation, name, place_of(one))])
    return one


def trim_audit(txn: Transaction, before: datetime) -> int:
    """Forgets the oldest audit entries from before a time, of many only some; returns how many.

    The last entry stays, however old it is: SQLite would give its number again.
    """
    last = select(func.max(audit.c.id)).scalar_subquery()
    old = (
        select(audit.c.id)
        .where(audit.c.at < before.timestamp(), audit.c.id < last)
        .order_by(audit.c.id)
        .limit(txn.sizes.trim)
    )
    return int(txn.db.execute(delete(audit).where(audit.c.id.in_(old))).rowcount)
