"""Reads the configuration again when another controller has brought one into use."""

from __future__ import annotations

from collections.abc import Callable

from macbind.daemon.watchdog import Heartbeat
from macbind.engine.supervised import OnDefect, Supervised
from macbind.registry.store import Registry

LOOK_S = 1.0
"""How often it is looked for, in seconds; at once when somebody waits for it."""


class Follower:
    """The thread. It says to other controllers that this one is there, too.

    Args:
        registry: Has the configuration.
        follow: Takes it into use.
        on_defect: Called with a defect of ours.

    Attributes:
        progress: Called whenever it goes on.
    """

    def __init__(self, registry: Registry, follow: Callable[[], None], on_defect: OnDefect) -> None:
        self._registry, self._follow = registry, follow
        self.progress = Heartbeat()
        self._thread = Supervised("configuration", self._turn, on_defect)
        self.start = self._thread.start

    def close(self) -> None:
        """Ends the thread after the look it is at."""
        self._thread.stopping.set()
        self._registry.outdated.set()
        self._thread.close()

    def _turn(self) -> None:
        self.progress()
        self._registry.outdated.wait(LOOK_S)
        if self._thread.stopping.is_set():
            return
        self._registry.outdated.clear()
        self._registry.presence.show()
        if self._registry.is_outdated():
            self._follow()
