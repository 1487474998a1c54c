"""The TCP listener of the page: few connections, and none for those who take a place and ask nothing."""

from __future__ import annotations

import socket
import time

import structlog
from typing_extensions import override

from macbind.core.errors import ServiceUnavailable
from macbind.http.errors import last_answer
from macbind.http.listener import Connection, Listener

_log = structlog.get_logger()

CONNECTIONS = 64
"""Of all pages together. A page has one that stays, and up to five for a moment; one costs some 20 KiB."""
SILENT_S = 10.0
"""Who has not asked anything for so long gives its place to another, in seconds."""


class PageConnection(Connection):
    """An accepted connection.

    Attributes:
        since: When it came.
        has_asked: Whether a request of it has come.
    """

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted)
        self.since = time.monotonic()
        self.has_asked = False

    @override
    def getpeername(self) -> tuple[str, int]:
        return "page", self.number


class PageListener(Listener[PageConnection]):
    """A listening socket that accepts so many connections at a time.

    Args:
        listening: The socket that listens; it is taken over.
        connections: At most so many.
    """

    def __init__(self, listening: socket.socket, connections: int = CONNECTIONS) -> None:
        super().__init__(listening)
        self._most = connections

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
            connection.say_last(last_answer(error))
            raise ConnectionAbortedError(error.message)
        self._let_in(connection)
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
                del self._connected[connection.number]
                connection.cut()
                _log.info("page", problem="A connection that asked nothing was cut.")
                return True
        return False
