"""The DNS servers and the domain that this machine uses and others can use, too: proposals of ``macbind init``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

PLACES = (
    Path("/etc/resolv.conf"),
    Path("/run/systemd/resolve/resolv.conf"),
    Path("/run/NetworkManager/no-stub-resolv.conf"),
)
"""In the first there is only this machine's own stub where systemd-resolved or a dnsmasq answers; the others have the
servers behind it."""


@dataclass(frozen=True, slots=True)
class Resolver:
    """What a machine is told to ask.

    Attributes:
        servers: DNS servers, in order.
        domain: The first search domain; None if there is none.
    """

    servers: tuple[IPv4Address, ...] = ()
    domain: str | None = None


def resolver(places: Iterable[Path] = PLACES) -> Resolver:
    """What the first of these files says that names a server other machines can reach."""
    found = Resolver()
    for place in places:
        try:
            lines = place.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        here = read_resolver(lines)
        found = Resolver(found.servers or here.servers, found.domain or here.domain)
        if found.servers:
            break
    return found


def read_resolver(lines: Sequence[str]) -> Resolver:
    """The IPv4 name servers in the lines of a resolv.conf that are not this machine itself, and the domain."""
    servers: list[IPv4Address] = []
    domains: list[str] = []
    for line in lines:
        words = line.split()
        if len(words) < 2:
            continue
        if words[0] in ("search", "domain"):
            domains = [word.strip(".") for word in words[1:] if word.strip(".") and not word.startswith("~")]
        elif words[0] == "nameserver":
            try:
                address = IPv4Address(words[1])
            except ValueError:  # an IPv6 address
                continue
            if not address.is_loopback:
                servers.append(address)
    return Resolver(tuple(servers), domains[0] if domains else None)
