"""The socket under an OMAPI session: connecting, deadlines, and a key check before the first change."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from macbind.core.binding import BINDING_PREFIX
from macbind.core.errors import DhcpdUnavailable
from macbind.dhcp.isc.messages import Reply, Request, find_host_by_name, host_in
from macbind.dhcp.isc.omapi import Algorithm, Session

_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # A host without power or cable sends nothing: the kernel asks it when nobody else does, and does not ask long.
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3000),
)
_CONNECT_S = 2.0
"""How long the kernel of dhcpd's machine may take to accept a connection, whatever dhcpd does."""
Connect = Callable[[float], socket.socket]
"""Opens a connected TCP socket within a deadline in seconds."""


def tcp(host: str, port: int) -> Connect:
    """Connects to a TCP port from this process's own network namespace."""
    return lambda timeout_s: socket.create_connection((host, port), timeout=timeout_s)


class OmapiClient:
    """One authenticated OMAPI connection; used by one thread at a time.

    Opening it makes one signed look-up, so that a wrong key is told from a dead server before anything is
    changed. Every failure of the connection is a :class:`~macbind.core.errors.DhcpdUnavailable`; what the requests
    in flight did is then unknown, and the connection is closed.

    Args:
        name: The dhcpd's name, for error messages.
        connect: How to reach it.
        key: Name, algorithm and secret of its omapi-key; None if it has none.
        timeout_s: How long to wait for any one answer, in seconds.
        progress: Called for every answer; a long exchange is not a stuck one.
        window: Requests in a window, at most; None for as many as dhcpd's buffers take.
    """

    def __init__(
        self,
        name: str,
        connect: Connect,
        key: tuple[str, Algorithm, bytes] | None,
        *,
        timeout_s: float = 5.0,
        progress: Callable[[], None] = lambda: None,
        window: int | None = None,
    ) -> None:
        self._name, self._timeout_s, self._progress = name, timeout_s, progress
        self._session = Session(name, key, window)
        try:
            self._socket = connect(min(timeout_s, _CONNECT_S))
            for level, option, value in _OPTIONS:
                self._socket.setsockopt(level, option, value)
        except OSError as error:
            raise DhcpdUnavailable(
                f"dhcpd '{name}' cannot be reached: {error}.",
                hint="Check that dhcpd runs and that its omapi-port is the port in macbind.toml.",
            ) from error
        try:
            self._run(lambda: self._session.ready)
            host_in(self.exchange([find_host_by_name(BINDING_PREFIX + "key-check")])[0])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """The socket, which becomes readable between exchanges only when dhcpd has gone.

        Raises:
            DhcpdUnavailable: The connection is closed.
        """
        number = self._socket.fileno()
        if number < 0:
            raise DhcpdUnavailable(f"The connection to dhcpd '{self._name}' is closed.")
        return number

    @property
    def local_port(self) -> int:
        """Our end of the connection, by which it is told from others."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()

    def exchange(self, requests: Sequence[Request]) -> list[Reply]:
        """Sends requests, in safe windows, and returns their replies in the same order.

        Raises:
            DhcpdUnavailable: The connection failed; what dhcpd did is unknown.
            DhcpdRefused: dhcpd refuses our key.
        """
        tickets = self._session.submit(requests)
        replies: dict[int, Reply] = {}
        self._run(lambda: self._session.idle, replies)
        return [replies[ticket] for ticket in tickets]

    def _run(self, done: Callable[[], bool], replies: dict[int, Reply] | None = None) -> None:
        """Moves bytes between session and socket until ``done``."""
        try:
            deadline = time.monotonic() + self._timeout_s
            while not done():
                if out := self._session.bytes_to_send():
                    self._socket.settimeout(self._timeout_s)
                    self._socket.sendall(out)
                    deadline = time.monotonic() + self._timeout_s
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise TimeoutError
                # The kernel forgets this setting; without it each window waits 40 ms for a delayed ACK.
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                self._socket.settimeout(left_s)
                data = self._socket.recv(65536)
                if not data:
                    raise ConnectionResetError("dhcpd closed the connection")
                self._progress()
                for ticket, reply in self._session.feed(data):
                    if replies is not None:
                        replies[ticket] = reply
        except TimeoutError as error:
            self.close()
            raise DhcpdUnavailable(
                f"dhcpd '{self._name}' did not answer within {self._timeout_s:g} s.",
                hint="Check that dhcpd is not stopped or stuck; its log says more.",
            ) from error
        except OSError as error:
            self.close()
            raise DhcpdUnavailable(
                f"The connection to dhcpd '{self._name}' broke: {error}.",
                hint="Check that dhcpd runs; its log says why it ended.",
            ) from error
        except BaseException:
            self.close()
            raise
