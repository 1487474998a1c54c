"""How uvicorn serves here, for every listener: which parser, how large the head of a request may be, and how late.

uvicorn's parser has no bound of its own: a megabyte of header fields becomes twenty megabytes of memory, before
anybody has asked who sends them. Nor has it a deadline: a head of which a byte comes now and then keeps its place.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override
from uvicorn.config import LifespanType
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from macbind.core.errors import InvalidRequest
from macbind.http.errors import Refused, last_answer

HEAD_BYTES = 64 << 10
"""Of a request line with its header fields, of the fields behind a body, and of whatever else is between its pieces.
The longest query that is understood takes 48 KiB."""
HEAD_FIELDS = 128
"""Header fields of a request; a browser sends some twenty."""
_PIECE = 4 << 10
"""So much is parsed at a time; a head is that much larger at most."""


def config_of(
    app: ASGIApp,
    *,
    idle_s: int,
    last_words_s: int,
    backlog: int,
    lifespan: LifespanType = "auto",
    receive_s: float,
    protocol: type[BoundedProtocol] | None = None,
) -> uvicorn.Config:
    """How uvicorn is to serve an application.

    Args:
        app: The application.
        idle_s: Without a request a connection is closed after so many seconds.
        last_words_s: How long answers may take when the server ends, in seconds.
        backlog: Connections that may wait to be accepted.
        lifespan: Whether the application is told of its own life.
        receive_s: How long the head of a request may take from its first byte, in seconds.
        protocol: What a connection is; None if it needs nothing of its own.
    """
    bounded = protocol or BoundedProtocol
    return uvicorn.Config(
        app,
        http=type(bounded.__name__, (bounded,), {"receive_s": receive_s}),
        loop="asyncio",  # it accepts by our sockets' own accept(), which uvloop does not
        ws="none",
        lifespan=lifespan,
        # A header must not be able to replace the kernel's word about who is calling, whatever FORWARDED_ALLOW_IPS
        # says.
        proxy_headers=False,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=idle_s,
        timeout_graceful_shutdown=last_words_s,
        backlog=backlog,
    )


class _TooManyFields(Exception):
    """Ends the parser."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection, whose requests have heads of a bounded size that come in time."""

    receive_s: ClassVar[float]
    """How long a head may take from its first byte, in seconds."""

    _pending = 0
    """Bytes since a request, or a piece of its body, has begun or ended."""
    _deadline: asyncio.TimerHandle | None = None
    """Ends the wait for the rest of a head."""

    @override
    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), _PIECE):
            if self.transport.is_closing():
                return
            piece = data[start : start + _PIECE]
            self._pending += len(piece)
            super().data_received(piece)
            if self._is_too_large and not self.transport.is_closing():
                self._refuse()
        if self._deadline is None and self._is_idle:
            self._deadline = self.loop.call_later(self.receive_s, self._give_up)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    @override
    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    @override
    def on_message_begin(self) -> None:
        self._pending = 0
        super().on_message_begin()

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        if self._last is not None and self._last.scope is self.scope:
            return  # it is behind the body, where nobody looks for one
        super().on_header(name, value)
        if len(self.headers) > HEAD_FIELDS:
            raise _TooManyFields

    @override
    def on_body(self, body: bytes) -> None:
        self._pending = 0
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        self._pending = 0
        self._stop_waiting()
        super().on_message_complete()

    @override
    def send_400_response(self, msg: str) -> None:
        if self._is_too_large:
            self._refuse()
        else:
            super().send_400_response(msg)

    @property
    def _last(self) -> RequestResponseCycle | None:
        """The last request whose head was whole."""
        return self.cycle

    @property
    def _is_idle(self) -> bool:
        """Whether all heads that were whole are answered, so that what has come since is of another."""
        return not self.pipeline and (self._last is None or self._last.response_complete)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if self.transport.is_closing():
            return
        if self._last is None or self._last.scope is not self.scope:  # a request has begun
            error = InvalidRequest(
                f"The head of the request was not complete within {self.receive_s:g} s.",
                hint="Send it in one piece; the connection was closed.",
            )
            self.transport.write(last_answer(Refused(error, 408)))
        self.transport.close()

    @property
    def _is_too_large(self) -> bool:
        return self._pending > HEAD_BYTES or len(self.headers or ()) > HEAD_FIELDS

    def _refuse(self) -> None:
        """Closes the connection; says why, unless that would be taken for the answer to an earlier request."""
        last = self._last
        if not self.pipeline and (
            last is None or last.response_complete or (last.scope is self.scope and not last.response_started)
        ):
            error = InvalidRequest(
                f"The head of the request has more than {HEAD_BYTES >> 10} KiB, or more than {HEAD_FIELDS} fields.",
                hint="Ask for less at a time; the connection was closed.",
            )
            self.transport.write(last_answer(Refused(error, 431)))
        self.transport.close()
