"""Questions to the registry: allocations with their state, renumberings, pools in numbers."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    exists,
    func,
    select,
    true,
)

from macbind.core.allocation import Allocation, Renumbering, State
from macbind.core.dhcp_options import NO_OPTIONS, DhcpOptions
from macbind.core.ipv6 import slaac
from macbind.core.labels import NO_LABELS, Labels, Wanted
from macbind.core.mac_address import MacAddress
from macbind.core.pool import PoolUsage
from macbind.registry import evidence, free_space, in_use, searching
from macbind.registry.fast_sql import Statement
from macbind.registry.free_space import chunks
from macbind.registry.tables import allocation as al
from macbind.registry.tables import confirmed as co
from macbind.registry.tables import free_extent
from macbind.registry.tables import label as la
from macbind.registry.tables import pending as pe
from macbind.registry.transaction import View

CONFIRMED = Statement(
    select(co.c.ip, co.c.dhcpd_id, co.c.gen).where(co.c.ip.in_(bindparam("ips", expanding=True)))
)
PENDING = Statement(select(pe.c.ip, pe.c.dhcpd_id).where(pe.c.ip.in_(bindparam("ips", expanding=True))))


def _moment(seconds: float | None) -> datetime | None:
    """A stored time as an aware datetime."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


HELD_NOWHERE = ~exists().where(co.c.ip == al.c.ip)
NOT_PENDING = ~exists().where(pe.c.ip == al.c.ip)
"""With both, an address is gone from every dhcpd: none confirmed to hold it, none has to look at it."""

HELD = and_(al.c.free_at.is_(None), al.c.renumbers_from.is_(None))
"""What is neither released nor only renumbered to: of these, a name has one."""
OVERDUE = select(al.c.ip).where(al.c.expires_at <= bindparam("now"), HELD, al.c.pinned.is_(False))
_RESTED = select(al.c.ip).where(al.c.free_at <= bindparam("now"), HELD_NOWHERE, NOT_PENDING)

_STATES = {"any": true(), "live": al.c.free_at.is_(None), "held": HELD, "released": al.c.free_at.is_not(None)}
_STATES["unclaimed"] = and_(HELD, al.c.pinned.is_(False), al.c.hypervisor.is_(None))
_State = Literal["any", "live", "held", "released", "unclaimed"]
LABELS = Statement(
    select(la.c.ip, la.c.key, la.c.value)
    .where(la.c.ip.in_(bindparam("ips", expanding=True)))
    .order_by(la.c.ip, la.c.key)
)
_LABEL_KEY, _LABEL_VALUE = "label_key_", "label_value_"
"""What the parameters of a label that is asked for begin with; its number follows."""
_CRITERIA = {
    "pool": al.c.pool_id == bindparam("pool"),
    "group": al.c.grp == bindparam("group"),
    "mac": al.c.mac == bindparam("mac"),
    "after": al.c.ip > bindparam("after"),
    "names": al.c.name.in_(bindparam("names", expanding=True)),
    "ips": al.c.ip.in_(bindparam("ips", expanding=True)),
}


def _criterion(name: str, by: Sequence[str]) -> ColumnElement[bool]:
    number = name.removeprefix(_LABEL_KEY)
    if number == name:
        return _CRITERIA[name]
    having = select(la.c.ip).where(la.c.key == bindparam(name))
    if _LABEL_VALUE + number in by:
        having = having.where(la.c.value == bindparam(_LABEL_VALUE + number))
    return al.c.ip.in_(having)


@functools.cache
def _finding(state: _State, *by: str) -> Statement:
    """The statement that finds allocations by these criteria (and a limit), in the order of their addresses."""
    others = ("limit", _LABEL_VALUE, searching.MARK)
    criteria = [_criterion(one, by) for one in by if not one.startswith(others)]
    if sought := [one for one in by if one.startswith(searching.MARK)]:
        criteria.append(searching.criterion(sought))
    if (
        "group" in by and "pool" in by
    ):  # SQLite would read the whole pool, which is in order, instead of the group
        criteria[by.index("pool")] = al.c.pool_id + 0 == bindparam("pool")
    query = select(al).where(_STATES[state], *criteria)
    return Statement(query.order_by(al.c.ip).limit(bindparam("limit") if "limit" in by else None))


# Hardly any row is one of these. Asked for them in order, SQLite reads the whole table instead of their index.
_RENUMBERED = select(al).where(al.c.renumbers_from.is_not(None))
_RENUMBERINGS = Statement(_RENUMBERED)
_RENUMBERING_OF_NAME = Statement(_RENUMBERED.where(al.c.name == bindparam("name")))
_RENUMBERINGS_FROM = Statement(_RENUMBERED.where(al.c.renumbers_from.in_(bindparam("ips", expanding=True))))


def find(
    view: View,
    *,
    pool: str | None = None,
    group: str | None = None,
    names: Sequence[str] | None = None,
    addresses: Sequence[IPv4Address] | None = None,
    mac: MacAddress | None = None,
    released: bool = False,
    unclaimed: bool = False,
    labels: Wanted = NO_LABELS,
    search: str | None = None,
    after: IPv4Address | None = None,
    limit: int | None = None,
) -> list[Allocation]:
    """Allocations in the order of their addresses.

    Args:
        view: The open transaction.
        pool: Only of this pool.
        group: Only of this group.
        names: Only these names, without what they are renumbered to.
        addresses: Only these addresses.
        mac: Only this MAC.
        released: Whether released ones that are not gone yet are included.
        unclaimed: Only those that no domain was seen to use, and no admin reserved; not together with ``names``.
        labels: Only those that have all of these labels.
        search: Only those with this text in name, group, domain, address or MAC.
        after: Only addresses above this one; with ``limit`` the way to page.
        limit: At most so many.

    Raises:
        NotFound: There is no such pool.
    """
    where: dict[str, Any] = {}
    if pool is not None:
        where["pool"] = view.ids.pools[view.pool(pool).name]
    if group is not None:
        where["group"] = group
    if mac is not None:
        where["mac"] = mac.value
    if after is not None:
        where["after"] = int(after)
    for number, (key, value) in enumerate(labels.items()):
        where[f"{_LABEL_KEY}{number}"] = key
        if value is not None:
            where[f"{_LABEL_VALUE}{number}"] = value
    if limit is not None:
        where["limit"] = limit
    state: _State = "unclaimed" if unclaimed else "any" if released else "live"
    if search is not None:
        where |= searching.patterns(search)
    if names is None and addresses is None:
        return allocations(view, _finding(state, *where).all(view.db, where))
    key = "ips" if names is None else "names"
    wanted = list(names) if names is not None else [int(one) for one in addresses or ()]
    # Names have one index for those that are held and one for those that were: neither serves a question that
    # does not say which.
    states: tuple[_State, ...] = (state,)
    if names is not None:
        states = ("held", "released") if released else ("held",)
    rows = [
        row
        for state in states
        for some in chunks(wanted, view.sizes.rows)
        for row in _finding(state, *where, key).all(view.db, where | {key: some})
    ]
    rows.sort(key=lambda row: row.ip)
    return allocations(view, rows[:limit])  # each of the questions had its own limit


def named(view: View, names: Sequence[str]) -> dict[str, Allocation]:
    """The live allocations of these names, by name."""
    rows = [
        row
        for some in chunks(names, view.sizes.rows)
        for row in _finding("held", "names").all(view.db, {"names": some})
    ]
    return {one.name: one for one in allocations(view, rows)}


def renumberings(
    view: View, *, name: str | None = None, of: Sequence[IPv4Address] | None = None
) -> list[Renumbering]:
    """The renumberings under way, in the order of their new addresses.

    Args:
        view: The open transaction.
        name: Only of this name.
        of: Only from these addresses.
    """
    if of is not None:
        ips = [int(one) for one in of]
        rows = [
            row
            for some in chunks(ips, view.sizes.rows)
            for row in _RENUMBERINGS_FROM.all(view.db, {"ips": some})
        ]
    elif name is not None:
        rows = _RENUMBERING_OF_NAME.all(view.db, {"name": name})
    else:
        rows = _RENUMBERINGS.all(view.db, {})
    if not rows:
        return []
    rows.sort(key=lambda row: row.ip)
    left = {
        one.address: one for one in find(view, addresses=[IPv4Address(row.renumbers_from) for row in rows])
    }
    return [
        Renumbering(left[one.renumbers_from], one, _moment(row.lease_until))
        for row, one in zip(rows, allocations(view, rows), strict=True)
        if one.renumbers_from is not None
    ]


def allocations(view: View, rows: Sequence[Any]) -> list[Allocation]:
    """Rows of the allocation table as values, each with its state.

    Raises:
        NotPermitted: A caller who is limited to pools would change, or be told, what is held in another one.
    """
    for row in rows:
        if row.free_at is None:
            view.check_pool(view.pool_of[row.pool_id].name, "this allocation")
    confirmed: dict[int, set[tuple[int, int]]] = defaultdict(set)
    pending: set[int] = set()
    labels: dict[int, dict[str, str]] = defaultdict(dict)
    for some in chunks(rows, view.sizes.rows):
        for ip, dhcpd_id, gen in CONFIRMED.all(view.db, {"ips": [row.ip for row in some]}):
            confirmed[ip].add((dhcpd_id, gen))
        released = [row.ip for row in some if row.free_at is not None]
        if released:
            pending.update(row.ip for row in PENDING.all(view.db, {"ips": released}))
        labelled = [row.ip for row in some if row.labels]
        if labelled:
            for ip, key, text in LABELS.all(view.db, {"ips": labelled}):
                labels[ip][key] = text
    return [
        value(view, row, confirmed[row.ip], pending=row.ip in pending, labels=labels.get(row.ip))
        for row in rows
    ]


def value(
    view: View,
    row: Any,
    confirmed: AbstractSet[tuple[int, int]] = frozenset(),
    *,
    pending: bool = False,
    labels: Labels | None = None,
) -> Allocation:
    """A row of the allocation table as a value.

    Args:
        view: The open transaction.
        row: The row, with its columns as attributes.
        confirmed: Number of each dhcpd that confirmed to hold it, and the generation it holds.
        pending: Whether a dhcpd has to look at the address.
        labels: Its labels; None for none.
    """
    pool = view.pool_of[row.pool_id]
    address = IPv4Address(row.ip)
    by: tuple[str, ...] = ()
    if row.free_at is not None:
        state = State.RELEASING if confirmed or pending else State.COOLING
    else:
        by = tuple(name for name in pool.dhcpds if (view.ids.dhcpds[name], row.gen) in confirmed)
        bound = not pool.needs_binding(address) or pool.is_bound_by(by)
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
        renumbers_from=None if row.renumbers_from is None else IPv4Address(row.renumbers_from),
        doubted_at=_moment(row.doubted_at),
        labels=dict(labels or {}),
        confirmed_by=by,
    )


def usage(view: View, name: str) -> PoolUsage:
    """How full a pool is."""
    pool = view.pool(name)
    pool_id = view.ids.pools[name]
    live = al.c.free_at.is_(None)
    counts = view.db.execute(
        select(
            func.count().filter(live),
            func.count().filter(live, al.c.pinned.is_(True)),
            func.count().filter(~live),
        ).where(al.c.pool_id == pool_id)
    ).one()
    free = view.db.scalar(
        select(func.coalesce(func.sum(free_extent.c.hi - free_extent.c.lo + 1), 0)).where(
            free_extent.c.pool_id == pool_id
        )
    )
    return PoolUsage(name, pool.plan.size, int(free or 0), *counts, in_use.passed_over(view, pool))


def lowest_free(view: View, name: str, count: int) -> list[IPv4Address]:
    """The lowest free addresses of a pool: those that ``allocate`` takes next."""
    return [IPv4Address(ip) for ip in free_space.lowest(view.db, view.ids.pools[name], count)]


def has_chores(view: View, now: datetime) -> bool:
    """Whether an allocation has expired, a released address has rested enough, or evidence has ended."""
    at = {"now": now.timestamp()}
    due = any(view.db.scalar(query.limit(1), at) is not None for query in (OVERDUE, _RESTED))
    return due or evidence.has_ended(view, now)
