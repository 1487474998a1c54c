"""A relay on a Unix socket that can lose an answer: the server has done it, and the client never hears."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_SIZE = 65536


class Cut:
    """Passes everything on, until it is told to lose the answer to a question. A context manager.

    Args:
        path: Where it listens.
        server: Where the server listens.
    """

    def __init__(self, path: Path, server: Path) -> None:
        self._server, self._lost = server, b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]

    def lose(self, question: bytes) -> None:
        """Loses the answer to the next piece that contains this, and the connection with it."""
        self._lost = question

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # it is over
                return
            thread = threading.Thread(target=self._relay, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _relay(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(str(self._server))
            back = threading.Thread(target=self._answers, args=(server, client))
            back.start()
            while data := client.recv(_SIZE):
                is_lost = self._lost != b"" and self._lost in data
                if is_lost:
                    self._lost = b""
                    client.shutdown(socket.SHUT_WR)
                server.sendall(data)
                if is_lost:
                    break
            server.shutdown(socket.SHUT_WR)  # it does what it was asked, and ends
            back.join(60)

    @staticmethod
    def _answers(server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(_SIZE):
                client.sendall(data)
        except OSError:  # the client is not to hear
            while server.recv(_SIZE):
                pass
