"""Gateways that a machine has of its own: they must be reachable, and nobody else's."""

from __future__ import annotations

from ipaddress import IPv4Address

from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import (
    InvalidOption,
)
from macbind.core.pool import Pool
from macbind.registry.queries import (
    find,
)
from macbind.registry.transaction import Transaction


def check_gateways(txn: Transaction, pool: Pool, options: DhcpOptions, address: IPv4Address | None) -> None:
    """Refuses gateways of its own that a machine cannot reach, or that another machine may be given.

    Args:
        txn: The open transaction.
        pool: The machine's pool.
        options: Its own options.
        address: Its address; None if it is to be an unoccupied one.
    """
    plan = pool.plan
    ends = (plan.subnet.network_address, plan.subnet.broadcast_address)
    routes = [route.gateway for route in options.static_routes]
    for key, gateways in (("routers", options.routers), ("static_routes", routes)):
        for one in gateways:
            named = {"option": key, "address": str(one)}
            if one not in plan.subnet or one in ends:
                raise InvalidOption(
                    f"{key}: {one} is not a machine's address on the subnet {plan.subnet}.",
                    hint="A gateway must be on the machine's own subnet, or it cannot be reached.",
                    **named,
                )
            if one == address:
                raise InvalidOption(
                    f"{key}: {one} is the machine's own address.",
                    hint="Name the address of the router, or another address for the machine.",
                    **named,
                )
            owner = next((name for name, other in txn.pools.items() if one in other.plan), None)
            if owner is not None and not find(txn, addresses=[one]):
                raise InvalidOption(
                    f"{key}: {one} is an unoccupied address of the pool '{owner}': any machine may get it.",
                    hint=f"Keep it for the router: `macbind reserve NAME {one}`, with --mac if its MAC is a "
                    "foreign one.",
                    **named,
                )
