"""The table of controllers: each says that it is there, and which DHCP servers it leads.

The clock is the database's, so that machines whose clocks differ agree on who is alive.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, Connection, Double, cast, delete, extract, func, insert, select, update

from macbind.core.controllers import Said
from macbind.core.findings import ControllerStatus
from macbind.registry.tables import controller as co

SILENT_S = 10.0
"""A controller that was not heard of for longer is not there: at least four times it should have said so."""
KEPT_S = 3600.0
"""How long one is remembered that has not said that it ends; in seconds."""
_SAID = TypeAdapter(Said)


@dataclass(frozen=True, slots=True)
class Me:
    """What one controller is.

    Attributes:
        id: Made anew at each start.
        host: The name of its machine.
        socket: Where it listens there.
        version: Its version of macbind.
    """

    id: str
    host: str
    socket: str
    version: str


def announce(db: Connection, me: Me, said: Said) -> None:
    """Says that a controller is there, and what it leads."""
    values: dict[str, Any] = {"said": _SAID.dump_python(said, mode="json"), "heard_at": _now(db)}
    if not db.execute(update(co).where(co.c.id == me.id).values(values)).rowcount:
        row = {"id": me.id, "host": me.host, "socket": me.socket, "version": me.version, "since": _now(db)}
        db.execute(insert(co).values(row | values))


def forget(db: Connection, ids: Collection[str]) -> None:
    """Takes controllers from the table."""
    if ids:
        db.execute(delete(co).where(co.c.id.in_(ids)))


def controllers(db: Connection, asked: str | None = None) -> list[ControllerStatus]:
    """All that are there or were lately, by host and socket.

    A controller that was killed and started again is there once: nobody else listens in its place.

    Args:
        db: An open transaction.
        asked: The id of the one that asks.
    """
    rows = db.execute(select(co, _now(db).label("now")).order_by(co.c.host, co.c.socket, co.c.since))
    found = [_status(row, asked) for row in rows]
    there = {(one.host, one.socket) for one in found if one.is_alive}
    return [one for one in found if one.is_alive or (one.host, one.socket) not in there]


def gone(db: Connection) -> list[str]:
    """The ids of those that need not be remembered any more."""
    rows = list(db.execute(select(co, _now(db).label("now"))))
    kept = {one.id for one in controllers(db)}
    return [row.id for row in rows if row.id not in kept or row.now - row.heard_at > KEPT_S]


def _status(row: Any, asked: str | None) -> ControllerStatus:
    is_alive = row.now - row.heard_at <= SILENT_S
    said = Said()
    if is_alive:
        with suppress(ValidationError):  # it is of another version
            said = _SAID.validate_python(row.said)
    return ControllerStatus(
        id=row.id,
        host=row.host,
        socket=row.socket,
        version=row.version,
        since=datetime.fromtimestamp(row.since, UTC),
        heard_at=datetime.fromtimestamp(row.heard_at, UTC),
        is_alive=is_alive,
        is_asked=row.id == asked,
        leads=said.leads,
        wants=said.wants,
    )


def _now(db: Connection) -> ColumnElement[float]:
    """The time of day by the database's clock, in seconds since 1970."""
    if db.dialect.name == "postgresql":
        return cast(extract("epoch", func.clock_timestamp()), Double)
    return (func.julianday("now") - 2440587.5) * 86400.0
