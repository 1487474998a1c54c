"""Whether a machine answers: ICMP echo and TCP, tried until it does."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

from macbind.core.errors import ConfigError, NotPermitted
from macbind.core.mac_address import MacAddress

try:
    import icmplib
except ImportError as error:
    raise ConfigError("icmplib is not installed here.", hint="Install macbind[libvirt].") from error

_TRY_S = 0.5
"""How long one try waits. A booting machine says nothing at first, and is not to wait for us later."""


_COMPLETE = 0x2  # ATF_COM


class EchoSocket:
    """Asks by ICMP echo; as an ordinary user where the kernel lets them, else as root. A context manager.

    Raises:
        NotPermitted: Neither is possible.
    """

    def __init__(self, address: IPv4Address) -> None:
        self._address = str(address)
        # The identifier must be our own among all who ping on this host: a raw socket gets everybody's replies.
        self._id, self._sequence = secrets.randbelow(1 << 16), 0
        self._socket = _open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def answers(self) -> bool:
        """Whether an answer comes now."""
        self._sequence = (self._sequence + 1) & 0xFFFF
        request = icmplib.ICMPRequest(destination=self._address, id=self._id, sequence=self._sequence)
        with suppress(icmplib.ICMPLibError):  # no route or no neighbour: as silent as nobody
            self._socket.send(request)
            reply = self._socket.receive(request, _TRY_S)
            reply.raise_for_status()
            return bool(reply.source == self._address)
        return False


def _open() -> icmplib.ICMPv4Socket:
    for privileged in (False, True):
        with suppress(icmplib.SocketPermissionError):
            return icmplib.ICMPv4Socket(privileged=privileged)
    raise NotPermitted(
        "Your user may not ping.",
        hint="Let all users: `sysctl net.ipv4.ping_group_range='0 2147483647'`; or wait for a TCP port only.",
    )


def neighbour(address: IPv4Address) -> MacAddress | None:
    """The MAC this host sends to for an address it has just sent to; None if no neighbour of it has the address.

    It may be out of date for some seconds.
    """
    # Of this thread's network namespace, which need not be its process's.
    for line in Path("/proc/thread-self/net/arp").read_text(encoding="ascii").splitlines()[1:]:
        ip, _, flags, mac, *_ = line.split()
        if ip == str(address) and int(flags, 16) & _COMPLETE:
            return MacAddress.parse(mac)
    return None


def addresses_of(mac: MacAddress) -> set[IPv4Address]:
    """The addresses at which this host has this neighbour."""
    found = set()
    for line in Path("/proc/thread-self/net/arp").read_text(encoding="ascii").splitlines()[1:]:
        ip, _, flags, other, *_ = line.split()
        if other == str(mac) and int(flags, 16) & _COMPLETE:
            found.add(IPv4Address(ip))
    return found


def connects(address: IPv4Address, port: int) -> bool:
    """Whether something listens on a TCP port now."""
    with suppress(OSError), socket.create_connection((str(address), port), timeout=_TRY_S):
        return True
    return False
