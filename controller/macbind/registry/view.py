"""Reading the registry: allocations with their state, pools in numbers, history."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any, Literal

from sqlalchemy import and_, bindparam, exists, func, select, true

from macbind.addressing import MacAddress
from macbind.errors import NotFound
from macbind.ipv6 import slaac
from macbind.model import (
    NO_OPTIONS,
    Allocation,
    AuditEntry,
    Move,
    Pool,
    PoolUsage,
    State,
)
from macbind.options import DhcpOptions
from macbind.registry.due import MARKED, TOLD, Due
from macbind.registry.extents import chunks
from macbind.registry.schema import allocation as al
from macbind.registry.schema import audit, dirty, free_extent, told
from macbind.registry.statement import Statement


def _moment(seconds: float | None) -> datetime | None:
    """A stored time as an aware datetime."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


TOLD_NOBODY = ~exists().where(told.c.ip == al.c.ip)
NO_QUESTION = ~exists().where(dirty.c.ip == al.c.ip)
"""With both, an address is gone from every dhcpd: none confirmed to hold it, none has to look at it."""

HELD = and_(al.c.free_at.is_(None), al.c.moves_from.is_(None))
"""What is neither released nor only moved to: of these, a name has one."""
OVERDUE = select(al.c.ip).where(al.c.expires_at <= bindparam("now"), HELD, al.c.pinned.is_(False))
_RESTED = select(al.c.ip).where(al.c.free_at <= bindparam("now"), TOLD_NOBODY, NO_QUESTION)

_STATES = {"any": true(), "live": al.c.free_at.is_(None), "held": HELD, "released": al.c.free_at.is_not(None)}
_State = Literal["any", "live", "held", "released"]
_CRITERIA = {
    "pool": al.c.pool_id == bindparam("pool"),
    "group": al.c.grp == bindparam("group"),
    "mac": al.c.mac == bindparam("mac"),
    "after": al.c.ip > bindparam("after"),
    "names": al.c.name.in_(bindparam("names", expanding=True)),
    "ips": al.c.ip.in_(bindparam("ips", expanding=True)),
}


@functools.cache
def _finding(state: _State, *by: str) -> Statement:
    """The statement that finds allocations by these criteria (and a limit), in the order of their addresses."""
    criteria = [_CRITERIA[one] for one in by if one != "limit"]
    if (
        "group" in by and "pool" in by
    ):  # SQLite would read the whole pool, which is in order, instead of the group
        criteria[by.index("pool")] = al.c.pool_id + 0 == bindparam("pool")
    query = select(al).where(_STATES[state], *criteria)
    return Statement(query.order_by(al.c.ip).limit(bindparam("limit") if "limit" in by else None))


# Hardly any row is one of these. Asked for them in order, SQLite reads the whole table instead of their index.
_MOVING = select(al).where(al.c.moves_from.is_not(None))
_MOVES = Statement(_MOVING)
_MOVE_OF_NAME = Statement(_MOVING.where(al.c.name == bindparam("name")))
_MOVES_FROM = Statement(_MOVING.where(al.c.moves_from.in_(bindparam("ips", expanding=True))))


class View(Due):
    """Questions to the registry within one transaction."""

    # -- allocations -----------------------------------------------------------------------------------

    def find(
        self,
        *,
        pool: str | None = None,
        group: str | None = None,
        names: Sequence[str] | None = None,
        addresses: Sequence[IPv4Address] | None = None,
        mac: MacAddress | None = None,
        released: bool = False,
        after: IPv4Address | None = None,
        limit: int | None = None,
    ) -> list[Allocation]:
        """Allocations in the order of their addresses.

        Args:
            pool: Only of this pool.
            group: Only of this group.
            names: Only these names, without what they are moving to.
            addresses: Only these addresses.
            mac: Only this MAC.
            released: Whether released ones that are not gone yet are included.
            after: Only addresses above this one; with ``limit`` the way to page.
            limit: At most so many.

        Raises:
            NotFound: There is no such pool.
        """
        where: dict[str, Any] = {}
        if pool is not None:
            where["pool"] = self.ids.pools[self.pool(pool).name]
        if group is not None:
            where["group"] = group
        if mac is not None:
            where["mac"] = mac.value
        if after is not None:
            where["after"] = int(after)
        if limit is not None:
            where["limit"] = limit
        if names is None and addresses is None:
            return self.allocations(_finding("any" if released else "live", *where).all(self.db, where))
        key = "ips" if names is None else "names"
        wanted = list(names) if names is not None else [int(one) for one in addresses or ()]
        # Names have one index for those that are held and one for those that were: neither serves a question that
        # does not say which.
        states: tuple[_State, ...] = ("any",) if released else ("live",)
        if names is not None:
            states = ("held", "released") if released else ("held",)
        rows = [
            row
            for state in states
            for some in chunks(wanted)
            for row in _finding(state, *where, key).all(self.db, where | {key: some})
        ]
        rows.sort(key=lambda row: row.ip)
        return self.allocations(rows)

    def named(self, names: Sequence[str]) -> dict[str, Allocation]:
        """The live allocations of these names, by name."""
        rows = [
            row for some in chunks(names) for row in _finding("held", "names").all(self.db, {"names": some})
        ]
        return {one.name: one for one in self.allocations(rows)}

    def moves(self, *, name: str | None = None, of: Sequence[IPv4Address] | None = None) -> list[Move]:
        """The moves under way, in the order of the addresses moved to.

        Args:
            name: Only of this name.
            of: Only from these addresses.
        """
        if of is not None:
            ips = [int(one) for one in of]
            rows = [row for some in chunks(ips) for row in _MOVES_FROM.all(self.db, {"ips": some})]
        elif name is not None:
            rows = _MOVE_OF_NAME.all(self.db, {"name": name})
        else:
            rows = _MOVES.all(self.db, {})
        if not rows:
            return []
        rows.sort(key=lambda row: row.ip)
        left = {
            one.address: one for one in self.find(addresses=[IPv4Address(row.moves_from) for row in rows])
        }
        return [
            Move(left[one.moves_from], one) for one in self.allocations(rows) if one.moves_from is not None
        ]

    def allocations(self, rows: Sequence[Any]) -> list[Allocation]:
        """Rows of the allocation table as values, each with its state."""
        confirmed: dict[int, set[tuple[int, int]]] = defaultdict(set)
        pending: set[int] = set()
        for some in chunks(rows):
            for ip, dhcpd_id, gen in TOLD.all(self.db, {"ips": [row.ip for row in some]}):
                confirmed[ip].add((dhcpd_id, gen))
            released = [row.ip for row in some if row.free_at is not None]
            if released:
                pending.update(row.ip for row in MARKED.all(self.db, {"ips": released}))
        return [self.value(row, confirmed[row.ip], pending=row.ip in pending) for row in rows]

    def value(
        self,
        row: Any,
        confirmed: AbstractSet[tuple[int, int]] = frozenset(),
        *,
        pending: bool = False,
    ) -> Allocation:
        """A row of the allocation table as a value.

        Args:
            row: The row, with its columns as attributes.
            confirmed: Number of each dhcpd that confirmed to hold it, and the generation it holds.
            pending: Whether a dhcpd has to look at the address.
        """
        pool = self._pool_of[row.pool_id]
        address = IPv4Address(row.ip)
        if row.free_at is not None:
            state = State.RELEASING if confirmed or pending else State.COOLING
        else:
            needed = {(self.ids.dhcpds[name], row.gen) for name in pool.dhcpds}
            bound = not pool.needs_host(address) or needed <= confirmed
            state = State.BOUND if bound else State.PENDING
        mac = MacAddress(row.mac)
        options = DhcpOptions.parse(row.options) if row.options else NO_OPTIONS
        return Allocation(
            address=address,
            mac=mac,
            name=row.name,
            pool=pool.name,
            generation=row.gen,
            state=state,
            created_at=datetime.fromtimestamp(row.created_at, UTC),
            group=row.grp,
            options=options,
            domain=row.domain,
            domain_uuid=row.domain_uuid,
            pinned=row.pinned,
            expires_at=_moment(row.expires_at),
            released_at=_moment(row.released_at),
            gateway=pool.gateway_of(address, options),
            ipv6=None if pool.ipv6_prefix is None else slaac(pool.ipv6_prefix, mac),
            moves_from=None if row.moves_from is None else IPv4Address(row.moves_from),
        )

    # -- pools -----------------------------------------------------------------------------------------

    def pool(self, name: str) -> Pool:
        """The configured pool of that name.

        Raises:
            NotFound: There is none; the hint names those there are.
        """
        try:
            return self.pools[name]
        except KeyError:
            raise NotFound(
                f"There is no pool '{name}'.", hint=f"Pools are: {', '.join(sorted(self.pools))}.", pool=name
            ) from None

    def usage(self, name: str) -> PoolUsage:
        """How full a pool is."""
        pool_id = self.ids.pools[self.pool(name).name]
        live = al.c.free_at.is_(None)
        counts = self.db.execute(
            select(
                func.count().filter(live),
                func.count().filter(live, al.c.pinned.is_(True)),
                func.count().filter(~live),
            ).where(al.c.pool_id == pool_id)
        ).one()
        free = self.db.scalar(
            select(func.coalesce(func.sum(free_extent.c.hi - free_extent.c.lo + 1), 0)).where(
                free_extent.c.pool_id == pool_id
            )
        )
        return PoolUsage(name, self.pools[name].plan.size, int(free or 0), *counts)

    def has_chores(self, now: datetime) -> bool:
        """Whether an allocation has expired or a released address has rested enough."""
        at = {"now": now.timestamp()}
        return any(self.db.scalar(query.limit(1), at) is not None for query in (OVERDUE, _RESTED))

    # -- history ---------------------------------------------------------------------------------------

    def history(
        self, *, address: IPv4Address | None = None, name: str | None = None, limit: int = 100
    ) -> list[AuditEntry]:
        """The latest changes, newest first, of an address or a name if given."""
        where = []
        if address is not None:
            where.append(audit.c.ip == int(address))
        if name is not None:
            where.append(audit.c.name == name)
        rows = self.db.execute(select(audit).where(*where).order_by(audit.c.id.desc()).limit(limit))
        return [
            AuditEntry(
                at=datetime.fromtimestamp(row.at, UTC),
                actor=row.actor,
                action=row.action,
                address=None if row.ip is None else IPv4Address(row.ip),
                generation=row.gen,
                name=row.name,
                detail=row.detail,
            )
            for row in rows
        ]
