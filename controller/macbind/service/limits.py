"""What one client may ask of the service before others would feel it, and who is connected.

The kernel says which user a connection belongs to, so everything here counts by user: a program that goes wild
takes from its own user's share, and the programs of others do not notice.
"""

from __future__ import annotations

import resource
import time
from collections import Counter
from dataclasses import dataclass

import structlog

from macbind.errors import MacbindError, ServiceUnavailable

_log = structlog.get_logger()

BACKLOG = 512
"""Connections that may wait to be accepted."""
ACCEPTED_AT_ONCE = 64
"""Connections accepted in one go. asyncio knows who they are some three rounds later, so four times as many files may
be taken by clients who will be refused; without room for them nobody would be accepted for a second."""
RESERVED_FILES = 256 + 4 * ACCEPTED_AT_ONCE
"""Files kept for these, and for the registry's connections (three files each in SQLite), dhcpds and libvirt."""
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
    """From the first byte of a request to its last. The largest takes well below a second over a Unix socket,
    so this is a client that trickles or was stopped."""

    unread_s: float = 60.0
    """How long an answer may wait to be read on, before the connection is cut."""

    unread_bytes: int = 128 << 20
    """Of all answers that a user leaves unread. The largest, 65,536 allocations with long names, has 42 MB."""

    head_bytes: int = 64 << 10
    """Of a request's line and headers. The longest of ours, a list's filters, has less than 1 KiB; other servers
    allow 8 to 64 KiB."""

    pipelined: int = 16
    """Requests that may wait on one connection for the answer to the one before. Each is kept in memory."""

    body_bytes: int = 10 << 20
    """Of a request's body. 65,536 names of the greatest length take 8.7 MB. Reading JSON of this size stops
    everything else for up to 0.3 s."""

    bodies_bytes: int = 40 << 20
    """Of all bodies a user has under way at a time: four of the largest, or thousands as usual."""

    readers: int = 8
    """Threads that answer questions. More do not answer faster: Python runs one at a time."""


class Visitors:
    """Who is connected, and what each user holds.

    Used in the event loop only.

    Args:
        limits: What a user may hold.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._connections: Counter[int] = Counter()
        self._unread: Counter[int] = Counter()
        self._refusals: Counter[int] = Counter()
        self._told_at: dict[int, float] = {}

    def enter(self, uid: int) -> None:
        """Counts one more connection of a user; :meth:`leave` must follow.

        Raises:
            ServiceUnavailable: The user has as many as there are places left.
        """
        mine, free = self._connections[uid], self.limits.connections - self._connections.total()
        if mine >= free:
            raise ServiceUnavailable(
                f"Your user (uid {uid}) has {mine} connections to the service, and the {free} places left of "
                f"{self.limits.connections} are for others.",
                hint="Close connections that are not needed, and ask again.",
            )
        self._connections[uid] += 1

    def leave(self, uid: int) -> None:
        """One connection less."""
        self._connections[uid] -= 1

    def leaves_unread(self, uid: int, size: int) -> None:
        """Counts bytes of an answer that a user has yet to read, or (negative) has read.

        Raises:
            ServiceUnavailable: The user leaves too much unread.
        """
        self._unread[uid] += size
        if size > 0 and self._unread[uid] > self.limits.unread_bytes:
            raise ServiceUnavailable(
                f"Answers of more than {self.limits.unread_bytes >> 20} MiB are not read.",
                hint="Read the answers to what you ask.",
            )

    def refused(self, uid: int, error: MacbindError) -> None:
        """Puts a refusal into the log; those of a user within some seconds are one line, which shows the last."""
        self._refusals[uid] += 1
        now = time.monotonic()
        if now - self._told_at.get(uid, float("-inf")) >= _LOG_EVERY_S:
            self._told_at[uid] = now
            _log.warning("refused", uid=uid, problem=error.message, times=self._refusals.pop(uid))


def connections_within(limits: Limits) -> int:
    """How many connections the open-file limit leaves room for, after raising it as far as is needed and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.connections + RESERVED_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    usable = allowed if soft == resource.RLIM_INFINITY else min(allowed, soft)
    return min(limits.connections, max(usable - RESERVED_FILES, usable // 2))
