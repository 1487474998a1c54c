"""What a script inside a guest must know of the pools to find its address by itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from macbind.core.address_range import AddressRange
from macbind.core.gateway_rule import GatewayRule
from macbind.core.mac_scheme import MacScheme
from macbind.core.pool import Pool


@dataclass(frozen=True, slots=True)
class GuestPool:
    """A pool as guests see it.

    A guest's address belongs to the pool whose ranges hold it. An address in no pool's ranges is good as well
    if it lies in a pool's subnet and is not forbidden there: an admin may have reserved it by hand. The first
    such pool counts. In any case an address that is a gateway by a rule is no machine's. There may be thousands
    of these, so guests are told the rules.

    Attributes:
        name: The pool's name.
        scheme: From MAC to address.
        subnet: Whose mask the guest configures.
        ranges: What the pool hands out, as few ranges as possible: gateways by rule may lie inside.
        forbidden: Addresses of the subnet no machine may have: network, broadcast, gateways not made by a rule.
        gateway: From address to gateway; None if the pool has none. A gateway is its own gateway.
        dns: DNS servers, best first.
        search: The DNS domain.
        others: Rules by which other pools of the subnet have their gateways.
    """

    name: str
    scheme: MacScheme
    subnet: IPv4Network
    ranges: tuple[AddressRange, ...]
    forbidden: tuple[IPv4Address, ...]
    gateway: GatewayRule | None
    dns: tuple[IPv4Address, ...]
    search: str | None
    others: tuple[GatewayRule, ...] = ()

    @classmethod
    def of(cls, pool: Pool) -> GuestPool:
        """The facts of one pool."""
        options = pool.options.over(pool.subnet.options)
        rules = [rule for rule in pool.plan.rules if rule.own]
        return cls(
            pool.name,
            pool.plan.scheme,
            pool.plan.subnet,
            tuple(pool.plan.joined(rules)),
            tuple(sorted(_forbidden(pool))),
            pool.default_gateway_rule,
            options.domain_name_servers,
            options.domain_name,
            tuple(rule for rule in rules if rule != pool.default_gateway_rule),
        )


def _forbidden(pool: Pool) -> frozenset[IPv4Address]:
    """What no machine may have and a guest cannot tell by its own gateway."""
    fixed = (rule for rule in pool.plan.rules if not rule.own and rule != pool.default_gateway_rule)
    return pool.plan.forbidden.union(one for rule in fixed for one in rule.gateways(pool.plan.subnet))


def guest_pools(pools: Iterable[Pool]) -> tuple[GuestPool, ...]:
    """The facts of several pools, in the order given."""
    return tuple(GuestPool.of(pool) for pool in pools)
