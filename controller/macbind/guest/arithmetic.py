"""The arithmetic that every script shares: which addresses are in a range, by the bytes of the MAC. Pure.

Shells and `cmd` may compute with 32 bits and a sign. So a script looks at an address as two numbers. ``N`` is its
last 24 bits, the last three bytes of the MAC. ``B3`` is its first octet, the third byte of the MAC if the prefix has
two bytes. With a prefix of three bytes the first octet is the same for the whole pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from macbind.core.address_range import AddressRange
from macbind.core.gateway_rule import GatewayRule
from macbind.guest.facts import GuestPool

_LOW = (1 << 24) - 1


@dataclass(frozen=True, slots=True)
class Between:
    """The condition that a number, ``B3`` or ``N``, is from ``lo`` to ``hi``."""

    name: str
    lo: int
    hi: int


def inside(pool: GuestPool, item: AddressRange) -> Iterator[tuple[Between, ...]]:
    """The address is in the range if all conditions of one of these tuples hold."""
    lo, hi = divmod(int(item.lo), _LOW + 1), divmod(int(item.hi), _LOW + 1)
    if not carries_all(pool):
        yield (Between("N", lo[1], hi[1]),)
    elif lo[0] == hi[0]:
        yield Between("B3", lo[0], lo[0]), Between("N", lo[1], hi[1])
    else:
        yield Between("B3", lo[0], lo[0]), Between("N", lo[1], _LOW)
        if hi[0] - lo[0] > 1:
            yield (Between("B3", lo[0] + 1, hi[0] - 1),)
        yield Between("B3", hi[0], hi[0]), Between("N", 0, hi[1])


def carries_all(pool: GuestPool) -> bool:
    """Whether the MAC carries all four octets, and not only the last three."""
    return len(pool.scheme.prefix) == 2


def octets(pool: GuestPool, before: str, after: str = "") -> list[str]:
    """The octets of the machine's address: numbers, and bytes of the MAC as a script names them."""
    first = f"{before}3{after}" if carries_all(pool) else str(int(pool.scheme.domain.lo) >> 24)
    return [first, *(f"{before}{byte}{after}" for byte in (4, 5, 6))]


def gateway_of(rule: GatewayRule, own: list[str]) -> str:
    """The gateway by the rule, for the octets of an address."""
    pairs = zip(rule.octets, own, strict=True)
    return ".".join(mine if octet is None else str(octet) for octet, mine in pairs)
