"""How fast things go just now: counts of the last minute, and how long releases took of late."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from macbind.core.findings import Rates

MINUTE_S = 60
RELEASES_S = 900.0
_MOST = 4096
"""Releases that are kept; of more in a quarter of an hour the latest say enough."""


class _PerMinute:
    """Counts by the second, and forgets what is older than a minute."""

    def __init__(self) -> None:
        self._counts, self._seconds = [0] * MINUTE_S, [-1] * MINUTE_S

    def add(self, number: int, second: int) -> None:
        slot = second % MINUTE_S
        if self._seconds[slot] != second:
            self._seconds[slot], self._counts[slot] = second, 0
        self._counts[slot] += number

    def total(self, second: int) -> int:
        pairs = zip(self._seconds, self._counts, strict=True)
        return sum(count for at, count in pairs if at >= 0 and 0 <= second - at < MINUTE_S)


class RateLog:
    """Keeps what the rates are made of, in a bounded place. Any thread may call it.

    Args:
        clock: Tells the time in seconds; never jumps.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._allocated, self._released = _PerMinute(), _PerMinute()
        self._ended: deque[tuple[float, float]] = deque(maxlen=_MOST)

    def allocated(self, number: int) -> None:
        """So many addresses were allocated, and every DHCP server has confirmed them."""
        with self._lock:
            self._allocated.add(number, int(self._clock()))

    def released(self) -> None:
        """A release is complete."""
        with self._lock:
            self._released.add(1, int(self._clock()))

    def ended(self, seconds: float) -> None:
        """The address of a machine that ended was free so long after that."""
        with self._lock:
            self._ended.append((self._clock(), seconds))

    def now(self, waiting: int) -> Rates:
        """The rates of this moment, with how many callers wait."""
        with self._lock:
            at = self._clock()
            times = sorted(seconds for ended_at, seconds in self._ended if at - ended_at < RELEASES_S)
            return Rates(
                allocations_per_minute=self._allocated.total(int(at)),
                releases_per_minute=self._released.total(int(at)),
                destroy_to_free_p50_s=_quantile(times, 0.5),
                destroy_to_free_p99_s=_quantile(times, 0.99),
                waiting=waiting,
            )


def _quantile(ordered: list[float], part: float) -> float | None:
    """The least value that so large a part does not exceed; None of nothing."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
