"""What dhcpd's log says of machines: who asked for what, and who was given it.

A line about a machine has text of the machine's own choice in it, its host name, in parentheses behind the MAC. It
may contain anything printable, parentheses and whole lines of dhcpd's included. So a line is read only up to the MAC,
and behind the last "via", which dhcpd writes after it.
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import AddressValueError, IPv4Address

from macbind.core.errors import InvalidAddress
from macbind.core.mac_address import MacAddress
from macbind.dhcp.port import Exchange, ExchangeKind

_IP, _MAC = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}", r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}"
_LINE = re.compile(
    # Before it only what syslog writes, which has no parentheses.
    rf"[^()]*?\b(?P<kind>DHCPACK on|DHCPREQUEST for|DHCPDECLINE of) (?P<ip>{_IP})"
    rf"(?: \((?P<server>{_IP})\))? (?:to|from) (?P<mac>{_MAC})(?= |$)"
)
_ASKS = re.compile(
    rf"[^()]*?\b(?:DHCPDISCOVER|(?:DHCPREQUEST for|DHCPDECLINE of|DHCPRELEASE of) {_IP}(?: \({_IP}\))?) "
    rf"from (?P<mac>{_MAC})(?= |$)"
)
_KINDS = {
    "DHCPACK on": ExchangeKind.ACK,
    "DHCPREQUEST for": ExchangeKind.REQUEST,
    "DHCPDECLINE of": ExchangeKind.DECLINE,
}
_TRAFFIC = re.compile(r"[^()]*?\b(?:DHCP[A-Z]+|BOOT[A-Z]+) (?:on|of|from|for|to) ")
_AFTER_VIA = re.compile(r"[^ ()]+?(?:: (?P<said>[^:].*))?$")


def read_exchange(line: str) -> Exchange | None:
    """The exchange that a line tells of; None for every other line."""
    match = _LINE.match(line)
    if match is None:
        return None
    with suppress(AddressValueError, InvalidAddress):
        server = match["server"]
        return Exchange(
            _KINDS[match["kind"]],
            MacAddress.parse(match["mac"]),
            IPv4Address(match["ip"]),
            None if server is None else IPv4Address(server),
            _said(line),
        )
    return None


def read_asker(line: str) -> MacAddress | None:
    """The machine that has asked for something, whatever it was; None for every other line."""
    match = _ASKS.match(line)
    if match is None:
        return None
    with suppress(InvalidAddress):
        return MacAddress.parse(match["mac"])
    return None


def own_words(line: str) -> str:
    """A line as dhcpd means it, without what a machine has chosen, on one line and printable."""
    if _TRAFFIC.match(line):
        before, after = line.partition(" (")[0].partition(" via ")[0], line.rpartition(" via ")[2]
        line = f"{before} via {after}" if " via " in line else before
    return " ".join("".join(one if one.isprintable() else "?" for one in line).split())


def _said(line: str) -> str:
    """What dhcpd said about it at the end of the line, e.g. "unavailable"; empty if nothing."""
    match = _AFTER_VIA.match(line.rpartition(" via ")[2])
    return ((match and match["said"]) or "").rstrip(".")
