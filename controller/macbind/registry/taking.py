"""Allocating: the first unoccupied addresses, or a given one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

from sqlalchemy import insert, update

from macbind.addressing import MacAddress
from macbind.errors import (
    AddressInUse,
    Conflict,
    InvalidOption,
    InvalidRequest,
    InvariantViolation,
    NotInPool,
    PoolExhausted,
)
from macbind.model import NO_OPTIONS, Allocation, Pool, State, check_name
from macbind.options import DhcpOptions
from macbind.registry import extents
from macbind.registry.changes import RESTING, Changes
from macbind.registry.extents import chunks
from macbind.registry.schema import allocation as al
from macbind.registry.statement import Statement

_SWEEP = 16
"""Rested addresses returned to the free extents by each allocation, so that no big sweep is ever needed."""
_INSERT = Statement(
    insert(al), keys=[column.key for column in al.c if column.key not in ("hypervisor", "phase")]
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an allocation is to be; repeated with the same values it finds what it made.

    Attributes:
        pool: Name of the pool.
        names: One name per machine; all are allocated or none.
        group: Group of all of them.
        address: A particular address (for one name only); None for the first unoccupied.
        options: DHCP options of these machines.
        domain: The libvirt domain it is for.
        expires_at: When they are released by themselves (UTC).
        whole_group: Whether ``names`` are meant to be the group's only members in this pool.
    """

    pool: str
    names: tuple[str, ...]
    group: str | None = None
    address: IPv4Address | None = None
    options: DhcpOptions = NO_OPTIONS
    domain: str | None = None
    expires_at: datetime | None = None
    whole_group: bool = False

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names):
            raise InvalidRequest(
                "An allocation needs at least one name, and each of them once.",
                hint="Every machine needs its own name.",
            )
        if self.address is not None and len(self.names) != 1:
            raise InvalidRequest("An address can be wanted for one machine only.", hint="Leave address out.")


class Taking(Changes):
    """Making allocations."""

    def allocate(self, wanted: Wanted) -> list[Allocation]:
        """Takes the first unoccupied addresses, or the wanted one; all names or none.

        Names that are held already with the same parameters are returned as they are (their expiry is
        renewed if one is given).

        Raises:
            NotFound, NotInPool, AddressInUse, PoolExhausted, Conflict: See :mod:`macbind.errors`.
        """
        pool = self.pool(wanted.pool)
        for name in wanted.names:
            check_name(name)
        if wanted.group is not None:
            check_name(wanted.group, "group")
        if wanted.options != NO_OPTIONS:
            self._check_options(pool, wanted.options)
        generation = self.lock_pool(pool)
        held = self._held(wanted)
        if held is not None:
            return held
        self._check_gateways(pool, wanted.options, wanted.address)
        taken = (
            [self._take_given(pool, wanted.address)]
            if wanted.address is not None
            else self._take_lowest(pool, len(wanted.names))
        )
        # Names and addresses are paired in order, so a group reads as it was asked for.
        options = wanted.options.to_dict()
        rows = [
            self._row(pool, ip, MacAddress(pool.plan.scheme.offset + ip), name, generation, wanted, options)
            for ip, name in zip(taken, wanted.names, strict=True)
        ]
        return self._insert("allocate", pool, rows, generation)

    @staticmethod
    def _check_options(pool: Pool, options: DhcpOptions) -> None:
        """Whether dhcpd can be told the options of one machine of the pool."""
        first = pool.plan.assignable[0].lo
        if not pool.needs_host(first):
            raise Conflict(
                f"The pool '{pool.name}' is in static mode: its machines' options are in dhcpd's "
                "configuration file and cannot differ.",
                hint="Set options for the whole pool, or use a pool in live mode.",
            )
        pool.reservation(first, MacAddress(0), 1, options)

    def _check_gateways(self, pool: Pool, options: DhcpOptions, address: IPv4Address | None) -> None:
        """Refuses gateways of its own that a machine cannot reach, or that another machine may be given.

        Args:
            pool: The machine's pool.
            options: Its own options.
            address: Its address; None if it is to be an unoccupied one.
        """
        plan = pool.plan
        ends = (plan.subnet.network_address, plan.subnet.broadcast_address)
        routes = [route.gateway for route in options.static_routes]
        for key, gateways in (("routers", options.routers), ("static_routes", routes)):
            for one in gateways:
                told = {"option": key, "address": str(one)}
                if one not in plan.subnet or one in ends:
                    raise InvalidOption(
                        f"{key}: {one} is not a machine's address on the subnet {plan.subnet}.",
                        hint="A gateway must be on the machine's own subnet, or it cannot be reached.",
                        **told,
                    )
                if one == address:
                    raise InvalidOption(
                        f"{key}: {one} is the machine's own address.",
                        hint="Name the address of the router, or another address for the machine.",
                        **told,
                    )
                owner = next((name for name, other in self.pools.items() if one in other.plan), None)
                if owner is not None and not self.find(addresses=[one]):
                    raise InvalidOption(
                        f"{key}: {one} is an unoccupied address of the pool '{owner}': any machine may get it.",
                        hint=f"Keep it for the router: `macbind reserve NAME {one}`, with --mac if its MAC is a "
                        "foreign one.",
                        **told,
                    )

    def _held(self, wanted: Wanted) -> list[Allocation] | None:
        """The allocations that already have these names, None if there is none of them."""
        held = self.named(wanted.names)
        if wanted.whole_group and wanted.group is not None:
            members = self.find(group=wanted.group, pool=wanted.pool)
            if members and {one.name for one in members} != set(wanted.names):
                raise Conflict(
                    f"The group '{wanted.group}' exists with {len(members)} allocations, not "
                    f"{len(wanted.names)}.",
                    hint="Ask for the same number again, or release the group first.",
                    group=wanted.group,
                )
        if not held:
            return None
        for one in held.values():
            self._check_same(one, wanted)
        missing = [name for name in wanted.names if name not in held]
        if missing:
            raise Conflict(
                f"'{next(iter(held))}' exists already but '{missing[0]}' does not, so they cannot be "
                "allocated together.",
                hint="Ask for names that are all new, or for the same names as before.",
                name=missing[0],
            )
        if wanted.expires_at is not None:
            held = self._renew(held, wanted.expires_at)
        return [held[name] for name in wanted.names]

    def _renew(self, held: dict[str, Allocation], expires_at: datetime) -> dict[str, Allocation]:
        late = [one for one in held.values() if one.expires_at != expires_at]
        for some in chunks([int(one.address) for one in late]):
            self.db.execute(update(al).where(al.c.ip.in_(some)).values(expires_at=expires_at.timestamp()))
        detail = {"expires_at": expires_at.isoformat()}
        self._log(("renew", int(one.address), one.generation, one.name, detail) for one in late)
        return self.named(list(held))

    def _check_same(self, one: Allocation, wanted: Wanted) -> None:
        differences = {
            "pool": (one.pool, wanted.pool),
            "group": (one.group, wanted.group),
            "options": (one.options.to_dict(), wanted.options.to_dict()),
            "address": (str(one.address), str(wanted.address or one.address)),
            "domain": (one.domain, wanted.domain or one.domain),
            "pinned": (one.pinned, False),
        }
        for what, (have, want) in differences.items():
            if have != want:
                raise Conflict(
                    f"'{one.name}' is already allocated ({one.address}) with {what} {have!r}, not {want!r}.",
                    hint="Use another name, ask with the same parameters, or release it first.",
                    name=one.name,
                    address=str(one.address),
                )

    def _take_lowest(self, pool: Pool, count: int) -> list[int]:
        pool_id = self.ids.pools[pool.name]
        if pool.cooldown_s:  # else they are free as soon as they are gone
            self.sweep(pool, _SWEEP)
        taken = extents.take_lowest(self.db, pool_id, count)
        if len(taken) < count:
            # The pool runs short: a rest may be cut, longest rested first.
            rested = self._rested(pool, count - len(taken))
            self._delete_rows(rested)
            taken += rested
        if len(taken) < count:
            usage = self.usage(pool.name)
            raise PoolExhausted(
                f"The pool '{pool.name}' has {len(taken)} unoccupied addresses, {count} were asked for."
                if taken
                else f"The pool '{pool.name}' has no unoccupied address.",
                hint=f"{usage.releasing} released ones wait for dhcpd's confirmation; see `macbind status`."
                if usage.releasing
                else "Release machines that are gone, or give the pool more ranges.",
                pool=pool.name,
                asked=count,
                free=len(taken),
                allocated=usage.allocated,
                releasing=usage.releasing,
            )
        return taken

    def _rested(self, pool: Pool, count: int) -> list[int]:
        """Addresses whose rest may be cut, longest rested first, at most ``count``.

        None that the pool does not hand out: one that was pinned, or is no longer in its ranges, may rest, too.
        """
        limit = count
        while True:
            where = {"p": self.ids.pools[pool.name], "before": math.inf, "n": limit}
            rows = RESTING.all(self.db, where)
            found = [row.ip for row in rows if IPv4Address(row.ip) in pool.plan][:count]
            if len(found) == count or len(rows) < limit:
                return found
            limit *= 2

    def _take_given(self, pool: Pool, address: IPv4Address) -> int:
        if address not in pool.plan:
            ranges = ", ".join(map(str, pool.plan.assignable[:3])) + (" …" * (len(pool.plan.assignable) > 3))
            raise NotInPool(
                f"The pool '{pool.name}' does not hand out {address}.",
                hint=f"It hands out {ranges}.",
                pool=pool.name,
                address=str(address),
            )
        return self._occupy(pool, address)

    def _occupy(self, pool: Pool, address: IPv4Address) -> int:
        """Takes one address out of the free extents, or from a row that only rests."""
        ip, pool_id = int(address), self.ids.pools[pool.name]
        found = self.find(addresses=[address], released=True)
        if found:
            holder = found[0]
            if holder.state is State.COOLING:
                self._delete_rows([ip])
                return ip
            raise AddressInUse(
                f"{address} is held by '{holder.name}'."
                if holder.released_at is None
                else f"{address} was released by '{holder.name}', and dhcpd has yet to confirm it.",
                hint="Ask for another address, or for none to get the first unoccupied one."
                if holder.released_at is None
                else "Ask again when dhcpd is reachable; `macbind status` shows what it waits for.",
                address=str(address),
                holder=holder.name,
            )
        if not extents.take(self.db, pool_id, ip) and address in pool.plan:
            raise InvariantViolation(f"{address} is neither free nor allocated in the pool '{pool.name}'.")
        return ip

    def _row(
        self,
        pool: Pool,
        ip: int,
        mac: MacAddress,
        name: str,
        generation: int,
        wanted: Wanted,
        options: dict[str, Any],
    ) -> dict[str, Any]:
        return {
            "ip": ip,
            "mac": mac.value,
            "pool_id": self.ids.pools[pool.name],
            "name": name,
            "gen": generation,
            "grp": wanted.group,
            "options": options,
            "domain": wanted.domain,
            "domain_uuid": None,
            "pinned": False,
            "created_at": self.now.timestamp(),
            "expires_at": wanted.expires_at.timestamp() if wanted.expires_at else None,
            "released_at": None,
            "free_at": None,
            "moves_from": None,
            "mover": None,
        }

    def _insert(
        self, action: str, pool: Pool, rows: list[dict[str, Any]], generation: int
    ) -> list[Allocation]:
        """Makes the rows real. Their addresses were free, so no dhcpd was told of them or has to look."""
        _INSERT.run_each(self.db, rows)
        hosts = [row["ip"] for row in rows if pool.needs_host(IPv4Address(row["ip"]))]
        self._mark(pool.dhcpds, hosts, generation, unmarked=True)
        made = [self.value(SimpleNamespace(**row)) for row in rows]
        self._log(
            (action, int(one.address), generation, one.name, {"pool": pool.name, "mac": str(one.mac)})
            for one in made
        )
        return made
