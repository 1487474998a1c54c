"""Changing the registry: allocate, reserve, move, release, expire, confirm.

Each method is one step of a transaction that the caller opened, and of which there is only one at a time. The
order inside is always the same: look, change, mark the addresses dirty for every dhcpd concerned, write the
audit log. Nothing here asks a clock, a dhcpd or libvirt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from ipaddress import IPv4Address

from sqlalchemy import bindparam, delete, insert, select

from macbind.registry.changes import DELETE_DIRTY
from macbind.registry.extents import chunks
from macbind.registry.moving import Moving
from macbind.registry.schema import allocation as al
from macbind.registry.schema import audit, dirty, told
from macbind.registry.taking import Wanted
from macbind.registry.view import NO_QUESTION, TOLD_NOBODY, Dirty

__all__ = ["Transaction", "Wanted"]

_MARKS = select(dirty.c.ip, dirty.c.seq).where(
    dirty.c.dhcpd_id == bindparam("d"), dirty.c.ip.in_(bindparam("ips", expanding=True))
)
_POOLS = select(al.c.ip, al.c.pool_id).where(al.c.ip.in_(bindparam("ips", expanding=True)))
_GONE = _POOLS.where(al.c.free_at <= bindparam("now"), TOLD_NOBODY, NO_QUESTION)
_DELETE_TOLD = delete(told).where(told.c.dhcpd_id == bindparam("d"), told.c.ip == bindparam("a"))
_INSERT_TOLD = insert(told)


class Transaction(Moving):
    """Changes to the registry within one write transaction."""

    def doubt(self, dhcpd: str, addresses: Iterable[IPv4Address]) -> None:
        """Forgets that a dhcpd confirmed these addresses, and has it look at them again."""
        ips = sorted({int(address) for address in addresses})
        if ips:
            number = self.ids.dhcpds[dhcpd]
            self.db.execute(_DELETE_TOLD, [{"d": number, "a": ip} for ip in ips])
        for pool_id, mine in self._by_pool(ips).items():
            self._mark([dhcpd], mine, self.lock_pool(self._pool_of[pool_id]))

    def confirm(self, dhcpd: str, done: Sequence[Dirty]) -> None:
        """Records that dhcpd is as it should be for these addresses, and frees those that are now gone.

        Only an answer to the question that is still asked counts: of an address that was marked again, or that
        another controller has confirmed meanwhile, this one knows nothing certain.
        """
        number = self.ids.dhcpds[dhcpd]
        asked = {
            row.ip: row.seq
            for some in chunks([int(item.address) for item in done])
            for row in self.db.execute(_MARKS, {"d": number, "ips": some})
        }
        valid = [item for item in done if asked.get(int(item.address)) == item.seq]
        if not valid:
            return
        keys = [{"d": number, "a": int(item.address)} for item in valid]
        self.db.execute(DELETE_DIRTY, keys)
        self.db.execute(_DELETE_TOLD, keys)
        held = [
            {"dhcpd_id": number, "ip": int(item.address), "gen": item.confirms}
            for item in valid
            if item.confirms is not None
        ]
        if held:
            self.db.execute(_INSERT_TOLD, held)
        gone = [int(item.address) for item in valid if item.confirms is None]
        for pool_id, ips in self._by_pool(gone, gone=True).items():
            self._free(self._pool_of[pool_id], ips)

    def _by_pool(self, ips: Sequence[int], *, gone: bool = False) -> dict[int, list[int]]:
        """Those of the addresses that have an allocation (one that is ``gone`` and has rested), by pool."""
        found: dict[int, list[int]] = defaultdict(list)
        for some in chunks(ips):
            parameters = {"ips": some, "now": self.now.timestamp()} if gone else {"ips": some}
            for row in self.db.execute(_GONE if gone else _POOLS, parameters):
                found[row.pool_id].append(row.ip)
        return found

    def trim_audit(self, before: datetime, limit: int = 10_000) -> int:
        """Forgets the oldest audit entries from before a time, at most ``limit``; returns how many."""
        old = select(audit.c.id).where(audit.c.at < before.timestamp()).order_by(audit.c.id).limit(limit)
        return int(self.db.execute(delete(audit).where(audit.c.id.in_(old))).rowcount)
