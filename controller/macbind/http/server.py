"""How uvicorn serves here, for every listener: which parser, and how large the head of a request may be.

uvicorn's parser has no bound of its own: a megabyte of header fields becomes twenty megabytes of memory, before
anybody has asked who sends them.
"""

from __future__ import annotations

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
    app: ASGIApp, *, idle_s: int, last_words_s: int, backlog: int, lifespan: LifespanType = "auto"
) -> uvicorn.Config:
    """How uvicorn is to serve an application.

    Args:
        app: The application.
        idle_s: Without a request a connection is closed after so many seconds.
        last_words_s: How long answers may take when the server ends, in seconds.
        backlog: Connections that may wait to be accepted.
        lifespan: Whether the application is told of its own life.
    """
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
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
    """One connection, whose requests have heads of a bounded size."""

    _pending = 0
    """Bytes since a request, or a piece of its body, has begun or ended."""

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
