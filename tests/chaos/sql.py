"""The registry's tables, read with sqlite3 or psycopg and with nothing of macbind."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

import psycopg
from sqlalchemy import make_url

_BUSY_S = 10.0


@dataclass(frozen=True)
class Row:
    """A row of the allocation table; what a name is moving to has a `>` behind it."""

    address: str
    mac: str
    pool: str
    name: str
    generation: int
    live: bool
    pinned: bool


@dataclass
class Snapshot:
    """The registry at one moment.

    Attributes:
        rows: Allocations by address.
        free: For each pool its free intervals, as (lowest, highest).
        told: What each dhcpd confirmed: (dhcpd, address) to generation.
        dirty: What each dhcpd has to look at: (dhcpd, address).
    """

    rows: dict[str, Row] = field(default_factory=dict)
    free: defaultdict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    told: dict[tuple[str, str], int] = field(default_factory=dict)
    dirty: set[tuple[str, str]] = field(default_factory=set)


_ROWS = (
    "SELECT a.ip, a.mac, p.name, CASE WHEN a.moves_from IS NULL THEN a.name ELSE a.name || '>' END, a.gen, "
    "a.free_at IS NULL, a.pinned FROM allocation a JOIN pool p ON p.id = a.pool_id"
)
_FREE = "SELECT p.name, f.lo, f.hi FROM free_extent f JOIN pool p ON p.id = f.pool_id ORDER BY f.lo"
_TOLD = "SELECT d.name, t.ip, t.gen FROM told t JOIN dhcpd d ON d.id = t.dhcpd_id"
_DIRTY = "SELECT d.name, m.ip FROM dirty m JOIN dhcpd d ON d.id = m.dhcpd_id"


def snapshot(url: str) -> Snapshot:
    """Reads everything in one transaction."""
    rows, free, told, dirty = _answers(url, (_ROWS, _FREE, _TOLD, _DIRTY))
    found = Snapshot()
    for ip, mac, pool, name, generation, live, pinned in rows:
        address = str(IPv4Address(ip))
        text = int(mac).to_bytes(6).hex(":")
        found.rows[address] = Row(address, text, pool, name, generation, bool(live), bool(pinned))
    for pool, low, high in free:
        found.free[pool].append((low, high))
    for dhcpd, ip, generation in told:
        found.told[dhcpd, str(IPv4Address(ip))] = generation
    found.dirty = {(dhcpd, str(IPv4Address(ip))) for dhcpd, ip in dirty}
    return found


def _answers(url: str, queries: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(parsed.database), timeout=_BUSY_S, isolation_level=None)) as db:
            db.execute("BEGIN")
            yield from [db.execute(query).fetchall() for query in queries]
        return
    with psycopg.connect(
        host=str(parsed.query["host"]),
        user=parsed.username,
        password=parsed.password,
        dbname=parsed.database,
        connect_timeout=5,
    ) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield from [connection.execute(query.encode()).fetchall() for query in queries]
