"""The wire between macbind and dhcpd, in the lab's server namespace: it can refuse, cut, slow down and swallow."""

import socket
import struct
import threading
import time
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import Self

from labkit.netns import Namespace

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset
_ACCEPT_S = 0.2


class Wire(Enum):
    """How the wire is."""

    WHOLE = "whole"
    REFUSED = "refused"
    CUT = "cut"
    SLOW = "slow"
    DEAF = "half-open"


class Proxy:
    """Passes TCP connections from one port to another. A context manager.

    Attributes:
        slow_s: How long each piece takes on a slow wire, in seconds.
    """

    def __init__(self, namespace: Namespace, port: int, target: int) -> None:
        self._namespace, self._target = namespace, target
        self.slow_s = 0.2
        self._wire, self._left = Wire.WHOLE, 0
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._over = threading.Event()
        self._listener = namespace.call(lambda: socket.create_server(("127.0.0.1", port), backlog=64))
        self._listener.settimeout(_ACCEPT_S)
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._listener.close()
        self.cut()

    def become(self, wire: Wire, left: int = 0) -> None:
        """Changes the wire. A cut one passes `left` more bytes first; a refused one ends all connections."""
        with self._lock:
            self._wire, self._left = wire, left
        if wire is Wire.REFUSED:
            self.cut()

    def cut(self) -> None:
        """Ends all connections at once, each with a reset."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            for end in pair:
                _reset(end)

    def _accept(self) -> None:
        while not self._over.is_set():
            with suppress(TimeoutError):
                near, _ = self._listener.accept()
                self._join(near)

    def _join(self, near: socket.socket) -> None:
        if self._wire is Wire.REFUSED:
            _reset(near)
            return
        try:
            far = self._namespace.open_tcp("127.0.0.1", self._target, 2.0)
        except OSError:
            _reset(near)
            return
        for end in (near, far):
            end.settimeout(None)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (near, far)
        with self._lock:
            self._pairs.add(pair)
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._pump, args=(source, sink, pair), daemon=True).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        try:
            while data := source.recv(65536):
                passed, goes_on = self._passed(data)
                sink.sendall(passed)
                if not goes_on:
                    break
        except OSError:
            pass  # one end has gone; the other shall learn of it
        with self._lock:
            self._pairs.discard(pair)
        for end in pair:
            _reset(end)

    def _passed(self, data: bytes) -> tuple[bytes, bool]:
        """What goes on of some bytes, and whether the connection does."""
        if self._wire is Wire.SLOW:
            time.sleep(self.slow_s)
        with self._lock:
            if self._wire is Wire.DEAF:
                return b"", True
            if self._wire is Wire.CUT:
                passed, self._left = data[: self._left], self._left - len(data[: self._left])
                return passed, self._left > 0
        return data, True


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
    end.close()
