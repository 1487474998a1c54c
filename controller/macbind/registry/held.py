"""All allocations that are held, as far as their names need. Each look reads the whole table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import IPv4Address

from sqlalchemy import Text, and_, cast, select

from macbind.core.host_names import Held
from macbind.registry.fast_sql import Statement
from macbind.registry.queries import HELD
from macbind.registry.tables import allocation as al
from macbind.registry.tables import confirmed as co
from macbind.registry.transaction import View

_HELD = Statement(
    select(al.c.ip, al.c.name, al.c.pool_id, al.c.created_at, cast(al.c.options, Text).label("own")).where(
        HELD
    )
)
_CONFIRMED = Statement(
    select(co.c.ip, co.c.dhcpd_id)
    .select_from(co.join(al, and_(al.c.ip == co.c.ip, al.c.gen == co.c.gen)))
    .where(HELD)
)


def held(view: View) -> Iterator[Held]:
    """Every allocation that is neither released nor only renumbered to, in no order."""
    confirmed: dict[int, tuple[int, ...]] = {}
    for ip, dhcpd_id in _CONFIRMED.all(view.db, {}):
        confirmed[ip] = (*confirmed.get(ip, ()), dhcpd_id)
    names = {number: name for name, number in view.ids.dhcpds.items()}
    enough: dict[tuple[int, tuple[int, ...]], bool] = {}  # by the pool's number and those of the dhcpds
    for ip, name, pool_id, created_at, own in _HELD.all(view.db, {}):
        pool, address = view.pool_of[pool_id], IPv4Address(ip)
        by = pool_id, confirmed.get(ip, ())
        if by not in enough:
            enough[by] = pool.is_bound_by([names[number] for number in by[1] if number in names])
        is_bound = enough[by] or not pool.needs_binding(address)
        hostname = json.loads(own).get("hostname") if own and "hostname" in own else None
        yield Held(name, address, hostname or pool.options.hostname, created_at, is_bound)
