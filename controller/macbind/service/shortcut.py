"""The short way for the requests that machines wait for.

Finding the route, solving its dependencies and running through the middlewares is a fifth of the processor time of a
change, and with many clients that time is the limit. A request that is as plain as a client of this version writes it
is therefore read here and handed to the same handler. Whatever is not plain or not right goes on to FastAPI as if it
had not been looked at, so there is one place for routes, documents and errors.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from macbind.errors import MacbindError
from macbind.service.answers import JSON
from macbind.service.door import Refused
from macbind.service.peer import Peer, peer_from

_Body = TypeVar("_Body", bound=BaseModel)
_MAX_BODY = 16 << 10
"""Bytes of a body that are kept to be handed on; with a larger one the way does not matter."""


@dataclass(frozen=True, slots=True)
class Post(Generic[_Body]):
    """A POST with a JSON body.

    Attributes:
        body: What the body must be.
        handle: Answers; given the body, who is calling, and how to notice that the caller is gone.
    """

    body: type[_Body]
    handle: Callable[[_Body, Peer, Receive], Awaitable[Response]]


class Shortcut:
    """Serves plain requests to some paths; everything else is the application's.

    Args:
        app: The application.
        posts: By path.
        tell: The answer to an error of a handler.
    """

    def __init__(
        self, app: ASGIApp, *, posts: Mapping[str, Post[Any]], tell: Callable[[Scope, MacbindError], Response]
    ) -> None:
        self._app, self._posts, self._tell = app, posts, tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        post = self._posts.get(scope["path"]) if scope["type"] == "http" else None
        if post is None or not _is_plain(scope):
            await self._app(scope, receive, send)
            return
        messages: list[Message] = []
        try:
            while not messages or messages[-1].get("more_body"):
                messages.append(await receive())
                if messages[-1]["type"] == "http.disconnect":  # what has arrived is not what was to be asked
                    raise ValueError
            raw = b"".join(message.get("body", b"") for message in messages)
            body = post.body.model_validate(json.loads(raw))
        except (ValueError, RecursionError, MacbindError, Refused) as error:
            await self._app(scope, _again(messages, receive, error), send)
            return
        try:
            response = await post.handle(body, peer_from(scope.get("client")), receive)
        except MacbindError as error:
            response = self._tell(scope, error)
        await response(scope, receive, send)


def _is_plain(scope: Scope) -> bool:
    if scope["method"] != "POST" or scope["query_string"]:
        return False
    headers = dict(scope["headers"])
    length = headers.get(b"content-length", b"")
    return headers.get(b"content-type") == JSON.encode() and length.isdigit() and int(length) <= _MAX_BODY


def _again(messages: list[Message], receive: Receive, error: Exception) -> Receive:
    """Receives what has been received already, then what follows; or again the refusal it ended with."""

    async def again() -> Message:
        if messages:
            return messages.pop(0)
        if isinstance(error, Refused):
            raise error
        return await receive()

    return again
