"""Runs checks side by side, each with a deadline. One that crashes or hangs is a result, and ends nothing."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec

from macbind.core.errors import MacbindError
from macbind.core.findings import Finding, Severity
from macbind.doctor.check import Check, Need, Result, State
from macbind.doctor.checks import CHECKS
from macbind.doctor.site import Site
from macbind.registry.muted import marked

_MISSING = {
    Need.CONFIGURATION: "the configuration is refused",
    Need.ROOT: "only root can look",
    Need.FILES: "only root and the service's user can look",
    Need.DAEMON: "the service does not answer",
    Need.NO_DAEMON: "the service looks after it",
    Need.DHCPD: "no dhcpd of this machine is configured",
    Need.PROBE: "no `probe` is configured for a dhcpd of this machine",
    Need.LIBVIRT: "no hypervisor is configured, or libvirt-python is not installed",
}
AT_A_TIME = 6
"""Checks that run side by side."""
START_S = 2.0
"""The checks before a start take no longer, in seconds."""
SERVICE = "service"
"""The check that passes on what the service has found."""


def run(checks: Sequence[Check], site: Site) -> list[Result]:
    """What came of the checks, in their order; each finding with what the service knows of it, and marked if muted.

    Args:
        checks: The checks. One depends only on checks before it.
        site: What they look at.
    """
    results = _Round(checks, site).results()
    now, silent = datetime.now(UTC), site.muted()
    known = {} if site.status is None else {one.key: one for one in site.status.findings}
    of_checks = {one.key for result in results if result.check != SERVICE for one in result.findings}
    found = []
    for result in results:
        findings = [one for one in result.findings if result.check != SERVICE or one.key not in of_checks]
        findings = marked([_with_account(one, known) for one in findings], silent, now)
        state = State.WELL if result.state is State.FOUND and not findings else result.state
        found.append(replace(result, state=state, findings=tuple(findings)))
    return found


def before_start(site: Site, *names: str) -> list[Finding]:
    """What the cheap checks find, or those of these names: they ask nobody, and take a moment. Raises nothing."""
    cheap = [one for one in CHECKS if (one.name in names if names else one.is_cheap)]
    checks = [replace(one, visible_after_s=0.0, deadline_s=START_S) for one in cheap]
    return [one for result in _Round(checks, site).results() for one in result.findings]


def exit_code(findings: Iterable[Finding]) -> int:
    """0 if all is well, 1 for a warning, 2 for an error; what is muted does not count."""
    worst = {one.severity for one in findings if one.needs_admin}
    return 2 if Severity.ERROR in worst else 1 if worst else 0


def missing(check: Check, site: Site) -> str:
    """Why a check cannot look here; empty if it can."""
    there = {
        Need.CONFIGURATION: site.settings is not None,
        Need.ROOT: os.geteuid() == 0,
        Need.FILES: os.geteuid() in (0, site.service_user().uid),
        Need.DAEMON: site.status is not None,
        Need.NO_DAEMON: site.status is None,
        Need.DHCPD: bool(site.local_dhcpds()),
        Need.PROBE: any(one.probe for one in site.local_dhcpds().values()),
        Need.LIBVIRT: site.settings is not None
        and bool(site.settings.hypervisors)
        and find_spec("libvirt") is not None,
    }
    return next((_MISSING[need] for need in check.needs if not there[need]), "")


class _Round:
    """One run: starts what can start, takes what has ended, gives up what is late."""

    def __init__(self, checks: Sequence[Check], site: Site) -> None:
        self._site, self._waiting = site, list(checks)
        self._order = [one.name for one in checks]
        self._running: dict[str, tuple[Check, float]] = {}
        self._ended: queue.SimpleQueue[Result] = queue.SimpleQueue()
        self._done: dict[str, Result] = {}

    def results(self) -> list[Result]:
        while self._waiting or self._running:
            self._start()
            if self._running:
                self._take()
        return [self._done[name] for name in self._order]

    def _start(self) -> None:
        for check in list(self._waiting):
            others = [one for one in check.depends_on if one in self._order]
            if any(one not in self._done for one in others):
                continue
            why = missing(check, self._site) or self._in_vain(others)
            if why:
                self._waiting.remove(check)
                self._done[check.name] = Result(check.name, State.LEFT_OUT, note=why)
            elif len(self._running) < AT_A_TIME:
                self._waiting.remove(check)
                until = time.monotonic() + check.deadline_s + check.visible_after_s
                self._running[check.name] = check, until
                # A daemon's: one that hangs for ever does not keep the command from ending.
                threading.Thread(target=self._look, args=(check,), daemon=True).start()

    def _in_vain(self, others: Iterable[str]) -> str:
        for name in others:
            if any(one.severity is Severity.ERROR for one in self._done[name].findings):
                return f"the check {name} has found an error"
        return ""

    def _look(self, check: Check) -> None:
        began = time.monotonic()
        try:
            found = _lasting(check, self._site)
        except BaseException as error:  # noqa: BLE001  # a defect of one check must not end the others
            result = Result(check.name, State.CRASHED, findings=(_crashed(check, error),))
        else:
            result = Result(check.name, State.FOUND if found else State.WELL, findings=tuple(found))
        self._ended.put(replace(result, seconds=round(time.monotonic() - began, 3)))

    def _take(self) -> None:
        next_until = min(until for _, until in self._running.values())
        try:
            result = self._ended.get(timeout=max(0.0, next_until - time.monotonic()))
        except queue.Empty:
            self._give_up(time.monotonic())
            return
        if self._running.pop(result.check, None) is not None:  # else it was given up
            self._done[result.check] = result

    def _give_up(self, now: float) -> None:
        for name, (check, until) in list(self._running.items()):
            if until <= now:
                del self._running[name]
                self._done[name] = Result(name, State.LATE, check.deadline_s, (_late(check),))


def _lasting(check: Check, site: Site) -> list[Finding]:
    """What a check finds; what a second look does not show any more was a blip."""
    found = list(check.look(site))
    if not found or not check.visible_after_s:
        return found
    threading.Event().wait(check.visible_after_s)
    first = {one.key for one in found}
    return [one for one in check.look(site) if one.key in first]


def _crashed(check: Check, error: BaseException) -> Finding:
    what = error.message if isinstance(error, MacbindError) else str(error)
    return Finding(
        "check_crashed",
        f"The check {check.name} ended with {type(error).__name__}: {what.rstrip('.')}.",
        "Report it, with what `macbind doctor --json` prints; what this check looks at is unknown.",
        check.name,
    )


def _late(check: Check) -> Finding:
    return Finding(
        "check_late",
        f"The check {check.name} did not end within {check.deadline_s:g} s.",
        "What it asks does not answer: look there, and ask again.",
        check.name,
    )


def _with_account(one: Finding, known: Mapping[tuple[str, str], Finding]) -> Finding:
    """A finding with what the service knows of it."""
    other = known.get(one.key)
    if other is None:
        return one
    return replace(one, since=other.since, last_seen=other.last_seen, count=other.count)
