"""The interfaces of this machine for ``macbind init``: which could be the machines', and whose the others are."""

from __future__ import annotations

import json
import re
import subprocess
import xml.etree.ElementTree as ET  # nosec B405  # reads only what a line below gives a reason for
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

from macbind.core.errors import ConfigError

LIBVIRT_NETWORKS = Path("/etc/libvirt/qemu/networks")
_OWNERS = (
    (re.compile(r"docker\d+|br-[0-9a-f]{12}"), "Docker"),
    (re.compile(r"podman\d+|cni-podman\d+"), "Podman"),
    (re.compile(r"lxcbr\d+|lxdbr\d+|incusbr\d+"), "LXC, LXD or Incus"),
    (re.compile(r"virbr\d+"), "libvirt"),
    (re.compile(r"cni\d+|cbr\d+|flannel.*|cali.*|cilium.*"), "Kubernetes"),
)
"""Bridges that other programs make for their own machines, by their names."""
_LISTENER = re.compile(r"(?:%(?P<interface>[^\s:]+))?:67\s")
_PROGRAM = re.compile(r'users:\(\("(?P<program>[^"]+)"')


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface that dhcpd could serve.

    Attributes:
        name: Its name.
        addresses: Its IPv4 addresses with their networks, in the order of ``ip address``; at least one.
        gateway: The default gateway behind it, if there is one.
        bridge: Whether it is a bridge, as the ones machines are plugged into are.
        owner: The program that has made it for its own machines; empty if nobody is known to.
        server: Another DHCP server that serves it; empty if none is known.
    """

    name: str
    addresses: tuple[IPv4Interface, ...]
    gateway: IPv4Address | None
    bridge: bool
    owner: str = ""
    server: str = ""

    def __str__(self) -> str:
        whose = f", of {self.owner}" if self.owner else ""
        served = f", served by {self.server}" if self.server else ""
        return f"{self.name} ({', '.join(map(str, self.addresses))}{whose}{served})"


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
    libvirts, servers = libvirt_bridges(LIBVIRT_NETWORKS), dhcp_servers(_listeners())
    found = [
        Interface(
            link["ifname"],
            tuple(IPv4Interface(f"{one['local']}/{one['prefixlen']}") for one in link["addr_info"]),
            gateways.get(link["ifname"]),
            link.get("linkinfo", {}).get("info_kind") == "bridge",
            libvirts.get(link["ifname"]) or _owner(link["ifname"]),
            servers.get(link["ifname"], ""),
        )
        for link in _ip("-4", "-details", "address", "show")
        if link.get("addr_info") and "LOOPBACK" not in link["flags"]
    ]
    return sorted(found, key=lambda one: not one.bridge)


def candidates(found: Iterable[Interface]) -> list[Interface]:
    """Those that could be the machines': bridges that no other program owns or serves.

    An interface that is no bridge may well lead to a network with a DHCP server of its own.
    """
    return [one for one in found if one.bridge and not one.owner and not one.server]


def server_everywhere() -> str:
    """Another program that listens for DHCP on all interfaces, whichever of them it serves; empty if none does.

    Raises:
        ConfigError: iproute2 is not installed, or does not answer.
    """
    return dhcp_servers(_listeners()).get("", "")


def libvirt_bridges(directory: Path) -> dict[str, str]:
    """The bridges that libvirt itself makes, with the names of their networks."""
    found = {}
    for path in sorted(directory.glob("*.xml")):
        try:
            network = ET.parse(path).getroot()  # noqa: S314  # nosec B314  # root's own file
        except (OSError, ET.ParseError):
            continue
        bridge = network.find("bridge")
        if network.find("ip") is not None and bridge is not None and bridge.get("name"):
            found[str(bridge.get("name"))] = f"libvirt's network '{network.findtext('name')}'"
    return found


def dhcp_servers(lines: Iterable[str]) -> Mapping[str, str]:
    """Other programs than dhcpd that listen for DHCP, by their interface; of all interfaces under an empty name."""
    found: dict[str, str] = {}
    for line in lines:
        place, program = _LISTENER.search(line), _PROGRAM.search(line)
        name = program["program"] if program else "another program"
        if place and name != "dhcpd":
            found.setdefault(place["interface"] or "", name)
    return found


def _listeners() -> Sequence[str]:
    command = ["ss", "-H", "-4", "-l", "-u", "-n", "-p", "sport = :67"]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(
            f"Whether another DHCP server runs cannot be seen: {' '.join(command)} fails.",
            hint="Install iproute2.",
        ) from error


def _owner(name: str) -> str:
    return next((owner for pattern, owner in _OWNERS if pattern.fullmatch(name)), "")


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
