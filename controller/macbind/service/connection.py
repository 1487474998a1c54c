"""One connection of a client: who it is, and what it may not do to the others.

uvicorn's protocol parses HTTP and runs the application. By itself it lets a client wait for ever before, in and
after a request, send heads, trailers and pipelined requests without end, and leave answers unread.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from macbind.errors import InvalidRequest, MacbindError, ServiceUnavailable
from macbind.service.answers import last_answer
from macbind.service.limits import Visitors
from macbind.service.peer import Peer

_PIECE = 16 << 10
"""Bytes parsed between two looks at the limits."""
_LAST_WORDS_S = 5.0
"""How long an answer may take, and wait to be read, when the service ends; in seconds."""
_ASK_FASTER = "Send the whole request at once; the connection was closed."


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol within :class:`~macbind.service.limits.Limits`.

    The peer's credentials are in ``scope["client"]``. Whoever exceeds a limit gets an error where an answer is
    still possible, and the connection is closed.

    Args:
        visitors: Who is connected, and the limits.
        settings: uvicorn's own arguments.
    """

    def __init__(self, *, visitors: Visitors, **settings: Any) -> None:
        super().__init__(**settings)
        self._visitors, self._limits = visitors, visitors.limits
        self.timeout_keep_alive = visitors.limits.idle_s
        self._uid = -1
        self._has_place = False
        self._deadline: asyncio.TimerHandle | None = None  # for what the client is to send
        self._unread_since: asyncio.TimerHandle | None = None  # for what it is to read
        self._unread = 0  # bytes of that
        self._is_sending = False  # a request has begun and is not all there
        self._in_head = False
        self._received = 0  # bytes of the request

    # -- the connection --------------------------------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that anything unread is noticed
        peer = Peer.of(cast("socket.socket", transport.get_extra_info("socket")))
        self._uid, self.client = peer.uid, peer.client
        try:
            self._visitors.enter(self._uid)
            self._has_place = True
        except ServiceUnavailable as error:
            self._refuse(503, error)
        else:
            self._wait(self._limits.idle_s, self.transport.close)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._wait(None)
        self.resume_writing()
        if self._has_place:
            self._visitors.leave(self._uid)

    @override
    def shutdown(self) -> None:
        if self._is_sending and not self._owes_answer:
            self._refuse(503, ServiceUnavailable("The macbind service is ending.", hint="Ask again."))
        else:
            super().shutdown()
        self.pipeline.clear()
        self.loop.call_later(_LAST_WORDS_S, self.transport.abort)

    # -- what it sends ---------------------------------------------------------------------------------

    @override
    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), _PIECE):
            if self.transport.is_closing():
                return
            if not self._is_sending:  # also for line breaks before the request, which begin nothing
                self._begin()
            piece = data[start : start + _PIECE]
            self._received += len(piece)
            super().data_received(piece)
            self._check()

    def _begin(self) -> None:
        self._is_sending = self._in_head = True
        self._received = 0
        self._wait(self._limits.receive_s, self._on_late)

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._is_sending:  # in the same piece as the end of another
            self._begin()

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers are dropped: nobody reads them, and each takes more memory than it has bytes.
        if self._in_head:
            super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()
        if self.parser.should_upgrade():  # nothing after it would be parsed
            self.cycle.keep_alive = False

    @override
    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._is_sending = False
        self._wait(None)

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self.transport.close()  # answered before it was all there; the rest is of no use

    def _check(self) -> None:
        """Refuses what is too large."""
        limits = self._limits
        if self.transport.is_closing():
            return
        if len(self.pipeline) > limits.pipelined:
            self._refuse(
                400,
                InvalidRequest("Too many requests wait on one connection.", hint="Read the answer first."),
            )
        elif self._in_head and self._received > limits.head_bytes:
            error = InvalidRequest(
                f"The request's line and headers have more than {limits.head_bytes >> 10} KiB.",
                hint="Leave out what macbind does not need.",
            )
            self._refuse(431, error)
        elif self._is_sending and self._received > limits.head_bytes + 2 * limits.body_bytes:
            # The body alone is counted behind the parser; this is for chunks, their extensions and trailers.
            self._refuse(413, InvalidRequest("The request has no end.", hint="Send larger chunks."))

    def _on_late(self) -> None:
        if self.flow.read_paused:  # it is us who do not listen
            self._wait(self._limits.receive_s, self._on_late)
            return
        error = InvalidRequest(
            f"The request was not complete within {self._limits.receive_s:g} s.", hint=_ASK_FASTER
        )
        self._refuse(408, error)

    @override
    def send_400_response(self, msg: str) -> None:
        """Called for what is no HTTP."""
        self._refuse(
            400, InvalidRequest("This is not an HTTP request.", hint="Speak HTTP/1.1 to the socket.")
        )

    def _wait(self, seconds: float | None, then: Callable[[], None] = lambda: None) -> None:
        """Replaces the deadline for what the client is to send."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, then)

    def _refuse(self, status: int, error: MacbindError) -> None:
        """Says why, unless another answer has begun or is due first, and closes."""
        self._visitors.refused(self._uid, error)
        if not self._owes_answer:
            if self.cycle is not None:
                self.cycle.disconnected = True  # the application's answer comes too late
            self.transport.write(last_answer(error, status))
        self.transport.close()

    @property
    def _owes_answer(self) -> bool:
        """Whether an answer to an earlier request, or the beginning of one to this, is on its way."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or (cycle.response_complete and not self.pipeline):
            return False
        return not cycle.more_body or cycle.response_started

    # -- what it reads ---------------------------------------------------------------------------------

    @override
    def pause_writing(self) -> None:
        """Called with what is left of an answer when the kernel takes no more of it."""
        super().pause_writing()
        self._unread = self.transport.get_write_buffer_size()
        self._unread_since = self.loop.call_later(self._limits.unread_s, self._on_unread)
        try:
            self._visitors.leaves_unread(self._uid, self._unread)
        except ServiceUnavailable as error:
            self._cut(error)

    @override
    def resume_writing(self) -> None:
        """Called when all of it has been taken."""
        super().resume_writing()
        if self._unread_since is not None:
            self._unread_since.cancel()
            self._visitors.leaves_unread(self._uid, -self._unread)
            self._unread_since = None

    def _on_unread(self) -> None:
        self._cut(ServiceUnavailable(f"An answer was not read within {self._limits.unread_s:g} s."))

    def _cut(self, error: MacbindError) -> None:
        self._visitors.refused(self._uid, error)
        self.transport.abort()
