"""The server of the API over TLS: beside the service in one process and event loop, on a TCP port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence

from typing_extensions import override

from macbind.config import Settings
from macbind.daemon.beside import ServerBeside, listening_beside
from macbind.daemon.controller import Controller
from macbind.daemon.tls import RenewableContext, common_name, tls_context
from macbind.http import events
from macbind.http.api_access import ApiAccess, api_peer
from macbind.http.api_listener import ApiLimits, ApiListener
from macbind.http.app import create_router
from macbind.http.limits import Limits
from macbind.http.operation import Operation
from macbind.http.patience import Patience
from macbind.http.server import BoundedProtocol, config_of
from macbind.http.tokens import Tokens
from macbind.service.meters import NO_OPERATION

_BACKLOG = 128
_LAST_WORDS_S = 5
"""How long answers may take when the service ends, in seconds."""


@contextlib.contextmanager
def listening_api(settings: Settings) -> Iterator[socket.socket | None]:
    """The API's socket; None if there is only the Unix socket.

    Raises:
        ConfigError: The address, the port or a certificate cannot be used.
    """
    if settings.api.listen is not None:
        tls_context(settings)
    with listening_beside(settings, "api", settings.api.listen, _BACKLOG) as made:
        yield made


def protocol_of(listener: ApiListener) -> type[BoundedProtocol]:
    """The HTTP protocol, which tells a listener whose certificate each of its connections has."""

    class ApiProtocol(BoundedProtocol):
        @override
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's
            _, number = transport.get_extra_info("socket").getpeername()
            listener.secured(number, common_name(transport.get_extra_info("peercert")))
            super().connection_made(transport)

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
        config = config_of(
            app,
            idle_s=limits.idle_s,
            last_words_s=_LAST_WORDS_S,
            backlog=_BACKLOG,
            lifespan="off",
            receive_s=limits.receive_s,
            protocol=protocol_of(self._listener),
        )
        config.load()
        config.ssl = self._context
        self._server = ServerBeside(config, "api", controller.settings.api.listen)

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

    def serving(self) -> contextlib.AbstractAsyncContextManager[None]:
        """Serves inside, in the event loop of the caller."""
        return contextlib.nullcontext() if self._listener is None else self._server.serving(self._listener)
