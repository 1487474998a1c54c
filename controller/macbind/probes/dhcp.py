"""Asking a DHCP server for an address, as a machine does: the only proof that it serves.

dhcpd can listen for OMAPI and be deaf: its interface was deleted and made anew, or it is stuck. The probe sends a
DISCOVER (RFC 2131) from a MAC of its own, for which the rendered configuration has a host. It never requests what it
is offered: the offered address is the network's own, which nobody can have, so the probe takes no address and leaves
no lease.

Everybody on the wire hears the question and can answer it. An answer counts only if it offers the probe's own
address and, from a dhcpd of this machine, if this machine has sent it: the kernel says so, and no guest can say it.
Every other answer is a second DHCP server's.
"""

from __future__ import annotations

import ctypes
import fcntl
import secrets
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Container
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Self, TypeVar

from macbind.core.errors import NetworkUnavailable
from macbind.core.mac_address import MacAddress

WAIT_S = 1.0
"""How long to wait for an offer; dhcpd makes one in less than a millisecond, unless it is busy."""
_ETHERTYPE, _ALL = 0x0800, 0x0003
_SERVER_PORT, _CLIENT_PORT = 67, 68
_BOOTP = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_REQUEST, _REPLY, _ETHERNET, _BROADCAST = 1, 2, 1, 0x8000
_COOKIE = b"\x63\x82\x53\x63"
_PAD, _END, _TYPE, _SERVER = 0, 255, 53, 54
_DISCOVER = bytes((_TYPE, 1, 1))
OFFER, ACK = 2, 5
_REMEMBERED = 16
"""Questions whose answers are still heard: a server may ping an address for seconds before it offers it."""
_MOST_HEARD = 256
"""Answers that are looked at in one go, whoever sends them."""
_T = TypeVar("_T")
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


@dataclass(frozen=True, slots=True)
class Answer:
    """A DHCP server's message to a client.

    Attributes:
        kind: Its type: :data:`OFFER`, :data:`ACK` or another number of option 53.
        mac: The client it is for.
        xid: The transaction it belongs to.
        address: The address that it offers.
        server: How the server calls itself; None if it does not say.
        sender: The IP address it was sent from.
        sender_mac: The MAC it was sent from.
        is_ours: Whether this machine has sent it.
    """

    kind: int
    mac: MacAddress
    xid: int
    address: IPv4Address
    server: IPv4Address | None
    sender: IPv4Address
    sender_mac: MacAddress
    is_ours: bool = False


class Probe:
    """Asks on one interface, and hears all who answer, also those who answer late.

    Args:
        interface: Where the server serves: of a dhcpd of this machine the interface that it listens on itself.
        mac: From :func:`~macbind.core.binding.probe_mac`.
        own: The addresses that our server offers to this MAC.
        is_remote: Whether our server is another machine's, whose answers arrive as everybody's do.

    Raises:
        NetworkUnavailable: The interface cannot be used.
    """

    def __init__(
        self,
        interface: str,
        mac: MacAddress,
        own: Container[IPv4Address],
        *,
        is_remote: bool = False,
    ) -> None:
        self._interface, self._mac, self._own, self._is_remote = interface, mac, own, is_remote
        self._asked: deque[int] = deque(maxlen=_REMEMBERED)
        self._others: list[Answer] = []
        # All protocols: only such a socket sees what another socket of this machine sends, as dhcpd's answer may be.
        # Of no protocol it is deaf until it is bound.
        self._link = self._working(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        try:
            self._working(self._bind)
        except NetworkUnavailable:
            self._link.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends it."""
        self._link.close()

    def ask(self, wait_s: float = WAIT_S) -> Answer | None:
        """Asks once.

        Args:
            wait_s: How long to wait, in seconds.

        Returns:
            Our server's offer; None if it made none.

        Raises:
            NetworkUnavailable: The interface cannot be used any more.
        """
        return self._working(lambda: self._ask(wait_s))

    def others(self) -> list[Answer]:
        """Who else has answered since the last call, to this question or an earlier one.

        Raises:
            NetworkUnavailable: The interface cannot be used any more.
        """
        self._working(lambda: self._hear(0.0))
        found, self._others = self._others, []
        return found

    def _ask(self, wait_s: float) -> Answer | None:
        xid = secrets.randbits(32)
        self._asked.append(xid)
        self._link.send(discover(self._mac, xid))
        until = time.monotonic() + wait_s
        while (left_s := until - time.monotonic()) > 0:
            ours = self._hear(left_s)
            if ours is not None and ours.xid == xid:
                return ours
        return None

    def _hear(self, wait_s: float) -> Answer | None:
        """Takes what has arrived, or arrives in time; returns our server's offer if it is among it."""
        ready = select.poll()  # select() would fail once the service has a thousand connections
        ready.register(self._link, select.POLLIN)
        ours: Answer | None = None
        for _ in range(_MOST_HEARD):
            if not ready.poll(0 if ours else wait_s * 1000):
                break
            frame, sender = self._link.recvfrom(2048)
            answer = read_answer(frame, is_ours=sender[2] == socket.PACKET_OUTGOING)
            if answer is None or answer.mac != self._mac or answer.xid not in self._asked:
                continue
            if (
                answer.address in self._own
                and answer.kind in (OFFER, ACK)
                and (answer.is_ours or self._is_remote)
            ):
                ours = answer
                wait_s = 0
            elif len(self._others) < _MOST_HEARD:
                self._others.append(answer)
        return ours

    def _bind(self) -> None:
        only_to_clients(self._link)
        self._link.bind((self._interface, _ALL))

    def _working(self, action: Callable[[], _T]) -> _T:
        try:
            return action()
        except OSError as error:
            raise _unusable(self._interface, error) from error


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


def read_answer(frame: bytes, *, is_ours: bool = False) -> Answer | None:
    """The DHCP server's message in an Ethernet frame; None if there is none, whatever the bytes are."""
    if frame[12:14] != _ETHERTYPE.to_bytes(2) or len(frame) < 34 or frame[23] != socket.IPPROTO_UDP:
        return None
    datagram = frame[14 + (frame[14] & 15) * 4 :]
    message = datagram[8:]
    if datagram[2:4] != _CLIENT_PORT.to_bytes(2) or len(message) < _BOOTP.size:
        return None
    operation, _, _, _, xid, _, _, _, address, _, _, client, _, _, cookie = _BOOTP.unpack_from(message)
    if operation != _REPLY or cookie != _COOKIE:
        return None
    options = _options(message[_BOOTP.size :])
    kind, server = options.get(_TYPE, b""), options.get(_SERVER, b"")
    if len(kind) != 1:
        return None
    return Answer(
        kind[0],
        MacAddress.from_bytes(client[:6]),
        xid,
        IPv4Address(address),
        IPv4Address(server) if len(server) == 4 else None,
        IPv4Address(frame[26:30]),
        MacAddress.from_bytes(frame[6:12]),
        is_ours,
    )


def _options(data: bytes) -> dict[int, bytes]:
    """The options of a message, each as far as it is there."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(data) and data[at] != _END:
        if data[at] == _PAD:
            at += 1
            continue
        length = data[at + 1] if at + 1 < len(data) else 0
        found.setdefault(data[at], data[at + 2 : at + 2 + length])
        at += 2 + length
    return found


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
