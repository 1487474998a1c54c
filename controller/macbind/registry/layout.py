"""The ranges of pools: what they hand out, laid out as free extents, and what may not change under allocations."""

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
    or_,
    select,
    union,
    update,
)

from macbind.core.address_range import AddressRange, merge, subtract
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import ConfigError, InvalidOption
from macbind.core.mac_address import MacAddress
from macbind.core.pool import Pool, PoolMode
from macbind.core.sizes import Sizes
from macbind.registry import free_space
from macbind.registry.tables import allocation as al
from macbind.registry.tables import confirmed as co
from macbind.registry.tables import evidence as ev
from macbind.registry.tables import pending as pe
from macbind.registry.tables import pool as pool_table

CLOSED = "{}"
"""The layout of a pool that is not configured; its row is kept for when it comes back."""
LIVE = al.c.free_at.is_(None)


def lay_out(db: Connection, pool: Pool, pool_id: int, sizes: Sizes) -> None:
    """Lays the free extents of a pool out anew, around what is allocated and what others use."""
    ranges = [(int(item.lo), int(item.hi)) for item in pool.plan.assignable]
    tables = (al, ev)
    taken = union(*(select(table.c.ip).where(_within_hull(pool, table)) for table in tables)).order_by("ip")
    free_space.rebuild(db, pool_id, ranges, db.scalars(taken), sizes.extents)


def layout(pool: Pool) -> dict[str, Any]:
    """What the pool hands out, and who serves it. Every change writes it, so it leaves out gaps by rule."""
    plan = pool.plan
    layout: dict[str, Any] = {
        "subnet": str(plan.subnet),
        "prefix": plan.scheme.text,
        "mode": pool.mode,
        "ranges": [str(item) for item in plan.joined(plan.rules)],
        "dhcpds": list(pool.dhcpds),
    }
    if plan.rules:  # without any the text is what it was before there were rules
        layout["rules"] = [str(rule) for rule in plan.rules]
    return layout


def space(layout: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a layout that the free extents depend on."""
    return {key: value for key, value in layout.items() if key != "dhcpds"}


def ranges_of(layout: Mapping[str, Any]) -> list[AddressRange]:
    """The ranges that a layout hands out."""
    return [AddressRange.parse(text) for text in layout.get("ranges", ())]


def refuse_swaps(db: Connection, before: Iterable[Mapping[str, Any]], after: Iterable[Pool]) -> None:
    """Refuses that an address in use moves into dhcpd's configuration file (static mode), or out of it."""
    # A layout's ranges go across gateways by rule, which nobody holds.
    was = merge(
        item for layout in before if layout.get("mode") == PoolMode.STATIC for item in ranges_of(layout)
    )
    pools = list(after)
    shall = merge(item for pool in pools if pool.mode is PoolMode.STATIC for item in pool.plan.assignable)
    for way, swapped in (("into", subtract(shall, was)), ("out of", subtract(was, shall))):
        for item in swapped:
            row = db.execute(_within(item).with_only_columns(al.c.ip, al.c.name).limit(1)).first()
            if row is not None:
                address = IPv4Address(row.ip)
                raise ConfigError(
                    f"The change of pools or modes moves {address} {way} dhcpd's configuration "
                    f"file (static mode), but '{row.name}' has it.",
                    hint=f"Undo the change, release '{row.name}', then change the pool: dhcpd would hold its "
                    "binding twice.",
                    **next(
                        ({"pool": pool.name, "key": "mode"} for pool in pools if address in pool.plan), {}
                    ),
                )


def _within(item: AddressRange) -> Select[Any]:
    return select(al.c.ip).where(al.c.ip.between(int(item.lo), int(item.hi))).order_by(al.c.ip)


def adopt_allocations(db: Connection, pool: Pool, pool_id: int, fresh: int, sizes: Sizes) -> int:
    """Gives the pool the allocations of its addresses that another pool made, with its options; returns how many."""
    generation = case((LIVE, fresh), else_=al.c.gen)
    # A pool with gateways by rule may have ten thousands of ranges: one question, not one for each.
    theirs = select(al.c.ip).where(_within_hull(pool), al.c.pool_id != pool_id)
    moved = [ip for ip in db.scalars(theirs) if IPv4Address(ip) in pool.plan]
    for some in free_space.chunks(moved, sizes.rows):
        db.execute(update(al).where(al.c.ip.in_(some)).values(pool_id=pool_id, gen=generation))
    return len(moved)


def _within_hull(pool: Pool, table: Table = al) -> ColumnElement[bool]:
    """Whether an address lies between the first and the last that the pool hands out."""
    return table.c.ip.between(int(pool.plan.assignable[0].lo), int(pool.plan.assignable[-1].hi))


def check_rows(db: Connection, pool: Pool, pool_id: int) -> None:
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
            hint=f"Undo the change, release '{name}' and the others, then change the pool.",
            pool=pool.name,
        )
    first, last = scheme.encode(subnet[0]), scheme.encode(subnet[-1])
    foreign = select(al.c.name, al.c.mac).where(al.c.mac.between(first.value, last.value), al.c.mac != image)
    row = db.execute(foreign.limit(1)).first()
    if row is not None:
        mac = MacAddress(row.mac)
        raise ConfigError(
            f"The pool '{pool.name}' would give {scheme.decode(mac)} the MAC {mac}, which '{row.name}' has.",
            hint="Choose another mac_prefix, or end that reservation first.",
            pool=pool.name,
            key="mac_prefix",
        )


def refuse_gateways(db: Connection, pool: Pool) -> None:
    """Refuses that a machine's address becomes a gateway's, which would then exist twice on the network."""
    plan = pool.plan
    subnet = al.c.ip.between(int(plan.subnet[0]), int(plan.subnet[-1]))
    by_rule = (al.c.ip.bitwise_and(~rule.own & 0xFFFFFFFF) == rule.fixed_bits for rule in plan.rules)
    taken = or_(al.c.ip.in_([int(one) for one in plan.forbidden]), *by_rule)
    row = db.execute(select(al.c.ip, al.c.name).where(subnet, taken, LIVE).order_by(al.c.ip).limit(1)).first()
    if row is not None:
        raise ConfigError(
            f"The configuration makes {IPv4Address(row.ip)} a gateway of {plan.subnet}, but '{row.name}' has it.",
            hint=f"Undo the change, release '{row.name}', then change the gateway.",
            pool=pool.name,
        )


def refuse_options(db: Connection, pool: Pool, pool_id: int) -> None:
    """Refuses options that no dhcpd can be told together with those an allocation has of its own."""
    own = cast(al.c.options, Text)
    each = select(own.label("own"), func.min(al.c.ip).label("ip"), func.min(al.c.name).label("name"))
    for row in db.execute(each.where(al.c.pool_id == pool_id, LIVE, own != "{}").group_by(own)):
        try:
            pool.check_binding(IPv4Address(row.ip), DhcpOptions.parse(json.loads(row.own)))
        except InvalidOption as error:
            raise ConfigError(
                f"The options of the pool '{pool.name}' and those of '{row.name}' are impossible together: "
                f"{error.message}",
                hint=f"Undo the change, or release '{row.name}' first. {error.hint}",
                pool=pool.name,
            ) from error


def close_pool(db: Connection, row: Row[Any], pools: Mapping[str, Pool]) -> None:
    """A pool that left the configuration: nothing of it may be in use, or waited for, any more."""
    mine = al.c.pool_id == row.id
    count, name = db.execute(select(func.count(), func.min(al.c.name)).where(mine, LIVE)).one()
    back = f"Put [pool.{row.name}] back and"
    if count:
        raise ConfigError(
            f"The pool '{row.name}' is no longer configured but still has {count} allocations, e.g. '{name}'.",
            hint=f"{back} release them first (pools now: {', '.join(sorted(pools))}).",
            pool=row.name,
        )
    waits = or_(*(exists().where(table.c.ip == al.c.ip) for table in (co, pe)))
    waiting = db.scalar(select(func.count()).select_from(al).where(mine, waits))
    if waiting:
        raise ConfigError(
            f"The pool '{row.name}' is no longer configured but {waiting} of its released addresses wait for "
            "dhcpd's confirmation.",
            hint=f"{back} run macbind until `macbind status` shows no backlog, or forget that dhcpd: "
            "`macbind dhcp out NAME --forget`.",
            pool=row.name,
        )
    db.execute(al.delete().where(mine))
    free_space.rebuild(db, row.id, [], [])
    db.execute(update(pool_table).where(pool_table.c.id == row.id).values(layout=CLOSED))


def give_back(
    db: Connection, pools: Iterable[Pool], pool_ids: Mapping[str, int], unused: Iterable[int], sizes: Sizes
) -> None:
    """Makes addresses free that others used and nobody can look at any more; not those that are allocated."""
    ips = sorted(unused)
    held = {
        ip
        for some in free_space.chunks(ips, sizes.rows)
        for ip in db.scalars(select(al.c.ip).where(al.c.ip.in_(some)))
    }
    for pool in pools:
        mine = [ip for ip in ips if ip not in held and IPv4Address(ip) in pool.plan]
        free_space.give_back(db, pool_ids[pool.name], mine, sizes.rows)
