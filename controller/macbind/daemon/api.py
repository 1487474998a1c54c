"""The server of the API over TLS: beside the service in one process and event loop, on a TCP port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, cast

import structlog
import uvicorn
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from macbind.config import Settings
from macbind.daemon.controller import Controller
from macbind.daemon.page import ServerBeside
from macbind.daemon.tls import RenewableContext, common_name, tls_context
from macbind.http import events
from macbind.http.api_access import ApiAccess, api_peer
from macbind.http.api_listener import ApiLimits, ApiListener
from macbind.http.app import create_router
from macbind.http.limits import Limits
from macbind.http.operation import Operation
from macbind.http.patience import Patience
from macbind.http.tokens import Tokens
from macbind.service.meters import NO_OPERATION

_log = structlog.get_logger()
_BACKLOG = 128
_LAST_WORDS_S = 5
"""How long answers may take when the service ends, in seconds."""


@contextlib.contextmanager
def listening_api(settings: Settings) -> Iterator[socket.socket | None]:
    """The API's socket; None if there is only the Unix socket.

    Raises:
        ConfigError: The address, the port or a certificate cannot be used.
    """
    listen = settings.api.listen
    if listen is None:
        yield None
        return
    tls_context(settings)
    family = socket.AF_INET6 if listen.address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # accepted ones inherit both
        try:
            made.bind((str(listen.address), listen.port))
            made.listen(_BACKLOG)
        except OSError as error:
            raise settings.document.error(
                ("api", "listen"),
                f"[api] listen: {listen} cannot be used: {error.strerror}.",
                "Choose another port, or an address of this machine.",
            ) from error
        yield made


def protocol_of(listener: ApiListener) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, which tells a listener whose certificate each of its connections has."""

    class ApiProtocol(asyncio.Protocol):
        def __init__(self, **given: Any) -> None:
            self._http = H11Protocol(**given)

        @override
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            _, number = transport.get_extra_info("socket").getpeername()
            listener.secured(number, common_name(transport.get_extra_info("peercert")))
            self._http.connection_made(cast("asyncio.Transport", transport))

        @override
        def data_received(self, data: bytes) -> None:
            self._http.data_received(data)

        @override
        def eof_received(self) -> None:
            self._http.eof_received()

        @override
        def connection_lost(self, exc: Exception | None) -> None:
            self._http.connection_lost(exc)

        @override
        def pause_writing(self) -> None:
            self._http.pause_writing()

        @override
        def resume_writing(self) -> None:
            self._http.resume_writing()

    return ApiProtocol


class ApiServer:
    """Serves the API over TLS while it is entered; without a socket there is none.

    Args:
        made: The socket.
        controller: Everything that runs.
        operations: What can be asked for over the Unix socket.
        patience: Who waits.
        tokens: Who may come in.
        limits: What one client may ask for.
        places: How many may connect.
    """

    def __init__(
        self,
        made: socket.socket | None,
        controller: Controller,
        operations: Sequence[Operation],
        patience: Patience,
        tokens: Tokens | None,
        limits: Limits,
        places: ApiLimits = ApiLimits(),  # noqa: B008  # it is frozen
    ) -> None:
        self._listener = None if made is None else ApiListener(made, places)
        if self._listener is None:
            return
        assert tokens is not None, "the configuration says so"
        mine = [one for one in operations if one.path != "/v1/events"]
        mine += events.operations(controller.events, patience, self._listener.cut_one, limits)
        router = create_router(
            mine,
            timeout_s=lambda: controller.settings.service.timeout_s,
            limits=limits,
            patience=patience,
            meters=controller.meters,
            who=api_peer,
        )
        others = controller.meters.request(NO_OPERATION, timed=False)
        app = ApiAccess(router, tokens, self._listener.asked, patience, others)
        self._context = RenewableContext(tls_context(controller.settings))
        self._coming: ssl.SSLContext | None = None
        self._where = str(controller.settings.api.listen)
        config = uvicorn.Config(
            app,
            http=protocol_of(self._listener),
            h11_max_incomplete_event_size=places.head_bytes,
            loop="asyncio",
            ws="none",
            lifespan="off",
            proxy_headers=False,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=limits.idle_s,
            timeout_graceful_shutdown=_LAST_WORDS_S,
            backlog=_BACKLOG,
        )
        config.load()
        config.ssl = self._context
        self._server = ServerBeside(config)

    def prepare(self, settings: Settings) -> None:
        """Reads the certificates of a new configuration, which may be other files, or renewed ones.

        Raises:
            ConfigError: They cannot be used; those from before stay.
        """
        if self._listener is not None:
            self._coming = tls_context(settings)

    def renew(self) -> None:
        """Takes what was prepared, for new connections."""
        if self._listener is not None and self._coming is not None:
            self._context.current, self._coming = self._coming, None

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serves inside, in the event loop of the caller."""
        if self._listener is None:
            yield
            return
        task = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        _log.info("api", listen=self._where)
        try:
            yield
        finally:
            self._server.should_exit = True
            last = asyncio.get_running_loop().call_later(_LAST_WORDS_S, self._listener.cut)
            await task
            last.cancel()
