"""Addresses, MACs and the bijection between them.

This file decides which MAC belongs to which address and which addresses a pool may hand out. It knows no
socket, clock or database: values in, values out.

The MAC of an address is ``prefix`` + the low bytes of the address (24 bits for a three-byte prefix, 32 for a
two-byte one). Seen as 48-bit integers that is one addition, ``mac = offset + address``, so inverses, ranges
and collisions between pools are all questions about intervals of integers.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import total_ordering
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from itertools import pairwise
from typing import Any

from macbind.errors import ConfigError, InvalidAddress, NotInPool
from macbind.gateway import GatewayRule

_GROUPED = re.compile(r"[0-9a-f]{1,2}(?:([:-])[0-9a-f]{1,2})(?:\1[0-9a-f]{1,2}){4}")
_DOTTED = re.compile(r"[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}")
_BARE = re.compile(r"[0-9a-f]{12}")


@total_ordering
@dataclass(frozen=True, slots=True, repr=False)
class MacAddress:
    """An Ethernet hardware address, ordered by its 48-bit value.

    Reads ``00:16:3E:01:01:03``, ``0:16:3e:1:1:3``, ``00-16-3e-01-01-03``, ``0016.3e01.0103`` and
    ``00163e010103``; writes lower case with colons, as ``ip``, ``virsh`` and dhcpd do, so that one ``grep``
    finds a MAC everywhere.
    """

    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.value < 1 << 48:
            raise InvalidAddress(f"{self.value:#x} is not a 48-bit MAC address.")

    @classmethod
    def parse(cls, text: str) -> MacAddress:
        """Reads any common spelling.

        Raises:
            InvalidAddress: The text is none of the spellings above.
        """
        low = text.strip().lower()
        if _GROUPED.fullmatch(low):
            return cls(int("".join(part.zfill(2) for part in re.split("[:-]", low)), 16))
        if _DOTTED.fullmatch(low) or _BARE.fullmatch(low):
            return cls(int(low.replace(".", ""), 16))
        raise InvalidAddress(
            f"{text!r} is not a MAC address.", hint="Write six bytes in hexadecimal, as 00:16:3e:01:01:03."
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> MacAddress:
        """Reads exactly six bytes in network order."""
        if len(raw) != 6:
            raise InvalidAddress(f"A MAC address has 6 bytes, not {len(raw)}.")
        return cls(int.from_bytes(raw))

    def __bytes__(self) -> bytes:
        return self.value.to_bytes(6)

    def __str__(self) -> str:
        return bytes(self).hex(":")

    def __repr__(self) -> str:
        return f"MacAddress.parse({str(self)!r})"

    def __lt__(self, other: MacAddress) -> bool:
        return self.value < other.value

    @property
    def is_unicast(self) -> bool:
        """Whether it may be a network card's: not a group address, and not zero."""
        return not self.value >> 40 & 1 and self.value != 0

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        """Tells pydantic to read and write the text form, so that this type can stand in API models."""
        from pydantic_core import core_schema as cs

        return cs.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(str(value)),
            serialization=cs.to_string_ser_schema(),
            json_schema_input_schema=cs.str_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> dict[str, Any]:
        """The MAC's entry in the OpenAPI document."""
        return {"type": "string", "format": "mac", "examples": ["00:16:3e:01:01:03"]}


def parse_address(text: str) -> IPv4Address:
    """Reads one dotted-quad IPv4 address.

    Raises:
        InvalidAddress: The text is not one.
    """
    try:
        return IPv4Address(text.strip())
    except AddressValueError as error:
        raise InvalidAddress(
            f"{text!r} is not an IPv4 address.", hint="Write four decimal numbers, as 10.1.1.3."
        ) from error


def parse_network(text: str) -> IPv4Network:
    """Reads a network such as ``10.1.0.0/16``; host bits must be zero.

    Raises:
        InvalidAddress: The text is not one, or has host bits; the hint names the network meant.
    """
    try:
        return IPv4Network(text.strip())
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        hint = "Write address and prefix length, as 10.1.0.0/16."
        with suppress(ValueError):  # not a network in any reading: the general hint stands
            hint = f"Did you mean {IPv4Network(text.strip(), strict=False)}?"
        raise InvalidAddress(f"{text!r} is not an IPv4 network.", hint=hint) from error


@dataclass(frozen=True, slots=True, order=True)
class AddressRange:
    """Addresses ``lo`` to ``hi``, both included."""

    lo: IPv4Address
    hi: IPv4Address

    def __post_init__(self) -> None:
        if self.lo > self.hi:
            raise InvalidAddress(
                f"The range {self.lo}-{self.hi} runs backwards.", hint=f"Write {self.hi}-{self.lo}."
            )

    @classmethod
    def parse(cls, text: str) -> AddressRange:
        """Reads ``10.1.1.1-10.1.1.9``, ``10.1.1.1 - 10.1.1.9``, ``10.1.1.0/24`` or one address.

        Raises:
            InvalidAddress: The text is none of these.
        """
        if "/" in text:
            network = parse_network(text)
            return cls(network[0], network[-1])
        lo, dash, hi = text.partition("-")
        return cls(parse_address(lo), parse_address(hi if dash else lo))

    @classmethod
    def of(cls, network: IPv4Network) -> AddressRange:
        """The whole of a network, its network and broadcast address included."""
        return cls(network[0], network[-1])

    def __contains__(self, address: IPv4Address) -> bool:
        return self.lo <= address <= self.hi

    def __len__(self) -> int:
        return int(self.hi) - int(self.lo) + 1

    def __iter__(self) -> Iterator[IPv4Address]:
        return map(IPv4Address, range(int(self.lo), int(self.hi) + 1))

    def __str__(self) -> str:
        return str(self.lo) if self.lo == self.hi else f"{self.lo}-{self.hi}"

    def overlaps(self, other: AddressRange) -> bool:
        """Whether any address lies in both."""
        return self.lo <= other.hi and other.lo <= self.hi


def merge(ranges: Iterable[AddressRange]) -> tuple[AddressRange, ...]:
    """The same addresses as sorted, disjoint ranges that do not touch."""
    merged: list[AddressRange] = []
    for item in sorted(ranges):
        if merged and int(item.lo) <= int(merged[-1].hi) + 1:
            merged[-1] = AddressRange(merged[-1].lo, max(merged[-1].hi, item.hi))
        else:
            merged.append(item)
    return tuple(merged)


def subtract(ranges: Iterable[AddressRange], holes: Iterable[AddressRange]) -> tuple[AddressRange, ...]:
    """The addresses of ``ranges`` that lie in none of ``holes``, as sorted, disjoint ranges."""
    blocked = merge(holes)
    left: list[AddressRange] = []
    at = 0  # the first hole that may reach into what follows
    for item in merge(ranges):
        lo, hi = int(item.lo), int(item.hi)
        while at < len(blocked) and int(blocked[at].lo) <= hi:
            hole = blocked[at]
            if lo < int(hole.lo):
                left.append(AddressRange(IPv4Address(lo), IPv4Address(int(hole.lo) - 1)))
            lo = max(lo, int(hole.hi) + 1)
            if lo > hi:
                break
            at += 1
        if lo <= hi:
            left.append(AddressRange(IPv4Address(lo), IPv4Address(hi)))
    return tuple(left)


def by_gateway(
    rule: GatewayRule, ranges: Iterable[AddressRange]
) -> Iterator[tuple[IPv4Address, AddressRange]]:
    """The ranges in their order, cut into pieces whose addresses have one gateway, each with that gateway."""
    step = rule.own & -rule.own  # so many addresses in a row have one
    for item in ranges:
        lo, last = int(item.lo), int(item.hi)
        while lo <= last:
            hi = min(last, lo | (step - 1)) if step else last
            piece = AddressRange(IPv4Address(lo), IPv4Address(hi))
            yield rule.of(piece.lo), piece
            lo = hi + 1


@dataclass(frozen=True, slots=True)
class MacScheme:
    """The bijection between addresses and MACs: ``mac = offset + address``.

    Attributes:
        prefix: Two or three leading MAC bytes.
        domain: The addresses it is defined for: one /8 for a three-byte prefix (whose MAC carries 24 bits
            only, so the first byte of the address must be known), all of IPv4 for a two-byte prefix.
    """

    prefix: bytes
    domain: AddressRange
    offset: int = field(init=False)

    def __post_init__(self) -> None:
        bits = 48 - 8 * len(self.prefix)
        base = int(self.domain.lo) >> bits << bits
        object.__setattr__(self, "offset", (int.from_bytes(self.prefix) << bits) - base)

    @classmethod
    def for_subnet(cls, prefix: str, subnet: IPv4Network) -> MacScheme:
        """The scheme with this textual prefix (``00:16:3e``, ``52:54:00``, ``0a:58``) for a subnet.

        Raises:
            InvalidAddress: The prefix is not two or three bytes, is a multicast prefix, is a two-byte prefix
                that is not locally administered, or the subnet is too large for it.
        """
        compact = re.sub("[:.-]", "", prefix.strip().lower())
        if not re.fullmatch("[0-9a-f]{4}|[0-9a-f]{6}", compact):
            raise InvalidAddress(
                f"{prefix!r} is not a MAC prefix.", hint="Write two or three bytes, as 00:16:3e or 0a:58."
            )
        raw = bytes.fromhex(compact)
        if raw[0] & 1:
            raise InvalidAddress(
                f"The MAC prefix {raw.hex(':')} is a multicast prefix, which no network card may have.",
                hint=f"Use an even first byte, as {bytes([raw[0] ^ 1, *raw[1:]]).hex(':')}.",
            )
        if len(raw) == 2 and not raw[0] & 2:
            raise InvalidAddress(
                f"The two-byte MAC prefix {raw.hex(':')} is not locally administered, "
                "so its MACs may belong to real network cards.",
                hint=f"Use {bytes([raw[0] | 2, raw[1]]).hex(':')}, or a three-byte prefix.",
            )
        if len(raw) == 2:
            return cls(raw, AddressRange(IPv4Address(0), IPv4Address(0xFFFFFFFF)))
        if subnet.prefixlen < 8:
            raise InvalidAddress(
                f"The subnet {subnet} is larger than a /8, so the 24 bits that follow the prefix "
                f"{raw.hex(':')} would name several of its addresses.",
                hint="Use a two-byte MAC prefix such as 0a:58, which carries the whole address.",
            )
        return cls(raw, AddressRange.of(subnet.supernet(new_prefix=8)))

    @property
    def text(self) -> str:
        """The prefix as written in the configuration."""
        return self.prefix.hex(":")

    def encode(self, address: IPv4Address) -> MacAddress:
        """The MAC of an address.

        Raises:
            NotInPool: The address is outside the scheme's domain.
        """
        if address not in self.domain:
            raise NotInPool(
                f"The MAC prefix {self.text} cannot carry {address}: it stands for {self.domain}."
            )
        return MacAddress(self.offset + int(address))

    def decode(self, mac: MacAddress) -> IPv4Address:
        """The address of a MAC; the inverse of :meth:`encode`.

        Raises:
            InvalidAddress: The MAC has another prefix.
        """
        value = mac.value - self.offset
        if not int(self.domain.lo) <= value <= int(self.domain.hi):
            raise InvalidAddress(f"{mac} does not begin with the MAC prefix {self.text}.")
        return IPv4Address(value)


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
