"""What every change of the registry is made of: generations, marks, freeing, the audit log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from macbind.errors import InvariantViolation
from macbind.model import Pool
from macbind.registry import extents
from macbind.registry.schema import allocation as al
from macbind.registry.schema import audit, dirty
from macbind.registry.schema import pool as pool_table
from macbind.registry.view import NO_QUESTION, TOLD_NOBODY, Ids, View

_COUNT_UP = (
    update(pool_table)
    .where(pool_table.c.id == bindparam("p"))
    .values(rev=pool_table.c.rev + 1)
    .returning(pool_table.c.rev)
)
RESTING = (
    select(al.c.ip)
    .where(al.c.pool_id == bindparam("p"), al.c.free_at <= bindparam("before"), TOLD_NOBODY, NO_QUESTION)
    .order_by(al.c.free_at, al.c.ip)
    .limit(bindparam("n"))
)
"""Released addresses that are gone from every dhcpd, longest rested first."""
DELETE_DIRTY = delete(dirty).where(dirty.c.dhcpd_id == bindparam("d"), dirty.c.ip == bindparam("a"))
_INSERT_DIRTY, _INSERT_AUDIT = insert(dirty), insert(audit)
_DELETE_ROW = delete(al).where(al.c.ip == bindparam("a"))

Entry = tuple[str, int | None, int | None, str | None, dict[str, Any]]
"""What the audit log says of one change: action, address, generation, name, detail."""


class Changes(View):
    """The parts of a change, within one write transaction.

    Args:
        db, pools, ids: As in :class:`~macbind.registry.view.View`.
        now: The time of every change in it (UTC).
        actor: Who asked, for the audit log.
    """

    def __init__(
        self, db: Connection, pools: Mapping[str, Pool], ids: Ids, now: datetime, actor: str
    ) -> None:
        super().__init__(db, pools, ids)
        self.now, self.actor = now, actor

    def lock_pool(self, pool: Pool) -> int:
        """Begins a change of a pool; returns a generation that no address of it ever had."""
        rev = self.db.scalar(_COUNT_UP, {"p": self.ids.pools[pool.name]})
        if rev is None:
            raise InvariantViolation(f"The registry has no row for the pool '{pool.name}'.")
        return int(rev)

    def sweep(self, pool: Pool, limit: int) -> int:
        """Returns addresses that have rested enough to the free extents."""
        ips = list(
            self.db.scalars(
                RESTING, {"p": self.ids.pools[pool.name], "before": self.now.timestamp(), "n": limit}
            )
        )
        self._free(pool, ips)
        return len(ips)

    def _free(self, pool: Pool, ips: Sequence[int]) -> None:
        self._delete_rows(ips)
        back = [ip for ip in ips if IPv4Address(ip) in pool.plan]
        if back:
            extents.give_back(self.db, self.ids.pools[pool.name], back)

    def _delete_rows(self, ips: Sequence[int]) -> None:
        if ips:
            self.db.execute(_DELETE_ROW, [{"a": ip} for ip in ips])

    def _mark(self, dhcpds: Iterable[str], ips: Sequence[int], seq: int, *, unmarked: bool = False) -> None:
        """Marks addresses dirty with a number that no earlier mark of theirs had.

        Args:
            dhcpds: Who has to look at them.
            ips: The addresses; each has an allocation.
            seq: A generation from :meth:`lock_pool`.
            unmarked: Whether none of them can have a mark yet.
        """
        if not ips:
            return
        for name in dhcpds:
            number = self.ids.dhcpds[name]
            if not unmarked:
                self.db.execute(DELETE_DIRTY, [{"d": number, "a": ip} for ip in ips])
            self.db.execute(_INSERT_DIRTY, [{"dhcpd_id": number, "ip": ip, "seq": seq} for ip in ips])

    def _log(self, entries: Iterable[Entry]) -> None:
        rows = [
            {
                "at": self.now.timestamp(),
                "actor": self.actor,
                "action": action,
                "ip": ip,
                "gen": gen,
                "name": name,
                "detail": detail,
            }
            for action, ip, gen, name, detail in entries
        ]
        if rows:
            self.db.execute(_INSERT_AUDIT, rows)
