"""What a script inside a guest must know of the pools to find its address by itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from macbind.addressing import AddressRange, MacScheme
from macbind.gateway import GatewayRule
from macbind.model import Pool


@dataclass(frozen=True, slots=True)
class GuestPool:
    """A pool as guests see it.

    A guest's address belongs to the pool whose ranges hold it. An address in no pool's ranges is good as well
    if it lies in a pool's subnet and is not forbidden there: an admin may have reserved it by hand. The first
    such pool counts.

    Attributes:
        name: The pool's name.
        scheme: From MAC to address.
        subnet: Whose mask the guest configures.
        ranges: What the pool hands out, as few ranges as possible: its gateways by rule may lie inside.
        forbidden: Addresses of the subnet no machine may have: network, broadcast, gateways. Gateways by the
            pool's own rule do not stand here: an address that is its own gateway is no machine's.
        gateway: From address to gateway; None if the pool has none.
        dns: DNS servers, best first.
        search: The DNS domain.
    """

    name: str
    scheme: MacScheme
    subnet: IPv4Network
    ranges: tuple[AddressRange, ...]
    forbidden: tuple[IPv4Address, ...]
    gateway: GatewayRule | None
    dns: tuple[IPv4Address, ...]
    search: str | None

    @classmethod
    def of(cls, pool: Pool) -> GuestPool:
        """The facts of one pool."""
        options = pool.options.over(pool.subnet.options)
        own = [pool.gateways] if pool.gateways is not None and pool.gateways.own else []
        return cls(
            pool.name,
            pool.plan.scheme,
            pool.plan.subnet,
            tuple(pool.plan.joined(own)),
            tuple(sorted(_forbidden(pool))),
            pool.gateways,
            options.domain_name_servers,
            options.domain_name,
        )


def _forbidden(pool: Pool) -> frozenset[IPv4Address]:
    """What no machine may have and a guest cannot tell by its own gateway."""
    others = (rule for rule in pool.plan.rules if rule != pool.gateways)
    return pool.plan.forbidden.union(one for rule in others for one in rule.gateways(pool.plan.subnet))


def guest_pools(pools: Iterable[Pool]) -> tuple[GuestPool, ...]:
    """The facts of several pools, in the order given."""
    return tuple(GuestPool.of(pool) for pool in pools)
