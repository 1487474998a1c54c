"""The table that every mac2ip script must agree with: MACs, and what they stand for.

It is made from `MacScheme` and `GatewayRule`, so the scripts are checked against what the daemon does.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from macbind.core.address_plan import AddressPlan
from macbind.core.address_range import AddressRange
from macbind.core.errors import InvalidAddress
from macbind.core.gateway_rule import GatewayRule
from macbind.core.mac_address import MacAddress
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


PARTS = replace(
    SCHEMES[0],
    name="the farm's 2nd & last, 100%",
    ranges=tuple(map(AddressRange.parse, ("10.1.1.1-10.1.1.9", "10.1.2.0/24"))),
    subnet=IPv4Network("10.1.0.0/16"),
    forbidden=tuple(map(IPv4Address, ("10.1.0.0", "10.1.255.255", "10.1.7.7"))),
)
"""A pool of two ranges, with a forbidden address outside of them and a name that no comment may contain."""


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


def several() -> list[GuestPool]:
    """Two pools on one subnet and one beside, with holes, gateways of others, and a pool without a gateway."""
    first = pool("first", "10.1.0.0/16", "00:16:3e", "10.1.0.1")
    ranges = tuple(map(AddressRange.parse, ("10.1.1.1-10.1.1.99", "10.1.1.101-10.1.9.255")))
    second = replace(
        first, name="second", ranges=(AddressRange.parse("10.1.10.0-10.1.255.254"),), gateway=None
    )
    forbidden = tuple(map(IPv4Address, ("10.1.0.0", "10.1.0.1", "10.1.255.255")))
    other = pool("other", "203.0.113.128/25", "0a:58", "x.x.x.254")
    others = (GatewayRule.parse("x.x.x.7"), GatewayRule.parse("x.x.12.9"))
    return [
        replace(first, ranges=ranges, forbidden=forbidden, others=others[:1]),
        replace(second, forbidden=forbidden, others=others),
        other,
    ]


def edges(pools: Sequence[GuestPool]) -> list[MacAddress]:
    """The MACs on both sides of each edge of pools, subnets and prefixes, and some of anywhere."""
    chance = random.Random(7)
    values: set[int] = set()
    for one in pools:
        spots = [one.subnet[0], one.subnet[-1], *one.forbidden]
        spots += [rule.of(part.lo) for rule in one.others for part in one.ranges]
        spots += [end for part in one.ranges for end in (part.lo, part.hi)]
        for spot in spots:
            values |= {one.scheme.offset + int(spot) + step for step in (-256, -1, 0, 1, 256)}
        start = int.from_bytes(one.scheme.prefix) << (48 - 8 * len(one.scheme.prefix))
        values |= {start - 1, start, start + (1 << 24) - 1, start + (1 << 24), start + (1 << 32)}
        values |= {start + chance.getrandbits(24) for _ in range(50)}
    return [MacAddress(value) for value in sorted(values) if 0 <= value < 1 << 48]


def expected(pools: Sequence[GuestPool], mac: MacAddress) -> str:
    """What a script must print for a MAC, by what `GuestPool` says of addresses; - for a refusal."""

    def addresses(one: GuestPool) -> list[IPv4Address]:
        try:
            return [one.scheme.decode(mac)] if mac.is_unicast else []
        except InvalidAddress:
            return []

    handed_out = [(one, a) for one in pools for a in addresses(one) if any(a in part for part in one.ranges)]
    by_hand = [
        (one, a) for one in pools for a in addresses(one) if a in one.subnet and a not in one.forbidden
    ]
    for one, address in (*handed_out, *by_hand):
        gateway = one.gateway.of(address) if one.gateway else None
        if address != gateway and not any(rule.is_gateway(address) for rule in one.others):
            return f"{address}/{one.subnet.prefixlen} {gateway or '-'}"
    return "-"


def table() -> str:
    """The vectors as a file, a line each."""
    return "".join(f"{vector.line}\n" for vector in vectors())


@dataclass(frozen=True, slots=True)
class Decision:
    """A line of a Windows script: conditions, and what is set if they hold; `$name` stands for a variable's value."""

    conditions: tuple[str, ...]
    name: str
    value: str


def batch_decisions(text: str) -> list[Decision]:
    """The decisions of a batch file, first its sums; the words are PowerShell's."""
    made = []
    for name, sum_ in re.findall(r"([PN]\d?)=((?:B\d\*?\d*\+?)+)", text):
        made.append(Decision((), name, sum_))
    for line in re.findall(r'^(if .*) set "(HIT|WHY|STATUS|FACTS)=(.*)"\r?$', text, re.MULTILINE):
        conditions = [
            f"-not ${unset}"
            if unset
            else f"${same} -eq '{value}'"
            if same
            else f"${name} {_WORDS[word]} {number}"
            for unset, same, value, name, word, number in _BATCH.findall(line[0])
        ]
        made.append(Decision(tuple(conditions), line[1], re.sub(r"%(\w+)%", r"$\1", line[2])))
    return sorted(
        made, key=lambda one: one.name == "FACTS"
    )  # these come last, wherever they stand in the file


def powershell_decisions(text: str) -> list[Decision]:
    """The decisions of a PowerShell script, first its sums."""
    made = [
        Decision((), name, value.replace("$", ""))
        for name, value in re.findall(r"^ +\$([PN]\d?) = (\S+)\r?$", text, re.MULTILINE)
    ]
    for conditions, name, value in re.findall(
        r'^ +if \((.*)\) \{ \$(HIT|WHY|STATUS|FACTS) = "(.*)" \}\r?$', text, re.MULTILINE
    ):
        made.append(Decision(tuple(conditions.split(" -and ")), name, value))
    return made


_WORDS = {"GEQ": "-ge", "LEQ": "-le"}
_BATCH = re.compile(r'if (?:not defined (\w+)|"%(\w+)%"=="(\w+)"|%(\w+)% (GEQ|LEQ) (\d+))(?= |$)')
