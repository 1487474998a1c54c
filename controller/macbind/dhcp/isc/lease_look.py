"""Looks into a lease file of any size, in pieces, while others go on with their work."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from macbind.core.mac_address import MacAddress
from macbind.dhcp.isc.files import open_ordinary, pieces
from macbind.dhcp.isc.lease_file import LeaseFile, LeaseReader

TORN_WAIT_S = 0.05
TORN_LOOKS = 3
"""dhcpd may be writing its lease file while we read it: only what stays torn over so many looks is damage."""
PACE_S = 0.001
"""The pause between two pieces, in which others go on."""

_SEARCHED_BYTES = 1 << 20
_LONGEST = 1 << 16  # more than a record of a lease with the longest texts of a client has
_LEASE = re.compile(
    rb"^lease ([0-9.]{7,15}) \{\n(?:  [^\n]*\n)*?  hardware ethernet ([0-9a-f:]{17});\n", re.MULTILINE
)

Pause = Callable[[float], object]
"""Waits so many seconds, less if there is a reason; true if the look is to end."""


def read_lease_file(path: Path, keeps: Callable[[IPv4Address], bool], pause: Pause) -> LeaseFile | None:
    """Reads a lease file.

    Args:
        path: The file.
        keeps: Whether the leases of an address are of interest.
        pause: Called between two pieces.

    Returns:
        What it says; None if the look was ended.

    Raises:
        OSError: It cannot be read.
    """
    reader = LeaseReader(keeps)
    with open_ordinary(path) as file:
        for look in range(TORN_LOOKS):
            for piece in pieces(file):
                reader.feed(piece)
                if pause(PACE_S):
                    return None
            if reader.ends_whole or look == TORN_LOOKS - 1:
                break
            if pause(TORN_WAIT_S):
                return None
    return reader.finish(lambda: pause(PACE_S))


def leases_of(path: Path, macs: Collection[MacAddress]) -> Iterator[tuple[MacAddress, IPv4Address]]:
    """The addresses that these MACs have or had a lease of, each once.

    Raises:
        OSError: The file cannot be read.
    """
    wanted = {str(mac).encode(): mac for mac in macs}
    found: set[tuple[bytes, bytes]] = set()
    data = b""
    with open_ordinary(path) as file:
        for piece in pieces(file, _SEARCHED_BYTES):
            data = data[-_LONGEST:] + piece
            if not any(mac in data for mac in wanted):
                continue
            for match in _LEASE.finditer(data):
                address, mac = match.groups()
                if mac in wanted and (mac, address) not in found:
                    found.add((mac, address))
                    try:
                        yield wanted[mac], IPv4Address(address.decode())
                    except AddressValueError:
                        continue
