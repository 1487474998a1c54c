"""Free space of a pool, as ranges."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address


@dataclass(frozen=True, slots=True)
class FreeRange:
    """Addresses in a row that ``allocate`` can take.

    Attributes:
        pool: The pool.
        lo, hi: The first and the last of them.
        size: How many they are.
    """

    pool: str
    lo: IPv4Address
    hi: IPv4Address
    size: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", int(self.hi) - int(self.lo) + 1)


@dataclass(frozen=True, slots=True)
class FreePage:
    """Free ranges in the order of their addresses.

    Attributes:
        ranges: The ranges.
        next: The address after which the next page begins; None if this page is the last.
    """

    ranges: list[FreeRange]
    next: IPv4Address | None = None
