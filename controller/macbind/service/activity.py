"""What a farm lives by: how fast addresses are taken and given back, how full pools were, when they will be empty.

The last hour is counted by minutes from the audit log, when somebody asks; each change is read once. Nothing is
counted while nobody asks, and a service that starts again knows the hour before it, too.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from macbind.core.pool import PoolUsage
from macbind.registry.activity import Counted, counted, released_at
from macbind.registry.store import Registry

MINUTES = 60
"""How long is counted."""
_SOON = 15
"""Minutes from which the time to exhaustion is told."""
_FRESH_S = 2.0
"""An answer is as good as new for so long, in seconds."""
_KEPT = 1000
"""Releases whose time is kept."""


@dataclass(frozen=True, slots=True)
class PoolActivity:
    """The last hour of a pool.

    Attributes:
        pool: The pool.
        held: Addresses that a name held at the end of each minute, oldest first; the last is now.
        allocated, released: How many, in each of these minutes.
        exhausted_in_s: In so many seconds it is empty if it goes on as in the last 15 minutes; None if it does not
            become fuller.
    """

    pool: str
    held: list[int]
    allocated: list[int]
    released: list[int]
    exhausted_in_s: float | None


@dataclass(frozen=True, slots=True)
class Activity:
    """The last hour of the service.

    Attributes:
        pools: Each pool, by name.
        release_p50_s, release_p99_s: From a release until every DHCP server had confirmed that it is gone, in
            seconds; None if there was none since the service started.
        releases: How many of these were measured.
        waiting: Callers who wait for a change to be confirmed.
    """

    pools: list[PoolActivity]
    release_p50_s: float | None
    release_p99_s: float | None
    releases: int
    waiting: int


class ActivityReport:
    """Counts. Any thread may ask.

    Args:
        registry: Has the audit log.
        pools: All pools in numbers.
        waiting: How many callers wait now.
    """

    def __init__(
        self, registry: Registry, pools: Callable[[], Iterable[PoolUsage]], waiting: Callable[[], int]
    ) -> None:
        self._registry, self._pools, self._waiting = registry, pools, waiting
        self._lock = threading.Lock()
        self._gone: deque[tuple[IPv4Address, float]] = deque(maxlen=_KEPT)
        self._took: deque[float] = deque(maxlen=_KEPT)
        self._last = 0
        self._allocated: dict[tuple[str, int], int] = defaultdict(int)
        self._released: dict[tuple[str, int], int] = defaultdict(int)
        self._known: tuple[float, Activity] | None = None

    def gone(self, addresses: Iterable[IPv4Address]) -> None:
        """A DHCP server has confirmed just now that it holds nothing for these addresses; costs next to nothing."""
        now = time.time()
        self._gone.extend((one, now) for one in addresses)

    def activity(self) -> Activity:
        """The last hour."""
        with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > _FRESH_S:
                self._count()
                self._measure()
                self._known = time.monotonic(), self._made()
            return self._known[1]

    def _count(self) -> None:
        now = int(time.time()) // 60
        oldest = (now - MINUTES) * 60.0
        while True:
            with self._registry.read() as view:
                found = counted(view, self._last, oldest)
            self._last = found.last
            self._add(found)
            if not found.more:
                break
        for book in (self._allocated, self._released):
            for key in [key for key in book if key[1] <= now - MINUTES]:
                del book[key]

    def _add(self, found: Counted) -> None:
        for pool, minute, is_release in found.changes:
            (self._released if is_release else self._allocated)[pool, minute] += 1

    def _measure(self) -> None:
        gone: dict[IPv4Address, float] = {}
        while self._gone:
            address, at = self._gone.popleft()
            gone[address] = at  # of several DHCP servers, the last
        if gone:
            with self._registry.read() as view:
                released = released_at(view, gone)
            self._took.extend(gone[one] - at for one, at in released.items() if gone[one] >= at)

    def _made(self) -> Activity:
        took = sorted(self._took)
        return Activity(
            [self._of(one) for one in self._pools()],
            _quantile(took, 0.5),
            _quantile(took, 0.99),
            len(took),
            self._waiting(),
        )

    def _of(self, usage: PoolUsage) -> PoolActivity:
        now = int(time.time()) // 60
        minutes = range(now - MINUTES + 1, now + 1)
        ups = [self._allocated.get((usage.pool, one), 0) for one in minutes]
        downs = [self._released.get((usage.pool, one), 0) for one in minutes]
        held = [usage.allocated]
        for up, down in zip(reversed(ups[1:]), reversed(downs[1:]), strict=True):
            held.append(max(0, held[-1] - up + down))
        growth = sum(ups[-_SOON:]) - sum(downs[-_SOON:])
        soon = usage.free / growth * _SOON * 60 if growth > 0 else None
        return PoolActivity(usage.pool, held[::-1], ups, downs, soon)


def _quantile(values: list[float], part: float) -> float | None:
    """The value that so large a part of the sorted values does not exceed."""
    return values[min(len(values) - 1, int(part * len(values)))] if values else None
