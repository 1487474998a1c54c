"""Bringing the tables in line with a configuration, and saying what that changes.

What the configuration cannot simply overrule, because machines live by it, is refused with a sentence; all
else (new ranges, other options, another set of dhcpds) is carried out in the caller's transaction.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    and_,
    cast,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from macbind.core.address_range import AddressRange, subtract
from macbind.core.evidence import Source
from macbind.core.pool import Pool, PoolMode
from macbind.core.sizes import Sizes
from macbind.registry import evidence
from macbind.registry.layout import (
    CLOSED,
    LIVE,
    adopt_allocations,
    check_rows,
    close_pool,
    give_back,
    lay_out,
    layout,
    ranges_of,
    refuse_gateways,
    refuse_options,
    refuse_swaps,
    space,
)
from macbind.registry.servers import refuse_leaving
from macbind.registry.tables import allocation as al
from macbind.registry.tables import confirmed as co
from macbind.registry.tables import dhcpd as dhcpd_table
from macbind.registry.tables import pending as pe
from macbind.registry.tables import pool as pool_table
from macbind.registry.transaction import Ids


@dataclass(frozen=True, slots=True)
class PoolChange:
    """What a configuration changes of one pool; nothing if everything is empty.

    Attributes:
        pool: Its name.
        state: ``new``, ``kept`` or ``gone``.
        added: Ranges it hands out from now on.
        removed: Ranges it handed out until now.
        renewed: How many bindings are made anew, because their options have changed or came from another pool.
    """

    pool: str
    state: str
    added: tuple[AddressRange, ...] = ()
    removed: tuple[AddressRange, ...] = ()
    renewed: int = 0


@dataclass(frozen=True, slots=True)
class Changes:
    """What a configuration changes in the registry.

    Attributes:
        pools: Every pool that changes.
        dhcpds_added: The dhcpds that are told everything.
        dhcpds_removed: The dhcpds that are no longer waited for.
        generation: The generation of every renewed binding.
        generations: With those of the configurations that other controllers have brought into use meanwhile.
    """

    pools: tuple[PoolChange, ...]
    dhcpds_added: tuple[str, ...]
    dhcpds_removed: tuple[str, ...]
    generation: int
    generations: frozenset[int] = frozenset()


def synchronise(
    db: Connection,
    pools: Mapping[str, Pool],
    dhcpds: Iterable[str],
    sizes: Sizes,
    hypervisors: Iterable[str] = (),
) -> tuple[Ids, Changes]:
    """Makes the registry know exactly these pools, dhcpds and hypervisors.

    Returns:
        Their numbers, and those of all dhcpds that were ever known; and what has changed.

    Raises:
        ConfigError: A pool with allocations is missing, or changed in a way its allocations cannot follow. Its
            details name the ``pool``, and the ``key`` if one is at fault.
    """
    known = {row.name: row for row in db.execute(select(pool_table))}
    layouts = {name: json.loads(row.layout) for name, row in known.items()}
    wanted = list(dhcpds)
    for name in wanted:
        _number(db, dhcpd_table, name, {})
    dhcpd_ids = {row.name: row.id for row in db.execute(select(dhcpd_table))}
    refuse_leaving(db, wanted)
    _forget_dhcpds(db, wanted)
    refuse_swaps(db, layouts.values(), pools.values())
    pool_ids = {
        name: known[name].id
        if name in known
        else _number(db, pool_table, name, {"layout": CLOSED, "extra": CLOSED})
        for name in sorted(pools)
    }
    # Above every number any pool ever gave: an address may have been another pool's before.
    fresh = int(db.scalar(select(func.coalesce(func.max(pool_table.c.rev), 0))) or 0) + 1
    db.execute(update(pool_table).values(rev=fresh))
    changed = [pool for name, pool in pools.items() if space(layouts.get(name, {})) != space(layout(pool))]
    watched = frozenset(hypervisors)
    unused = evidence.forget_origins(db, _origins(pools.values(), wanted, watched))
    renewed = {pool.name: adopt_allocations(db, pool, pool_ids[pool.name], fresh, sizes) for pool in changed}
    for pool in changed:
        check_rows(db, pool, pool_ids[pool.name])
        lay_out(db, pool, pool_ids[pool.name], sizes)
    give_back(db, (pool for pool in pools.values() if pool not in changed), pool_ids, unused, sizes)
    for pool in pools.values():
        refuse_gateways(db, pool)
    for name, row in known.items():
        if name not in pools:
            close_pool(db, row, pools)
    for name, pool in pools.items():
        before = known[name].extra if name in known else CLOSED
        renewed[name] = renewed.get(name, 0) + _renew_generations(db, pool_ids[name], before, pool, fresh)
        values = {"layout": json.dumps(layout(pool), sort_keys=True), "extra": _extra(pool)}
        db.execute(update(pool_table).where(pool_table.c.id == pool_ids[name]).values(values))
    _mark_differences(db, pools, pool_ids, {name: dhcpd_ids[name] for name in wanted}, fresh)
    return Ids(pool_ids, dhcpd_ids, watched), _changes(layouts, pools, wanted, renewed, fresh)


def _changes(
    before: Mapping[str, Mapping[str, Any]],
    pools: Mapping[str, Pool],
    dhcpds: Iterable[str],
    renewed: Mapping[str, int],
    generation: int,
) -> Changes:
    after = {name: layout(pool) for name, pool in pools.items()}
    found = []
    for name in sorted({*before, *after}):
        was, shall = (ranges_of(layouts.get(name, {})) for layouts in (before, after))
        state = "kept" if was and shall else "new" if shall else "gone"
        found.append(
            PoolChange(name, state, subtract(shall, was), subtract(was, shall), renewed.get(name, 0))
        )
    # Of a registry that an older version wrote it is not known which dhcpds it was made for.
    served = {name for layout in before.values() for name in layout.get("dhcpds", dhcpds if layout else ())}
    return Changes(
        tuple(one for one in found if one.added or one.removed or one.renewed),
        tuple(name for name in dhcpds if name not in served),
        tuple(sorted(served.difference(dhcpds))),
        generation,
    )


def _number(db: Connection, table: Table, name: str, values: Mapping[str, str]) -> int:
    found = db.scalar(select(table.c.id).where(table.c.name == name))
    if found is None:
        found = db.scalar(insert(table).values(name=name, **values).returning(table.c.id))
    assert found is not None
    return int(found)


def _forget_dhcpds(db: Connection, wanted: Iterable[str]) -> None:
    """A dhcpd that left the configuration is no longer waited for; its row keeps its number."""
    gone = select(dhcpd_table.c.id).where(dhcpd_table.c.name.not_in(list(wanted)))
    for table in (co, pe):
        db.execute(table.delete().where(table.c.dhcpd_id.in_(gone)))


def _origins(
    pools: Iterable[Pool], dhcpds: Iterable[str], hypervisors: Iterable[str]
) -> dict[Source, set[str]]:
    """Who may have evidence from each source that the configuration names."""
    others = {
        Source.DOMAIN: set(hypervisors),
        Source.AWAY: set(hypervisors),
        Source.ANSWER: {pool.arp_probe for pool in pools if pool.arp_probe is not None},
    }
    by_dhcpds = {source: set(dhcpds) for source in Source if source is not Source.INTERFACE}
    return by_dhcpds | others


# -- options -------------------------------------------------------------------------------------------


def _extra(pool: Pool) -> str:
    """What the options of the pool's bindings depend on beside the allocation's address and options."""
    subnet = pool.subnet.options
    extra: dict[str, Any] = {
        "all": pool.options.over(subnet).beyond(subnet).to_dict(),
        "base": [pool.options.to_dict(), subnet.to_dict()],
    }
    if pool.gateway_rule is not None:  # without one the text is what it was before there were rules
        extra["rule"] = str(pool.gateway_rule)
    return json.dumps(extra, sort_keys=True)


def _renew_generations(db: Connection, pool_id: int, before: str, pool: Pool, fresh: int) -> int:
    """Has every binding made anew that may read differently, where options have changed; returns how many."""
    was, now = json.loads(before), json.loads(_extra(pool))
    if was == now:
        return 0
    refuse_options(db, pool, pool_id)
    mine = [al.c.pool_id == pool_id, LIVE, al.c.gen != fresh]
    if was.get("all") == now["all"] and was.get("rule") == now.get("rule"):
        # What all of them carry is the same: only own options may differ.
        mine.append(cast(al.c.options, Text) != "{}")
    return db.execute(update(al).where(*mine).values(gen=fresh)).rowcount


# -- dhcpds --------------------------------------------------------------------------------------------


def _mark_differences(
    db: Connection,
    pools: Mapping[str, Pool],
    pool_ids: Mapping[str, int],
    dhcpd_ids: Mapping[str, int],
    fresh: int,
) -> None:
    """Makes pending whatever a dhcpd should hold and has not confirmed, and the other way round."""
    for name, number in dhcpd_ids.items():
        served: dict[PoolMode, list[int]] = {mode: [] for mode in PoolMode}
        for pool in pools.values():
            if name in pool.dhcpds:
                served[pool.mode].append(pool_ids[pool.name])
        live, static = served[PoolMode.LIVE], served[PoolMode.STATIC]
        # Only pinned addresses of a static pool can have a reservation outside of the configuration file.
        bound = or_(al.c.pool_id.in_(live), and_(al.c.pool_id.in_(static), al.c.pinned))
        current = and_(
            co.c.dhcpd_id == number,
            co.c.ip == al.c.ip,
            co.c.gen == al.c.gen,
        )
        _mark(db, number, select(al.c.ip).where(LIVE, bound, ~exists().where(current)), fresh)
        unknown: ColumnElement[bool] = or_(al.c.ip.is_(None), ~LIVE, al.c.pool_id.not_in(live + static))
        surplus = select(co.c.ip).join(al, al.c.ip == co.c.ip, isouter=True)
        _mark(db, number, surplus.where(co.c.dhcpd_id == number, unknown), fresh)


def _mark(db: Connection, dhcpd_id: int, ips: Select[tuple[int]], seq: int) -> None:
    """Renews marks, so that a look that began before this change does not remove them."""
    db.execute(pe.delete().where(pe.c.dhcpd_id == dhcpd_id, pe.c.ip.in_(ips)))
    marks = ips.add_columns(literal(dhcpd_id), literal(seq))
    db.execute(insert(pe).from_select(["ip", "dhcpd_id", "seq"], marks))
