"""What the engine counts: whoever wants the numbers hands in a meter."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol

from typing_extensions import override

from macbind.core.release_cause import ReleaseCause
from macbind.registry.pending_changes import Completed
from macbind.registry.store import Registry


class Meter(Protocol):
    """Takes what happens. Any thread may call it; it costs next to nothing."""

    def released(self, cause: ReleaseCause, seconds: float) -> None:
        """A release is complete: from its reason until the last DHCP server's confirmation."""

    def repaired(self, dhcpd: str, *, mended: int, removed: int) -> None:
        """A comparison has found so many bindings missing or different, and removed so many leftovers."""


class Unmetered(Meter):
    """Counts nothing."""

    @override
    def released(self, cause: ReleaseCause, seconds: float) -> None:
        """Nothing."""

    @override
    def repaired(self, dhcpd: str, *, mended: int, removed: int) -> None:
        """Nothing."""


def count_released(meter: Meter, registry: Registry, completed: Iterable[Completed]) -> None:
    """Counts releases that are complete, each once: one that rests is confirmed again by every comparison."""
    now = time.monotonic()
    for one in completed:
        begun = registry.under_way.end(one.ip, one.generation)
        if begun is not None:
            meter.released(begun.cause, now - begun.at)
        elif one.is_free:
            meter.released(ReleaseCause.ELSEWHERE, one.age_s)
