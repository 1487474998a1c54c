"""Servers beside the service: in its process and event loop, each on a TCP port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import structlog
import uvicorn
from typing_extensions import override

from macbind.config import Settings
from macbind.core.listen_address import ListenAddress
from macbind.http.listener import Listener

_log = structlog.get_logger()


@contextlib.contextmanager
def listening_beside(
    settings: Settings, table: str, listen: ListenAddress | None, backlog: int
) -> Iterator[socket.socket | None]:
    """The socket of a table's ``listen``; None if it has none.

    Args:
        settings: The configuration.
        table: The table's name.
        listen: Where to listen.
        backlog: Connections that may wait to be accepted.

    Raises:
        ConfigError: The address or the port cannot be used.
    """
    if listen is None:
        yield None
        return
    family = socket.AF_INET6 if listen.address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # accepted ones inherit both
        try:
            made.bind((str(listen.address), listen.port))
            made.listen(backlog)
        except OSError as error:
            raise settings.document.error(
                (table, "listen"),
                f"[{table}] listen: {listen} cannot be used: {error.strerror}.",
                "Choose another port, or an address of this machine.",
            ) from error
        yield made


class ServerBeside(uvicorn.Server):
    """uvicorn's server in the event loop of another one; signals are for that one.

    Args:
        config: How it serves.
        what: Its name in the log.
        where: Its address in the log.
    """

    def __init__(self, config: uvicorn.Config, what: str, where: ListenAddress | None) -> None:
        super().__init__(config)
        self._what, self._where = what, str(where)

    @contextlib.contextmanager
    @override
    def capture_signals(self) -> Iterator[None]:
        yield

    @contextlib.asynccontextmanager
    async def serving(self, listener: Listener[Any]) -> AsyncIterator[None]:
        """Serves inside, in the event loop of the caller. What is not answered soon when it ends is cut."""
        task = asyncio.create_task(self.serve(sockets=[listener]))
        _log.info(self._what, listen=self._where)
        try:
            yield
        finally:
            self.should_exit = True
            last = asyncio.get_running_loop().call_later(
                self.config.timeout_graceful_shutdown or 0, listener.cut
            )
            await task
            last.cancel()
