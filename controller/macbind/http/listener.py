"""What every listener of the service does: it counts connections, gives each a number, and can cut them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Generic, TypeVar

from typing_extensions import override

_NUMBERS = count(1)


class Connection(socket.socket):
    """An accepted connection.

    An HTTP server puts what ``getpeername`` returns into ``scope["client"]``; the second of it is the number.

    Attributes:
        number: Its number.
        on_close: Called when it is closed.
    """

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, fileno=accepted.detach())
        self.number = next(_NUMBERS)
        self.on_close: Callable[[], object] = lambda: None

    @override
    def close(self) -> None:
        super().close()
        self.on_close()

    def cut(self) -> None:
        """Ends it in both directions, whatever is on its way there."""
        with suppress(OSError):  # the client was faster
            self.shutdown(socket.SHUT_RDWR)

    def say_last(self, words: bytes) -> None:
        """Sends what fits at once, and closes it."""
        self.setblocking(False)
        with self, suppress(OSError):  # it may have gone
            self.send(words)


Kind = TypeVar("Kind", bound=Connection)


class Listener(socket.socket, Generic[Kind]):
    """A listening socket, and its connections in the order in which they came. Used in the event loop only.

    Args:
        listening: The socket that listens; it is taken over.
    """

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(listening.family, listening.type, listening.proto, fileno=listening.detach())
        self._connected: dict[int, Kind] = {}

    def _let_in(self, connection: Kind, left: Callable[[], object] = lambda: None) -> None:
        """Counts a connection until it is closed; ``left`` is called then."""

        def closed() -> None:
            if self._connected.pop(connection.number, None) is not None:
                left()

        self._connected[connection.number] = connection
        connection.on_close = closed

    def cut(self) -> None:
        """Cuts every connection."""
        for connection in list(self._connected.values()):
            connection.cut()

    def cut_one(self, number: int) -> None:
        """Cuts the connection of this number, if it is still there."""
        if number in self._connected:
            self._connected[number].cut()
