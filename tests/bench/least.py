"""The least that a change can cost who keeps a registry: where a target is missed, how near it could come.

The same rows are written into the registry's own tables by bare sqlite3, as many as possible at a time and flushed
as the registry flushes them; nothing is parsed, checked, waited for or answered.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from bench.sites import NETWORK
from macbind.core.address_plan import AddressPlan
from macbind.core.binding import Binding
from macbind.core.pool import Pool, Subnet
from macbind.registry.store import Registry

_ALLOCATION = (
    "INSERT INTO allocation (ip, mac, pool_id, name, gen, options, pinned, created_at) "
    "VALUES (?, ?, 1, ?, 1, '{}', 0, 0)"
)
_AUDIT = "INSERT INTO audit (at, actor, action, ip, gen, name, detail) VALUES (0, 'bench', ?, ?, 1, ?, '{}')"


class BareRegistry:
    """A registry's file and its rows, without the registry."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def allocate(self, hosts: Sequence[Binding]) -> None:
        """Allocations with their marks and the audit log."""
        rows = [(int(host.address or 0), host.mac.value, host.name) for host in hosts]
        self._write(
            [
                (_ALLOCATION, rows),
                ("INSERT INTO pending (dhcpd_id, ip, seq) VALUES (1, ?, 1)", [row[:1] for row in rows]),
                (_AUDIT, [("allocate", ip, name) for ip, _, name in rows]),
            ]
        )

    def confirm(self, hosts: Sequence[Binding]) -> None:
        """dhcpd has them."""
        keys = [(int(host.address or 0),) for host in hosts]
        self._write(
            [
                ("DELETE FROM pending WHERE dhcpd_id = 1 AND ip = ?", keys),
                ("INSERT INTO confirmed (dhcpd_id, ip, gen) VALUES (1, ?, 1)", keys),
            ]
        )

    def release(self, hosts: Sequence[Binding]) -> None:
        """Released, with marks and the audit log."""
        keys = [(int(host.address or 0),) for host in hosts]
        self._write(
            [
                ("UPDATE allocation SET released_at = 1, free_at = 1 WHERE ip = ?", keys),
                ("INSERT INTO pending (dhcpd_id, ip, seq) VALUES (1, ?, 1)", keys),
                (_AUDIT, [("release", int(host.address or 0), host.name) for host in hosts]),
            ]
        )

    def forget(self, hosts: Sequence[Binding]) -> None:
        """dhcpd has them no more, and their addresses are free."""
        keys = [(int(host.address or 0),) for host in hosts]
        self._write(
            [
                ("DELETE FROM pending WHERE dhcpd_id = 1 AND ip = ?", keys),
                ("DELETE FROM confirmed WHERE dhcpd_id = 1 AND ip = ?", keys),
                ("DELETE FROM allocation WHERE ip = ?", keys),
            ]
        )

    def _write(self, statements: Sequence[tuple[str, Sequence[tuple[object, ...]]]]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        for statement, rows in statements:
            self._db.executemany(statement, rows)
        self._db.execute("COMMIT")


@contextmanager
def bare_registry(place: Path) -> Iterator[BareRegistry]:
    """A new registry's file, opened by sqlite3."""
    plan = AddressPlan.build(NETWORK, "00:16:3e")
    file = place / "least.db"
    Registry.open(
        f"sqlite:///{file}", {"farm": Pool("farm", plan, Subnet(NETWORK), ("main",))}, ["main"]
    ).close()
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = FULL")
        yield BareRegistry(db)


def rows_of(file: Path) -> Sequence[tuple[int, int, int]]:
    """Address, MAC and generation of every allocation in a registry's file."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        return db.execute("SELECT ip, mac, gen FROM allocation WHERE free_at IS NULL ORDER BY ip").fetchall()
