"""Progress of a call that works on machines: its steps, and who is told of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Step(StrEnum):
    """What was just done."""

    ALLOCATED = "allocated"
    CLONED = "cloned"
    SEEDED = "seed disk made"
    STARTED = "started"
    PINGED = "answers ping"
    CONNECTED = "takes connections"
    UNDONE = "undone"
    DESTROYED = "destroyed"
    DELETED = "clones deleted"
    RELEASED = "released"
    RESERVED = "new address reserved"
    UNPLUGGED = "NIC unplugged"
    PLUGGED_IN = "NIC plugged in"
    REDEFINED = "definition changed"
    RENUMBERED = "renumbered"


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of one machine.

    Attributes:
        machine: Its name.
        step: What was just done.
        seconds: Since the call began.
    """

    machine: str
    step: Step
    seconds: float


OnProgress = Callable[[Progress], object]
"""Told of each step; never called by two threads at once."""


class Reporter:
    """Tells about progress, one step at a time.

    Args:
        tell: Who is told.
    """

    def __init__(self, tell: OnProgress | None) -> None:
        self._tell, self._began_at, self._lock = tell, time.monotonic(), threading.Lock()

    def __call__(self, machine: str, step: Step) -> None:
        """Tells of a step just done."""
        if self._tell is not None:
            with self._lock:
                self._tell(Progress(machine, step, time.monotonic() - self._began_at))
