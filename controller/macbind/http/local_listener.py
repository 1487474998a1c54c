"""The Unix socket's listener: the kernel says whose each connection is, and every user has a share of the places."""

from __future__ import annotations

import socket

from typing_extensions import override

from macbind.core.errors import ServiceUnavailable
from macbind.http.access import Peer
from macbind.http.errors import last_answer
from macbind.http.limits import Places
from macbind.http.listener import Connection, Listener


class LocalConnection(Connection):
    """An accepted connection: its peer's name is what the kernel says about the caller.

    :func:`~macbind.http.access.peer_from` reads it.

    Attributes:
        peer: The caller.
    """

    def __init__(self, accepted: socket.socket) -> None:
        super().__init__(accepted)
        self.peer = Peer.of(self, self.number)

    @override
    def getpeername(self) -> tuple[str, int]:
        return self.peer.client


class LocalListener(Listener[LocalConnection]):
    """A listening socket that accepts a connection only if its user has a place left.

    Args:
        listening: The socket that listens; it is taken over.
        places: Who is connected.
    """

    def __init__(self, listening: socket.socket, places: Places) -> None:
        super().__init__(listening)
        self._places = places

    @override
    def accept(self) -> tuple[LocalConnection, tuple[str, int]]:
        """One connection, and its peer's name.

        Raises:
            ConnectionAbortedError: A connection was refused; there may be others.
        """
        connection = LocalConnection(super().accept()[0])
        uid = connection.peer.uid
        try:
            self._places.enter(uid)
        except ServiceUnavailable as error:
            self._places.refused(uid, error)
            connection.say_last(last_answer(error))
            raise ConnectionAbortedError(error.message) from error
        self._let_in(connection, lambda: self._places.leave(uid))
        return connection, connection.getpeername()
