"""What each dhcpd should hold, has confirmed to hold, and has yet to look at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import Connection, Text, and_, bindparam, cast, func, select

from macbind.addressing import MacAddress
from macbind.model import HostReservation, Pool, host_name
from macbind.options import DhcpOptions
from macbind.plan import Change, Ensure, Remove
from macbind.registry.extents import chunks
from macbind.registry.schema import allocation as al
from macbind.registry.schema import dirty, told
from macbind.registry.statement import Statement

TOLD = Statement(
    select(told.c.ip, told.c.dhcpd_id, told.c.gen).where(told.c.ip.in_(bindparam("ips", expanding=True)))
)
MARKED = Statement(
    select(dirty.c.ip, dirty.c.dhcpd_id).where(dirty.c.ip.in_(bindparam("ips", expanding=True)))
)

_NO_OPTIONS = "{}"
# What a host reservation is made of. Most machines have no options of their own, so these are left as text.
_DESIRED = (al.c.ip, al.c.mac, al.c.gen, al.c.pool_id, al.c.free_at, cast(al.c.options, Text).label("own"))
_LIVE_PAGE = Statement(
    select(*_DESIRED)
    .where(al.c.ip > bindparam("after"), al.c.free_at.is_(None))
    .order_by(al.c.ip)
    .limit(bindparam("n"))
)
_DIRTY = Statement(
    select(dirty.c.ip.label("dirty_ip"), dirty.c.seq, told.c.gen.label("told_gen"), *_DESIRED)
    .select_from(
        dirty.outerjoin(al, al.c.ip == dirty.c.ip).outerjoin(
            told, and_(told.c.ip == dirty.c.ip, told.c.dhcpd_id == dirty.c.dhcpd_id)
        )
    )
    .where(dirty.c.dhcpd_id == bindparam("d"))
    .order_by(dirty.c.ip)
    .limit(bindparam("n"))
)


@dataclass(frozen=True, slots=True)
class Ids:
    """The database's numbers for configured names."""

    pools: Mapping[str, int]
    dhcpds: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Dirty:
    """One address a dhcpd should look at: the change that is due, and how to say that it was made.

    Attributes:
        change: None if nothing is to be told and the mark is only to be removed.
        seq: Sent back with the confirmation, so that a newer mark survives it.
        confirms: The generation dhcpd will hold afterwards; None if it will hold none.
    """

    address: IPv4Address
    seq: int
    change: Change | None
    confirms: int | None


class Due:
    """Questions about dhcpds within one transaction.

    Args:
        db: A connection with an open transaction.
        pools: The configured pools by name.
        ids: The numbers the database has for pools and dhcpds.
    """

    def __init__(self, db: Connection, pools: Mapping[str, Pool], ids: Ids) -> None:
        self.db, self.pools, self.ids = db, pools, ids
        self._pool_of = {ids.pools[name]: pool for name, pool in pools.items()}
        # The statements of machines without options of their own, by pool and gateway: nothing else differs.
        self._plain: dict[tuple[int, IPv4Address | None], str] = {}

    def dirty(self, dhcpd: str, limit: int) -> list[Dirty]:
        """The addresses this dhcpd should look at, lowest first, each with the change that is due."""
        rows = _DIRTY.all(self.db, {"d": self.ids.dhcpds[dhcpd], "n": limit})
        return [self._due(dhcpd, row) for row in rows]

    def _due(self, dhcpd: str, row: Any) -> Dirty:
        address = IPv4Address(row.dirty_ip)
        if row.ip is None:
            return Dirty(address, row.seq, None, None)
        desired = self._desired(dhcpd, row)
        if desired is not None:
            return Dirty(address, row.seq, Ensure(address, row.gen, desired), row.gen)
        pool = self._pool_of[row.pool_id]
        serves = dhcpd in pool.dhcpds
        if (serves and row.free_at is None) or (not serves and row.told_gen is None):
            return Dirty(address, row.seq, None, None)  # static mode, or never told: nothing to take back
        remove = Remove(address, row.gen, MacAddress(row.mac), pool.needs_host(address))
        return Dirty(address, row.seq, remove, None)

    def _desired(self, dhcpd: str, row: Any) -> HostReservation | None:
        pool, address = self._pool_of[row.pool_id], IPv4Address(row.ip)
        if row.free_at is not None or dhcpd not in pool.dhcpds or not pool.needs_host(address):
            return None
        if row.own != _NO_OPTIONS:
            options = DhcpOptions.parse(json.loads(row.own))
            return pool.reservation(address, MacAddress(row.mac), row.gen, options)
        key = (row.pool_id, None if pool.rule is None else pool.rule.of(address))
        if key not in self._plain:
            self._plain[key] = pool.statements(address)
        return HostReservation(host_name(address, row.gen), MacAddress(row.mac), address, self._plain[key])

    def desired(self, dhcpd: str, *, after: int, limit: int) -> list[Ensure]:
        """The reservations this dhcpd should hold, in the order of their addresses, above ``after``.

        Returns:
            At most ``limit``; an empty list means that there are no more.
        """
        while True:
            rows = _LIVE_PAGE.all(self.db, {"after": after, "n": limit})
            found = [
                Ensure(IPv4Address(row.ip), row.gen, host)
                for row in rows
                if (host := self._desired(dhcpd, row)) is not None
            ]
            if found or not rows:
                return found
            after = rows[-1].ip

    def confirmed(self, addresses: Iterable[IPv4Address]) -> Callable[[str, IPv4Address, int | None], bool]:
        """What the dhcpds confirmed for these addresses.

        Returns:
            A function of dhcpd, address and generation: whether that dhcpd confirmed to hold that generation;
            with None for the generation, whether it confirmed to hold none.
        """
        held: set[tuple[int, int, int | None]] = set()
        unsure: set[tuple[int, int]] = set()
        for some in chunks([int(address) for address in addresses]):
            for ip, number, gen in TOLD.all(self.db, {"ips": some}):
                held.add((number, ip, gen))
                unsure.add((number, ip))
            unsure.update((number, ip) for ip, number in MARKED.all(self.db, {"ips": some}))

        def answer(dhcpd: str, address: IPv4Address, generation: int | None) -> bool:
            number, ip = self.ids.dhcpds[dhcpd], int(address)
            return (number, ip) not in unsure if generation is None else (number, ip, generation) in held

        return answer

    def backlog(self, dhcpd: str) -> int:
        """How many addresses this dhcpd has yet to look at."""
        query = select(func.count()).select_from(dirty).where(dirty.c.dhcpd_id == self.ids.dhcpds[dhcpd])
        return int(self.db.scalar(query) or 0)
