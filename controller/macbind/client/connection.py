"""One HTTP connection to the service, for one process."""

from __future__ import annotations

import http.client
import json
import os
import select
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from typing_extensions import override

from macbind.client.places import NO_HEADERS, DeadlineSocket, Place
from macbind.core.errors import MacbindError

_MAX_ANSWER = 256 << 20
"""Bytes of an answer: 65,536 allocations have 42 MB, and more with options."""
_PIECE = 1 << 20
_JSON = {"Content-Type": "application/json"}


class Connection(http.client.HTTPConnection):
    """HTTP to one place, used by one call at a time and by the process that opened it.

    Args:
        place: Where the service is.
        timeout_s: How long an answer may take, however slowly it trickles in.
    """

    sock: DeadlineSocket | None

    def __init__(self, place: Place, timeout_s: float) -> None:
        super().__init__("macbind", timeout=timeout_s)
        self._place, self._timeout_s, self._pid = place, timeout_s, os.getpid()
        self.has_sent = False
        """Whether anything of the latest request has left: then the service may have carried it out."""

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it. After a fork it is the parent's: an answer would be for either."""
        return self._pid == os.getpid()

    @property
    def is_fit(self) -> bool:
        """Whether it can take another request: ours, open, and nothing has come that nobody asked for."""
        if self.sock is None or not self.is_ours:
            return False
        looking = select.poll()
        looking.register(self.sock, select.POLLIN)
        return not looking.poll(0)

    def exchange(
        self, method: str, url: str, data: bytes | None, headers: Mapping[str, str] = NO_HEADERS
    ) -> tuple[int, bytes]:
        """One request; returns the status and the body of its answer.

        Raises:
            OSError, HTTPException: The connection broke, nothing came in time, or it is not HTTP.
        """
        assert self.sock is not None
        self.has_sent = False
        self.sock.settimeout(self._timeout_s)
        self.sock.deadline = time.monotonic() + self._timeout_s
        # A service that refuses to read the request may have said why before it closed the connection.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.request(method, url, data, {**self._place.headers, **headers, **(_JSON if data else {})})
        content = bytearray()
        with self.getresponse() as response:  # closed before its socket is forgotten
            while piece := response.read(_PIECE):
                content += piece
                if len(content) > _MAX_ANSWER:
                    raise http.client.HTTPException(f"more than {_MAX_ANSWER >> 20} MiB were sent")
            if response.length:
                raise http.client.IncompleteRead(bytes(content), response.length)
        if not self.is_ours:
            raise ConnectionAbortedError("the process was forked in the middle of the call")
        return response.status, bytes(content)

    def lines(self, url: str) -> Iterator[bytes]:
        """The lines of an answer as they come, without their ends; each may take as long as a whole answer.

        Raises:
            MacbindError: What the service answered instead.
            OSError, HTTPException: The connection broke, nothing came in time, or it is not HTTP.
        """
        assert self.sock is not None
        self.sock.deadline = time.monotonic() + self._timeout_s
        self.request("GET", url, headers=dict(self._place.headers))
        response = self.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise _refusal(response.read(_PIECE))
        while line := response.readline(_PIECE):
            if not line.endswith(b"\n"):
                raise http.client.HTTPException("a line does not end")
            yield line[:-1]
            if self.sock is not None:
                self.sock.deadline = time.monotonic() + self._timeout_s

    @override
    def send(self, data: Any) -> None:
        super().send(data)
        self.has_sent = True

    @override
    def connect(self) -> None:
        self.sock = self._place.connect()
        self.sock.settimeout(self.timeout)

    def open(self) -> None:
        """Connects.

        Raises:
            ServiceUnavailable, NotPermitted: It is not possible.
        """
        try:
            self.connect()
        except OSError as error:
            self.close()
            raise self._place.unreachable(error) from error


def _refusal(content: bytes) -> MacbindError:
    """The error in an answer."""
    try:
        return MacbindError.from_dict(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise http.client.HTTPException("what answers is not macbind") from error
