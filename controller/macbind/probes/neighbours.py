"""The kernel's neighbour table: which machine has answered this host for which address, and when. See rtnetlink(7).

Without a time an entry says little: one stays for as long as the table has room. So only entries whose time of
confirmation the kernel tells are returned.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from macbind.core.mac_address import MacAddress

_HEADER, _NEIGHBOUR, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=B3xiHBB"), struct.Struct("=HH")
_CACHE_INFO = struct.Struct("=IIII")
_GET, _NEW, _ERROR, _DONE = 30, 28, 2, 3
_REQUEST_DUMP = 0x001 | 0x300
_DST, _LLADDR, _CACHEINFO = 1, 2, 3
_ANSWERED = 0x02 | 0x04 | 0x08 | 0x10  # reachable, stale, delay, probe
_TICKS_PER_S = 100  # USER_HZ, the same on every Linux
_MOST, _WAIT_S = 1 << 20, 2.0


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A machine in the table.

    Attributes:
        address: The address that it answered for.
        mac: Its MAC.
        age_s: How long ago it was last known to be there, in seconds.
    """

    address: IPv4Address
    mac: MacAddress
    age_s: float


def neighbours() -> list[Neighbour]:
    """All machines in the table.

    Raises:
        OSError: The kernel does not say, or may not be asked.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.settimeout(_WAIT_S)
        body = _NEIGHBOUR.pack(socket.AF_INET, 0, 0, 0, 0)
        kernel.send(_HEADER.pack(_HEADER.size + len(body), _GET, _REQUEST_DUMP, 1, 0) + body)
        found: list[Neighbour] = []
        while True:
            for kind, content in _parts(kernel.recv(_MOST), _HEADER, whole=True):
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    number = -int(struct.unpack_from("=i", content)[0])
                    raise OSError(number, os.strerror(number))
                if kind == _NEW:
                    found += _read(content)


def _read(content: bytes) -> Iterator[Neighbour]:
    family, _, state, _, _ = _NEIGHBOUR.unpack_from(content)
    if family != socket.AF_INET or not state & _ANSWERED:
        return
    said = dict(_parts(content[_NEIGHBOUR.size :], _ATTRIBUTE, whole=False))
    address, mac, times = said.get(_DST, b""), said.get(_LLADDR, b""), said.get(_CACHEINFO, b"")
    if len(address) == 4 and len(mac) == 6 and len(times) >= _CACHE_INFO.size:  # as they are sent
        confirmed, *_ = _CACHE_INFO.unpack_from(times)
        yield Neighbour(IPv4Address(address), MacAddress.from_bytes(mac), confirmed / _TICKS_PER_S)


def _parts(data: bytes, head: struct.Struct, *, whole: bool) -> Iterator[tuple[int, bytes]]:
    """Messages or attributes, one after the other: kind and content of each."""
    at = 0
    while at + head.size <= len(data):
        length, kind, *_ = head.unpack_from(data, at)
        if length < head.size:
            return
        yield kind if whole else kind & 0x3FFF, data[at + head.size : at + length]
        at += (length + 3) & ~3
