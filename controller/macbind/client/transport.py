"""Calls of the service: each has a connection of its own while it lasts, and gets the answer to itself only."""

from __future__ import annotations

import http.client
import json
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from macbind.client.connection import NO_HEADERS, Connection
from macbind.core.errors import InvalidRequest, MacbindError, ServiceUnavailable

_GRACE_S = 5.0
"""How much longer than the service the client waits, so that the service's own error arrives."""
_MAX_IDLE = 20
"""Connections kept for the next calls."""


class Transport:
    """Carries calls to the service and their answers back. May be used by several threads, and after a fork.

    Args:
        socket: The service's Unix socket.
        timeout_s: How long the service may take for an answer.
    """

    def __init__(self, socket: Path, timeout_s: float) -> None:
        self._socket, self._timeout_s = socket, timeout_s
        self._idle: deque[Connection] = deque()

    def close(self) -> None:
        """Closes the connections that no call uses; the next call opens another."""
        while self._idle:
            self._idle.pop().close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: dict[str, Any] | None = None,
        may_repeat: bool = True,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Any:
        """Sends a request and returns the JSON of its answer.

        Args:
            method: GET, POST or DELETE.
            path: Of the operation.
            params: What stands behind the path.
            body: What is sent as JSON.
            may_repeat: Whether it does no harm when it is carried out twice, at whatever time the second is.
            headers: More headers.

        Raises:
            MacbindError: What the service answered, or ServiceUnavailable without an answer.
        """
        try:
            data = None if body is None else json.dumps(body, allow_nan=False).encode()
            url = f"{path}?{urlencode(params, doseq=True)}" if params else path
        except ValueError as error:  # a number that is none, a text that is no Unicode
            raise InvalidRequest(
                f"The request cannot be written down: {error}.", hint="Check the values given."
            ) from error
        status, content = self.exchange(method, url, data, may_repeat=may_repeat, headers=headers)
        try:
            answer = json.loads(content)
            if status < http.HTTPStatus.BAD_REQUEST:
                return answer
            problem = MacbindError.from_dict(answer["error"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self.not_macbind() from error
        raise problem

    def text(self, path: str) -> str:
        """The text of an answer that is no JSON.

        Raises:
            MacbindError: What the service answered, or ServiceUnavailable without an answer.
        """
        status, content = self.exchange("GET", path, None, may_repeat=True)
        try:
            if status < http.HTTPStatus.BAD_REQUEST:
                return content.decode()
            problem = MacbindError.from_dict(json.loads(content)["error"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self.not_macbind() from error
        raise problem

    def exchange(
        self,
        method: str,
        url: str,
        data: bytes | None,
        *,
        may_repeat: bool,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> tuple[int, bytes]:
        """Status and body of an answer, whatever they are. Calls at the same time have each their connection."""
        while True:
            connection, is_fresh = self._take()
            try:
                if is_fresh:
                    connection.open()
                found = connection.exchange(method, url, data, headers)
            except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a chunk's size
                connection.close()
                is_harmless = may_repeat or not connection.has_sent
                if not is_fresh and isinstance(error, ConnectionError) and is_harmless:
                    continue  # closed by the service while it was idle
                raise self._unanswered(error, may_repeat=may_repeat) from error
            except BaseException:  # e.g. KeyboardInterrupt: the answer is still on its way
                connection.close()
                raise
            if connection.sock is None or len(self._idle) >= _MAX_IDLE:
                connection.close()
            else:
                self._idle.append(connection)
            return found

    def _take(self) -> tuple[Connection, bool]:
        """A connection that no other call and no other process has, and whether it is yet to be opened."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return Connection(self._socket, self._timeout_s + _GRACE_S), True
            if connection.is_fit:
                return connection, False
            connection.close()  # in this process only: a parent keeps what is its own

    def _unanswered(self, error: Exception, *, may_repeat: bool) -> ServiceUnavailable:
        hint = "What it did is unknown; the same call may be repeated safely."
        if not may_repeat:
            hint = (
                "What it did is unknown. A repeated call may hit a later holder of the name; with the generation "
                "of what is meant it cannot."
            )
        return ServiceUnavailable(
            f"The macbind service at {self._socket} did not answer: {str(error) or type(error).__name__}.",
            hint=hint,
        )

    def not_macbind(self) -> ServiceUnavailable:
        """The error of an answer that no macbind service gives."""
        return ServiceUnavailable(
            f"What answers at {self._socket} is not a macbind service of this version.",
            hint="Check the path of the socket, and that client and service are of one version.",
        )
