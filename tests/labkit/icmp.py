"""Ping from inside a namespace, with an exact deadline."""

import contextlib
import os
import select
import socket
import struct
import time
from ipaddress import IPv4Address

from labkit.netns import Namespace

_ECHO_REPLY, _ECHO_REQUEST = 0, 8
_REPEAT_S = 0.2


def ping(namespace: Namespace, address: IPv4Address | str, deadline_s: float) -> bool:
    """Whether `address` answers an echo request sent from `namespace` within `deadline_s` seconds."""
    give_up_at = time.monotonic() + deadline_s
    token = os.urandom(16)
    with namespace.open_icmp() as sock:
        sock.setblocking(False)
        sequence = 0
        while True:
            sequence += 1
            # No route or no neighbour: as silent as an address that nobody has.
            with contextlib.suppress(OSError):
                sock.sendto(_echo_request(sequence, token), (str(address), 0))
            if _replied(sock, token, min(time.monotonic() + _REPEAT_S, give_up_at)):
                return True
            if time.monotonic() >= give_up_at:
                return False


def _replied(sock: socket.socket, token: bytes, until_s: float) -> bool:
    """Whether a reply has come by then; what has arrived meanwhile counts, however late it is read."""
    while select.select([sock], [], [], max(0.0, until_s - time.monotonic()))[0]:
        if _is_reply(sock.recv(2048), token):
            return True
    return False


def _echo_request(sequence: int, token: bytes) -> bytes:
    def packet(checksum: int) -> bytes:
        return struct.pack("!BBHHH", _ECHO_REQUEST, 0, checksum, 0, sequence & 0xFFFF) + token

    total = sum(struct.unpack("!12H", packet(0)))
    return packet(~(total % 0xFFFF) & 0xFFFF)


def _is_reply(packet: bytes, token: bytes) -> bool:
    message = packet[(packet[0] & 0x0F) * 4 :]
    return message[:1] == bytes([_ECHO_REPLY]) and message[8:] == token
