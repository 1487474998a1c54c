"""Addresses in use by others: whom to refuse them, how many are passed over, and what an admin should know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import Select, and_, exists, func, or_, select

from macbind.core.errors import AddressInUse
from macbind.core.evidence import Evidence, Source
from macbind.core.mac_address import MacAddress
from macbind.core.pool import Pool
from macbind.registry.evidence import as_evidence, of_addresses, of_mac
from macbind.registry.tables import allocation as al
from macbind.registry.tables import evidence as ev
from macbind.registry.transaction import View


def refuse_used(view: View, address: IPv4Address, mac: MacAddress | None = None) -> None:
    """Refuses an address that others use.

    Args:
        view: The open transaction.
        address: The address.
        mac: The MAC of the machine it is reserved for: what this one does is no reason.

    Raises:
        AddressInUse: Somebody else uses it.
    """
    for one in of_addresses(view, [address]):
        if mac is None or one.mac != mac:
            raise _in_use(one)


def refuse_used_mac(view: View, mac: MacAddress, address: IPv4Address) -> None:
    """Refuses to bind a MAC to an address while it uses another one of a pool, and not this one.

    Raises:
        AddressInUse: It does.
    """
    found = of_mac(view, mac)
    if any(one.address == address for one in found):
        return
    for one in found:
        if any(one.address in pool.plan for pool in view.pools.values()):
            raise AddressInUse(
                f"The MAC {mac} uses {one.address}: {one.described}.",
                hint=f"Reserve {one.address} for it, or end its use of that address first.",
                holder=one.holder,
                mac=str(mac),
                address=str(one.address),
            )


def _in_use(one: Evidence) -> AddressInUse:
    hint = "Ask for another address, or for none to get the first unoccupied one."
    if one.mac is not None:
        hint += f" If it is that machine's for good: `macbind reserve NAME {one.address} --mac {one.mac}`."
    return AddressInUse(
        f"{one.address} is used by '{one.holder}': {one.described}.",
        hint=hint,
        address=str(one.address),
        holder=one.holder,
        source=str(one.source),
        **({} if one.mac is None else {"mac": str(one.mac)}),
    )


def passed_over(view: View, pool: Pool) -> int:
    """How many addresses a pool does not hand out because others use them."""
    first, last = pool.plan.assignable[0].lo, pool.plan.assignable[-1].hi
    query = (
        select(ev.c.ip)
        .where(ev.c.ip.between(int(first), int(last)), ~exists().where(al.c.ip == ev.c.ip))
        .distinct()
    )
    return sum(IPv4Address(ip) in pool.plan for ip in view.db.scalars(query))


@dataclass(frozen=True, slots=True)
class Use:
    """Addresses that one source at one origin shows in use.

    Attributes:
        first: Evidence of the lowest of them.
        is_contested: Whether they are allocated, to another MAC than the one that uses them.
        count: How many there are.
        by_holder: How many of them each holder has; of those who answer on the network only.
        first_alone: The lowest of a holder who has one only.
    """

    first: Evidence
    is_contested: bool
    count: int
    by_holder: Mapping[str, int]
    first_alone: Evidence


def uses(view: View) -> list[Use]:
    """What others use, except what domains do, and what the very MAC of an allocation shows."""
    held = and_(al.c.ip == ev.c.ip, al.c.free_at.is_(None))
    of_others = and_(
        ev.c.source != Source.DOMAIN, or_(al.c.ip.is_(None), ev.c.mac.is_distinct_from(al.c.mac))
    )
    contested = al.c.ip.is_not(None)
    groups = (
        select(ev.c.source, ev.c.origin, contested.label("contested"), func.count().label("count"))
        .select_from(ev.outerjoin(al, held))
        .where(of_others)
        .group_by(ev.c.source, ev.c.origin, contested)
        .order_by(ev.c.source, ev.c.origin, contested)
    )
    members = select(ev).select_from(ev.outerjoin(al, held)).where(of_others).order_by(ev.c.ip)
    return [
        _use(view, row, members.where(contested if row.contested else ~contested))
        for row in view.db.execute(groups)
    ]


def _use(view: View, group: Any, members: Select[Any]) -> Use:
    mine = members.where(ev.c.source == group.source, ev.c.origin == group.origin)
    if group.source != Source.ANSWER:
        first = as_evidence(view.db.execute(mine.limit(1)).one())
        return Use(first, bool(group.contested), group.count, {}, first)
    found = [as_evidence(row) for row in view.db.execute(mine)]
    by_holder = Counter(one.holder for one in found)
    alone = next((one for one in found if by_holder[one.holder] == 1), found[0])
    return Use(found[0], bool(group.contested), len(found), by_holder, alone)
