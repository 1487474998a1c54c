"""The other clients of dhcpd's OMAPI port on this machine, from the kernel's table of TCP connections.

Such a client can change what dhcpd serves behind our back. And when dhcpd runs out of descriptors, it closes the
connections of all clients, ours too. The table is /proc/net/tcp, see proc(5).
"""

from __future__ import annotations

import pwd
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

_TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
_ESTABLISHED, _LISTEN = "01", "0A"


@dataclass(frozen=True, slots=True, order=True)
class Connection:
    """One end of an established TCP connection of this machine.

    Attributes:
        local_port: Our machine's end.
        peer: The address of the other end.
        peer_port: Its port.
        uid: The user whose socket it is; 0 may also be a socket that no process has any more.
    """

    local_port: int
    peer: str
    peer_port: int
    uid: int


def established(table: str) -> list[Connection]:
    """The established connections in one of the kernel's tables; lines that are none are passed over."""
    found = []
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < 8 or words[3] != _ESTABLISHED:
            continue
        (_, local_port), (peer, peer_port) = (words[index].split(":") for index in (1, 2))
        found.append(Connection(int(local_port, 16), _address(peer), int(peer_port, 16), int(words[7])))
    return found


def intruders(connections: Iterable[Connection], port: int, own_ports: Iterable[int]) -> list[Connection]:
    """Those who are connected to the OMAPI port and are not us, each with the user it belongs to.

    Args:
        connections: All established connections; of one within this machine both ends.
        port: The OMAPI port.
        own_ports: The ports of our own connections to it.
    """
    everybody, ours = list(connections), set(own_ports)
    users = {one.local_port: one.uid for one in everybody if one.peer_port == port}
    return sorted(
        Connection(port, one.peer, one.peer_port, users.get(one.peer_port, -1))
        for one in everybody
        if one.local_port == port and one.peer_port not in ours
    )


def read_connections() -> list[Connection]:
    """The established connections of this process's network namespace.

    Raises:
        OSError: The kernel's tables cannot be read.
    """
    return [one for table in _TABLES if table.exists() for one in established(table.read_text())]


def listeners(port: int) -> set[str]:
    """The addresses of this machine at which somebody listens on a port.

    Raises:
        OSError: The kernel's tables cannot be read.
    """
    found = set()
    for table in _TABLES:
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            words = line.split()
            if len(words) > 3 and words[3] == _LISTEN and int(words[1].split(":")[1], 16) == port:
                found.add(_address(words[1].split(":")[0]))
    return found


def describe(one: Connection) -> str:
    """Who it is, for the beginning of a sentence."""
    if one.uid < 0:
        return f"{one.peer} port {one.peer_port}"
    try:
        user = pwd.getpwuid(one.uid).pw_name
    except KeyError:
        user = f"uid {one.uid}"
    return f"A program of {user} ({one.peer} port {one.peer_port})"


def _address(text: str) -> str:
    """An address as the kernel writes it: 32-bit words in this machine's byte order."""
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    address: IPv4Address | IPv6Address = ip_address(b"".join(words))
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
