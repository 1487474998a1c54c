"""Released addresses: they rest, and become free extents again when they are gone from every DHCP server.

An address that others use (see :mod:`macbind.registry.evidence`) does not become free, and its rest is not cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from ipaddress import IPv4Address

from sqlalchemy import (
    bindparam,
    delete,
    exists,
    select,
    update,
)

from macbind.core.pool import Pool
from macbind.registry import evidence, free_space
from macbind.registry.fast_sql import Statement
from macbind.registry.queries import (
    HELD_NOWHERE,
    NOT_PENDING,
)
from macbind.registry.tables import allocation as al
from macbind.registry.tables import evidence as ev
from macbind.registry.transaction import Transaction

_RESTS = select(al.c.ip).where(
    al.c.pool_id == bindparam("p"), al.c.free_at <= bindparam("before"), HELD_NOWHERE, NOT_PENDING
)
_IN_ORDER = (al.c.free_at, al.c.ip)
_RESTING = Statement(_RESTS.order_by(*_IN_ORDER).limit(bindparam("n")))
"""Released addresses that are gone from every dhcpd, longest rested first."""
_RESTING_UNUSED = Statement(
    _RESTS.where(~exists().where(ev.c.ip == al.c.ip)).order_by(*_IN_ORDER).limit(bindparam("n"))
)

_DELETE_ROW = Statement(delete(al).where(al.c.ip == bindparam("a")))


def sweep(txn: Transaction, pool: Pool, limit: int) -> int:
    """Returns addresses that have rested enough to the free extents."""
    where = {"p": txn.ids.pools[pool.name], "before": txn.now.timestamp(), "n": limit}
    ips = [row.ip for row in _RESTING.all(txn.db, where)]
    free(txn, pool, ips)
    return len(ips)


def free(txn: Transaction, pool: Pool, ips: Sequence[int]) -> None:
    """Deletes rows whose address is gone everywhere; what the pool hands out and nobody uses becomes free."""
    delete_rows(txn, ips)
    used = evidence.having(txn, ips)
    back = [ip for ip in ips if ip not in used and IPv4Address(ip) in pool.plan]
    if back:
        free_space.give_back(txn.db, txn.ids.pools[pool.name], back, txn.sizes.rows)


def delete_rows(txn: Transaction, ips: Sequence[int]) -> None:
    """Deletes the rows of these addresses."""
    _DELETE_ROW.run_each(txn.db, [{"a": ip} for ip in ips])


def rested(txn: Transaction, pool: Pool, count: int) -> list[int]:
    """Addresses whose rest may be cut, longest rested first, at most ``count``.

    None that others use, and none that the pool does not hand out: one that was pinned, or is no longer in its
    ranges, may rest, too.
    """
    limit = count
    while True:
        where = {"p": txn.ids.pools[pool.name], "before": math.inf, "n": limit}
        rows = _RESTING_UNUSED.all(txn.db, where)
        found = [row.ip for row in rows if IPv4Address(row.ip) in pool.plan][:count]
        if len(found) == count or len(rows) < limit:
            return found
        limit *= 2


def put_aside(txn: Transaction, address: IPv4Address, rest_s: float) -> None:
    """Lets a released address rest for at least ``rest_s`` seconds from now."""
    until = txn.now.timestamp() + rest_s
    resting = txn.db.execute(
        update(al)
        .where(al.c.ip == int(address), al.c.free_at < until)
        .values(free_at=until)
        .returning(al.c.gen, al.c.name, al.c.pool_id, al.c.grp)
    ).first()
    if resting is not None:
        detail = {"pool": txn.pool_of[resting.pool_id].name, "rest_s": rest_s}
        detail |= {} if resting.grp is None else {"group": resting.grp}
        txn.log([("put aside", int(address), resting.gen, resting.name, detail)])
