"""Calls of the service: each has a connection of its own while it lasts, and gets the answer to itself only.

Of several services, questions go to each in turn, and changes to the one that did the last. Where one cannot be
reached, the next is asked; where an answer is lost, only if a second time can do no harm.
"""

from __future__ import annotations

import http.client
import json
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import urlencode

from macbind.client.connection import Connection
from macbind.client.places import NO_HEADERS, Place
from macbind.core.errors import InvalidRequest, MacbindError, RegistryUnavailable, ServiceUnavailable

_GRACE_S = 5.0
"""How much longer than the service the client waits, so that the service's own error arrives."""
_MAX_IDLE = 20
"""Connections to one place that are kept for the next calls."""
_REST_S = 5.0
"""For how long a place is asked last that could not be reached, in seconds."""
_ELSEWHERE = (ServiceUnavailable.code, RegistryUnavailable.code)
"""What a service says that cannot do anything now, where another one may."""


@dataclass(slots=True)
class _Attempt:
    """One place that is asked.

    Attributes:
        at: Its number.
        has_sent: Whether it may have carried out the request.
    """

    at: int
    has_sent: bool = False


class Transport:
    """Carries calls to the service and their answers back. May be used by several threads, and after a fork.

    Args:
        places: Where the service is.
        timeout_s: How long the service may take for an answer.
    """

    def __init__(self, places: Sequence[Place], timeout_s: float) -> None:
        self._places, self._timeout_s = list(places), timeout_s
        self._idle: dict[int, deque[Connection]] = defaultdict(deque)
        self._rest: dict[int, float] = {}
        self._turns, self._changes_at = count(), 0

    def close(self) -> None:
        """Closes the connections that no call uses; the next call opens another."""
        for idle in list(self._idle.values()):
            while idle:
                idle.pop().close()

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
        order = self.order(reads=method == "GET")
        for left, at in zip(range(len(order) - 1, -1, -1), order, strict=True):
            attempt = _Attempt(at)
            try:
                status, content = self._exchange_at(
                    attempt, method, url, data, headers, may_repeat=may_repeat
                )
            except MacbindError:
                self.rest(at)
                if not left or (attempt.has_sent and not may_repeat):
                    raise
                continue
            if not (left and may_repeat and _is_elsewhere(status, content)):
                break
            self.rest(at)
        if status != http.HTTPStatus.SERVICE_UNAVAILABLE:
            self._rest.pop(at, None)
        if method != "GET":
            self._changes_at = at
        return status, content

    def order(self, *, reads: bool) -> list[int]:
        """The numbers of the places in the order in which they are asked."""
        if len(self._places) == 1:
            return [0]
        first = next(self._turns) if reads else self._changes_at
        order = [(first + step) % len(self._places) for step in range(len(self._places))]
        now = time.monotonic()
        return sorted(order, key=lambda at: self._rest.get(at, 0.0) > now)

    def rest(self, at: int) -> None:
        """Asks a place last for a while."""
        self._rest[at] = time.monotonic() + _REST_S

    def _exchange_at(
        self,
        attempt: _Attempt,
        method: str,
        url: str,
        data: bytes | None,
        headers: Mapping[str, str],
        *,
        may_repeat: bool,
    ) -> tuple[int, bytes]:
        at = attempt.at
        while True:
            connection, is_fresh = self._take(at)
            try:
                if is_fresh:
                    connection.open()
                found = connection.exchange(method, url, data, headers)
            except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a chunk's size
                connection.close()
                is_harmless = may_repeat or not connection.has_sent
                if not is_fresh and isinstance(error, ConnectionError) and is_harmless:
                    continue  # closed by the service while it was idle
                attempt.has_sent = connection.has_sent
                raise self._unanswered(at, error, may_repeat=may_repeat) from error
            except BaseException:  # e.g. KeyboardInterrupt: the answer is still on its way
                connection.close()
                raise
            if connection.sock is None or len(self._idle[at]) >= _MAX_IDLE:
                connection.close()
            else:
                self._idle[at].append(connection)
            return found

    def _take(self, at: int) -> tuple[Connection, bool]:
        """A connection that no other call and no other process has, and whether it is yet to be opened."""
        while True:
            try:
                connection = self._idle[at].pop()
            except IndexError:
                return Connection(self._places[at], self._timeout_s + _GRACE_S), True
            if connection.is_fit:
                return connection, False
            connection.close()  # in this process only: a parent keeps what is its own

    def _unanswered(self, at: int, error: Exception, *, may_repeat: bool) -> ServiceUnavailable:
        hint = "What it did is unknown; the same call may be repeated safely."
        if not may_repeat:
            hint = (
                "What it did is unknown. A repeated call may hit a later holder of the name; with the generation "
                "of what is meant it cannot."
            )
        return ServiceUnavailable(
            f"The macbind service at {self._places[at]} did not answer: {str(error) or type(error).__name__}.",
            hint=hint,
        )

    def not_macbind(self) -> ServiceUnavailable:
        """The error of an answer that no macbind service gives."""
        return ServiceUnavailable(
            f"What answers at {', '.join(map(str, self._places))} is not a macbind service of this version.",
            hint="Check where the service is, and that client and service are of one version.",
        )


def _is_elsewhere(status: int, content: bytes) -> bool:
    """Whether an answer says that this service can do nothing now."""
    try:
        return (
            status == http.HTTPStatus.SERVICE_UNAVAILABLE
            and json.loads(content)["error"]["code"] in _ELSEWHERE
        )
    except (ValueError, KeyError, TypeError):
        return False
