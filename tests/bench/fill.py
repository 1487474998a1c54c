"""Registries and dhcpds in which machines exist already, made in seconds by going around the product."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from ipaddress import IPv4Address

from labkit.farm import Farm
from macbind.core.binding import BINDING_PREFIX
from macbind.core.pool import Pool
from macbind.registry.database import sqlite_path
from macbind.registry.store import Registry

_ALLOCATIONS = """
WITH RECURSIVE every(ip) AS (SELECT :lo UNION ALL SELECT ip + 1 FROM every WHERE ip < :hi)
INSERT INTO allocation (ip, mac, pool_id, name, gen, options, pinned, created_at)
SELECT ip, ip + :offset, :pool, printf('held-%010d', ip), 1, '{}', 0, 0 FROM every
WHERE :gap = 0 OR ip % :gap <> 0
"""
_HOLES = """
WITH RECURSIVE every(ip) AS (
  SELECT :lo + (:gap - :lo % :gap) % :gap UNION ALL SELECT ip + :gap FROM every WHERE ip + :gap <= :hi
)
INSERT INTO free_extent (pool_id, lo, hi) SELECT :pool, ip, ip FROM every WHERE ip <= :hi
"""


def occupy(url: str, pools: Mapping[str, Pool], name: str, count: int, *, gap: int = 0) -> None:
    """Makes a SQLite registry whose pool has `count` addresses taken, the lowest, confirmed by every dhcpd.

    Args:
        url: Of the registry, which is made anew.
        pools: All of its pools.
        name: Of the pool, which must have one range.
        count: How many of its addresses, from the lowest on, are looked at.
        gap: Of these every so many-th is left free; 0: none.
    """
    pool = pools[name]
    dhcpds = sorted({dhcpd for one in pools.values() for dhcpd in one.dhcpds})
    registry = Registry.open(url, pools, dhcpds)
    pool_id, numbers = registry.ids.pools[name], [registry.ids.dhcpds[dhcpd] for dhcpd in pool.dhcpds]
    registry.close()
    (whole,) = pool.plan.assignable
    lo, hi, end = int(whole.lo), int(whole.lo) + count - 1, int(whole.hi)
    values = {"lo": lo, "hi": hi, "gap": gap, "pool": pool_id, "offset": pool.plan.scheme.offset}
    file = sqlite_path(url)
    assert file is not None
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        # What dies with the machine is made again in seconds.
        for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -200000"):
            db.execute(f"PRAGMA {pragma}")
        db.execute("BEGIN")
        db.execute(_ALLOCATIONS, values)
        for number in numbers:
            db.execute("INSERT INTO confirmed (dhcpd_id, ip, gen) SELECT ?, ip, 1 FROM allocation", (number,))
        db.execute("DELETE FROM free_extent WHERE pool_id = ?", (pool_id,))
        if gap:
            db.execute(_HOLES, values)
        if hi < end:
            db.execute("INSERT INTO free_extent (pool_id, lo, hi) VALUES (?, ?, ?)", (pool_id, hi + 1, end))
        db.execute("COMMIT")


def populate(farm: Farm, count: int) -> None:
    """Gives a farm that has not been started yet so many machines, in its registry and in its dhcpd."""
    pool = farm.settings.pools["farm"]
    occupy(farm.registry, farm.settings.pools, "farm", count)
    farm.leases.write_text("".join(host_records(lowest(pool, count), pool)))


def lowest(pool: Pool, count: int) -> list[IPv4Address]:
    """The lowest addresses of a pool that has one range."""
    first = int(pool.plan.assignable[0].lo)
    return [IPv4Address(first + number) for number in range(count)]


def host_records(addresses: list[IPv4Address], pool: Pool) -> Iterator[str]:
    """What dhcpd's lease file says of hosts that were made over OMAPI."""
    for one in addresses:
        yield (
            f"host {BINDING_PREFIX}{one}-g1 {{\n  dynamic;\n  hardware ethernet {pool.plan.scheme.encode(one)};\n"
            f"  fixed-address {one};\n}}\n"
        )
