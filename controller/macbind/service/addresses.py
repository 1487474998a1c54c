"""The use cases of addresses: allocate, reserve, release, and what is held."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from macbind.core.allocation import Allocation, AuditEntry, BulkItem, NetworkSettings, Page, Released
from macbind.core.dhcp_options import NO_OPTIONS, DhcpOptions
from macbind.core.errors import NotFound
from macbind.core.labels import NO_LABELS, Labels
from macbind.core.labels import Wanted as WantedLabels
from macbind.core.mac_address import MacAddress
from macbind.core.pool import Confirm, Pool
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.audit import history, remark
from macbind.registry.bulk import release_labelled
from macbind.registry.labels import relabel
from macbind.registry.queries import find, lowest_free, named
from macbind.registry.release import release
from macbind.registry.requests import note
from macbind.registry.reserve import reserve
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction
from macbind.service.changes import Changes
from macbind.service.machines_seen import MachinesSeen
from macbind.service.search import AHEAD, Ahead, ahead_of
from macbind.service.waiting import Deadline

_RELEASED_LATE = (
    "The release is recorded; the addresses become free when dhcpd is back. Release again to wait for it."
)


class Addresses:
    """What cores and admins ask for.

    Args:
        registry: The truth.
        changes: Changes it.
        machines: Knows when machines were last seen.
    """

    def __init__(self, registry: Registry, changes: Changes, machines: MachinesSeen) -> None:
        self._registry, self._changes, self._machines = registry, changes, machines

    async def allocate(
        self,
        wanted: Wanted,
        actor: str,
        deadline: Deadline,
        *,
        dry_run: bool = False,
        confirm: Confirm | None = None,
    ) -> list[Allocation]:
        """Allocates; returns when every required DHCP server holds the bindings: the machines may start.

        An address that turns out to be in use is passed over, and the call goes on with the next. A dry run only
        says what would be taken, as far as the registry knows. ``confirm`` says how many DHCP servers are waited for,
        instead of what the pool says.
        """
        if dry_run:
            return await self._changes.rehearse(actor, lambda txn: allocate(txn, wanted))

        def take_others(txn: Transaction, names: Sequence[str]) -> list[Allocation]:
            others = allocate(txn, wanted.only(names))
            if wanted.request is not None:
                note(txn, wanted.request)
            return others

        pool = self._registry.pools.get(wanted.pool)
        is_probed = pool is not None and pool.arp_probe is not None
        return await self._changes.bind(
            actor,
            lambda txn: allocate(txn, wanted),
            deadline,
            take_others=None if wanted.address is not None else take_others,
            look=(lambda used: self._ahead(wanted, used)) if is_probed else None,
            confirm=confirm,
        )

    def _ahead(self, wanted: Wanted, used: Collection[IPv4Address]) -> Ahead:
        """The addresses that an allocation takes next; none if it exists already."""
        pool = self._registry.pools.get(wanted.pool)
        if pool is None or pool.arp_probe is None:
            return Ahead()
        with self._registry.read() as view:
            if named(view, wanted.names):
                return Ahead()
            count = len(wanted.names) + (len(used) + AHEAD if used else 0)
            free = [] if wanted.address is not None else lowest_free(view, pool.name, count)
        if wanted.address is not None:
            return ahead_of(self._registry, wanted.address, used) if wanted.address in pool.plan else Ahead()
        return Ahead(pool.arp_probe, [one for one in free if one not in used])

    async def reserve(
        self,
        name: str,
        address: IPv4Address,
        actor: str,
        deadline: Deadline,
        *,
        mac: MacAddress | None = None,
        options: DhcpOptions = NO_OPTIONS,
        labels: Labels = NO_LABELS,
        dry_run: bool = False,
    ) -> Allocation:
        """Pins one address; returns when every required DHCP server holds the binding."""

        def take(txn: Transaction) -> list[Allocation]:
            return [reserve(txn, name, address, mac=mac, options=options, labels=labels)]

        if dry_run:
            return (await self._changes.rehearse(actor, take))[0]

        def look(used: Collection[IPv4Address]) -> Ahead:
            plans = (pool.plan for pool in self._registry.pools.values())
            image = next((plan.scheme.encode(address) for plan in plans if address in plan), None)
            return ahead_of(self._registry, address, used, mac or image)

        return (await self._changes.bind(actor, take, deadline, look=look))[0]

    async def label(self, name: str, labels: Labels, removed: Sequence[str], actor: str) -> Allocation:
        """Sets labels of an allocation, and removes others."""
        return await self._changes.commit(actor, lambda txn: relabel(txn, name, labels, removed))

    async def remark(self, name: str, actor: str) -> Allocation:
        """Writes the caller's reason into the audit log, and changes nothing."""
        return await self._changes.commit(actor, lambda txn: remark(txn, name))

    async def release_labelled(
        self, actor: str, deadline: Deadline, labels: WantedLabels, *, pool: str | None = None
    ) -> list[BulkItem]:
        """Releases all that have these labels; returns when they are gone from every DHCP server."""

        def give(txn: Transaction) -> tuple[list[BulkItem], list[Allocation]]:
            items = release_labelled(txn, labels, pool=pool)
            return items, [one.allocation for one in items if one.error is None]

        return await self._changes.give_back(actor, give, deadline, _RELEASED_LATE)

    async def release(
        self,
        actor: str,
        deadline: Deadline,
        *,
        name: str | None = None,
        group: str | None = None,
        address: IPv4Address | None = None,
        generation: int | None = None,
        pinned: bool = False,
        reason: str = "asked",
        dry_run: bool = False,
    ) -> Released:
        """Releases; returns when bindings and leases are gone from every DHCP server."""

        def give(txn: Transaction) -> tuple[Released, list[Allocation]]:
            gone = release(
                txn,
                name=name,
                group=group,
                address=address,
                generation=generation,
                pinned=pinned,
                reason=reason,
            )
            return Released(tuple(gone), already_gone=not gone), gone

        if dry_run:
            return (await self._changes.rehearse(actor, give))[0]
        return await self._changes.give_back(actor, give, deadline, _RELEASED_LATE)

    def page(
        self,
        *,
        pool: str | None = None,
        group: str | None = None,
        address: IPv4Address | None = None,
        mac: MacAddress | None = None,
        released: bool = False,
        unclaimed: bool = False,
        labels: WantedLabels = NO_LABELS,
        idle_s: float | None = None,
        q: str | None = None,
        after: IPv4Address | None = None,
        limit: int = 500,
    ) -> Page:
        """Allocations in the order of their addresses, so many at a time; of a page some may be left out.

        ``q`` is a text to search for.
        """
        with self._registry.read() as view:
            found = find(
                view,
                pool=pool,
                group=group,
                addresses=None if address is None else [address],
                mac=mac,
                released=released,
                unclaimed=unclaimed,
                labels=labels,
                search=q,
                after=after,
                limit=limit,
            )
        following = found[-1].address if len(found) == limit else None
        shown = self._machines.shown(found)
        if idle_s is not None:
            shown = [one for one in shown if self._machines.is_idle(one, idle_s)]
        return Page(shown, following)

    def get(self, name: str) -> Allocation:
        """The allocation of that name.

        Raises:
            NotFound: There is none.
        """
        return self._machines.shown([self._get(name)[0]])[0]

    def named(self, names: Sequence[str]) -> list[Allocation]:
        """The allocations of these names, those that are not gone yet included."""
        with self._registry.read() as view:
            return find(view, names=names, released=True)

    def _get(self, name: str) -> tuple[Allocation, Mapping[str, Pool]]:
        with self._registry.read() as view:
            # PostgreSQL takes no NUL, not even in a question.
            found = find(view, names=[name]) if name.isprintable() else []
        if not found:
            raise NotFound(f"There is no allocation '{name}'.", hint="`macbind list` shows all.", name=name)
        return found[0], view.pools

    def network_settings(self, name: str) -> NetworkSettings:
        """What the machine of that name needs to know of its network.

        Raises:
            NotFound: There is no such allocation.
        """
        one, pools = self._get(name)
        pool = pools[one.pool]
        interface = IPv4Interface(f"{one.address}/{pool.subnet.network.prefixlen}")
        return NetworkSettings(
            one.name, one.mac, interface, pool.effective_options(one.address, one.options, one.name)
        )

    def history(self, **which: Any) -> list[AuditEntry]:
        """The latest changes, newest first; see :func:`macbind.registry.audit.history`."""
        with self._registry.read() as view:
            return history(view, **which)
