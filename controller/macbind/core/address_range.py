"""IPv4 addresses, networks and ranges: reading them, and sets of ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError

from macbind.core.errors import InvalidAddress
from macbind.core.gateway_rule import GatewayRule


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
