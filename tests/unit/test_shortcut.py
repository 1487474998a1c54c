"""Which requests take the short way, and that the others arrive at the application as they were."""

import asyncio
import json
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from macbind.errors import Conflict, InvalidRequest
from macbind.service.door import Refused, answer
from macbind.service.peer import Peer
from macbind.service.shortcut import Post, Shortcut
from macbind.service.wire import ReleaseBody

PATH = "/v1/release"
GOOD = b'{"name": "vm"}'


class Exchange:
    """One request to a shortcut before an application that only keeps what it gets."""

    def __init__(
        self, *parts: bytes, refused: Refused | None = None, leaves: bool = False, **changes: Any
    ) -> None:
        self.parts, self.refused, self.leaves = list(parts), refused, leaves
        self.handled: list[str | None] = []
        self.passed_on: bytes | None = None
        self.was_left = False
        self.refusal: Refused | None = None
        self.sent: list[Message] = []
        size = str(len(b"".join(parts))).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", size)]
        self.scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": PATH,
            "query_string": b"",
            "headers": headers,
            "client": ("0:0", 1),
            **changes,
        }
        shortcut = Shortcut(
            self._app, posts={PATH: Post(ReleaseBody, self._handle)}, tell=lambda _, error: answer(error)
        )
        asyncio.run(shortcut(self.scope, self._receive, self._send))

    async def _receive(self) -> Message:
        if not self.parts:
            if self.leaves:
                return {"type": "http.disconnect"}
            assert self.refused is not None
            raise self.refused
        part = self.parts.pop(0)
        more = bool(self.parts or self.refused or self.leaves)
        return {"type": "http.request", "body": part, "more_body": more}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    async def _handle(self, body: ReleaseBody, peer: Peer, _: Receive) -> Response:
        self.handled.append(body.name)
        if body.name == "taken":
            raise Conflict("It is taken.")
        return Response(str(peer.uid))

    async def _app(self, _: Scope, receive: Receive, __: Send) -> None:
        taken, more = b"", True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.was_left = True
                    break
                taken += message["body"]
                more = message["more_body"]
        except Refused as refusal:
            self.refusal = refusal
        self.passed_on = taken


def test_a_plain_request_is_handled_here() -> None:
    """It is read, in however many parts it comes, and the application never hears of it."""
    exchange = Exchange(GOOD[:3], GOOD[3:])
    assert exchange.handled == ["vm"]
    assert exchange.passed_on is None
    assert [message.get("body") for message in exchange.sent] == [None, b"0"]


def test_an_error_of_the_handler_is_told() -> None:
    """With its status and code, as from the application."""
    start, body = Exchange(b'{"name": "taken"}').sent
    assert start["status"] == 409
    assert json.loads(body["body"])["error"]["code"] == "conflict"


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "PUT"},
        {"path": "/v1/allocations"},
        {"query_string": b"timeout_s=1"},
        {"headers": []},
        {"headers": [(b"content-type", b"application/json")]},
        {"headers": [(b"content-type", b"text/plain"), (b"content-length", b"14")]},
        {"headers": [(b"content-type", b"application/json"), (b"content-length", b"99999")]},
        {"headers": [(b"content-type", b"application/json"), (b"content-length", b"-1")]},
    ],
)
def test_what_is_not_plain_goes_on_unread(changes: dict[str, Any]) -> None:
    """Another path or method, a query, a body of another kind, of unknown length or large."""
    exchange = Exchange(GOOD, **changes)
    assert exchange.passed_on == GOOD
    assert exchange.handled == []


@pytest.mark.parametrize("body", [b'{"nam": "vm"}', b"{", b"\xff", b"[" * 9_000, b"[]", b"null"])
def test_what_is_not_right_goes_on_as_it_came(body: bytes) -> None:
    """The application reads it again, and says what is wrong."""
    exchange = Exchange(body[:1], body[1:])
    assert exchange.passed_on == body
    assert exchange.handled == []


def test_a_refusal_in_the_middle_goes_on_too() -> None:
    """The application gets what had arrived and then meets the same refusal."""
    refused = Refused(InvalidRequest("Too large."), 413)
    exchange = Exchange(GOOD, refused=refused)
    assert exchange.passed_on == GOOD
    assert exchange.refusal is refused


def test_what_is_cut_off_is_not_carried_out() -> None:
    """Even if what had arrived by then makes sense: the application hears of the end, too."""
    exchange = Exchange(GOOD, leaves=True)
    assert exchange.handled == []
    assert exchange.passed_on == GOOD
    assert exchange.was_left
