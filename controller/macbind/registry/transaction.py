"""Changing the registry: allocate, reserve, release, expire, confirm.

Each method is one step of a transaction that the caller opened. The order inside is always the same: lock the
pool, look, change, mark the addresses dirty for every dhcpd concerned, write the audit log. Nothing here asks
a clock, a dhcpd or libvirt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, insert, select, update

from macbind.addressing import MacAddress
from macbind.errors import AddressInUse, Conflict, InvariantViolation, NotFound, NotInPool, PoolExhausted
from macbind.model import NO_OPTIONS, Allocation, Pool, State, check_name
from macbind.options import DhcpOptions
from macbind.registry import extents
from macbind.registry.extents import chunks
from macbind.registry.schema import allocation as al
from macbind.registry.schema import audit, dirty, told
from macbind.registry.schema import pool as pool_table
from macbind.registry.view import Dirty, Ids, View

_SWEEP = 16
"""Rested addresses returned to the free extents by each allocation, so that no big sweep is ever needed."""

_LOCK = (
    update(pool_table)
    .where(pool_table.c.id == bindparam("p"))
    .values(rev=pool_table.c.rev + 1)
    .returning(pool_table.c.rev)
)
_Entry = tuple[str, int | None, int | None, str | None, dict[str, Any]]
"""What the audit log says of one change: action, address, generation, name, detail."""

_TOLD_NOBODY = ~exists().where(told.c.ip == al.c.ip)
_NO_QUESTION = ~exists().where(dirty.c.ip == al.c.ip)
_RESTING = (
    select(al.c.ip)
    .where(al.c.pool_id == bindparam("p"), al.c.free_at.is_not(None), _TOLD_NOBODY, _NO_QUESTION)
    .order_by(al.c.free_at)
    .limit(bindparam("n"))
)
_DELETE_DIRTY = delete(dirty).where(dirty.c.dhcpd_id == bindparam("d"), dirty.c.ip == bindparam("a"))
_DELETE_SEEN = _DELETE_DIRTY.where(dirty.c.seq == bindparam("s"))
_DELETE_TOLD = delete(told).where(told.c.dhcpd_id == bindparam("d"), told.c.ip == bindparam("a"))
_DELETE_ROW = delete(al).where(al.c.ip == bindparam("a"))


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


class Transaction(View):
    """Changes to the registry within one write transaction.

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
        """Locks a pool until the end of the transaction; returns a generation nobody had before."""
        rev = self.db.scalar(_LOCK, {"p": self.ids.pools[pool.name]})
        if rev is None:
            raise InvariantViolation(f"The registry has no row for the pool '{pool.name}'.")
        return int(rev)

    # -- taking ----------------------------------------------------------------------------------------

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
        if pool.needs_host(pool.plan.assignable[0].lo):
            pool.reservation(pool.plan.assignable[0].lo, MacAddress(0), 1, wanted.options)
        elif wanted.options != NO_OPTIONS:
            raise Conflict(
                f"The pool '{pool.name}' is in static mode: its machines' options are in dhcpd's "
                "configuration file and cannot differ.",
                hint="Set options for the whole pool, or use a pool in live mode.",
            )
        generation = self.lock_pool(pool)
        held = self._held(wanted)
        if held is not None:
            return held
        taken = (
            [self._take_given(pool, wanted.address)]
            if wanted.address is not None
            else self._take_lowest(pool, len(wanted.names))
        )
        # Names and addresses are paired in order, so a group reads as it was asked for.
        rows = [
            self._row(pool, ip, int(pool.plan.scheme.encode(IPv4Address(ip)).value), name, generation, wanted)
            for ip, name in zip(taken, wanted.names, strict=True)
        ]
        return self._insert("allocate", pool, rows, generation)

    def _held(self, wanted: Wanted) -> list[Allocation] | None:
        """The allocations that already have these names, None if there is none of them."""
        held = {one.name: one for one in self.find(names=wanted.names)}
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
            for some in chunks(wanted.names):
                self.db.execute(
                    update(al)
                    .where(al.c.name.in_(some), al.c.free_at.is_(None))
                    .values(expires_at=wanted.expires_at.timestamp())
                )
            held = {one.name: one for one in self.find(names=wanted.names)}
        return [held[name] for name in wanted.names]

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
        self.sweep(pool, _SWEEP)
        taken = extents.take_lowest(self.db, pool_id, count)
        if len(taken) < count:
            # The pool runs short: a rest may be cut, longest rested first.
            rested = list(self.db.scalars(_RESTING, {"p": pool_id, "n": count - len(taken)}))
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

    def reserve(
        self,
        name: str,
        address: IPv4Address,
        *,
        mac: MacAddress | None = None,
        options: DhcpOptions = NO_OPTIONS,
    ) -> Allocation:
        """Pins an address to a name: only :meth:`release` with ``pinned`` ends it, ``allocate`` passes it by.

        Args:
            name: Its name.
            address: Any address of a pool's subnet that is not a network, broadcast or gateway address.
            mac: A foreign MAC (a printer, a hypervisor); None for the scheme's own.
            options: DHCP options of this machine.

        Raises:
            NotInPool, AddressInUse, Conflict: See :mod:`macbind.errors`.
        """
        check_name(name)
        pool = self._pool_for_pin(address)
        own = pool.plan.scheme.encode(address)
        bound_to = own if mac is None else mac
        self._check_pin(pool, address, bound_to, own, options)
        generation = self.lock_pool(pool)
        held = self.find(names=[name])
        if held:
            one = held[0]
            if (one.address, one.mac, one.options, one.pinned) == (address, bound_to, options, True):
                return one
            raise Conflict(
                f"'{name}' already names {one.address} with {one.mac}.",
                hint="Use another name, or end the other reservation first.",
                name=name,
                address=str(one.address),
            )
        other = self.db.execute(
            select(al.c.name, al.c.ip).where(al.c.mac == bound_to.value, al.c.ip != int(address))
        ).first()
        if other is not None:
            raise AddressInUse(
                f"The MAC {bound_to} belongs to '{other.name}' ({IPv4Address(other.ip)}).",
                hint="One MAC has one address; end the other reservation first.",
                holder=other.name,
                mac=str(bound_to),
            )
        ip = self._occupy(pool, address)
        wanted = Wanted(pool.name, (name,), options=options)
        row = self._row(pool, ip, bound_to.value, name, generation, wanted)
        return self._insert("reserve", pool, [row | {"pinned": True}], generation)[0]

    def _pool_for_pin(self, address: IPv4Address) -> Pool:
        candidates = [pool for pool in self.pools.values() if address in pool.plan.subnet]
        if not candidates:
            subnets = sorted({str(pool.plan.subnet) for pool in self.pools.values()})
            raise NotInPool(
                f"{address} is in no pool's subnet.",
                hint=f"Subnets are {', '.join(subnets)}.",
                address=str(address),
            )
        return next((pool for pool in candidates if address in pool.plan), candidates[0])

    def _check_pin(
        self, pool: Pool, address: IPv4Address, mac: MacAddress, own: MacAddress, options: DhcpOptions
    ) -> None:
        if address in pool.plan.forbidden:
            raise NotInPool(
                f"{address} is the network, broadcast or gateway address of {pool.plan.subnet}.",
                hint="Reserve the address of a machine.",
                address=str(address),
            )
        dynamic = next((item for item in pool.subnet.dynamic if address in item), None)
        if dynamic is not None:
            raise NotInPool(
                f"{address} lies in the dynamic range {dynamic}, which dhcpd hands out by itself.",
                hint="Reserve an address outside of it: dhcpd would give this one to two machines.",
                address=str(address),
            )
        if not mac.is_unicast:
            raise Conflict(f"{mac} is not the MAC of a network card.", hint="Use a unicast, non-zero MAC.")
        if mac != own:
            for other in self.pools.values():
                first, last = (other.plan.scheme.encode(other.plan.subnet[end]) for end in (0, -1))
                if first <= mac <= last:
                    raise Conflict(
                        f"{mac} is the MAC of {other.plan.scheme.decode(mac)} in the pool '{other.name}', "
                        f"so it cannot be bound to {address}.",
                        hint="Leave the MAC out to use the address's own.",
                    )
        if not pool.needs_host(address) and (mac != own or options != NO_OPTIONS):
            raise Conflict(
                f"The pool '{pool.name}' is in static mode: {address} is bound to {own} by dhcpd's "
                "configuration file.",
                hint="Exclude the address from the pool's ranges, render, and reserve it then.",
            )
        if pool.needs_host(address):
            pool.reservation(address, mac, 1, options)

    def _row(
        self, pool: Pool, ip: int, mac: int, name: str, generation: int, wanted: Wanted
    ) -> dict[str, Any]:
        return {
            "ip": ip,
            "mac": mac,
            "pool_id": self.ids.pools[pool.name],
            "name": name,
            "gen": generation,
            "grp": wanted.group,
            "options": wanted.options.to_dict(),
            "domain": wanted.domain,
            "pinned": False,
            "created_at": self.now.timestamp(),
            "expires_at": wanted.expires_at.timestamp() if wanted.expires_at else None,
        }

    def _insert(
        self, action: str, pool: Pool, rows: list[dict[str, Any]], generation: int
    ) -> list[Allocation]:
        self.db.execute(insert(al), rows)
        hosts = [row["ip"] for row in rows if pool.needs_host(IPv4Address(row["ip"]))]
        self._mark(pool.dhcpds, hosts, generation)
        entries: list[_Entry] = []
        for row in rows:
            detail = {"pool": pool.name, "mac": str(MacAddress(row["mac"]))}
            entries.append((action, row["ip"], generation, row["name"], detail))
        self._log(entries)
        made = {one.name: one for one in self.find(names=[row["name"] for row in rows])}
        return [made[row["name"]] for row in rows]

    # -- giving back -----------------------------------------------------------------------------------

    def release(
        self,
        *,
        name: str | None = None,
        group: str | None = None,
        address: IPv4Address | None = None,
        generation: int | None = None,
        pinned: bool = False,
        reason: str = "asked",
    ) -> list[Allocation]:
        """Releases by name, group or address; what is gone already is no error and not returned.

        Args:
            name: The allocation's name.
            group: All allocations of this group.
            address: The allocation of this address.
            generation: Only if the allocation is of this generation (a fence for late callers).
            pinned: Whether pinned reservations are meant; others are then refused, and the other way round.
            reason: Why, for the audit log.

        Returns:
            The allocations released now, or released before and not confirmed gone by every dhcpd.

        Raises:
            Conflict: The allocation is pinned (or is not, when ``pinned``).
        """
        found = self.find(
            names=None if name is None else [name],
            group=group,
            addresses=None if address is None else [address],
            released=True,
        )
        live = [one for one in found if one.released_at is None]
        if generation is not None:
            live = [one for one in live if one.generation == generation]
        for one in live:
            if one.pinned != pinned:
                raise Conflict(
                    f"'{one.name}' ({one.address}) is a pinned reservation."
                    if one.pinned
                    else f"'{one.name}' ({one.address}) is an ordinary allocation, not a pinned reservation.",
                    hint="Use `macbind unreserve`." if one.pinned else "Use `macbind release`.",
                    name=one.name,
                )
        self._release_rows("unreserve" if pinned else "release", live, reason)
        waiting = [one for one in found if one.state is State.RELEASING]
        released = {one.address for one in live}
        return self.find(addresses=[*released, *(one.address for one in waiting)], released=True)

    def expire(self, limit: int = 1000) -> list[Allocation]:
        """Releases allocations whose time is over."""
        rows = self.db.execute(
            select(al)
            .where(al.c.expires_at <= self.now.timestamp(), al.c.free_at.is_(None), al.c.pinned.is_(False))
            .limit(limit)
        ).all()
        due = self.allocations(rows)
        self._release_rows("release", due, "expired")
        return due

    def _release_rows(self, action: str, live: Sequence[Allocation], reason: str) -> None:
        for pool_name in sorted({one.pool for one in live}):
            pool = self.pools[pool_name]
            generation = self.lock_pool(pool)
            mine = [one for one in live if one.pool == pool_name]
            at = self.now.timestamp()
            for some in chunks([int(one.address) for one in mine]):
                self.db.execute(
                    update(al)
                    .where(al.c.ip.in_(some), al.c.free_at.is_(None))
                    .values(released_at=at, free_at=at + pool.cooldown_s)
                )
            self._mark(pool.dhcpds, [int(one.address) for one in mine], generation)
            self._log(
                (action, int(one.address), one.generation, one.name, {"pool": pool_name, "reason": reason})
                for one in mine
            )

    def put_aside(self, address: IPv4Address, rest_s: float) -> None:
        """Lets a released address rest for at least ``rest_s`` seconds from now."""
        self.db.execute(
            update(al)
            .where(al.c.ip == int(address), al.c.free_at.is_not(None))
            .values(free_at=self.now.timestamp() + rest_s)
        )

    def sweep(self, pool: Pool, limit: int) -> int:
        """Returns rested addresses to the free extents; the caller holds the pool's lock."""
        ips = list(
            self.db.scalars(
                _RESTING.where(al.c.free_at <= self.now.timestamp()),
                {"p": self.ids.pools[pool.name], "n": limit},
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

    # -- talking with dhcpd ----------------------------------------------------------------------------

    def _mark(self, dhcpds: Iterable[str], ips: Sequence[int], seq: int) -> None:
        """Marks addresses dirty with a number that no earlier mark of theirs had."""
        if not ips:
            return
        for name in dhcpds:
            number = self.ids.dhcpds[name]
            self.db.execute(_DELETE_DIRTY, [{"d": number, "a": ip} for ip in ips])
            self.db.execute(insert(dirty), [{"dhcpd_id": number, "ip": ip, "seq": seq} for ip in ips])

    def doubt(self, dhcpd: str, addresses: Iterable[IPv4Address]) -> None:
        """Forgets that a dhcpd confirmed these addresses, and has it look at them again."""
        number = self.ids.dhcpds[dhcpd]
        ips = sorted({int(address) for address in addresses})
        if not ips:
            return
        self.db.execute(_DELETE_TOLD, [{"d": number, "a": ip} for ip in ips])
        for some in chunks(ips):
            known = set(
                self.db.scalars(select(dirty.c.ip).where(dirty.c.dhcpd_id == number, dirty.c.ip.in_(some)))
            )
            fresh = [{"dhcpd_id": number, "ip": ip, "seq": 0} for ip in some if ip not in known]
            if fresh:
                self.db.execute(insert(dirty), fresh)

    def confirm(self, dhcpd: str, done: Sequence[Dirty]) -> None:
        """Records that dhcpd is as it should be for these addresses, and frees those that are now gone."""
        if not done:
            return
        number = self.ids.dhcpds[dhcpd]
        # Rows are deleted below, so pools are locked first, in one order everywhere.
        pools = self._pools_of([int(item.address) for item in done if item.confirms is None])
        for pool in pools:
            self.lock_pool(pool)
        self.db.execute(_DELETE_SEEN, [{"d": number, "a": int(item.address), "s": item.seq} for item in done])
        self.db.execute(_DELETE_TOLD, [{"d": number, "a": int(item.address)} for item in done])
        held = [
            {"dhcpd_id": number, "ip": int(item.address), "gen": item.confirms}
            for item in done
            if item.confirms is not None
        ]
        if held:
            self.db.execute(insert(told), held)
        gone = sorted(int(item.address) for item in done if item.confirms is None)
        for pool in pools:
            pool_id = self.ids.pools[pool.name]
            free: list[int] = []
            for some in chunks(gone):
                free += self.db.scalars(
                    select(al.c.ip).where(
                        al.c.ip.in_(some),
                        al.c.pool_id == pool_id,
                        al.c.free_at <= self.now.timestamp(),
                        _TOLD_NOBODY,
                        _NO_QUESTION,
                    )
                )
            self._free(pool, free)

    def _pools_of(self, ips: Sequence[int]) -> list[Pool]:
        found: set[int] = set()
        for some in chunks(ips):
            found.update(self.db.scalars(select(al.c.pool_id).where(al.c.ip.in_(some)).distinct()))
        return [self._pool_of[number] for number in sorted(found)]

    # -- audit -----------------------------------------------------------------------------------------

    def _log(self, entries: Iterable[_Entry]) -> None:
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
            self.db.execute(insert(audit), rows)

    def trim_audit(self, before: datetime) -> int:
        """Forgets audit entries older than ``before``; returns how many."""
        return int(self.db.execute(delete(audit).where(audit.c.at < before.timestamp())).rowcount)

    def require(self, name: str) -> Allocation:
        """The live allocation of that name.

        Raises:
            NotFound: There is none; the hint names the nearest.
        """
        found = self.find(names=[name])
        if found:
            return found[0]
        raise NotFound(f"There is no allocation '{name}'.", hint="`macbind list` shows all.", name=name)
