"""Bringing the tables in line with the configuration when a registry is opened.

What the configuration cannot simply overrule, because machines live by it, is refused with a sentence; all
else (new ranges, other options, another set of dhcpds) is carried out in one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    Table,
    Text,
    and_,
    case,
    cast,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from macbind.addressing import AddressRange, MacAddress, merge, subtract
from macbind.errors import ConfigError
from macbind.model import Pool, PoolMode
from macbind.registry import extents
from macbind.registry.due import Ids
from macbind.registry.schema import allocation as al
from macbind.registry.schema import dhcpd as dhcpd_table
from macbind.registry.schema import dirty, told
from macbind.registry.schema import pool as pool_table

_CLOSED = "{}"
"""The layout of a pool that is not configured; its row is kept for when it comes back."""
_LIVE = al.c.free_at.is_(None)
_UNDO = "Undo the change, release them, and change it again."


def synchronise(db: Connection, pools: Mapping[str, Pool], dhcpds: Iterable[str]) -> Ids:
    """Makes the registry know exactly these pools and dhcpds; returns their numbers.

    Raises:
        ConfigError: A pool with allocations is missing, or changed in a way its allocations cannot follow.
    """
    dhcpd_ids = {name: _number(db, dhcpd_table, name, {}) for name in dhcpds}
    _forget_dhcpds(db, dhcpd_ids)
    known = {row.name: row for row in db.execute(select(pool_table))}
    _refuse_swaps(db, known.values(), pools.values())
    pool_ids = {
        name: known[name].id
        if name in known
        else _number(db, pool_table, name, {"layout": _CLOSED, "extra": _CLOSED})
        for name in sorted(pools)
    }
    # Above every number any pool ever gave: an address may have been another pool's before.
    fresh = int(db.scalar(select(func.coalesce(func.max(pool_table.c.rev), 0))) or 0) + 1
    db.execute(update(pool_table).values(rev=fresh))
    changed = [
        pool for name, pool in pools.items() if name not in known or known[name].layout != _layout(pool)
    ]
    for pool in changed:
        _move(db, pool, pool_ids[pool.name], fresh)
    for pool in changed:
        _check_rows(db, pool, pool_ids[pool.name])
        ranges = [(int(item.lo), int(item.hi)) for item in pool.plan.assignable]
        occupied = db.scalars(select(al.c.ip).where(_within_hull(pool)).order_by(al.c.ip))
        extents.rebuild(db, pool_ids[pool.name], ranges, occupied)
    for pool in pools.values():
        _refuse_gateways(db, pool)
    for name, row in known.items():
        if name not in pools:
            _close(db, row, pools)
    for name, pool in pools.items():
        _renew_generations(db, pool_ids[name], known[name].extra if name in known else _CLOSED, pool, fresh)
        values = {"layout": _layout(pool), "extra": _extra(pool)}
        db.execute(update(pool_table).where(pool_table.c.id == pool_ids[name]).values(values))
    _mark_differences(db, pools, pool_ids, dhcpd_ids, fresh)
    return Ids(pool_ids, dhcpd_ids)


def _number(db: Connection, table: Table, name: str, values: Mapping[str, str]) -> int:
    found = db.scalar(select(table.c.id).where(table.c.name == name))
    if found is None:
        found = db.scalar(insert(table).values(name=name, **values).returning(table.c.id))
    assert found is not None
    return int(found)


def _forget_dhcpds(db: Connection, wanted: Mapping[str, int]) -> None:
    """A dhcpd that left the configuration is no longer waited for; its row keeps its number."""
    gone = select(dhcpd_table.c.id).where(dhcpd_table.c.name.not_in(list(wanted)))
    for table in (told, dirty):
        db.execute(table.delete().where(table.c.dhcpd_id.in_(gone)))


# -- ranges --------------------------------------------------------------------------------------------


def _layout(pool: Pool) -> str:
    """What the pool hands out. Its row is written with every change, so ten thousands of gaps do not stand in it."""
    plan = pool.plan
    layout: dict[str, Any] = {
        "subnet": str(plan.subnet),
        "prefix": plan.scheme.text,
        "mode": pool.mode,
        "ranges": [str(item) for item in plan.joined(plan.rules)],
    }
    if plan.rules:  # without any the text is what it was before there were rules
        layout["rules"] = [str(rule) for rule in plan.rules]
    return json.dumps(layout, sort_keys=True)


def _refuse_swaps(db: Connection, before: Iterable[Row[Any]], after: Iterable[Pool]) -> None:
    """Refuses that an address in use moves into dhcpd's configuration file (static mode), or out of it."""
    # A layout's ranges go across gateways by rule, which nobody holds.
    layouts = [json.loads(row.layout) for row in before]
    was = merge(
        AddressRange.parse(text)
        for layout in layouts
        if layout.get("mode") == PoolMode.STATIC
        for text in layout["ranges"]
    )
    shall = merge(item for pool in after if pool.mode is PoolMode.STATIC for item in pool.plan.assignable)
    for way, swapped in (("into", subtract(shall, was)), ("out of", subtract(was, shall))):
        for item in swapped:
            row = db.execute(_within(item).with_only_columns(al.c.ip, al.c.name).limit(1)).first()
            if row is not None:
                raise ConfigError(
                    f"The change of pools or modes moves {IPv4Address(row.ip)} {way} dhcpd's configuration "
                    f"file (static mode), but '{row.name}' has it.",
                    hint="Undo the change, release it, and change it again: dhcpd would hold its "
                    "reservation twice.",
                )


def _within(item: AddressRange) -> Select[Any]:
    return select(al.c.ip).where(al.c.ip.between(int(item.lo), int(item.hi))).order_by(al.c.ip)


def _move(db: Connection, pool: Pool, pool_id: int, fresh: int) -> None:
    """Addresses that another pool handed out before belong to this one now, with its options."""
    generation = case((_LIVE, fresh), else_=al.c.gen)
    # A pool with gateways by rule may have ten thousands of ranges: one question, not one for each.
    theirs = select(al.c.ip).where(_within_hull(pool), al.c.pool_id != pool_id)
    moved = [ip for ip in db.scalars(theirs) if IPv4Address(ip) in pool.plan]
    for some in extents.chunks(moved):
        db.execute(update(al).where(al.c.ip.in_(some)).values(pool_id=pool_id, gen=generation))


def _within_hull(pool: Pool) -> ColumnElement[bool]:
    """Whether an address lies between the first and the last that the pool hands out."""
    return al.c.ip.between(int(pool.plan.assignable[0].lo), int(pool.plan.assignable[-1].hi))


def _check_rows(db: Connection, pool: Pool, pool_id: int) -> None:
    """Refuses a change of subnet, ranges or MAC prefix that would contradict existing allocations."""
    subnet, scheme = pool.plan.subnet, pool.plan.scheme
    image = al.c.ip + scheme.offset
    outside = ~al.c.ip.between(int(subnet[0]), int(subnet[-1]))
    wrong = select(al.c.name).where(
        al.c.pool_id == pool_id, or_(outside, and_(al.c.mac != image, al.c.pinned.is_(False)))
    )
    name = db.scalar(wrong.limit(1))
    if name is not None:
        raise ConfigError(
            f"The pool '{pool.name}' has allocations made under another subnet or mac_prefix, e.g. '{name}'.",
            hint=_UNDO,
        )
    first, last = scheme.encode(subnet[0]), scheme.encode(subnet[-1])
    foreign = select(al.c.name, al.c.mac).where(al.c.mac.between(first.value, last.value), al.c.mac != image)
    row = db.execute(foreign.limit(1)).first()
    if row is not None:
        mac = MacAddress(row.mac)
        raise ConfigError(
            f"The pool '{pool.name}' would give {scheme.decode(mac)} the MAC {mac}, which '{row.name}' has.",
            hint="Choose another mac_prefix, or end that reservation first.",
        )


def _refuse_gateways(db: Connection, pool: Pool) -> None:
    """Refuses that a machine's address becomes a gateway's, which would then exist twice on the network."""
    plan = pool.plan
    subnet = al.c.ip.between(int(plan.subnet[0]), int(plan.subnet[-1]))
    by_rule = (al.c.ip.bitwise_and(~rule.own & 0xFFFFFFFF) == rule.fixed_bits for rule in plan.rules)
    taken = or_(al.c.ip.in_([int(one) for one in plan.forbidden]), *by_rule)
    row = db.execute(
        select(al.c.ip, al.c.name).where(subnet, taken, _LIVE).order_by(al.c.ip).limit(1)
    ).first()
    if row is not None:
        raise ConfigError(
            f"The configuration makes {IPv4Address(row.ip)} a gateway of {plan.subnet}, but '{row.name}' has it.",
            hint=_UNDO,
        )


def _close(db: Connection, row: Row[Any], pools: Mapping[str, Pool]) -> None:
    """A pool that left the configuration: nothing of it may be in use, or waited for, any more."""
    mine = al.c.pool_id == row.id
    count, name = db.execute(select(func.count(), func.min(al.c.name)).where(mine, _LIVE)).one()
    back = f"Put [pool.{row.name}] back and"
    if count:
        raise ConfigError(
            f"The pool '{row.name}' is no longer configured but still has {count} allocations, e.g. '{name}'.",
            hint=f"{back} release them first (pools now: {', '.join(sorted(pools))}).",
        )
    waits = or_(*(exists().where(table.c.ip == al.c.ip) for table in (told, dirty)))
    waiting = db.scalar(select(func.count()).select_from(al).where(mine, waits))
    if waiting:
        raise ConfigError(
            f"The pool '{row.name}' is no longer configured but {waiting} of its released addresses wait for "
            "dhcpd's confirmation.",
            hint=f"{back} run macbind until `macbind status` shows no backlog, or remove that dhcpd too.",
        )
    db.execute(al.delete().where(mine))
    extents.rebuild(db, row.id, [], [])
    db.execute(update(pool_table).where(pool_table.c.id == row.id).values(layout=_CLOSED))


# -- options -------------------------------------------------------------------------------------------


def _extra(pool: Pool) -> str:
    """What the statements of the pool's host reservations depend on beside the allocation's address and options."""
    subnet = pool.subnet.options
    extra: dict[str, Any] = {
        "all": pool.options.over(subnet).beyond(subnet).statements(),
        "base": [pool.options.to_dict(), subnet.to_dict()],
    }
    if pool.rule is not None:  # without one the text is what it was before there were rules
        extra["rule"] = str(pool.rule)
    return json.dumps(extra, sort_keys=True)


def _renew_generations(db: Connection, pool_id: int, before: str, pool: Pool, fresh: int) -> None:
    """Where options have changed, every reservation that may read differently must be made anew."""
    was, now = json.loads(before), json.loads(_extra(pool))
    if was == now:
        return
    mine = [al.c.pool_id == pool_id, _LIVE]
    if was.get("all") == now["all"] and was.get("rule") == now.get("rule"):
        # What all of them carry is the same: only own options may differ.
        mine.append(cast(al.c.options, Text) != "{}")
    db.execute(update(al).where(*mine).values(gen=fresh))


# -- dhcpds --------------------------------------------------------------------------------------------


def _mark_differences(
    db: Connection,
    pools: Mapping[str, Pool],
    pool_ids: Mapping[str, int],
    dhcpd_ids: Mapping[str, int],
    fresh: int,
) -> None:
    """Marks dirty whatever a dhcpd should hold and was not told, and the other way round."""
    for name, number in dhcpd_ids.items():
        served: dict[PoolMode, list[int]] = {mode: [] for mode in PoolMode}
        for pool in pools.values():
            if name in pool.dhcpds:
                served[pool.mode].append(pool_ids[pool.name])
        live, static = served[PoolMode.LIVE], served[PoolMode.STATIC]
        # Only pinned addresses of a static pool can have a reservation outside of the configuration file.
        hosts = or_(al.c.pool_id.in_(live), and_(al.c.pool_id.in_(static), al.c.pinned))
        current = and_(told.c.dhcpd_id == number, told.c.ip == al.c.ip, told.c.gen == al.c.gen)
        _mark(db, number, select(al.c.ip).where(_LIVE, hosts, ~exists().where(current)), fresh)
        unknown: ColumnElement[bool] = or_(al.c.ip.is_(None), ~_LIVE, al.c.pool_id.not_in(live + static))
        surplus = select(told.c.ip).join(al, al.c.ip == told.c.ip, isouter=True)
        _mark(db, number, surplus.where(told.c.dhcpd_id == number, unknown), fresh)


def _mark(db: Connection, dhcpd_id: int, ips: Select[tuple[int]], seq: int) -> None:
    """Renews marks, so that a look that began before this change does not remove them."""
    db.execute(dirty.delete().where(dirty.c.dhcpd_id == dhcpd_id, dirty.c.ip.in_(ips)))
    marks = ips.add_columns(literal(dhcpd_id), literal(seq))
    db.execute(insert(dirty).from_select(["ip", "dhcpd_id", "seq"], marks))
