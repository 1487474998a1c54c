"""What one client may ask of the service before others would feel it.

The kernel says which user a connection belongs to, so every limit counts by user. A program that goes wild takes
from its own user's share, and the programs of others do not notice.
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from dataclasses import dataclass

import structlog

from macbind.core.errors import MacbindError, ServiceUnavailable
from macbind.http.access import NO_ACCOUNT, has_account

_log = structlog.get_logger()

BACKLOG = 512
"""Connections that may wait to be accepted."""
RESERVED_FILES = 256
"""Files kept for the registry's connections (three files each in SQLite), DHCP servers and libvirt."""
_LOG_EVERY_S = 10.0
"""A wild client is refused a thousand times a second; the log has one line for all that in so many seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the service; the defaults are right for every farm, other values are for tests."""

    connections: int = 4096
    """Of all users together. One costs some 20 KiB, so this is 80 MiB. A user may have as many as are left
    free: one alone gets half of them, two a third each, and there is always room for another."""

    idle_s: int = 60
    """Without a request a connection is closed after so many seconds. A client that asks every few seconds keeps
    its connection; one that has forgotten it gives its place back."""

    receive_s: float = 30.0
    """How long a body may take. The largest takes well below a second over a Unix socket, so this is a client that
    trickles or was stopped."""

    body_bytes: int = 10 << 20
    """Of a request's body. 65,536 names of the greatest length take 8.7 MB. Reading JSON of this size stops
    everything else for up to 0.3 s."""

    heartbeat_s: float = 15.0
    """So often a reader of events is sent something, whether or not anything has happened."""

    slow_s: float = 10.0
    """A reader of events that takes nothing for so long is cut. It may come back, and has missed nothing."""

    readers: int = 8
    """Threads that answer questions. More do not answer faster: Python runs one at a time."""


OURS_SHARE = 16
"""One of so many places is kept for root and for the user that the service runs as."""


class Places:
    """Who is connected. Used in the event loop only.

    Users without an account here count as one: whoever has an account may have thousands of such user ids.

    Args:
        connections: Of all users together.
    """

    def __init__(self, connections: int) -> None:
        self._all = connections
        self._taken: Counter[int] = Counter()
        self._refusals: Counter[int] = Counter()
        self._logged_at: dict[int, float] = {}

    def enter(self, uid: int) -> None:
        """Counts one more connection of a user; :meth:`leave` must follow.

        Raises:
            ServiceUnavailable: The user has as many as there are places left.
        """
        who = _who(uid)
        mine, free = self._taken[who], self._all - self._taken.total()
        if who not in (0, os.geteuid()):
            free -= self._all // OURS_SHARE
        if mine >= free:
            raise ServiceUnavailable(
                f"Your user (uid {uid}) has {mine} connections to the service, and the {max(free, 0)} places left of "
                f"{self._all} are for others.",
                hint="Close connections that are not needed, and ask again.",
            )
        self._taken[who] += 1

    def leave(self, uid: int) -> None:
        """One connection less."""
        self._taken[_who(uid)] -= 1

    def refused(self, uid: int, error: MacbindError) -> None:
        """Puts a refusal into the log; those of a user within some seconds are one line, which shows the last."""
        self._refusals[uid] += 1
        now = time.monotonic()
        if now - self._logged_at.get(uid, float("-inf")) >= _LOG_EVERY_S:
            self._logged_at[uid] = now
            _log.warning("refused", uid=uid, problem=error.message, times=self._refusals.pop(uid))


def _who(uid: int) -> int:
    """The user whose share a connection takes."""
    return uid if has_account(uid) else NO_ACCOUNT


def connections_within(limits: Limits, others: int = 0) -> int:
    """How many connections the open-file limit leaves room for, after raising it as far as is needed and allowed.

    Args:
        limits: How many there may be.
        others: Connections of other listeners beside them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reserved = RESERVED_FILES + others
    wanted = limits.connections + reserved
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    usable = allowed if soft == resource.RLIM_INFINITY else min(allowed, soft)
    return min(limits.connections, max(usable - reserved, usable // 2))
