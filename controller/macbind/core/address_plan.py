"""Which addresses a pool may hand out, and which pools could meet in one MAC."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise

from macbind.core.address_range import AddressRange, by_gateway, subtract
from macbind.core.errors import ConfigError, InvalidAddress
from macbind.core.gateway_rule import GatewayRule
from macbind.core.mac_address import MacAddress
from macbind.core.mac_scheme import MacScheme


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """Which addresses of a subnet a pool hands out, and which MAC each of them has.

    Attributes:
        subnet: The network the machines are on.
        assignable: What ``allocate`` may hand out: sorted, disjoint ranges without exclusions, network
            address, broadcast address and gateways.
        forbidden: Addresses nobody may be given: network address, broadcast address, gateways with an address of
            their own. More are by ``rules``: ask :meth:`forbids`.
        scheme: The MAC of each address of the subnet.
        rules: Gateways by rule, of this pool's machines and of others on the subnet.
    """

    subnet: IPv4Network
    assignable: tuple[AddressRange, ...]
    forbidden: frozenset[IPv4Address]
    scheme: MacScheme
    rules: tuple[GatewayRule, ...] = ()

    @classmethod
    def build(
        cls,
        subnet: IPv4Network,
        prefix: str,
        *,
        ranges: Sequence[AddressRange] = (),
        exclude: Sequence[AddressRange] = (),
        gateways: Iterable[IPv4Address] = (),
        rules: Iterable[GatewayRule] = (),
    ) -> AddressPlan:
        """Checks and combines a pool's parts; without ``ranges`` the whole subnet is meant.

        Raises:
            InvalidAddress: A range lies outside the subnet, ranges overlap, the subnet is too small, or
                nothing is left to hand out.
        """
        if subnet.prefixlen > 30:
            raise InvalidAddress(
                f"The subnet {subnet} has no room for machines.", hint="Use a /30 or larger."
            )
        whole = AddressRange.of(subnet)
        for item in (*ranges, *exclude):
            if item.lo not in whole or item.hi not in whole:
                raise InvalidAddress(
                    f"The range {item} is not inside the subnet {subnet}.", hint=f"It spans {whole}."
                )
        ordered = sorted(ranges)
        for left, right in pairwise(ordered):
            if left.overlaps(right):
                raise InvalidAddress(
                    f"The ranges {left} and {right} overlap.", hint="Name every address once."
                )
        forbidden = frozenset({subnet.network_address, subnet.broadcast_address, *gateways})
        holes = [*exclude, *(AddressRange(one, one) for one in forbidden)]
        kept = tuple(dict.fromkeys(rules))
        for rule in kept:
            pieces = by_gateway(rule, ordered or (whole,))
            holes += (AddressRange(gateway, gateway) for gateway, piece in pieces if gateway in piece)
        assignable = subtract(ranges or (whole,), holes)
        if not assignable:
            raise InvalidAddress(
                f"No address of {subnet} is left to hand out.", hint="Widen the ranges or exclude less."
            )
        return cls(subnet, assignable, forbidden, MacScheme.for_subnet(prefix, subnet), kept)

    @property
    def size(self) -> int:
        """How many addresses ``allocate`` may hand out."""
        return sum(map(len, self.assignable))

    def __contains__(self, address: IPv4Address) -> bool:
        after = bisect_right(self.assignable, address, key=lambda item: item.lo)
        return after > 0 and address <= self.assignable[after - 1].hi

    def forbids(self, address: IPv4Address) -> bool:
        """Whether nobody may be given this address, neither by ``allocate`` nor by hand."""
        return address in self.forbidden or any(rule.is_gateway(address) for rule in self.rules)

    def joined(self, rules: Sequence[GatewayRule]) -> Iterator[AddressRange]:
        """What ``allocate`` may hand out as few ranges: gateways by these rules do not part them."""
        last = self.assignable[0]
        for item in self.assignable[1:]:
            gap = range(int(last.hi) + 1, int(item.lo))
            if len(gap) <= len(rules) and all(
                any(rule.is_gateway(IPv4Address(one)) for rule in rules) for one in gap
            ):
                last = AddressRange(last.lo, item.hi)
            else:
                yield last
                last = item
        yield last

    def assignable_of(self, mac: MacAddress) -> IPv4Address | None:
        """The address ``allocate`` may hand out with this MAC, if there is one."""
        address = mac.value - self.scheme.offset
        if int(self.subnet[0]) <= address <= int(self.subnet[-1]) and IPv4Address(address) in self:
            return IPv4Address(address)
        return None

    def first_overlap(self, other: AddressPlan) -> AddressRange | None:
        """The first range of addresses both plans hand out, if there is one."""
        mine, theirs = 0, 0
        while mine < len(self.assignable) and theirs < len(other.assignable):
            one, two = self.assignable[mine], other.assignable[theirs]
            if one.overlaps(two):
                return AddressRange(max(one.lo, two.lo), min(one.hi, two.hi))
            if one.hi < two.hi:
                mine += 1
            else:
                theirs += 1
        return None

    def first_mac_collision(self, other: AddressPlan) -> tuple[IPv4Address, IPv4Address, MacAddress] | None:
        """Two different addresses, one of each subnet, that would get one MAC.

        Equal offsets map equal addresses to equal MACs and nothing else; with different offsets every MAC in
        the intersection of the two images belongs to two addresses.
        """
        if self.scheme.offset == other.scheme.offset:
            return None
        mac = max(
            int(self.subnet[0]) + self.scheme.offset,
            int(other.subnet[0]) + other.scheme.offset,
        )
        if mac > min(
            int(self.subnet[-1]) + self.scheme.offset,
            int(other.subnet[-1]) + other.scheme.offset,
        ):
            return None
        shared = MacAddress(mac)
        return self.scheme.decode(shared), other.scheme.decode(shared), shared


def check_plans(plans: Sequence[tuple[str, AddressPlan]]) -> None:
    """Refuses pools that could give one address, or one MAC, to two machines.

    Args:
        plans: Pairs of pool name and plan.

    Raises:
        ConfigError: Two pools overlap or their schemes meet in a MAC; both are named.
    """
    for index, (name, plan) in enumerate(plans):
        for other_name, other in plans[:index]:
            overlap = plan.first_overlap(other)
            if overlap is not None:
                raise ConfigError(
                    f"The pools '{other_name}' and '{name}' overlap: both hand out {overlap}.",
                    hint="Give every address to one pool only.",
                    pool=name,
                    key="ranges",
                )
            if plan.subnet != other.subnet and plan.subnet.overlaps(other.subnet):
                raise ConfigError(
                    f"The pools '{other_name}' and '{name}' are on subnets that overlap without being the "
                    f"same: {other.subnet} and {plan.subnet}.",
                    hint="dhcpd serves an address from one subnet only; use one subnet for both pools.",
                    pool=name,
                    key="subnet",
                )
            collision = plan.first_mac_collision(other)
            if collision is not None:
                mine, theirs, mac = collision
                raise ConfigError(
                    f"The pools '{other_name}' and '{name}' could meet in one MAC: {theirs} and {mine} "
                    f"would both be {mac}.",
                    hint="Give one of them another mac_prefix, such as 52:54:00, 0a:58 or 02:00.",
                    pool=name,
                    key="mac_prefix",
                )
