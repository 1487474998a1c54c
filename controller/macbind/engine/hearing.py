"""What is heard of machines in the log of one DHCP server, and how far back nothing was missed."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta

from macbind.core.mac_address import MacAddress
from macbind.engine.last_seen import By, LastSeen

SETTLES = timedelta(seconds=5)
"""How long a log must have been read before it counts: journalctl needs some time to begin."""


class Hearing:
    """Notes which machines have asked a DHCP server. Written in one thread, read in any.

    Args:
        last_seen: Takes the machines.
        now: Tells the time of day (UTC).

    Attributes:
        since: Since when (UTC) every request was heard; None if the log is not read.
        heard_at: When anybody was heard last (UTC); None if nobody was.
    """

    def __init__(self, last_seen: LastSeen, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._last_seen, self._now = last_seen, now
        self.since: datetime | None = None
        self.heard_at: datetime | None = None

    def take(self, askers: Collection[MacAddress] | None) -> None:
        """Takes who has asked since the last call; None if nobody listens."""
        now = self._now()
        if askers is None:
            self.since = None
            return
        if self.since is None:
            self.since = now + SETTLES
        for mac in askers:
            self._last_seen.note(mac, By.DHCP, now)
            self.heard_at = now

    def fails(self) -> None:
        """The log could not be read: what was written meanwhile is not known."""
        self.since = None
