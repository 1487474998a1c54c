"""Asking a dhcpd for an address by DHCP, as a machine does: the only proof that it serves.

dhcpd can listen for OMAPI and be deaf: its interface was deleted and made anew, or it is stuck. The probe sends a
DISCOVER (RFC 2131) from a MAC of its own, for which the rendered configuration has a host, and waits for the
OFFER. It never requests what it is offered: the offered address is the network's own, which nobody can have, so the
probe takes no address and leaves no lease.
"""

from __future__ import annotations

import ctypes
import fcntl
import secrets
import select
import socket
import struct
import time

from macbind.addressing import MacAddress
from macbind.errors import NetworkUnavailable

WAIT_S = 1.0
"""How long to wait for an offer; dhcpd makes one in less than a millisecond, unless it is busy."""
_ETHERTYPE, _ALL = 0x0800, 0x0003
_SERVER_PORT, _CLIENT_PORT = 67, 68
_BOOTP = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_REQUEST, _REPLY, _ETHERNET, _BROADCAST = 1, 2, 1, 0x8000
_COOKIE = b"\x63\x82\x53\x63"
_DISCOVER, _OFFER = b"\x35\x01\x01", b"\x35\x01\x02"
_SIOCGIFFLAGS, _IFF_RUNNING = 0x8913, 0x40  # netdevice(7)
_LEAST = 300
"""Octets of the shortest BOOTP message; some relays drop shorter ones."""
_SO_ATTACH_FILTER = 26  # socket(7)
_TO_CLIENTS = (
    # UDP over IPv4, not a later fragment, to port 68: the first example of bpf(4), as code, jump if true, jump if
    # false, operand. Everything else on the wire would be copied here to be thrown away.
    (0x28, 0, 0, 12),  # ldh [12]
    (0x15, 0, 8, _ETHERTYPE),  # jeq
    (0x30, 0, 0, 23),  # ldb [23]
    (0x15, 0, 6, socket.IPPROTO_UDP),  # jeq
    (0x28, 0, 0, 20),  # ldh [20]
    (0x45, 4, 0, 0x1FFF),  # jset
    (0xB1, 0, 0, 14),  # ldxb 4*([14]&0xf)
    (0x48, 0, 0, 16),  # ldh [x+16]
    (0x15, 0, 1, _CLIENT_PORT),  # jeq
    (0x06, 0, 0, 0xFFFF),  # ret: all of it
    (0x06, 0, 0, 0),  # ret: nothing
)


def has_carrier(interface: str) -> bool:
    """Whether anything is plugged into the interface: the kernel sends nothing through a bridge without ports.

    Raises:
        NetworkUnavailable: There is no such interface.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            asked = struct.pack("16sH14x", interface.encode(), 0)
            answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, asked)
    except OSError as error:
        raise _unusable(interface, error) from error
    return bool(struct.unpack("16sH14x", answer)[1] & _IFF_RUNNING)


def probe(interface: str, mac: MacAddress, wait_s: float = WAIT_S) -> float | None:
    """Asks once.

    Args:
        interface: Where dhcpd serves. It may be one of this machine's own that dhcpd listens on.
        mac: From :func:`~macbind.model.probe_mac`.
        wait_s: How long to wait, in seconds.

    Returns:
        Seconds until the offer came; None if none came.

    Raises:
        NetworkUnavailable: The interface cannot be used.
    """
    xid = secrets.randbits(32)
    try:
        # All protocols: only such a socket sees what another socket of this machine sends, as dhcpd's answer may be.
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as link:  # of no protocol: deaf until bound
            only_to_clients(link)
            link.bind((interface, _ALL))
            ready = select.poll()  # select() would fail once the service has a thousand connections
            ready.register(link, select.POLLIN)
            started = time.monotonic()
            link.send(discover(mac, xid))
            while (left_s := started + wait_s - time.monotonic()) > 0:
                if not ready.poll(left_s * 1000):
                    return None
                if is_offer(link.recv(2048), mac, xid):
                    return time.monotonic() - started
    except OSError as error:
        raise _unusable(interface, error) from error
    return None


def only_to_clients(link: socket.socket) -> None:
    """Lets the kernel pass only what is sent to DHCP clients to a packet socket, however busy its interface is."""
    program = b"".join(struct.pack("=HBBI", *step) for step in _TO_CLIENTS)
    kept = ctypes.create_string_buffer(program)
    # struct sock_fprog: how many steps, and where they are.
    link.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_TO_CLIENTS), ctypes.addressof(kept))
    )


def discover(mac: MacAddress, xid: int) -> bytes:
    """The Ethernet frame of a DISCOVER that asks for a broadcast answer."""
    own, none = bytes(mac), bytes(4)
    fixed = _BOOTP.pack(
        _REQUEST, _ETHERNET, 6, 0, xid, 0, _BROADCAST, none, none, none, none, own, b"", b"", _COOKIE
    )
    message = (fixed + _DISCOVER + b"\xff").ljust(_LEAST, b"\0")
    # A checksum of zero is none (RFC 768).
    datagram = struct.pack("!HHHH", _CLIENT_PORT, _SERVER_PORT, 8 + len(message), 0) + message
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(datagram), 0, 0, 64, socket.IPPROTO_UDP, 0, none, b"\xff" * 4
    )
    header = header[:10] + struct.pack("!H", _checksum(header)) + header[12:]
    return b"\xff" * 6 + own + struct.pack("!H", _ETHERTYPE) + header + datagram


def is_offer(frame: bytes, mac: MacAddress, xid: int) -> bool:
    """Whether an Ethernet frame holds an OFFER that answers our DISCOVER."""
    if frame[12:14] != _ETHERTYPE.to_bytes(2) or len(frame) < 34 or frame[23] != socket.IPPROTO_UDP:
        return False
    datagram = frame[14 + (frame[14] & 15) * 4 :]
    message = datagram[8:]
    if datagram[2:4] != _CLIENT_PORT.to_bytes(2) or len(message) < _BOOTP.size + len(_OFFER):
        return False
    operation, *_, client, _name, _file, cookie = _BOOTP.unpack_from(message)
    return (
        operation == _REPLY
        and message[4:8] == xid.to_bytes(4)
        and client[:6] == bytes(mac)
        and cookie == _COOKIE
        and message[_BOOTP.size :].startswith(_OFFER)  # dhcpd, as most, puts the type first
    )


def _unusable(interface: str, error: OSError) -> NetworkUnavailable:
    return NetworkUnavailable(
        f"dhcpd cannot be asked on the interface '{interface}': {error.strerror}.",
        hint="Correct probe in the [dhcpd.…] table, and give macbind CAP_NET_RAW.",
    )


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack("!10H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
