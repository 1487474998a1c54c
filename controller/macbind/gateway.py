"""Which gateway a machine has, by a rule over its own address.

A farm with one subnet may have a gateway per /16 or per /24 of it. The rule says which: ``x.x.0.1`` gives the
machine ``10.3.7.9`` the gateway ``10.3.0.1``. Every ``x`` stands for the machine's own octet at that place.
Pure, and simple enough for a shell: per octet, one choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from macbind.errors import InvalidAddress

_OWN = "x"


@dataclass(frozen=True, slots=True)
class GatewayRule:
    """Four octets, each a number or the machine's own.

    Attributes:
        octets: From the left; None stands for the machine's own octet.
    """

    octets: tuple[int | None, int | None, int | None, int | None]

    @classmethod
    def parse(cls, text: str) -> GatewayRule:
        """Reads ``x.x.0.1`` or ``10.1.0.1``.

        Raises:
            InvalidAddress: The text is neither.
        """
        parts = text.strip().lower().split(".")
        octets = [None if part == _OWN else _octet(part) for part in parts]
        if len(octets) != 4 or -1 in octets or octets[3] is None:
            raise InvalidAddress(
                f"{text!r} is not a rule for gateways.",
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
        pairs = zip(self.octets, address.packed, strict=True)
        return IPv4Address(bytes(own if octet is None else octet for octet, own in pairs))

    def __str__(self) -> str:
        return ".".join(_OWN if octet is None else str(octet) for octet in self.octets)


def _octet(text: str) -> int:
    """The octet a decimal number names, without leading zeros; -1 if it names none."""
    if text.isascii() and text.isdecimal() and str(int(text[:4])) == text and int(text) < 256:
        return int(text)
    return -1
