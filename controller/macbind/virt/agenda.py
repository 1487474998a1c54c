"""What a watcher has to do next: what libvirt has said, what others ask, and what is to be looked at later."""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field

from macbind.core.domain import NOTHING_SAID, Domain, DomainEvent, StopCause

_GOES_ON = frozenset({StopCause.MIGRATED, StopCause.SAVED, StopCause.REVERTED})


@dataclass(frozen=True, slots=True)
class Look:
    """Look at this domain again, not before a moment (monotonic)."""

    uuid: str
    event: DomainEvent = NOTHING_SAID
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Question:
    """Somebody waits for what a domain is now."""

    uuid: str
    answer: Future[Domain | None] = field(default_factory=Future)


class Closed:
    """The connection ended."""


class Stop:
    """The watcher is to end."""


Item = Look | Question | Closed | Stop


def left_over(unhandled: Iterable[Look]) -> list[Look]:
    """What is still to be said of domains when a connection ends: that they were saved, reverted or migrated.

    Nothing else says so of a transient domain. That one has ended is seen without its event.
    """
    last: dict[str, Look] = {}
    for look in unhandled:
        if look.event.started or look.event.cause is not None:
            last[look.uuid] = look
    return [look for look in last.values() if look.event.cause in _GOES_ON]


class Agenda:
    """What is to be done over one connection. Anybody may put something in; one thread takes it out."""

    def __init__(self) -> None:
        self._todo: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._due: dict[tuple[str, DomainEvent], float] = {}

    def put(self, item: Item) -> None:
        """Has something done, after all that was put in before; a look not before its moment."""
        self._todo.put(item)

    def next(self, until: float) -> Item | None:
        """What is to be done next; None if nothing is until then. A look that is due waits for all that was said."""
        while True:
            key = min(self._due, key=self._due.__getitem__, default=None)
            wakes_at = until if key is None else min(until, self._due[key])
            try:
                item = self._todo.get(timeout=max(0.0, wakes_at - time.monotonic()))
            except queue.Empty:
                if key is not None and self._due[key] <= time.monotonic():
                    del self._due[key]
                    return Look(*key)
                if until <= time.monotonic():
                    return None
                continue
            if not isinstance(item, Look) or (item.event.says_something and item.at <= time.monotonic()):
                return item
            # What says nothing comes after all that does, and once for a domain, however often it is asked for.
            key = item.uuid, item.event if item.event.says_something else NOTHING_SAID
            self._due[key] = min(item.at or time.monotonic(), self._due.get(key, math.inf))

    def clear(self) -> list[Look]:
        """Forgets everything; returns what libvirt has said and nobody was told."""
        found = [Look(*key) for key in self._due if key[1].says_something]
        self._due.clear()
        while True:
            try:
                item = self._todo.get_nowait()
            except queue.Empty:
                return found
            if isinstance(item, Look):
                found.append(item)
            elif isinstance(item, Question):
                item.answer.cancel()
