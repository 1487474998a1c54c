"""Asking the network whether somebody already uses an address (RFC 5227), before it is handed out.

Nobody answering proves little: a machine may be off, or its firewall silent. Somebody answering proves much.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from macbind.core.errors import NetworkUnavailable
from macbind.core.mac_address import MacAddress

WAIT_S = 0.2
"""How long to listen; machines on one link answer within a millisecond or two."""
_TIMES = 2
_MOST_LATE = 1000
"""Frames that are read after the time: they came while this thread had no processor."""
_ETHERTYPE = 0x0806
_FRAME = struct.Struct("!6s6sHHHBBH6s4s6s4s")
_REQUEST, _REPLY = 1, 2


def probe(
    interface: str, addresses: Sequence[IPv4Address], wait_s: float = WAIT_S
) -> dict[IPv4Address, MacAddress]:
    """Who answers for these addresses.

    Args:
        interface: The network interface the machines are behind, e.g. the bridge.
        addresses: The addresses to ask about.
        wait_s: How long to listen altogether, in seconds.

    Returns:
        The MAC that answered, for those addresses that somebody answered for.

    Raises:
        NetworkUnavailable: The interface cannot be used.
    """
    found: dict[IPv4Address, MacAddress] = {}
    wanted = {address.packed: address for address in addresses}
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETHERTYPE)) as link:
            link.bind((interface, _ETHERTYPE))
            own = link.getsockname()[4]
            for _ in range(_TIMES):
                for packed, address in wanted.items():
                    if address not in found:
                        link.send(_question(own, packed))
                _listen(link, wanted, found, time.monotonic() + wait_s / _TIMES)
    except OSError as error:
        raise NetworkUnavailable(
            f"The interface '{interface}' cannot be asked who uses an address: {error.strerror}.",
            hint="Correct arp_probe of the pool, and give macbind CAP_NET_RAW.",
        ) from error
    return found


def _question(own: bytes, packed: bytes) -> bytes:
    """An ARP probe: its sender address is zero, so that nobody's cache is changed by it."""
    return _FRAME.pack(
        b"\xff" * 6, own, _ETHERTYPE, 1, 0x0800, 6, 4, _REQUEST, own, b"\0" * 4, b"\0" * 6, packed
    )


def _listen(
    link: socket.socket,
    wanted: Mapping[bytes, IPv4Address],
    found: dict[IPv4Address, MacAddress],
    until: float,
) -> None:
    ready = select.poll()  # select() would fail once the service has a thousand connections
    ready.register(link, select.POLLIN)
    late = 0
    while len(found) < len(wanted) and late < _MOST_LATE:
        left_s = until - time.monotonic()
        late += left_s <= 0
        if not ready.poll(max(0.0, left_s) * 1000):
            return
        frame = link.recv(2048)
        if len(frame) < _FRAME.size:
            continue
        *_, operation, sender_mac, sender_ip, _target_mac, _target_ip = _FRAME.unpack_from(frame)
        if operation == _REPLY and sender_ip in wanted:
            found[wanted[sender_ip]] = MacAddress.from_bytes(sender_mac)
