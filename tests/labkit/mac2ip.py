"""The table that every mac2ip script must agree with: MACs, and what they stand for.

It is made from `MacScheme` and `GatewayRule`, so the scripts are checked against what the daemon does.
"""

import random
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from macbind.addressing import AddressPlan, AddressRange, MacAddress
from macbind.gateway import GatewayRule
from macbind.guest.facts import GuestPool

PER_SCHEME = 1_000
_SEED = 20_26


@dataclass(frozen=True, slots=True)
class Vector:
    """One MAC and what a guest with it must configure."""

    mac: MacAddress
    address: IPv4Address
    prefix_length: int
    gateway: IPv4Address

    @property
    def line(self) -> str:
        """``MAC ADDRESS/LENGTH GATEWAY``."""
        return f"{self.mac} {self.address}/{self.prefix_length} {self.gateway}"


def pool(name: str, subnet: str, prefix: str, rule: str) -> GuestPool:
    """A pool that is the whole of a subnet, with gateways by rule."""
    network, gateway = IPv4Network(subnet), GatewayRule.parse(rule)
    plan = AddressPlan.build(network, prefix, ranges=[AddressRange.of(network)])
    return GuestPool(
        name,
        plan.scheme,
        network,
        plan.assignable,
        tuple(sorted(plan.forbidden)),
        gateway,
        (IPv4Address(int(network[0]) + 53),),
        "farm.example.org",
    )


SCHEMES = (
    pool("seed", "10.0.0.0/8", "00:16:3e", "x.x.0.1"),
    pool("kvm", "192.168.0.0/16", "52:54:00", "x.x.x.254"),
    pool("wide", "172.16.0.0/12", "0a:58", "172.16.0.1"),
)


def vectors() -> list[Vector]:
    """A thousand random addresses of each of three schemes, always the same."""
    chance = random.Random(_SEED)
    return [
        Vector(one.scheme.encode(address), address, one.subnet.prefixlen, one.gateway.of(address))
        for one in SCHEMES
        if one.gateway is not None
        for address in (
            IPv4Address(chance.randint(int(one.subnet[1]), int(one.subnet[-2]))) for _ in range(PER_SCHEME)
        )
        if address != one.gateway.of(address)
    ]


def table() -> str:
    """The vectors as a file, a line each."""
    return "".join(f"{vector.line}\n" for vector in vectors())
