"""The page's server: beside the service in one process and event loop, on a TCP port of its own."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext

from macbind.config import Settings
from macbind.config.page import is_open_to_read
from macbind.daemon.beside import ServerBeside, listening_beside
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

_BACKLOG = 64
_LAST_WORDS_S = 3
"""How long answers may take when the service ends, in seconds."""


def listening_page(settings: Settings) -> AbstractContextManager[socket.socket | None]:
    """The page's socket; None if there is no page.

    Raises:
        ConfigError: The address or the port cannot be used.
    """
    return listening_beside(settings, "page", settings.page.listen, _BACKLOG)


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
        config = config_of(
            guarded,
            idle_s=LIMITS.idle_s,
            last_words_s=_LAST_WORDS_S,
            backlog=_BACKLOG,
            lifespan="off",
            receive_s=LIMITS.receive_s,
        )
        self._server = ServerBeside(config, "page", page.listen)

    def serving(self) -> AbstractAsyncContextManager[None]:
        """Serves inside, in the event loop of the caller."""
        return nullcontext() if self._listener is None else self._server.serving(self._listener)
