"""Which generations of an address this registry has made, and how it stays above those of others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from ipaddress import IPv4Address

from sqlalchemy import func, select, update

from macbind.core.pool import Pool
from macbind.registry.free_space import chunks
from macbind.registry.tables import allocation, audit
from macbind.registry.tables import pool as pool_table
from macbind.registry.transaction import Transaction, View

Owner = tuple[IPv4Address, int]
"""An address, and a generation of it."""
_MOST = 2**53
"""No registry comes as far; a name of a host says more if somebody made it up."""


def never_made(view: View, owners: Collection[Owner]) -> set[Owner]:
    """Those that this registry has never made, as far as it remembers.

    A generation is ours if it lies between two of the address that are known, from the allocation that has it now or
    from the audit log: bindings are made anew without an entry of their own. What was released longer ago than the
    audit log is kept is not known any more.
    """
    if not owners:
        return set()
    first, last = int(min(owners)[0]), int(max(owners)[0])
    held = {
        row.ip: row.gen
        for row in view.db.execute(
            select(allocation.c.ip, allocation.c.gen).where(allocation.c.ip.between(first, last))
        )
    }
    unsure = {one for one in owners if held.get(int(one[0])) != one[1]}
    known: dict[int, list[int]] = defaultdict(list)
    for some in chunks(sorted({int(address) for address, _ in unsure}), view.sizes.rows):
        ends = (
            select(audit.c.ip, func.min(audit.c.gen).label("low"), func.max(audit.c.gen).label("high"))
            .where(audit.c.ip.in_(some), audit.c.gen.is_not(None))
            .group_by(audit.c.ip)
        )
        for row in view.db.execute(ends):
            known[row.ip] += [row.low, row.high]
    for ip, generation in held.items():
        known[ip].append(generation)
    return {
        (address, generation)
        for address, generation in unsure
        if not (seen := known.get(int(address))) or not min(seen) <= generation <= max(seen)
    }


def begin_above(txn: Transaction, pool: Pool, generation: int) -> None:
    """Has the next generation of a pool be higher than this one, which a DHCP server holds already."""
    txn.db.execute(
        update(pool_table)
        .where(pool_table.c.id == txn.ids.pools[pool.name], pool_table.c.rev < generation)
        .values(rev=min(generation, _MOST))
    )
