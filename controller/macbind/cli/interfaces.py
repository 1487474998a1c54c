"""What this machine's network looks like: the proposals of ``macbind init``."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

from macbind.errors import ConfigError

RESOLV_CONF = Path("/etc/resolv.conf")


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface that dhcpd could serve.

    Attributes:
        name: Its name.
        addresses: Its IPv4 addresses with their networks, in the order of ``ip address``; at least one.
        gateway: The default gateway behind it, if there is one.
        bridge: Whether it is a bridge, as the ones machines are plugged into are.
    """

    name: str
    addresses: tuple[IPv4Interface, ...]
    gateway: IPv4Address | None
    bridge: bool


def interfaces() -> list[Interface]:
    """Every interface with an IPv4 address other than loopback; bridges first.

    Raises:
        ConfigError: iproute2 is not installed, or does not answer.
    """
    gateways = {
        route["dev"]: IPv4Address(route["gateway"])
        for route in reversed(_ip("-4", "route", "show", "default"))
        if "gateway" in route and "dev" in route
    }
    found = [
        Interface(
            link["ifname"],
            tuple(IPv4Interface(f"{one['local']}/{one['prefixlen']}") for one in link["addr_info"]),
            gateways.get(link["ifname"]),
            link.get("linkinfo", {}).get("info_kind") == "bridge",
        )
        for link in _ip("-4", "-details", "address", "show")
        if link.get("addr_info") and "LOOPBACK" not in link["flags"]
    ]
    return sorted(found, key=lambda one: not one.bridge)


def name_servers() -> list[IPv4Address]:
    """The name servers this machine uses, except its own."""
    try:
        lines = RESOLV_CONF.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return read_name_servers(lines)


def read_name_servers(lines: list[str]) -> list[IPv4Address]:
    """The IPv4 name servers in the lines of a resolv.conf that other machines can reach, too."""
    found = []
    for line in lines:
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            address = IPv4Address(words[1])
        except ValueError:  # an IPv6 address
            continue
        if not address.is_loopback:
            found.append(address)
    return found


def _ip(*arguments: str) -> list[dict[str, Any]]:
    command = ["ip", "-json", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f"The network interfaces cannot be read: {' '.join(command)} fails.",
            hint="Install iproute2.",
        ) from error
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found
