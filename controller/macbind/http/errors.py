"""How an error is answered: its HTTP status and its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from starlette.responses import Response

from macbind.core.errors import (
    AddressInUse,
    Conflict,
    InvariantViolation,
    MacbindError,
    NotFound,
    NotPermitted,
    PeerError,
    PoolExhausted,
    RequestError,
)

JSON = "application/json"
_STATUS: tuple[tuple[type[MacbindError], int], ...] = (
    (NotFound, 404),
    (NotPermitted, 403),
    (AddressInUse, 409),
    (Conflict, 409),
    (PoolExhausted, 409),
    (RequestError, 400),
    (PeerError, 503),
    (InvariantViolation, 500),
    (MacbindError, 500),
)


class Refused(Exception):
    """An error with an HTTP status of its own.

    Args:
        error: The error.
        status: Its HTTP status.
        headers: More headers of the answer.
    """

    def __init__(
        self, error: MacbindError, status: int, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(error.message)
        self.error, self.status, self.headers = error, status, dict(headers)


def status_of(error: MacbindError) -> int:
    """The HTTP status of an error: 4xx for the caller's fault, 503 for a peer's, 500 for a defect."""
    return next(code for kind, code in _STATUS if isinstance(error, kind))


def answer(error: MacbindError | Refused) -> Response:
    """The answer that contains an error."""
    if isinstance(error, Refused):
        return Response(body_of(error.error), error.status, error.headers, media_type=JSON)
    return Response(body_of(error), status_of(error), media_type=JSON)


def body_of(error: MacbindError) -> bytes:
    """The error as JSON, in ASCII: a message may quote text that is no Unicode."""
    return json.dumps({"error": error.to_dict()}).encode()


def last_answer(error: MacbindError | Refused) -> bytes:
    """A whole HTTP answer, after which the connection is closed."""
    made = answer(error)
    body, status = bytes(made.body), HTTPStatus(made.status_code)
    head = (
        f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: {JSON}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
