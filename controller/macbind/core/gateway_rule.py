"""Which gateway a machine has, by a rule over its own address.

A farm with one subnet may have a gateway per /16 or per /24 of it. The rule says which: ``x.x.0.1`` gives the
machine ``10.3.7.9`` the gateway ``10.3.0.1``. Every ``x`` stands for the machine's own octet at that place.
Pure, and simple enough for a shell: per octet, one choice.

As integers that is one mask: ``gateway = address & own | fixed``. So a gateway is its own gateway, and whether an
address is one for somebody is one comparison, however many a rule makes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from macbind.core.errors import InvalidAddress

_OWN = "x"


@dataclass(frozen=True, slots=True)
class GatewayRule:
    """Four octets, each a number or the machine's own.

    Attributes:
        octets: From the left; None stands for the machine's own octet.
        own: The bits of a gateway that are the machine's own, as a mask.
        fixed_bits: All other bits of a gateway.
    """

    octets: tuple[int | None, int | None, int | None, int | None]
    own: int = field(init=False, repr=False, compare=False)
    fixed_bits: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        own = bytes(255 if octet is None else 0 for octet in self.octets)
        object.__setattr__(self, "own", int.from_bytes(own))
        object.__setattr__(self, "fixed_bits", int.from_bytes(bytes(octet or 0 for octet in self.octets)))

    @classmethod
    def parse(cls, text: str) -> GatewayRule:
        """Reads ``x.x.0.1`` or ``10.1.0.1``.

        Raises:
            InvalidAddress: The text is neither.
        """
        parts = text.strip().lower().split(".", 4)
        octets = [None if part == _OWN else _octet(part) for part in parts]
        if len(octets) != 4 or -1 in octets or octets[3] is None:
            raise InvalidAddress(
                f"{text!r} is no rule for a gateway.",
                hint="Write four octets, x for the machine's own, as x.x.0.1; the last one is a number.",
            )
        return cls((octets[0], octets[1], octets[2], octets[3]))

    @classmethod
    def fixed(cls, gateway: IPv4Address) -> GatewayRule:
        """The rule that gives every machine this gateway."""
        first, second, third, fourth = gateway.packed
        return cls((first, second, third, fourth))

    def of(self, address: IPv4Address) -> IPv4Address:
        """The gateway of the machine with this address."""
        return IPv4Address(int(address) & self.own | self.fixed_bits)

    def is_gateway(self, address: IPv4Address) -> bool:
        """Whether this is the gateway of some machine, and thereby its own."""
        return int(address) & ~self.own == self.fixed_bits

    def count(self, network: IPv4Network) -> int:
        """How many gateways the addresses of a network have together."""
        return 1 << (self.own & int(network.hostmask)).bit_count()

    def gateways(self, network: IPv4Network) -> Iterator[IPv4Address]:
        """The gateways of all addresses of a network, lowest first; they lie all inside of it, or all outside."""
        base = int(network.network_address) & self.own | self.fixed_bits
        free = self.own & int(network.hostmask)
        rest = 0
        while True:
            yield IPv4Address(base | rest)
            rest = (rest - free) & free  # the next number that has no bits but these
            if not rest:
                return

    def __str__(self) -> str:
        return ".".join(_OWN if octet is None else str(octet) for octet in self.octets)


def _octet(text: str) -> int:
    """The octet a decimal number names, without leading zeros; -1 if it names none."""
    if text.isascii() and text.isdecimal() and str(int(text[:4])) == text and int(text) < 256:
        return int(text)
    return -1
