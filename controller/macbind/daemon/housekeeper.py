"""Housekeeping: what expires, what is loaded again, and the line that the service manager shows."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog

from macbind.config import Settings
from macbind.daemon.sd_notify import notify
from macbind.daemon.watchdog import Heartbeat
from macbind.engine.supervised import OnDefect, Supervised
from macbind.service.housekeeping import Housekeeping
from macbind.service.status import StatusReport

_log = structlog.get_logger()

CHORES_S = 0.5
"""How often expiry, cool-down and long waits are looked after."""
ACCOUNT_S = 5.0
"""How often findings are looked at although nobody asks."""
TRIM_EVERY = timedelta(hours=1)


class Housekeeper:
    """The thread for all that nobody asks for.

    Args:
        housekeeping: What is done now and then.
        report: What the service manager is shown.
        load_again: Loads the configuration again; raises a PeerError if it has to be tried later.
        settings: The configuration in use.
        on_defect: Called with a defect of ours.

    Attributes:
        progress: Called whenever it goes on.
    """

    def __init__(
        self,
        housekeeping: Housekeeping,
        report: StatusReport,
        load_again: Callable[[], None],
        settings: Callable[[], Settings],
        on_defect: OnDefect,
    ) -> None:
        self._housekeeping, self._report = housekeeping, report
        self._load_again, self._settings = load_again, settings
        self.progress = Heartbeat()
        self._is_reload_wanted = False
        self._said = ""
        self._account_at = time.monotonic() + ACCOUNT_S
        self._trimmed_at = datetime.min.replace(tzinfo=UTC)
        self._thread = Supervised(
            "housekeeper",
            self._turn,
            on_defect,
            every_s=CHORES_S,
            on_trouble=lambda error: _log.warning("housekeeping", problem=str(error)),
        )
        self.start, self.close = self._thread.start, self._thread.close

    def reload_soon(self) -> None:
        """Has the configuration loaded again; safe in a signal handler."""
        self._is_reload_wanted = True
        notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def _turn(self) -> None:
        self.progress()
        if self._is_reload_wanted:
            self._reload()
        self._housekeeping.tend()
        now = datetime.now(UTC)
        if now - self._trimmed_at > TRIM_EVERY:
            self._trimmed_at = now  # also if it fails: it can wait
            before = now - timedelta(days=self._settings().registry.audit_keep_days)
            while not self._thread.stopping.is_set() and self._housekeeping.trim(before):
                self.progress()
        if time.monotonic() >= self._account_at:
            self._account_at = time.monotonic() + ACCOUNT_S
            self._report.keep_account()
        if self._report.summary != self._said:
            self._said = self._report.summary
            notify(STATUS=self._said)

    def _reload(self) -> None:
        self._is_reload_wanted = False  # a request that comes meanwhile counts
        try:
            self._load_again()
        except BaseException:
            self._is_reload_wanted = True
            raise
        finally:
            self._said = self._report.summary
            notify(READY=1, STATUS=self._said)
