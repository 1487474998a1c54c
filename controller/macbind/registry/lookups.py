"""What the registry knows of single addresses and names, for whoever asks why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address

from sqlalchemy import or_, select

from macbind.core.allocation import Allocation, State
from macbind.core.free_range import FreeRange
from macbind.registry.queries import CONFIRMED, PENDING, find
from macbind.registry.tables import allocation as al
from macbind.registry.tables import evidence as ev
from macbind.registry.tables import free_extent as fe
from macbind.registry.transaction import View

_MOST = 100
"""Addresses of one domain that are told."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How an address stands.

    Attributes:
        allocation: Who holds it, or has held it and is not gone yet.
        confirmed: The DHCP servers that have confirmed its binding.
        missing: Those that have yet to confirm the binding, or its end.
        free_at: Until when it rests (UTC).
        renumbers_to: The address its holder is being renumbered to.
        hypervisor, phase: Of the domain that uses it.
    """

    allocation: Allocation | None = None
    confirmed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    free_at: datetime | None = None
    renumbers_to: IPv4Address | None = None
    hypervisor: str | None = None
    phase: str | None = None


def standing(view: View, address: IPv4Address) -> Standing:
    """How an address stands now."""
    found = find(view, addresses=[address], released=True)
    if not found:
        return Standing()
    one, ip = found[0], int(address)
    row = view.db.execute(select(al.c.free_at, al.c.hypervisor, al.c.phase).where(al.c.ip == ip)).one()
    target = view.db.scalar(select(al.c.ip).where(al.c.renumbers_from == ip))
    confirmed, missing = _servers(view, one)
    return Standing(
        allocation=one,
        confirmed=confirmed,
        missing=missing,
        free_at=None if row.free_at is None else datetime.fromtimestamp(row.free_at, UTC),
        renumbers_to=None if target is None else IPv4Address(target),
        hypervisor=row.hypervisor,
        phase=row.phase,
    )


def _servers(view: View, one: Allocation) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The DHCP servers that have confirmed, and those that have yet to."""
    ip, names = int(one.address), {number: name for name, number in view.ids.dhcpds.items()}
    held = {names[row.dhcpd_id]: row.gen for row in CONFIRMED.all(view.db, {"ips": [ip]})}
    if one.released_at is not None:
        looking = {names[row.dhcpd_id] for row in PENDING.all(view.db, {"ips": [ip]})}
        return (), tuple(sorted(looking | held.keys())) if one.state is State.RELEASING else ()
    pool = view.pools[one.pool]
    if not pool.needs_binding(one.address):
        return (), ()
    confirmed = [name for name in pool.dhcpds if held.get(name) == one.generation]
    return tuple(confirmed), tuple(name for name in pool.dhcpds if name not in confirmed)


def free_ranges(
    view: View, pool: str, *, after: IPv4Address | None = None, limit: int | None = None
) -> list[FreeRange]:
    """The free space of a pool in the order of its addresses; of any size, it costs as much as it has ranges.

    Args:
        view: The open transaction.
        pool: The pool.
        after: Only above this address; of a range with it, the rest.
        limit: At most so many.

    Raises:
        NotFound: There is no such pool.
    """
    number, above = view.ids.pools[view.pool(pool).name], -1 if after is None else int(after)
    query = select(fe.c.lo, fe.c.hi).where(fe.c.pool_id == number, fe.c.hi > above).order_by(fe.c.hi)
    return [
        FreeRange(pool, IPv4Address(max(row.lo, above + 1)), IPv4Address(row.hi))
        for row in view.db.execute(query.limit(limit))
    ]


def addresses_of_domain(view: View, domain: str) -> list[IPv4Address]:
    """The addresses that the domain of this name or UUID uses, or was allocated."""
    held = select(al.c.ip).where(or_(al.c.domain == domain, al.c.domain_uuid == domain)).limit(_MOST)
    shown = select(ev.c.ip).where(ev.c.holder == domain).limit(_MOST)
    return _sorted([*view.db.scalars(held), *view.db.scalars(shown)])


def _sorted(ips: Iterable[int]) -> list[IPv4Address]:
    return [IPv4Address(ip) for ip in sorted(set(ips))]
