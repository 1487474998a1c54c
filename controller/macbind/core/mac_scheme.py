"""The bijection between addresses and MACs.

The MAC of an address is ``prefix`` + the low bytes of the address (24 bits for a three-byte prefix, 32 for a
two-byte one). Seen as 48-bit integers that is one addition, ``mac = offset + address``, so inverses, ranges
and collisions between pools are all questions about intervals of integers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from macbind.core.address_range import AddressRange
from macbind.core.errors import InvalidAddress, NotInPool
from macbind.core.mac_address import MacAddress


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
