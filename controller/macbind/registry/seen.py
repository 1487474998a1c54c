"""When machines were last seen, as the registry keeps it over restarts: roughly, and never for an earlier holder."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import bindparam, delete, insert, select

from macbind.core.mac_address import MacAddress
from macbind.registry.fast_sql import Statement
from macbind.registry.free_space import chunks
from macbind.registry.tables import allocation as al
from macbind.registry.tables import seen as se
from macbind.registry.tables import watching as wa
from macbind.registry.transaction import Transaction, View

_HOLDERS = Statement(
    select(al.c.ip, al.c.mac, al.c.created_at).where(
        al.c.mac.in_(bindparam("macs", expanding=True)), al.c.free_at.is_(None)
    )
)
_DELETE = Statement(delete(se).where(se.c.ip == bindparam("a")))
_INSERT = Statement(insert(se), keys=("ip", "at", "source"))

Sight = tuple[datetime, str]
"""When (UTC), and by what."""


def load_seen(view: View) -> dict[MacAddress, Sight]:
    """What is kept, by the MACs of the allocations."""
    rows = view.db.execute(select(al.c.mac, se.c.at, se.c.source).join(se, se.c.ip == al.c.ip))
    return {MacAddress(row.mac): (datetime.fromtimestamp(row.at, UTC), row.source) for row in rows}


def save_seen(txn: Transaction, seen: Mapping[MacAddress, Sight]) -> None:
    """Keeps these instead of what was kept of the same allocations; MACs without one are left out."""
    for some in chunks([mac.value for mac in seen], txn.sizes.rows):
        rows = [
            {"ip": row.ip, "at": at.timestamp(), "source": source}
            for row in _HOLDERS.all(txn.db, {"macs": some})
            for at, source in [seen[MacAddress(row.mac)]]
            if at.timestamp() >= row.created_at
        ]
        _DELETE.run_each(txn.db, [{"a": row["ip"]} for row in rows])
        _INSERT.run_each(txn.db, rows)


def load_watching(view: View) -> tuple[datetime, datetime] | None:
    """From when to when machines were looked at, the last time; None if they never were."""
    row = view.db.execute(select(wa.c.since, wa.c.until)).first()
    return (
        None
        if row is None
        else (datetime.fromtimestamp(row.since, UTC), datetime.fromtimestamp(row.until, UTC))
    )


def save_watching(txn: Transaction, since: datetime) -> None:
    """Machines have been looked at since then, until now."""
    txn.db.execute(delete(wa))
    txn.db.execute(insert(wa).values(id=1, since=since.timestamp(), until=txn.now.timestamp()))
