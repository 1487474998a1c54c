"""The TCP listener of the page: few connections, and none for those who take a place and ask nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count

import structlog
from typing_extensions import override

from macbind.core.errors import ServiceUnavailable
from macbind.http.errors import last_answer

_log = structlog.get_logger()
_NUMBERS = count(1)

CONNECTIONS = 64
"""Of all pages together. A page has one that stays, and up to five for a moment; one costs some 20 KiB."""
SILENT_S = 10.0
"""Who has not asked anything for so long gives its place to another, in seconds."""


class PageConnection(socket.socket):
    """An accepted connection with a number, as which it stands in ``scope["client"]``."""

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self.number = next(_NUMBERS)
        self.since = time.monotonic()
        self.has_asked = False
        self.on_close: Callable[[], object] = lambda: None

    @override
    def getpeername(self) -> tuple[str, int]:
        return "page", self.number

    @override
    def close(self) -> None:
        super().close()
        self.on_close()


class PageListener(socket.socket):
    """A listening socket that accepts so many connections at a time. Used in the event loop only.

    Args:
        listening: The socket that listens; it is taken over.
        connections: At most so many.
    """

    def __init__(self, listening: socket.socket, connections: int = CONNECTIONS) -> None:
        super().__init__(listening.family, listening.type, listening.proto, fileno=listening.detach())
        self._most = connections
        self._connected: dict[int, PageConnection] = {}

    @override
    def accept(self) -> tuple[PageConnection, tuple[str, int]]:
        """One connection, and its name.

        Raises:
            ConnectionAbortedError: All places are taken.
        """
        connection = PageConnection(super().accept()[0])
        if len(self._connected) >= self._most and not self._cut_silent():
            error = ServiceUnavailable(
                f"The page has {self._most} connections, and no place for another.",
                hint="Close pages that are not needed, and load this one again.",
            )
            connection.setblocking(False)
            with connection, suppress(OSError):  # it may have gone
                connection.send(last_answer(error))
            raise ConnectionAbortedError(error.message)
        self._connected[connection.number] = connection
        connection.on_close = lambda: self._connected.pop(connection.number, None)
        return connection, connection.getpeername()

    def asked(self, number: int) -> None:
        """The connection of this number has sent a request."""
        if number in self._connected:
            self._connected[number].has_asked = True

    def _cut_silent(self) -> bool:
        """Cuts the oldest connection that never asked anything; False if there is none."""
        before = time.monotonic() - SILENT_S
        for connection in self._connected.values():  # oldest first
            if not connection.has_asked and connection.since < before:
                self._connected.pop(connection.number)
                _cut(connection)
                _log.info("page", problem="A connection that asked nothing was cut.")
                return True
        return False

    def cut(self) -> None:
        """Cuts every connection."""
        for connection in list(self._connected.values()):
            _cut(connection)

    def cut_one(self, number: int) -> None:
        """Cuts the connection of this number, if it is still there."""
        if number in self._connected:
            _cut(self._connected[number])


def _cut(connection: PageConnection) -> None:
    with suppress(OSError):  # the browser was faster
        connection.shutdown(socket.SHUT_RDWR)
