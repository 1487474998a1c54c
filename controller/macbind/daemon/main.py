"""Runs the service: listens, starts everything, and takes it down in order."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import structlog
import uvicorn
from typing_extensions import override

from macbind import __version__
from macbind.config import Settings, load
from macbind.config.page import token_file
from macbind.core.errors import MacbindError
from macbind.core.sizes import Sizes
from macbind.daemon.api import ApiServer, listening_api
from macbind.daemon.controller import Controller
from macbind.daemon.listen import listening
from macbind.daemon.logging import set_up_logging
from macbind.daemon.page import PageServer, listening_page
from macbind.daemon.scrape import answering, listening_tcp
from macbind.daemon.sd_notify import notify
from macbind.daemon.watchdog import Heartbeat
from macbind.doctor import Site, before_start
from macbind.http import (
    allocations,
    configurations,
    dhcp_servers,
    events,
    imports,
    maps,
    renumberings,
    reports,
)
from macbind.http.access import Access
from macbind.http.api_listener import ApiLimits
from macbind.http.app import create_app
from macbind.http.limits import BACKLOG, Limits, Places, connections_within
from macbind.http.local_listener import LocalListener
from macbind.http.metrics import Metrics, Now
from macbind.http.patience import Patience
from macbind.http.server import config_of
from macbind.http.tokens import Tokens

_log = structlog.get_logger()

_LAST_WORDS_S = 5
"""How long answers may take, and wait to be read, when the service ends; in seconds."""


class _Server(uvicorn.Server):
    """uvicorn's server, which lets requests that wait for DHCP servers be answered before it ends."""

    def __init__(self, config: uvicorn.Config, patience: Patience, listener: LocalListener) -> None:
        super().__init__(config)
        self._patience, self._listener = patience, listener

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._patience.hurry()
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, self._listener.cut)
        await super().shutdown(sockets)


async def _beat(answering: Heartbeat) -> None:
    """Shows that the event loop goes on."""
    while True:
        answering()
        await asyncio.sleep(1)


def serve(
    path: Path,
    limits: Limits = Limits(),  # noqa: B008  # it is frozen
    sizes: Sizes = Sizes(),  # noqa: B008  # it is frozen
    *,
    take_over: bool = False,
) -> None:
    """Runs the service until SIGTERM or SIGINT. SIGHUP loads the configuration again.

    Args:
        path: The configuration file.
        limits: What one client may ask for; fewer connections if the open-file limit demands it.
        sizes: How much is done at a time.
        take_over: Whether other controllers have to use this configuration, too.

    Raises:
        ConfigError, RegistryUnavailable: It cannot start; nothing was changed.
        InvariantViolation: It stopped because of a defect.
    """
    try:
        _serve(load(path), limits, sizes, take_over=take_over)
    except MacbindError as error:
        notify(STATUS=error.message)  # the service manager keeps it
        raise


def _share_of(limits: Limits) -> ApiLimits:
    """The limits of connections from other hosts: fewer than those of this one, where files are few."""
    most = ApiLimits()
    return dataclasses.replace(most, connections=min(most.connections, max(limits.connections // 4, 1)))


def _serve(settings: Settings, limits: Limits, sizes: Sizes, *, take_over: bool) -> None:
    set_up_logging(settings.service)
    for finding in before_start(Site(settings.document.path, settings)):
        _log.warning("finding", code=finding.code, finding=str(finding), commands=list(finding.commands))
    afar = 0 if settings.api.listen is None else ApiLimits().connections
    limits = dataclasses.replace(limits, connections=connections_within(limits, afar))
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn takes these while it runs and raises them again afterwards, when we still have to clean up.
        signal.signal(number, lambda number, _: asked.append(number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what is read at the start is new enough
    # The socket comes first: a second service must not touch the registry of the first.
    with (
        listening(settings.service) as listener,
        listening_tcp(settings) as tcp,
        listening_page(settings) as page_socket,
        listening_api(settings) as api_socket,
        Controller(settings, sizes, take_over=take_over) as controller,
    ):
        signal.signal(signal.SIGHUP, lambda *_: controller.housekeeper.reload_soon())

        @contextlib.asynccontextmanager
        async def lifespan(_: object) -> AsyncIterator[None]:
            # While we started, before anybody could end the server.
            if asked or controller.defect is not None:
                server.should_exit = True
            else:
                _log.info("ready", version=__version__, socket=str(settings.service.socket), pid=os.getpid())
                notify(READY=1, STATUS=controller.report.summary)
            beating = asyncio.create_task(_beat(controller.answering))
            async with page.serving(), api.serving():
                yield
            beating.cancel()
            notify(STOPPING=1)
            _log.info("stopping")

        access = Access(settings.service.may_change, settings.service.may_read)
        patience = Patience(limits.receive_s)
        accepting = LocalListener(listener, Places(limits.connections))
        controller.meters.waiting = lambda: patience.waiting
        metrics = Metrics(
            controller.meters,
            Now(
                controller.report.status,
                controller.report.pool_states,
                lambda: controller.report.leads,
                controller.meters.waiting,
                lambda: controller.events.readers,
                controller.silent_s,
            ),
        )
        operations = [
            *allocations.operations(controller.addresses, controller.awaiting),
            *imports.operations(controller.imports),
            *renumberings.operations(controller.renumberings),
            *reports.operations(controller.addresses, controller.report, controller.why, metrics),
            *maps.operations(controller.maps),
            *configurations.operations(controller.configurations),
            *dhcp_servers.operations(controller.servers),
            *events.operations(controller.events, patience, accepting.cut_one, limits),
        ]
        path = token_file(settings.api, settings.page)
        tokens = None if path is None else Tokens(path)
        page = PageServer(page_socket, controller, operations, patience, tokens)
        api = ApiServer(api_socket, controller, operations, patience, tokens, limits, _share_of(limits))
        app = create_app(
            operations,
            access,
            timeout_s=lambda: controller.settings.service.timeout_s,
            limits=limits,
            patience=patience,
            meters=controller.meters,
            lifespan=lifespan,
        )

        def loaded(new: Settings) -> None:
            access.may_change, access.may_read = new.service.may_change, new.service.may_read
            set_up_logging(new.service)
            api.renew()

        server = _Server(
            config_of(
                app,
                idle_s=limits.idle_s,
                last_words_s=10,
                backlog=BACKLOG,
                receive_s=limits.receive_s,
            ),
            patience,
            accepting,
        )
        controller.before_load, controller.on_loaded = api.prepare, loaded
        controller.on_defect = lambda: os.kill(os.getpid(), signal.SIGTERM)
        with answering(tcp, metrics.exposition):
            server.run(sockets=[accepting])
        if controller.defect is not None:
            raise controller.defect
    _log.info("stopped")
