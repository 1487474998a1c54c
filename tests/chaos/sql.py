"""The registry's tables, read with sqlite3 or psycopg and with nothing of macbind."""

import sqlite3
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

ERRORS = (sqlite3.Error, psycopg.Error)
"""What is raised while the registry cannot be read."""
Ask = Callable[[str], list[tuple[Any, ...]]]
"""Asks a query; returns the rows."""
_BUSY_S = 10.0
_BEGIN = {"sqlite": "BEGIN", "postgresql": "BEGIN ISOLATION LEVEL REPEATABLE READ"}


@dataclass(frozen=True)
class Row:
    """A row of the allocation table; what a name is renumbered to has a `>` behind it."""

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
        evidence: What shows that others use an address: (address, source).
    """

    rows: dict[str, Row] = field(default_factory=dict)
    free: defaultdict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    told: dict[tuple[str, str], int] = field(default_factory=dict)
    dirty: set[tuple[str, str]] = field(default_factory=set)
    evidence: set[tuple[str, str]] = field(default_factory=set)

    @property
    def used(self) -> set[str]:
        """The addresses that others use, as far as macbind knows."""
        return {address for address, _ in self.evidence}


_ROWS = (
    "SELECT a.ip, a.mac, p.name, CASE WHEN a.renumbers_from IS NULL THEN a.name ELSE a.name || '>' END, a.gen, "
    "a.free_at IS NULL, a.pinned FROM allocation a JOIN pool p ON p.id = a.pool_id"
)
_FREE = "SELECT p.name, f.lo, f.hi FROM free_extent f JOIN pool p ON p.id = f.pool_id ORDER BY f.lo"
_TOLD = "SELECT d.name, t.ip, t.gen FROM confirmed t JOIN dhcpd d ON d.id = t.dhcpd_id"
_EVIDENCE = "SELECT e.ip, e.source FROM evidence e"
_LOWEST = (
    "SELECT f.lo, f.hi FROM free_extent f JOIN pool p ON p.id = f.pool_id WHERE p.name = '{}' ORDER BY f.lo"
)
_DIRTY = "SELECT d.name, m.ip FROM pending m JOIN dhcpd d ON d.id = m.dhcpd_id"


def snapshot(url: str) -> Snapshot:
    """Reads everything in one transaction."""
    rows, free, told, dirty, evidence = _answers(url, (_ROWS, _FREE, _TOLD, _DIRTY, _EVIDENCE))
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
    found.evidence = {(str(IPv4Address(ip)), source) for ip, source in evidence}
    return found


def lowest_free(ask: Ask, pool: str, count: int) -> list[str]:
    """The free addresses of a pool that are handed out next."""
    every = (number for low, high in ask(_LOWEST.format(pool)) for number in range(low, high + 1))
    return [str(IPv4Address(number)) for number in islice(every, count)]


@dataclass(frozen=True, order=True)
class Bound:
    """An allocation that every dhcpd has confirmed."""

    address: str
    mac: str
    generation: int
    name: str


_BOUND = (
    "SELECT a.ip, a.mac, a.gen, a.name FROM allocation a JOIN confirmed t ON t.ip = a.ip AND t.gen = a.gen "
    "WHERE a.free_at IS NULL GROUP BY a.ip, a.mac, a.gen, a.name "
    "HAVING COUNT(*) = (SELECT COUNT(*) FROM dhcpd)"
)


def bound(ask: Ask) -> dict[str, Bound]:
    """What is confirmed at this moment, by address; every pool is on every dhcpd."""
    found = (
        Bound(str(IPv4Address(ip)), int(mac).to_bytes(6).hex(":"), generation, name)
        for ip, mac, generation, name in ask(_BOUND)
    )
    return {one.address: one for one in found}


def url_in(config: Path) -> str:
    """The registry's URL as macbind's configuration has it."""
    return str(tomllib.loads(config.read_text())["registry"]["url"])


def _answers(url: str, queries: Sequence[str]) -> Iterator[list[tuple[Any, ...]]]:
    with connected(url) as ask:
        ask(_BEGIN[make_url(url).get_backend_name()])
        yield from [ask(query) for query in queries]


@contextmanager
def connected(url: str) -> Iterator[Ask]:
    """A connection for looking only; what it is asked is answered by the state of the moment."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        # It must not tidy up when it is the last one that leaves: to do so is for macbind, which was killed.
        file = f"file:{parsed.database}?mode=ro"
        with closing(sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None, uri=True)) as db:
            yield lambda query: db.execute(query).fetchall()
        return
    with psycopg.connect(
        host=str(parsed.query["host"]),
        user=parsed.username,
        password=parsed.password,
        dbname=parsed.database,
        connect_timeout=5,
        autocommit=True,
    ) as connection:
        yield lambda query: _fetched(connection.execute(query.encode()))


def _fetched(cursor: psycopg.Cursor[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [] if cursor.description is None else cursor.fetchall()
