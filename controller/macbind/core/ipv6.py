"""The IPv6 addresses a machine makes from its MAC, known before it boots.

A machine puts its MAC, stretched to 64 bits, behind a prefix: behind fe80::/64 for its link-local address
(RFC 4291 appendix A), and behind the /64 that a router advertises (SLAAC, RFC 4862). So both are known as soon as
the MAC is. A machine that makes its addresses in another way (RFC 7217, RFC 8981) has others. Pure.
"""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

from macbind.core.errors import InvalidAddress
from macbind.core.mac_address import MacAddress

_LINK_LOCAL = int(IPv6Address("fe80::"))
_UNIVERSAL = 0x02 << 56
"""The bit that EUI-64 turns around: set where the MAC is one of the world's, not a local one."""
_MIDDLE = 0xFFFE << 24


def interface_id(mac: MacAddress) -> int:
    """The 64 bits a machine makes from its MAC (modified EUI-64)."""
    high, low = mac.value >> 24, mac.value & 0xFFFFFF
    return (high << 40 | _MIDDLE | low) ^ _UNIVERSAL


def link_local(mac: MacAddress) -> IPv6Address:
    """The link-local address of the machine with this MAC."""
    return IPv6Address(_LINK_LOCAL | interface_id(mac))


def slaac(prefix: IPv6Network, mac: MacAddress) -> IPv6Address:
    """The address the machine with this MAC makes where a router advertises this /64."""
    return IPv6Address(int(prefix.network_address) | interface_id(mac))


def mac_of(address: IPv6Address) -> MacAddress | None:
    """The MAC an address was made from; None if it was made from none."""
    low = int(address) & ((1 << 64) - 1)
    if low & (0xFFFF << 24) != _MIDDLE:
        return None
    low ^= _UNIVERSAL
    return MacAddress(low >> 40 << 24 | low & 0xFFFFFF)


def parse_prefix(text: str) -> IPv6Network:
    """Reads the /64 a router advertises, such as ``2001:db8:1::/64``.

    Raises:
        InvalidAddress: The text is none, or machines cannot make addresses of it.
    """
    try:
        network = IPv6Network(text.strip(), strict=False)
    except ValueError as error:
        raise InvalidAddress(
            f"{text!r} is not an IPv6 prefix.", hint="Write address and prefix length, as 2001:db8:1::/64."
        ) from error
    if network.is_link_local or network.is_multicast or network[0].is_unspecified:
        kind = "link-local" if network.is_link_local else "multicast" if network.is_multicast else "reserved"
        raise InvalidAddress(
            f"The IPv6 prefix {network} is {kind}: no router advertises it.",
            hint="Write a global prefix or a unique local one, as 2001:db8:1::/64 or fd00:1::/64. The link-local "
            "address needs none.",
        )
    if network.prefixlen != 64:
        raise InvalidAddress(
            f"The IPv6 prefix {text.strip()} is not a /64, and machines make addresses in no other (RFC 4862).",
            hint=f"Write the /64 that the router advertises, as {network[0]}/64.",
        )
    if IPv6Address(text.strip().partition("/")[0]) != network[0]:
        raise InvalidAddress(f"{text!r} is an address, not a prefix.", hint=f"Did you mean {network}?")
    return network
