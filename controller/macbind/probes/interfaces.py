"""The network interfaces of this machine: which IPv4 addresses they have, and on which of them a DHCP server listens.

It needs no netlink socket, so the confined service may look, too. See netdevice(7) and packet(7).
"""

from __future__ import annotations

import fcntl
import socket
import struct
from array import array
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from macbind.core.mac_address import MacAddress

Interfaces = Mapping[str, tuple[IPv4Address, ...]]
"""The addresses of each interface, by its name."""

_SIOCGIFCONF, _SIOCGIFHWADDR, _ETHERNET = 0x8912, 0x8927, 1
_REQUEST = struct.calcsize("16s16s") if struct.calcsize("P") == 4 else 40
_NETWORK_FILES = Path("/proc/self/net")
_ALL_FRAMES, _BOOTPS = 0x0003, 67


def interfaces() -> Interfaces:
    """Every interface with an IPv4 address, except loopback.

    Raises:
        OSError: The kernel does not say.
    """
    found: dict[str, tuple[IPv4Address, ...]] = {}
    for name, address in _listed():
        if not address.is_loopback and name != "lo":
            found[name] = (*found.get(name, ()), address)
    return found


def macs() -> dict[str, MacAddress]:
    """The MAC of every interface with an IPv4 address that has one.

    Raises:
        OSError: The kernel does not say.
    """
    found: dict[str, MacAddress] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for name in interfaces():
            with suppress(OSError):  # it has gone meanwhile
                answer = fcntl.ioctl(any_socket, _SIOCGIFHWADDR, struct.pack("40s", name.encode()))
                kind = struct.unpack_from("H", answer, 16)[0]
                if kind == _ETHERNET:
                    found[name] = MacAddress.from_bytes(answer[18:24])
    return found


def served_interfaces() -> Interfaces:
    """Those on which a program reads all frames while one is a DHCP server here; none without a DHCP server.

    A dhcpd of this machine is among those programs. So an interface that is missing is one that it does not serve.

    Raises:
        OSError: The kernel does not say.
    """
    if not _is_bound("udp", _BOOTPS):
        return {}
    names = set()
    for line in (_NETWORK_FILES / "packet").read_text(encoding="ascii").splitlines()[1:]:
        words = line.split()
        if (
            int(words[3], 16) == _ALL_FRAMES and int(words[4]) > 0
        ):  # else of all of them, or of one that is gone
            with suppress(OSError):
                names.add(socket.if_indextoname(int(words[4])))
    return {name: addresses for name, addresses in interfaces().items() if name in names}


def _listed() -> list[tuple[str, IPv4Address]]:
    """Interface and address of every entry of the kernel's list; an alias (br0:1) belongs to its interface."""
    size = 128 * _REQUEST
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        while True:
            buffer = array("B", bytes(size))
            place, _ = buffer.buffer_info()
            answer = fcntl.ioctl(any_socket, _SIOCGIFCONF, struct.pack("iP", size, place))
            used = struct.unpack("iP", answer)[0]
            if used < size:
                break
            size *= 2
    raw = buffer.tobytes()[:used]
    return [
        (
            raw[at : at + 16].partition(b"\0")[0].decode(errors="replace").partition(":")[0],
            IPv4Address(raw[at + 20 : at + 24]),
        )
        for at in range(0, used, _REQUEST)
    ]


def _is_bound(kind: str, port: int) -> bool:
    lines = (_NETWORK_FILES / kind).read_text(encoding="ascii").splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") for line in lines)
