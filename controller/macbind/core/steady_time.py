"""Time that a clock's jumps do not count in. Pure.

The clock of a host jumps forward when the host was suspended, when NTP corrects it, or when its battery was empty.
Nobody lived for longer because of that: what ends after some time must not end by a jump alone.
"""

from __future__ import annotations

from datetime import datetime, timedelta

TOLERANCE_S = 5.0
"""Less is a late turn of the process, or a clock that is corrected slowly."""
LONGEST_HOLD = timedelta(days=1)


class SteadyTime:
    """Notes the jumps between two readings of the clock.

    What was made before a jump gets the time it was promised: :meth:`since` leaves the jump out. Where it is not
    known when something was made or renewed, all that ends by time is held for as long as the clock jumped, at most a
    day.
    """

    def __init__(self) -> None:
        self._jumps: list[tuple[datetime, timedelta]] = []
        self._last: tuple[datetime, float] | None = None
        self._held_until = float("-inf")

    def note(self, now: datetime, monotonic_s: float) -> timedelta:
        """Takes a reading; returns by how much the clock has jumped forward since the last one.

        Args:
            now: What the clock says (UTC).
            monotonic_s: What a clock says that never jumps.
        """
        jump = timedelta()
        if self._last is not None:
            before, before_s = self._last
            jump = now - before - timedelta(seconds=monotonic_s - before_s)
            if jump > timedelta(seconds=TOLERANCE_S):
                self._jumps.append((now, jump))
                hold = min(jump, LONGEST_HOLD).total_seconds()
                self._held_until = max(self._held_until, monotonic_s) + hold
            else:
                jump = timedelta()
        self._last = now, monotonic_s
        return jump

    def since(self, moment: datetime, now: datetime) -> timedelta:
        """How much time has passed since a moment, without the jumps in between."""
        return now - moment - sum((jump for at, jump in self._jumps if at > moment), timedelta())

    def is_held(self, monotonic_s: float) -> bool:
        """Whether what ends by time is to wait."""
        return monotonic_s < self._held_until
