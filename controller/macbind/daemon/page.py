"""The page's server: beside the service in one process and event loop, on a TCP port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence

import structlog
import uvicorn
from typing_extensions import override

from macbind.config import Settings
from macbind.config.page import is_open_to_read
from macbind.daemon.controller import Controller
from macbind.http import events
from macbind.http.operation import Operation
from macbind.http.page import LIMITS, Page, about, rows
from macbind.http.page_access import PageAccess, names_here
from macbind.http.page_listener import PageListener
from macbind.http.patience import Patience
from macbind.http.server import config_of
from macbind.http.tokens import Tokens
from macbind.service.table import Table
from macbind.service.trends import Trends

_log = structlog.get_logger()
_BACKLOG = 64
_LAST_WORDS_S = 3
"""How long answers may take when the service ends, in seconds."""


@contextlib.contextmanager
def listening_page(settings: Settings) -> Iterator[socket.socket | None]:
    """The page's socket; None if there is no page.

    Raises:
        ConfigError: The address or the port cannot be used.
    """
    listen = settings.page.listen
    if listen is None:
        yield None
        return
    family = socket.AF_INET6 if listen.address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((str(listen.address), listen.port))
            made.listen(_BACKLOG)
        except OSError as error:
            raise settings.document.error(
                ("page", "listen"),
                f"[page] listen: {listen} cannot be used: {error.strerror}.",
                "Choose another port, or an address of this machine.",
            ) from error
        yield made


class ServerBeside(uvicorn.Server):
    """uvicorn's server in the event loop of another one; signals are for that one."""

    @contextlib.contextmanager
    @override
    def capture_signals(self) -> Iterator[None]:
        yield


class PageServer:
    """Serves the page while it is entered; without a socket there is none.

    Args:
        made: The socket.
        controller: Everything that runs.
        operations: What can be asked for over the service's socket.
        patience: Who waits.
        tokens: All tokens; None if there are none.
    """

    def __init__(
        self,
        made: socket.socket | None,
        controller: Controller,
        operations: Sequence[Operation],
        patience: Patience,
        tokens: Tokens | None,
    ) -> None:
        self._listener = None if made is None else PageListener(made)
        if self._listener is None:
            return
        page = controller.settings.page
        mine = [one for one in operations if one.path != "/v1/events"]
        mine += [
            about(controller.report, Trends(controller.registry), controller.maps),
            rows(Table(controller.registry)),
            *events.operations(controller.events, patience, self._listener.cut_one, LIMITS),
        ]
        app = Page(
            mine,
            timeout_s=lambda: controller.settings.service.timeout_s,
            patience=patience,
            meters=controller.meters,
        )
        assert page.listen is not None
        guarded = PageAccess(
            app,
            is_ours=names_here(str(page.listen.address), page.names),
            tokens=tokens,
            open_to_read=lambda: is_open_to_read(page, controller.settings.service),
            is_public=app.is_public,
            asked=self._listener.asked,
        )
        self._where = str(page.listen)
        self._server = ServerBeside(
            config_of(
                guarded, idle_s=LIMITS.idle_s, last_words_s=_LAST_WORDS_S, backlog=_BACKLOG, lifespan="off"
            )
        )

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serves inside, in the event loop of the caller."""
        if self._listener is None:
            yield
            return
        task = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        _log.info("page", listen=self._where)
        try:
            yield
        finally:
            self._server.should_exit = True
            last = asyncio.get_running_loop().call_later(_LAST_WORDS_S, self._listener.cut)
            await task
            last.cancel()
