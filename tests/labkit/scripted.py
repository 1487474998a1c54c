"""Something that listens where the service should, keeps its connections, and answers each request as it is told."""

import json
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from macbind.core.errors import MacbindError
from macbind.http.errors import status_of

Answer = Callable[[str, str, Any], Any]
"""Gets method, path and body of a request; returns or raises what is answered, or None to close without an answer."""


class Scripted:
    """A server of HTTP with kept connections on a Unix socket. A context manager.

    Args:
        path: Where to listen.
        answer: What it answers.
    """

    def __init__(self, path: Path, answer: Answer) -> None:
        self._path, self._answer = path, answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        """Held by whoever ends a connection: the client may end it at the same moment."""
        self._threads = [threading.Thread(target=self._accept)]
        self.requests: list[tuple[int, str, str, Any]] = []
        """The process that opened the connection, method, path and body of every request."""

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(60)
        self.hang_up()
        for thread in self._threads[1:]:
            thread.join(60)
        self._listener.close()

    def say(self, unasked: bytes) -> None:
        """Sends something on every connection."""
        for connection in self._open:
            connection.sendall(unasked)

    def hang_up(self) -> None:
        """Closes all connections, as a service does that is restarted."""
        with self._lock:
            while self._open:
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # it is over
                return
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid = struct.unpack("3i", credentials)[0]
        with connection, connection.makefile("rb") as lines:
            try:
                while self._one(pid, connection, lines):
                    pass
            except OSError:  # the client has had enough
                pass
            finally:
                with self._lock:
                    if connection in self._open:
                        self._open.remove(connection)
                    connection.close()

    def _one(self, pid: int, connection: socket.socket, lines: BinaryIO) -> bool:
        """Answers one request; False if the connection is over."""
        words = lines.readline().split()
        if not words:
            return False
        method, path, length = words[0].decode(), words[1].decode(), 0
        while (header := lines.readline().strip()) != b"":
            name, _, value = header.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        body = json.loads(lines.read(length)) if length else None
        self.requests.append((pid, method, path, body))
        status = 200
        try:
            answered = self._answer(method, path, body)
        except MacbindError as error:
            answered, status = {"error": error.to_dict()}, status_of(error)
        if answered is None:
            return False
        content = json.dumps(answered).encode()
        connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(content)) + content)
        return True
