"""Bindings: what a DHCP server holds for an allocation.

The name of a binding is the fence between generations. It carries our prefix, the address and the generation of
the allocation. So a late message about a former holder can never touch its successor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from ipaddress import IPv4Address

from macbind.core.dhcp_options import NO_OPTIONS, DhcpOptions
from macbind.core.mac_address import MacAddress

BINDING_PREFIX = "macbind-"
"""How the name of every binding of ours begins."""
STATIC_BINDING_PREFIX = f"{BINDING_PREFIX}static-"
"""Bindings of static pools; :func:`binding_name` never makes such a name."""
PROBE_BINDING = f"{BINDING_PREFIX}probe"
"""The binding that a probe asks for; its MAC and address are nobody's."""
_NAME = re.compile(re.escape(BINDING_PREFIX) + r"([0-9.]{7,15})-g([1-9][0-9]*)")


def probe_mac(dhcpd: str) -> MacAddress:
    """The MAC that asks this DHCP server whether it answers.

    It is locally administered, and another one for each name, so that of two servers on one network the right one
    answers.
    """
    return MacAddress.from_bytes(b"\x02\x6d\x62" + sha256(dhcpd.encode()).digest()[:3])


@dataclass(frozen=True, slots=True)
class Binding:
    """What a DHCP server holds for one MAC.

    Attributes:
        name: Its name; ours are made by :func:`binding_name`.
        mac: The Ethernet address that it is for.
        address: The address that it gives; None if it gives none.
        options: What the server tells this machine beyond its subnet. A server does not show them again, so they
            are not observed: equal names mean equal options, because every change of an allocation makes a new
            generation and thereby a new name.
    """

    name: str
    mac: MacAddress
    address: IPv4Address | None
    options: DhcpOptions = NO_OPTIONS

    @property
    def owner(self) -> tuple[IPv4Address, int] | None:
        """Address and generation if the binding is ours, else None."""
        return owner_of(self.name)

    def serves_as(self, other: Binding) -> bool:
        """Whether a machine is served the same by this binding as by ``other``."""
        return (self.name, self.mac, self.address) == (other.name, other.mac, other.address)


def owner_of(name: str) -> tuple[IPv4Address, int] | None:
    """Address and generation if a binding of this name is ours, else None."""
    match = _NAME.fullmatch(name)
    try:
        return (IPv4Address(match[1]), int(match[2])) if match else None
    except ValueError:  # not an address, e.g. macbind-999.1.1.1-g1: somebody else's
        return None


def binding_name(address: IPv4Address, generation: int) -> str:
    """The name of the binding that makes this generation of an address real."""
    return f"{BINDING_PREFIX}{address}-g{generation}"


@dataclass(frozen=True, slots=True)
class Lease:
    """A DHCP server's record of a dynamic address.

    Attributes:
        address: The leased address.
        state: ``active`` while a machine may use it; every other state is the server's own word.
        mac: The client, if the record names an Ethernet address.
        ends: When it ends (UTC); None for a lease that never ends.
    """

    address: IPv4Address
    state: str
    mac: MacAddress | None = None
    ends: datetime | None = None
