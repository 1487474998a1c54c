"""The packets of a DHCP client, built and dissected by scapy, and the socket they travel through."""

import enum
import select
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from labkit.lease import Reply, parse_options

BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"
BROADCAST, NOBODY = IPv4Address("255.255.255.255"), IPv4Address(0)
_COOKIE = b"\x63\x82\x53\x63"
_IPV4, _ARP = b"\x08\x00", b"\x08\x06"
_BACKLOG = 500  # about what a socket's receive buffer holds
_MAX_PAYLOAD = 1472  # UDP payload bytes of a full Ethernet frame


class Garbage(enum.Enum):
    """Broken DHCP messages, each broken in one way."""

    EMPTY = "an empty datagram"
    TRUNCATED = "the first 100 bytes of a DISCOVER"
    WRONG_COOKIE = "a DISCOVER with another magic cookie"
    OPTION_OVERRUN = "an option longer than the message"
    OPTION_EMPTY = "a message type of zero bytes"
    LONG_HLEN = "a hardware address said to be 255 bytes long"
    HUGE = "random-looking bytes filling a whole frame"


class Wire:
    """Scapy packets through a packet socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def send(self, packet: Any) -> None:
        """Send a scapy packet that begins with Ether."""
        self._socket.send(bytes(packet))

    def frames(self, until_s: float) -> Iterator[bytes]:
        """Every IPv4 or ARP frame until `until_s` (monotonic seconds), what has arrived before included."""
        late = 0  # frames read after the end: they may have arrived before it, but a flood must not keep us
        while True:
            left_s = until_s - time.monotonic()
            late += left_s <= 0
            if late > _BACKLOG or not select.select([self._socket], [], [], max(0.0, left_s))[0]:
                return
            frame = self._socket.recv(65535)
            if frame[12:14] in (_IPV4, _ARP):
                yield frame


def discover(mac: str, xid: int) -> Any:
    """A bare DISCOVER: the carrier of `Garbage`."""
    return bootp(mac, xid) / DHCP(options=[("message-type", "discover"), "end"])


def bootp(mac: str, xid: int, ciaddr: IPv4Address = NOBODY) -> Any:
    """The fixed part of a client's message."""
    chaddr = bytes.fromhex(mac.replace(":", ""))
    return BOOTP(op=1, htype=1, hlen=6, xid=xid, ciaddr=str(ciaddr), chaddr=chaddr, options=_COOKIE)


def to_server(
    payload: Any,
    mac: str,
    source: IPv4Address = NOBODY,
    target: IPv4Address = BROADCAST,
    target_mac: str = BROADCAST_MAC,
) -> Any:
    """A client's datagram to the DHCP server's port; broadcast unless told otherwise."""
    # All addresses are given: scapy would look up what is missing in the caller's namespace.
    ethernet, ip = Ether(src=mac, dst=target_mac), IP(src=str(source), dst=str(target), ttl=64)
    return ethernet / ip / UDP(sport=68, dport=67) / payload


def garbage(kind: Garbage, mac: str, xid: int) -> bytes:
    """The UDP payload of a broken message."""
    good = bytes(discover(mac, xid))
    fixed, options = good[:236], good[240:]
    return {
        Garbage.EMPTY: b"",
        Garbage.TRUNCATED: good[:100],
        Garbage.WRONG_COOKIE: fixed + b"\xde\xad\xbe\xef" + options,
        Garbage.OPTION_OVERRUN: fixed + _COOKIE + b"\x35\x01\x01\x0c\xffshort",
        Garbage.OPTION_EMPTY: fixed + _COOKIE + b"\x35\x00\xff",
        Garbage.LONG_HLEN: good[:2] + b"\xff" + good[3:],
        Garbage.HUGE: bytes(i * 197 % 251 for i in range(_MAX_PAYLOAD)),
    }[kind]


def reply_for(frame: bytes, mac: str, xid: int) -> Reply | None:
    """The server's reply in this frame if it answers our message: same xid, same hardware address."""
    if frame[12:14] != _IPV4 or frame[23] != socket.IPPROTO_UDP:
        return None
    packet = Ether(frame)
    message = packet.getlayer(BOOTP)
    if message is None or packet[UDP].dport != 68 or message.op != 2 or message.xid != xid:
        return None
    if bytes(message.chaddr)[:6].hex(":") != mac:
        return None
    return _reply(message)


def _reply(message: Any) -> Reply:
    file = bytes(message.file)
    return Reply(
        yiaddr=IPv4Address(message.yiaddr),
        ciaddr=IPv4Address(message.ciaddr),
        siaddr=IPv4Address(message.siaddr),
        file=file,
        options=parse_options(bytes(message.original)[240:], file, bytes(message.sname)),
    )


def arp_question(mac: str, own: IPv4Address, wanted: IPv4Address) -> Any:
    """Who has `wanted`? Tell `own`."""
    return Ether(src=mac, dst=BROADCAST_MAC) / ARP(op=1, hwsrc=mac, psrc=str(own), pdst=str(wanted))


def arp_holder(frame: bytes, wanted: IPv4Address) -> str | None:
    """The MAC this frame says `wanted` has, if it is an ARP reply that says so."""
    packet = Ether(frame) if frame[12:14] == _ARP else None
    if packet is None or packet[ARP].op != 2 or packet[ARP].psrc != str(wanted):
        return None
    return str(packet[ARP].hwsrc)


def arp_answer(frame: bytes, mac: str, own: IPv4Address) -> Any | None:
    """Our answer, if this frame asks who has our address."""
    packet = Ether(frame) if frame[12:14] == _ARP else None
    if packet is None or packet[ARP].op != 1 or packet[ARP].pdst != str(own):
        return None
    question = packet[ARP]
    answer = ARP(op=2, hwsrc=mac, psrc=str(own), hwdst=question.hwsrc, pdst=question.psrc)
    return Ether(src=mac, dst=question.hwsrc) / answer
