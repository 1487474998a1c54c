"""The TCP listener for Prometheus: ``GET /metrics`` and nothing else.

It has a thread and an event loop of its own, so that it answers while the rest of the service hangs, and nobody who
connects to it costs the rest more than an answer. Whatever is asked at the same time shares one answer.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import structlog

from macbind.config import Settings
from macbind.core.errors import ConfigError
from macbind.core.listen_address import ListenAddress
from macbind.http.metrics import CONTENT_TYPE

_log = structlog.get_logger()

_IP_FREEBIND, _IPV6_FREEBIND = 15, 78  # linux/in.h, linux/in6.h; Python 3.11 does not know them
_PATH = b"/metrics"
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class ScrapeLimits:
    """The limits of the listener; the defaults are right for every farm, other values are for tests."""

    connections: int = 16
    """At a time. Whoever comes then is cut; Prometheus comes again."""

    request_s: float = 10.0
    """From the connection to the last byte of the answer: as long as Prometheus waits."""

    head_bytes: int = 8192
    """Of a request."""


def open_listener(settings: Settings) -> socket.socket | None:
    """Takes the TCP port of ``[metrics] listen``; None if there is none. Nobody is answered yet.

    The address need not be there yet: a network that comes up late must not keep the service from serving.

    Raises:
        ConfigError: The port cannot be had.
    """
    address = settings.metrics.listen
    if address is None:
        return None
    is_ipv6 = address.address.version == 6
    listener = socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_ipv6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listener.bind((str(address.address), address.port))
        listener.listen(16)
    except OSError as error:
        listener.close()
        sentence, hint = _explained(address, error)
        raise settings.document.error(("metrics", "listen"), f"[metrics] listen: {sentence}", hint) from error
    return listener


@contextmanager
def listening_tcp(settings: Settings) -> Iterator[socket.socket | None]:
    """The TCP port of ``[metrics] listen``, as :func:`open_listener` says."""
    listener = open_listener(settings)
    try:
        yield listener
    finally:
        if listener is not None:
            listener.close()


def _explained(address: ListenAddress, error: OSError) -> tuple[str, str]:
    """What is wrong, and how to mend it."""
    if error.errno == errno.EADDRINUSE:
        return (
            f"Another program listens at {address}.",
            f"`ss -ltnp 'sport = :{address.port}'` names it: end it, or choose another port.",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"This user may not listen at {address}.", "Choose a port above 1023."
    return f"Nobody can listen at {address}: {error.strerror}.", "Choose another address or port."


class ScrapeServer:
    """Answers Prometheus.

    Args:
        listener: The socket that listens; it is taken over.
        exposition: Makes the answer. It may take its time.
        limits: How much anybody may ask for.
    """

    def __init__(
        self,
        listener: socket.socket,
        exposition: Callable[[], bytes],
        limits: ScrapeLimits = ScrapeLimits(),  # it is frozen
    ) -> None:
        self._listener, self._exposition, self._limits = listener, exposition, limits
        self._connections = 0
        self._coming: asyncio.Task[bytes] | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="scrape", daemon=True)

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()
        self._started.wait()

    def close(self) -> None:
        """Ends it, and cuts who is connected."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop, self._ended, self._turn = asyncio.get_running_loop(), asyncio.Event(), asyncio.Lock()
        server = await asyncio.start_server(self._serve, sock=self._listener, limit=self._limits.head_bytes)
        self._started.set()
        await self._ended.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= self._limits.connections:
            writer.transport.abort()
            return
        self._connections += 1
        try:
            async with asyncio.timeout(self._limits.request_s):
                writer.transport.set_write_buffer_limits(0)  # drained means sent
                writer.write(await self._answer(reader))
                await writer.drain()
            writer.close()
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            writer.transport.abort()
        finally:
            self._connections -= 1

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            said = f"The head of a request has at most {self._limits.head_bytes >> 10} KiB here.\n"
            return _response("431 Request Header Fields Too Large", _TEXT, said.encode())
        method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if (method, path) != (b"GET", _PATH):
            return _response("404 Not Found", _TEXT, b"There is only GET /metrics here.\n")
        try:
            return _response("200 OK", CONTENT_TYPE, await self._shared())
        except Exception as error:  # noqa: BLE001  # a defect, too, is answered
            _log.critical("defect", path=_PATH.decode(), exc_info=error)
            return _response("500 Internal Server Error", _TEXT, b"The service's log says more.\n")

    async def _shared(self) -> bytes:
        """An answer that was begun after the question; all who ask while another one is made get the same."""
        if self._coming is None:
            self._coming = asyncio.create_task(self._made())
            self._coming.add_done_callback(
                lambda task: task.cancelled() or task.exception()
            )  # nobody may wait
        return await asyncio.shield(self._coming)

    async def _made(self) -> bytes:
        async with self._turn:
            self._coming = None
            return await asyncio.to_thread(self._exposition)


def _response(status: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@contextmanager
def answering(listener: socket.socket | None, exposition: Callable[[], bytes]) -> Iterator[None]:
    """Prometheus is answered inside of the block, if anybody listens."""
    if listener is None:
        yield
        return
    server = ScrapeServer(listener, exposition)
    server.start()
    try:
        yield
    finally:
        server.close()


def is_macbind(address: ListenAddress, timeout_s: float = 10.0) -> bool:
    """Whether a macbind service answers there, in the time that Prometheus would give it."""
    with (
        suppress(OSError),
        socket.create_connection((str(address.address), address.port), timeout_s) as there,
        there.makefile("rb") as answer,
    ):
        there.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return b"\nmacbind_build_info{" in answer.read(1 << 20)
    return False


def check_listener(settings: Settings) -> None:
    """Makes sure that the service can listen, or does already.

    Raises:
        ConfigError: The port cannot be had.
    """
    try:
        listener = open_listener(settings)
    except ConfigError:
        address = settings.metrics.listen
        if address is None or not is_macbind(address):
            raise
    else:
        if listener is not None:
            listener.close()


def is_here(address: IPv4Address | IPv6Address) -> bool:
    """Whether an interface of this machine has the address now."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
