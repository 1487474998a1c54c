"""The TCP listener of the API: shares of places by address, and no place for who asks nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Hashable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address

import structlog
from typing_extensions import override

from macbind.http.listener import Connection, Listener

_log = structlog.get_logger()
_LOG_EVERY_S = 10.0


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """The limits of the listener; the defaults are right for every farm, other values are for tests."""

    connections: int = 1024
    """Of all addresses together. An address may have as many as are left free, as users have on the Unix socket."""

    strangers: int = 16
    """Of one address (in IPv6 of a /64) that have not asked anything yet: handshakes, mostly, which cost time."""

    first_request_s: float = 10.0
    """From the connection to the end of the head of its first request, with the TLS handshake between them."""


def origin_of(host: str) -> Hashable:
    """Whose connection it is, as far as an address says: in IPv6 whoever has one has 2**64."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or IPv6Network((address, 64), strict=False)
    return address


class ApiConnection(Connection):
    """An accepted connection.

    Attributes:
        host: The address of its other end.
        origin: Whose share it takes.
        has_asked: Whether a request of it has come.
        name: The common name of its client certificate; None without one.
    """

    def __init__(self, accepted: socket.socket, host: str) -> None:
        super().__init__(accepted)
        self.host, self.origin = host, origin_of(host)
        self.has_asked = False
        self.name: str | None = None

    @override
    def getpeername(self) -> tuple[str, int]:
        return self.host, self.number


class ApiListener(Listener[ApiConnection]):
    """A listening socket that accepts a connection only if its address has a place left.

    Args:
        listening: The socket that listens; it is taken over.
        limits: How many there may be.
    """

    def __init__(self, listening: socket.socket, limits: ApiLimits) -> None:
        super().__init__(listening)
        self._limits = limits
        self._refusals, self._logged_at = 0, float("-inf")

    @override
    def accept(self) -> tuple[ApiConnection, tuple[str, int]]:
        """One connection, and its name.

        Raises:
            ConnectionAbortedError: Its address has no place left; there may be others.
        """
        accepted, address = super().accept()
        connection = ApiConnection(accepted, str(address[0]))
        mine = [one for one in self._connected.values() if one.origin == connection.origin]
        strangers = sum(not one.has_asked for one in mine)
        free = self._limits.connections - len(self._connected)
        if strangers >= self._limits.strangers or len(mine) >= free:
            connection.close()
            self._refused(connection)
            raise ConnectionAbortedError(f"{connection.host} has no place left")
        loop = asyncio.get_running_loop()
        giving_up = loop.call_later(self._limits.first_request_s, self._give_up, connection)
        self._let_in(connection, giving_up.cancel)
        return connection, connection.getpeername()

    def _refused(self, connection: ApiConnection) -> None:
        self._refusals += 1
        now = asyncio.get_running_loop().time()
        if now - self._logged_at >= _LOG_EVERY_S:
            _log.warning("api refused", address=connection.host, times=self._refusals)
            self._refusals, self._logged_at = 0, now

    def _give_up(self, connection: ApiConnection) -> None:
        if not connection.has_asked:
            connection.cut()

    def secured(self, number: int, name: str | None) -> None:
        """The connection of this number is encrypted now; the other end has a certificate of this name, or none."""
        if number in self._connected:
            self._connected[number].name = name

    def asked(self, number: int) -> str | None:
        """The connection of this number has sent a request; the name of its certificate, if it has one."""
        if number not in self._connected:
            return None
        self._connected[number].has_asked = True
        return self._connected[number].name
