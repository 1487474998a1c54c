"""How an error is answered: its HTTP status and its JSON."""

from __future__ import annotations

import json
from http import HTTPStatus

from macbind.errors import (
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


def status_of(error: MacbindError) -> int:
    """The HTTP status of an error: 4xx for the caller's fault, 503 for a peer's, 500 for a defect."""
    return next(code for kind, code in _STATUS if isinstance(error, kind))


def body_of(error: MacbindError) -> bytes:
    """The error as JSON, in ASCII: a message may quote text that is no Unicode."""
    return json.dumps({"error": error.to_dict()}).encode()


def last_answer(error: MacbindError, status: int) -> bytes:
    """A whole HTTP answer, after which the connection is closed."""
    body = body_of(error)
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-type: {JSON}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
