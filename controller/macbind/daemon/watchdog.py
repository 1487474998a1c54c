"""Tells the service manager's watchdog that all threads make progress.

A thread that hangs takes the whole service with it. The service manager kills and restarts the service, which loses
nothing. A dhcpd or a database that does not answer is no reason for that, because a restart would not bring it back.
Every wait for them ends by itself, long before the limits here.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from macbind.daemon.sd_notify import notify

_log = structlog.get_logger()

TICK_S = 1.0


@dataclass(frozen=True, slots=True)
class Task:
    """Something that has to go on.

    Attributes:
        name: What it is, for the log.
        limit_s: It hangs when it has shown no progress for longer than this, in seconds.
        silent_s: How long it has shown none, in seconds; 0 while it has nothing to do.
    """

    name: str
    limit_s: float
    silent_s: Callable[[], float]


class Heartbeat:
    """The time of a part's last progress."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def __call__(self) -> None:
        """Says that there was progress now."""
        self._at = time.monotonic()

    def silent_s(self) -> float:
        """Seconds since."""
        return time.monotonic() - self._at


class Watchdog:
    """Tells the watchdog, in a thread of its own, as long as no part hangs.

    Args:
        tasks: What has to go on now.
        tell: Tells the watchdog; by default the service manager, if it has one.
    """

    def __init__(self, tasks: Callable[[], list[Task]], tell: Callable[[], object] | None = None) -> None:
        self._tasks = tasks
        self._tell = tell or (lambda: notify(WATCHDOG=1))
        self._is_watched = tell is not None or "WATCHDOG_USEC" in os.environ
        self._hanging: set[str] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pulse", daemon=True)

    def start(self) -> None:
        """Starts telling, if anybody wants to be told."""
        if self._is_watched:
            self._thread.start()

    def close(self) -> None:
        """Ends it."""
        self._stop.set()
        if self._is_watched:
            self._thread.join()

    def hanging(self) -> set[str]:
        """The names of the parts that hang now."""
        return {part.name for part in self._tasks() if part.silent_s() > part.limit_s}

    def _run(self) -> None:
        while not self._stop.wait(TICK_S):
            self.check()

    def check(self) -> None:
        """Tells the watchdog, or the log which part hangs."""
        hanging = self.hanging()
        for name in sorted(hanging - self._hanging):
            _log.critical("hangs", part=name)
        self._hanging = hanging
        if not hanging:
            self._tell()
