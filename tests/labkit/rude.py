"""Clients without manners: raw bytes to the service's socket, as any user."""

import json
import os
import pwd
import re
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labkit.wait import until

PATIENCE_S = 60.0
"""How long an answer is waited for."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: its status, its head in lower case, and its body."""

    status: int
    head: str
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error it tells, after checking that it is told as JSON."""
        assert "content-type: application/json" in self.head, self
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert error["code"]
        assert error["message"].endswith("."), error
        assert error["hint"]
        return error


class Rude:
    """One connection. A context manager.

    Args:
        path: The service's socket.
        user: Who connects, by name; this process's own user by default.
    """

    def __init__(self, path: Path, user: str | None = None) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        with acting_as(user):
            self.socket.connect(
                str(path)
            )  # waits while the backlog is full, which it would not with a timeout
        self.socket.settimeout(PATIENCE_S)
        self._in = b""
        self._poll = select.poll()
        self._poll.register(self.socket, select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """Sends all of it; False if the service has closed the connection meanwhile."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def ask(self, method: str = "GET", path: str = "/v1/pools", body: bytes = b"", **headers: str) -> Answer:
        """Sends a whole request and reads its answer."""
        self.send(request(method, path, body, **headers))
        answer = self.answer(has_body=method != "HEAD")
        assert answer is not None
        return answer

    def answer(self, *, has_body: bool = True) -> Answer | None:
        """Reads the next answer; None if the connection is closed instead.

        Fails if nothing comes for a long time, or if the connection breaks in the middle.
        """
        while b"\r\n\r\n" not in self._in:
            if not self._read():
                assert self._in == b"", self._in
                return None
        head, self._in = self._in.split(b"\r\n\r\n", 1)
        text = head.decode("latin-1").lower()
        found = re.search(r"content-length: (\d+)", text)
        assert found, text
        size = int(found[1]) if has_body else 0
        while len(self._in) < size:
            assert self._read(), "the answer is cut"
        body, self._in = self._in[:size], self._in[size:]
        return Answer(int(text.split()[1]), text, body)

    def _read(self) -> bool:
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionResetError:
            return False
        self._in += data
        return bool(data)

    @property
    def is_readable(self) -> bool:
        """Whether an answer, or the end, has arrived."""
        return bool(self._poll.poll(0))

    @property
    def is_closed(self) -> bool:
        """Whether the service has closed the connection; what it sent is thrown away."""
        while self.is_readable:
            try:
                if not self.socket.recv(1 << 20):
                    return True
            except ConnectionResetError:
                return True
        return False

    def until_closed(self) -> None:
        """Waits until the service has closed the connection; it answers first, and closes a moment later."""
        until(lambda: self.is_closed, PATIENCE_S, "the service to close the connection")


def request(method: str = "GET", path: str = "/v1/pools", body: bytes = b"", **headers: str) -> bytes:
    """A request as bytes; a body is declared as JSON unless the headers say otherwise."""
    fields = {"Host": "macbind"}
    if body:
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


@contextmanager
def acting_as(user: str | None) -> Iterator[None]:
    """Connections made inside are this user's: the kernel notes who calls connect(2)."""
    if user is None:
        yield
        return
    known = pwd.getpwnam(user)
    mine = os.getegid(), os.geteuid()
    os.setegid(known.pw_gid)
    os.seteuid(known.pw_uid)
    try:
        yield
    finally:
        os.seteuid(mine[1])
        os.setegid(mine[0])
