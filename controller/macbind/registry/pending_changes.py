"""What each DHCP server should hold, has confirmed, and has yet to look at."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import (
    Text,
    bindparam,
    cast,
    delete,
    func,
    insert,
    select,
)

from macbind.core.allocation import Allocation
from macbind.core.binding import Binding, binding_name
from macbind.core.binding_plan import Change, Ensure, Remove
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.mac_address import MacAddress
from macbind.registry.fast_sql import Statement
from macbind.registry.free_space import chunks
from macbind.registry.queries import (
    CONFIRMED,
    HELD_NOWHERE,
    NOT_PENDING,
    PENDING,
    find,
)
from macbind.registry.resting import free
from macbind.registry.tables import allocation as al
from macbind.registry.tables import confirmed as co
from macbind.registry.tables import pending as pe
from macbind.registry.tables import pool as pool_table
from macbind.registry.transaction import DELETE_PENDING, Transaction, View

_NO_OPTIONS = "{}"
# What a binding is made of. Most machines have no options of their own, so these are left as text.
_DESIRED = (
    al.c.ip,
    al.c.mac,
    al.c.gen,
    al.c.pool_id,
    al.c.name,
    al.c.free_at,
    cast(al.c.options, Text).label("own"),
)
_LIVE_PAGE = Statement(
    select(*_DESIRED)
    .where(al.c.ip > bindparam("after"), al.c.free_at.is_(None))
    .order_by(al.c.ip)
    .limit(bindparam("n"))
)
_LIVE_AT = Statement(
    select(*_DESIRED).where(al.c.ip.in_(bindparam("ips", expanding=True)), al.c.free_at.is_(None))
)
_HOLDERS = Statement(
    select(al.c.ip, al.c.name).where(al.c.ip.in_(bindparam("ips", expanding=True)), al.c.free_at.is_(None))
)
_PENDING = Statement(
    select(pe.c.ip.label("pending_ip"), pe.c.seq, *_DESIRED)
    .select_from(pe.outerjoin(al, al.c.ip == pe.c.ip))
    .where(pe.c.dhcpd_id == bindparam("d"))
    .order_by(pe.c.ip)
    .limit(bindparam("n"))
)
_PENDING_HELD = Statement(
    select(pe.c.ip.label("pending_ip"), pe.c.seq, *_DESIRED)
    .select_from(pe.join(al, al.c.ip == pe.c.ip))
    .where(pe.c.dhcpd_id == bindparam("d"), al.c.free_at.is_(None))
    .order_by(pe.c.ip)
    .limit(bindparam("n"))
)


_MARKS = Statement(
    select(pe.c.ip, pe.c.seq).where(
        pe.c.dhcpd_id == bindparam("d"), pe.c.ip.in_(bindparam("ips", expanding=True))
    )
)
_AT = al.c.ip.in_(bindparam("ips", expanding=True))
_POOLS = Statement(select(al.c.ip, al.c.pool_id).where(_AT))
_GONE = Statement(
    select(al.c.ip, al.c.pool_id, al.c.gen, al.c.released_at, al.c.free_at).where(
        _AT, al.c.free_at.is_not(None), HELD_NOWHERE, NOT_PENDING
    )
)
_DELETE_CONFIRMED = Statement(delete(co).where(co.c.dhcpd_id == bindparam("d"), co.c.ip == bindparam("a")))
_INSERT_CONFIRMED = Statement(insert(co), keys=("dhcpd_id", "ip", "gen"))


@dataclass(frozen=True, slots=True)
class PendingChange:
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


@dataclass(frozen=True, slots=True)
class Completed:
    """A release that every dhcpd has confirmed.

    Attributes:
        ip: Its address.
        generation: That of its allocation.
        age_s: How long ago it was released, by the time of day; may be wrong where clocks are.
        is_free: Whether the address has become free by this confirmation; else it rests.
    """

    ip: int
    generation: int
    age_s: float
    is_free: bool


def pending_changes(view: View, dhcpd: str, limit: int, *, held: bool = False) -> list[PendingChange]:
    """The addresses this dhcpd should look at, lowest first, each with the change that is due.

    Args:
        view: The open transaction.
        dhcpd: Its name.
        limit: At most so many.
        held: Only those that are allocated.
    """
    statement = _PENDING_HELD if held else _PENDING
    rows = statement.all(view.db, {"d": view.ids.dhcpds[dhcpd], "n": limit})
    return [_pending_change(view, dhcpd, row) for row in rows]


def _pending_change(view: View, dhcpd: str, row: Any) -> PendingChange:
    address = IPv4Address(row.pending_ip)
    if row.ip is None:
        return PendingChange(address, row.seq, None, None)
    desired = _binding(view, dhcpd, row)
    if desired is not None:
        return PendingChange(address, row.seq, Ensure(address, row.gen, desired), row.gen)
    pool = view.pool_of[row.pool_id]
    if row.free_at is None and dhcpd in pool.dhcpds:
        return PendingChange(address, row.seq, None, None)  # static mode: nothing to take back
    remove = Remove(address, row.gen, MacAddress(row.mac), pool.needs_binding(address))
    return PendingChange(address, row.seq, remove, None)


def _binding(view: View, dhcpd: str, row: Any) -> Binding | None:
    pool, address = view.pool_of[row.pool_id], IPv4Address(row.ip)
    if row.free_at is not None or dhcpd not in pool.dhcpds or not pool.needs_binding(address):
        return None
    if row.own != _NO_OPTIONS:
        options = DhcpOptions.parse(json.loads(row.own))
        return pool.binding(address, MacAddress(row.mac), row.gen, options, row.name)
    key = (row.pool_id, None if pool.gateway_rule is None else pool.gateway_rule.of(address))
    if key not in view.plain_options:
        view.plain_options[key] = pool.binding_options(address)
    options = view.plain_options[key]
    if pool.tells_names:
        options = replace(options, hostname=pool.options.named(row.name).hostname)
    return Binding(binding_name(address, row.gen), MacAddress(row.mac), address, options)


def desired(view: View, dhcpd: str, *, after: int, limit: int) -> list[Ensure]:
    """The reservations this dhcpd should hold, in the order of their addresses, above ``after``.

    Returns:
        At most ``limit``; an empty list means that there are no more.
    """
    while True:
        rows = _LIVE_PAGE.all(view.db, {"after": after, "n": limit})
        found = _ensures(view, dhcpd, rows)
        if found or not rows:
            return found
        after = rows[-1].ip


def desired_at(view: View, dhcpd: str, addresses: Iterable[IPv4Address]) -> list[Ensure]:
    """The reservations this dhcpd should hold for these addresses."""
    ips = sorted({int(address) for address in addresses})
    rows = [row for some in chunks(ips, view.sizes.rows) for row in _LIVE_AT.all(view.db, {"ips": some})]
    return _ensures(view, dhcpd, rows)


def _ensures(view: View, dhcpd: str, rows: Iterable[Any]) -> list[Ensure]:
    return [
        Ensure(IPv4Address(row.ip), row.gen, binding)
        for row in rows
        if (binding := _binding(view, dhcpd, row)) is not None
    ]


class Confirmed:
    """What the dhcpds have confirmed for some addresses.

    Args:
        view: The open transaction.
        addresses: Them.
    """

    def __init__(self, view: View, addresses: Iterable[IPv4Address]) -> None:
        self._numbers = view.ids.dhcpds
        self._held: dict[tuple[int, int], int] = {}
        self._unsure: set[tuple[int, int]] = set()
        for some in chunks([int(address) for address in addresses], view.sizes.rows):
            for ip, number, gen in CONFIRMED.all(view.db, {"ips": some}):
                self._held[number, ip] = gen
            self._unsure.update((number, ip) for ip, number in PENDING.all(view.db, {"ips": some}))
        asked = {IPv4Address(ip) for _, ip in self._unsure}
        found = find(view, addresses=sorted(asked), released=True) if asked else []
        self._now = {int(one.address): one.generation for one in found}

    def holds(self, dhcpd: str, address: IPv4Address, generation: int) -> bool:
        """Whether a dhcpd has confirmed that it holds this generation of an address."""
        return self._held.get((self._numbers[dhcpd], int(address))) == generation

    def has_let_go(self, dhcpd: str, address: IPv4Address, generation: int) -> bool:
        """Whether a dhcpd has confirmed that it holds nothing of this generation of an address, or of an earlier one.

        A later generation proves it: nobody is given an address before every dhcpd has let it go.
        """
        key = (self._numbers[dhcpd], int(address))
        if key in self._held:
            return self._held[key] > generation
        return key not in self._unsure or self._now.get(int(address), generation) > generation


def ended(view: View, allocations: Collection[Allocation]) -> list[Allocation]:
    """Those that were made and are not held any more: nobody will confirm their bindings."""
    if not allocations:
        return []
    made = {row.name: row.rev for row in view.db.execute(select(pool_table.c.name, pool_table.c.rev))}
    ips = [int(one.address) for one in allocations]
    held = {
        ip: name for some in chunks(ips, view.sizes.rows) for ip, name in _HOLDERS.all(view.db, {"ips": some})
    }
    return [
        one
        for one in allocations
        if made.get(one.pool, 0) >= one.generation and held.get(int(one.address)) != one.name
    ]


def backlog(view: View, dhcpd: str) -> int:
    """How many addresses this dhcpd has yet to look at."""
    query = select(func.count()).select_from(pe).where(pe.c.dhcpd_id == view.ids.dhcpds[dhcpd])
    return int(view.db.scalar(query) or 0)


def doubt(txn: Transaction, dhcpd: str, addresses: Iterable[IPv4Address]) -> None:
    """Forgets that a dhcpd confirmed these addresses, and has it look at them again."""
    ips = sorted({int(address) for address in addresses})
    number = txn.ids.dhcpds[dhcpd]
    _DELETE_CONFIRMED.run_each(txn.db, [{"d": number, "a": ip} for ip in ips])
    for pool_id, mine in _by_pool(txn, ips).items():
        txn.mark([dhcpd], mine, txn.next_generation(txn.pool_of[pool_id]))


def confirm(txn: Transaction, dhcpd: str, done: Sequence[PendingChange]) -> list[Completed]:
    """Records that dhcpd is as it should be for these addresses, and frees those that are now gone.

    Only an answer to the question that is still asked counts: of an address that was marked again, or that
    another controller has confirmed meanwhile, this one knows nothing certain.

    Returns:
        The releases that are complete by it. One that rests may be among them again after a comparison.
    """
    number = txn.ids.dhcpds[dhcpd]
    asked = {
        row.ip: row.seq
        for some in chunks([int(item.address) for item in done], txn.sizes.rows)
        for row in _MARKS.all(txn.db, {"d": number, "ips": some})
    }
    valid = [item for item in done if asked.get(int(item.address)) == item.seq]
    if not valid:
        return []
    txn.has_confirmed = True
    keys = [{"d": number, "a": int(item.address)} for item in valid]
    DELETE_PENDING.run_each(txn.db, keys)
    _DELETE_CONFIRMED.run_each(txn.db, keys)
    held = [
        {"dhcpd_id": number, "ip": int(item.address), "gen": item.confirms}
        for item in valid
        if item.confirms is not None
    ]
    _INSERT_CONFIRMED.run_each(txn.db, held)
    return _free_gone(txn, [int(item.address) for item in valid if item.confirms is None])


def _free_gone(txn: Transaction, ips: Sequence[int]) -> list[Completed]:
    """Frees those of the addresses that are released, gone from every dhcpd, and have rested."""
    now = txn.now.timestamp()
    rows = [row for some in chunks(ips, txn.sizes.rows) for row in _GONE.all(txn.db, {"ips": some})]
    rested: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        if row.free_at <= now:
            rested[row.pool_id].append(row.ip)
    for pool_id, some in rested.items():
        free(txn, txn.pool_of[pool_id], some)
    return [Completed(row.ip, row.gen, max(0.0, now - row.released_at), row.free_at <= now) for row in rows]


def _by_pool(txn: Transaction, ips: Sequence[int]) -> dict[int, list[int]]:
    """Those of the addresses that have an allocation, by pool."""
    found: dict[int, list[int]] = defaultdict(list)
    for some in chunks(ips, txn.sizes.rows):
        for row in _POOLS.all(txn.db, {"ips": some}):
            found[row.pool_id].append(row.ip)
    return found
