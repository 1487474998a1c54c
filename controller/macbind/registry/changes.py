"""What every change of the registry is made of: generations, marks, freeing, the audit log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from macbind.errors import InvariantViolation, RequestError
from macbind.model import Pool
from macbind.registry import extents
from macbind.registry.due import Ids
from macbind.registry.schema import allocation as al
from macbind.registry.schema import audit, dirty
from macbind.registry.schema import pool as pool_table
from macbind.registry.statement import Statement, execute
from macbind.registry.view import NO_QUESTION, TOLD_NOBODY, View

_COUNT_UP = Statement(
    update(pool_table)
    .where(pool_table.c.id == bindparam("p"))
    .values(rev=pool_table.c.rev + 1)
    .returning(pool_table.c.rev)
)
RESTING = Statement(
    select(al.c.ip)
    .where(al.c.pool_id == bindparam("p"), al.c.free_at <= bindparam("before"), TOLD_NOBODY, NO_QUESTION)
    .order_by(al.c.free_at, al.c.ip)
    .limit(bindparam("n"))
)
"""Released addresses that are gone from every dhcpd, longest rested first."""
DELETE_DIRTY = Statement(
    delete(dirty).where(dirty.c.dhcpd_id == bindparam("d"), dirty.c.ip == bindparam("a"))
)
_INSERT_DIRTY = Statement(insert(dirty), keys=("dhcpd_id", "ip", "seq"))
_INSERT_AUDIT = Statement(
    insert(audit).inline(), keys=("at", "actor", "action", "ip", "gen", "name", "detail")
)
_DELETE_ROW = Statement(delete(al).where(al.c.ip == bindparam("a")))

Entry = tuple[str, int | None, int | None, str | None, dict[str, Any]]
"""What the audit log says of one change: action, address, generation, name, detail."""


class Changes(View):
    """The parts of a change, within one write transaction.

    Args:
        db, pools, ids: As in :class:`~macbind.registry.due.Due`.
        now: The time of every change in it (UTC).
        actor: Who asked, for the audit log.
    """

    def __init__(
        self, db: Connection, pools: Mapping[str, Pool], ids: Ids, now: datetime, actor: str
    ) -> None:
        super().__init__(db, pools, ids)
        self.now, self.actor = now, actor

    @contextmanager
    def undone_if_refused(self) -> Iterator[None]:
        """A part of the transaction; a RequestError in it undoes only this part."""
        execute(self.db, "SAVEPOINT part")
        try:
            yield
        except RequestError:
            execute(self.db, "ROLLBACK TO SAVEPOINT part")
            execute(self.db, "RELEASE SAVEPOINT part")  # else the next part would be within this one
            raise
        execute(self.db, "RELEASE SAVEPOINT part")

    def lock_pool(self, pool: Pool) -> int:
        """Begins a change of a pool; returns a generation that no address of it ever had."""
        row = _COUNT_UP.first(self.db, {"p": self.ids.pools[pool.name]})
        if row is None:
            raise InvariantViolation(f"The registry has no row for the pool '{pool.name}'.")
        return int(row.rev)

    def sweep(self, pool: Pool, limit: int) -> int:
        """Returns addresses that have rested enough to the free extents."""
        where = {"p": self.ids.pools[pool.name], "before": self.now.timestamp(), "n": limit}
        ips = [row.ip for row in RESTING.all(self.db, where)]
        self._free(pool, ips)
        return len(ips)

    def _free(self, pool: Pool, ips: Sequence[int]) -> None:
        self._delete_rows(ips)
        back = [ip for ip in ips if IPv4Address(ip) in pool.plan]
        if back:
            extents.give_back(self.db, self.ids.pools[pool.name], back)

    def _delete_rows(self, ips: Sequence[int]) -> None:
        _DELETE_ROW.run_each(self.db, [{"a": ip} for ip in ips])

    def _mark(self, dhcpds: Iterable[str], ips: Sequence[int], seq: int, *, unmarked: bool = False) -> None:
        """Marks addresses dirty with a number that no earlier mark of theirs had.

        Args:
            dhcpds: Who has to look at them.
            ips: The addresses; each has an allocation.
            seq: A generation from :meth:`lock_pool`.
            unmarked: Whether none of them can have a mark yet.
        """
        for name in dhcpds:
            number = self.ids.dhcpds[name]
            if not unmarked:
                DELETE_DIRTY.run_each(self.db, [{"d": number, "a": ip} for ip in ips])
            _INSERT_DIRTY.run_each(self.db, [{"dhcpd_id": number, "ip": ip, "seq": seq} for ip in ips])

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
        _INSERT_AUDIT.run_each(self.db, rows)
