"""Bringing the tables in line with the configuration when a registry is opened.

What the configuration cannot simply overrule, because machines live by it, is refused with a sentence; all
else (new ranges, other options, another set of dhcpds) is carried out in one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from sqlalchemy import Connection, func, insert, literal, select, update

from macbind.errors import ConfigError
from macbind.model import NO_OPTIONS, Pool
from macbind.registry import extents
from macbind.registry.schema import allocation as al
from macbind.registry.schema import dhcpd as dhcpd_table
from macbind.registry.schema import dirty, told
from macbind.registry.schema import pool as pool_table
from macbind.registry.view import Ids


def synchronise(db: Connection, pools: Mapping[str, Pool], dhcpds: Iterable[str]) -> Ids:
    """Makes the registry know exactly these pools and dhcpds; returns their numbers.

    Raises:
        ConfigError: A pool with allocations is missing, or changed in a way its allocations cannot follow.
    """
    dhcpd_ids = {name: _dhcpd_id(db, name) for name in dhcpds}
    _forget_dhcpds(db, dhcpd_ids)
    known = {row.name: row for row in db.execute(select(pool_table))}
    for name, row in known.items():
        if name not in pools:
            _refuse_orphans(db, name, row.id, pools)
    pool_ids = {}
    for name, pool in sorted(pools.items()):
        before = known.get(name)
        layout, extra = _layout(pool), _extra(pool)
        if before is None:
            # Above every number any pool ever had: an address may have been another pool's before.
            rev = int(db.scalar(select(func.coalesce(func.max(pool_table.c.rev), 0))) or 0) + 1
            pool_ids[name] = int(
                db.scalar(
                    insert(pool_table)
                    .values(name=name, layout=layout, extra=extra, rev=rev)
                    .returning(pool_table.c.id)
                )
                or 0
            )
            _lay_out(db, pool, pool_ids[name])
            continue
        pool_ids[name] = before.id
        if before.layout != layout:
            _check_rows(db, pool, before.id)
            rev = int(db.scalar(select(func.max(pool_table.c.rev))) or 0) + 1
            db.execute(update(pool_table).where(pool_table.c.id == before.id).values(layout=layout, rev=rev))
            _lay_out(db, pool, before.id)
        if before.extra != extra:
            _renew_generations(db, before.id, extra)
    _mark_differences(db, pools, pool_ids, dhcpd_ids)
    return Ids(pool_ids, dhcpd_ids)


def _dhcpd_id(db: Connection, name: str) -> int:
    found = db.scalar(select(dhcpd_table.c.id).where(dhcpd_table.c.name == name))
    if found is None:
        found = db.scalar(insert(dhcpd_table).values(name=name).returning(dhcpd_table.c.id))
    assert found is not None
    return int(found)


def _forget_dhcpds(db: Connection, wanted: Mapping[str, int]) -> None:
    """A dhcpd that left the configuration is no longer waited for; its row keeps its number."""
    gone = select(dhcpd_table.c.id).where(dhcpd_table.c.name.not_in(list(wanted)))
    for table in (told, dirty):
        db.execute(table.delete().where(table.c.dhcpd_id.in_(gone)))


def _layout(pool: Pool) -> str:
    return json.dumps(
        {
            "subnet": str(pool.plan.subnet),
            "prefix": pool.plan.scheme.text,
            "mode": pool.mode,
            "ranges": [str(item) for item in pool.plan.assignable],
        },
        sort_keys=True,
    )


def _extra(pool: Pool) -> str:
    """The statements that every host reservation of the pool carries."""
    return " ".join(NO_OPTIONS.over(pool.options).beyond(pool.subnet.options).statements())


def _refuse_orphans(db: Connection, name: str, pool_id: int, pools: Mapping[str, Pool]) -> None:
    rows = list(db.execute(select(al.c.ip, al.c.name, al.c.free_at).where(al.c.pool_id == pool_id)))
    live = [row for row in rows if row.free_at is None]
    if live:
        raise ConfigError(
            f"The pool '{name}' is no longer configured but still has {len(live)} allocations, "
            f"e.g. '{live[0].name}'.",
            hint=f"Put [pool.{name}] back and release them first (pools now: {', '.join(sorted(pools))}).",
        )
    ips = [row.ip for row in rows]
    for some in extents.chunks(ips):
        for table in (told, dirty, al):
            db.execute(table.delete().where(table.c.ip.in_(some)))
    extents.rebuild(db, pool_id, [], [])
    db.execute(update(pool_table).where(pool_table.c.id == pool_id).values(layout="{}"))


def _check_rows(db: Connection, pool: Pool, pool_id: int) -> None:
    """Refuses a change of subnet, MAC prefix or mode that would contradict existing allocations."""
    for row in db.execute(select(al.c.ip, al.c.mac, al.c.name, al.c.pinned).where(al.c.pool_id == pool_id)):
        scheme = pool.plan.scheme
        inside = int(pool.plan.subnet[0]) <= row.ip <= int(pool.plan.subnet[-1])
        if not inside or (row.mac != scheme.offset + row.ip and not row.pinned):
            raise ConfigError(
                f"The pool '{pool.name}' has allocations made under another subnet or mac_prefix, "
                f"e.g. '{row.name}'.",
                hint="Undo the change, release them, and change it again.",
            )
    stored = json.loads(db.scalar(select(pool_table.c.layout).where(pool_table.c.id == pool_id)) or "{}")
    if stored.get("mode", pool.mode) != pool.mode and db.scalar(
        select(func.count()).select_from(al).where(al.c.pool_id == pool_id)
    ):
        raise ConfigError(
            f"The pool '{pool.name}' cannot change to {pool.mode} mode while it has allocations.",
            hint="Release them first: dhcpd would hold each of their reservations twice.",
        )


def _lay_out(db: Connection, pool: Pool, pool_id: int) -> None:
    ranges = [(int(item.lo), int(item.hi)) for item in pool.plan.assignable]
    moved = [al.c.ip.between(lo, hi) for lo, hi in ranges]
    for condition in moved:  # addresses another pool handed out before belong to this one now
        db.execute(update(al).where(condition).values(pool_id=pool_id))
    extents.rebuild(db, pool_id, ranges, _occupied(db, ranges))


def _occupied(db: Connection, ranges: Iterable[tuple[int, int]]) -> Iterator[int]:
    for lo, hi in ranges:
        yield from db.scalars(select(al.c.ip).where(al.c.ip.between(lo, hi)).order_by(al.c.ip))


def _renew_generations(db: Connection, pool_id: int, extra: str) -> None:
    """Options all machines of a pool get have changed: every reservation must be made anew."""
    rev = pool_table.c.rev + 1
    db.execute(update(pool_table).where(pool_table.c.id == pool_id).values(rev=rev, extra=extra))
    generation = select(pool_table.c.rev).where(pool_table.c.id == pool_id).scalar_subquery()
    db.execute(update(al).where(al.c.pool_id == pool_id, al.c.free_at.is_(None)).values(gen=generation))


def _mark_differences(
    db: Connection, pools: Mapping[str, Pool], pool_ids: Mapping[str, int], dhcpd_ids: Mapping[str, int]
) -> None:
    """Marks dirty whatever a dhcpd should hold and was not told, and the other way round."""
    for name, number in dhcpd_ids.items():
        marked = select(dirty.c.ip).where(dirty.c.dhcpd_id == number)
        served = [pool_ids[pool.name] for pool in pools.values() if name in pool.dhcpds]
        hosts = [pool_ids[p.name] for p in pools.values() if name in p.dhcpds and p.mode == "live"]
        current = select(told.c.ip).where(
            told.c.dhcpd_id == number, told.c.ip == al.c.ip, told.c.gen == al.c.gen
        )
        missing = select(literal(number), al.c.ip, literal(0)).where(
            al.c.free_at.is_(None), al.c.pool_id.in_(hosts), al.c.ip.not_in(marked), ~current.exists()
        )
        db.execute(insert(dirty).from_select(["dhcpd_id", "ip", "seq"], missing))
        surplus = (
            select(told.c.dhcpd_id, told.c.ip, literal(0))
            .join(al, al.c.ip == told.c.ip, isouter=True)
            .where(
                told.c.dhcpd_id == number,
                told.c.ip.not_in(marked),
                al.c.ip.is_(None) | al.c.free_at.is_not(None) | al.c.pool_id.not_in(served),
            )
        )
        db.execute(insert(dirty).from_select(["dhcpd_id", "ip", "seq"], surplus))
