"""All allocations that are held, as far as their names need. Each look reads the whole table."""

from __future__ import annotations

import json
from collections import defaultdict
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
    names = {number: name for name, number in view.ids.dhcpds.items()}
    confirmed: dict[int, list[str]] = defaultdict(list)
    for ip, dhcpd_id in _CONFIRMED.all(view.db, {}):
        if dhcpd_id in names:
            confirmed[ip].append(names[dhcpd_id])
    for ip, name, pool_id, created_at, own in _HELD.all(view.db, {}):
        pool = view.pool_of[pool_id]
        address = IPv4Address(ip)
        by = confirmed.get(ip, ())
        is_bound = pool.is_bound_by(by) or not pool.needs_binding(address)
        hostname = json.loads(own).get("hostname") if own and "hostname" in own else None
        yield Held(name, address, hostname or pool.options.hostname, created_at, is_bound)
