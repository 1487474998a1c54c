"""How full pools were in the last hour, and when they will be empty.

The hour is counted from the audit log when somebody asks, and each change once. Nothing is counted while nobody asks,
and a service that starts again knows the hour before it, too.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from macbind.core.pool import PoolUsage
from macbind.registry.growth import growth
from macbind.registry.store import Registry

MINUTES = 60
"""How long is counted."""
_SOON = 15
"""Minutes from which the time to exhaustion is told."""


@dataclass(frozen=True, slots=True)
class PoolTrend:
    """The last hour of a pool.

    Attributes:
        pool: The pool.
        held: Addresses that a name held at the end of each minute, oldest first; the last is now.
        exhausted_in_s: In so many seconds it is empty if it goes on as in the last 15 minutes; None if it does not
            become fuller.
    """

    pool: str
    held: list[int]
    exhausted_in_s: float | None


class Trends:
    """Counts. Any thread may ask.

    Args:
        registry: Has the audit log.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._last = 0
        self._more: dict[tuple[str, int], int] = defaultdict(int)

    def of(self, pools: Iterable[PoolUsage]) -> list[PoolTrend]:
        """The last hour of pools that are so full now."""
        now = int(time.time()) // 60
        with self._lock:
            self._count(now)
            return [self._trend(one, now) for one in pools]

    def _count(self, now: int) -> None:
        with self._registry.read() as view:
            found = growth(view, self._last, (now - MINUTES) * 60.0)
        self._last = found.last
        for key, more in found.by_minute.items():
            self._more[key] += more
        for key in [key for key in self._more if key[1] <= now - MINUTES]:
            del self._more[key]

    def _trend(self, usage: PoolUsage, now: int) -> PoolTrend:
        more = [self._more.get((usage.pool, one), 0) for one in range(now - MINUTES + 1, now + 1)]
        held = [usage.allocated]
        for one in reversed(more[1:]):
            held.append(max(0, held[-1] - one))
        lately = sum(more[-_SOON:])
        soon = usage.free / lately * _SOON * 60 if lately > 0 else None
        return PoolTrend(usage.pool, held[::-1], soon)
