"""Keeps account of findings: since when each is there, and how often it has come. Nobody who makes them does."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from macbind.core.findings import Finding

FORGOTTEN_AFTER = timedelta(days=7)
"""A finding that was gone for so long is new when it comes again."""
MOST_KEPT = 10_000
"""Findings that are remembered; a flood of them must not fill the memory."""


@dataclass
class _Account:
    since: datetime
    last_seen: datetime
    count: int = 1
    is_there: bool = True


class FindingLog:
    """Since when, last seen, how often: by code and subject, since the service started. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[tuple[str, str], _Account] = {}
        self._looks = 0

    def begin(self) -> int:
        """The number of a look that begins now."""
        return self._looks

    def note(self, found: Iterable[Finding], now: datetime, look: int | None = None) -> list[Finding]:
        """Takes all findings of a moment (UTC), and returns them with what is known of each.

        A finding that is not among them has gone. It counts once more when it comes again. Several may look at once.
        What a look has found that began before the last one ended may be older: nothing has come or gone by it.

        Args:
            found: The findings.
            now: The moment.
            look: The number of the look; None if nobody else looks.
        """
        there = list(found)
        with self._lock:
            keys = {one.key for one in there}
            if look is None or look == self._looks:
                self._looks += 1
                for key in keys:
                    self._see(key, now)
                for key, account in self._accounts.items():
                    account.is_there = key in keys
            else:
                for key in keys - self._accounts.keys():
                    self._see(key, now)
            self._forget(now)
            return [self._with_account(one) for one in there]

    def _see(self, key: tuple[str, str], now: datetime) -> None:
        account = self._accounts.get(key)
        if account is None:
            self._accounts[key] = _Account(now, now)
        else:
            if not account.is_there:
                account.since, account.count = now, account.count + 1
            account.last_seen = now

    def _with_account(self, one: Finding) -> Finding:
        account = self._accounts.get(one.key)
        if account is None:  # one of too many
            return one
        return replace(one, since=account.since, last_seen=account.last_seen, count=account.count)

    def _forget(self, now: datetime) -> None:
        old = [
            key
            for key, one in self._accounts.items()
            if not one.is_there and now - one.last_seen > FORGOTTEN_AFTER
        ]
        for key in old:
            del self._accounts[key]
        if len(self._accounts) > MOST_KEPT:
            latest = sorted(self._accounts.items(), key=lambda item: (item[1].is_there, item[1].last_seen))
            self._accounts = dict(latest[-MOST_KEPT:])
