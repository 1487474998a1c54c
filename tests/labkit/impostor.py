"""Something that listens where the service should, and answers as it is told."""

import socket
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self


class Impostor:
    """A server on a Unix socket that reads each request's first bytes, answers, and closes. A context manager.

    Args:
        path: Where to listen.
    """

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self.answer: Iterable[bytes] = ()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(60)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # it is over
                return
            with connection:
                connection.recv(65536)
                try:
                    for piece in self.answer:
                        connection.sendall(piece)
                except OSError:  # the client has had enough
                    continue
