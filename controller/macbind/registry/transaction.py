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
from macbind.registry.due import Dirty
from macbind.registry.extents import chunks
from macbind.registry.moving import Moving
from macbind.registry.schema import allocation as al
from macbind.registry.schema import audit, dirty, told
from macbind.registry.statement import Statement
from macbind.registry.taking import Wanted
from macbind.registry.view import NO_QUESTION, TOLD_NOBODY

__all__ = ["Transaction", "Wanted"]

_MARKS = Statement(
    select(dirty.c.ip, dirty.c.seq).where(
        dirty.c.dhcpd_id == bindparam("d"), dirty.c.ip.in_(bindparam("ips", expanding=True))
    )
)
_IN_POOLS = select(al.c.ip, al.c.pool_id).where(al.c.ip.in_(bindparam("ips", expanding=True)))
_POOLS = Statement(_IN_POOLS)
_GONE = Statement(_IN_POOLS.where(al.c.free_at <= bindparam("now"), TOLD_NOBODY, NO_QUESTION))
_DELETE_TOLD = Statement(delete(told).where(told.c.dhcpd_id == bindparam("d"), told.c.ip == bindparam("a")))
_INSERT_TOLD = Statement(insert(told), keys=("dhcpd_id", "ip", "gen"))


class Transaction(Moving):
    """Changes to the registry within one write transaction."""

    def doubt(self, dhcpd: str, addresses: Iterable[IPv4Address]) -> None:
        """Forgets that a dhcpd confirmed these addresses, and has it look at them again."""
        ips = sorted({int(address) for address in addresses})
        number = self.ids.dhcpds[dhcpd]
        _DELETE_TOLD.run_each(self.db, [{"d": number, "a": ip} for ip in ips])
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
            for row in _MARKS.all(self.db, {"d": number, "ips": some})
        }
        valid = [item for item in done if asked.get(int(item.address)) == item.seq]
        if not valid:
            return
        keys = [{"d": number, "a": int(item.address)} for item in valid]
        DELETE_DIRTY.run_each(self.db, keys)
        _DELETE_TOLD.run_each(self.db, keys)
        held = [
            {"dhcpd_id": number, "ip": int(item.address), "gen": item.confirms}
            for item in valid
            if item.confirms is not None
        ]
        _INSERT_TOLD.run_each(self.db, held)
        gone = [int(item.address) for item in valid if item.confirms is None]
        for pool_id, ips in self._by_pool(gone, gone=True).items():
            self._free(self._pool_of[pool_id], ips)

    def _by_pool(self, ips: Sequence[int], *, gone: bool = False) -> dict[int, list[int]]:
        """Those of the addresses that have an allocation (one that is ``gone`` and has rested), by pool."""
        found: dict[int, list[int]] = defaultdict(list)
        for some in chunks(ips):
            parameters = {"ips": some, "now": self.now.timestamp()} if gone else {"ips": some}
            for row in (_GONE if gone else _POOLS).all(self.db, parameters):
                found[row.pool_id].append(row.ip)
        return found

    def trim_audit(self, before: datetime, limit: int = 10_000) -> int:
        """Forgets the oldest audit entries from before a time, at most ``limit``; returns how many."""
        old = select(audit.c.id).where(audit.c.at < before.timestamp()).order_by(audit.c.id).limit(limit)
        return int(self.db.execute(delete(audit).where(audit.c.id.in_(old))).rowcount)
