"""Waits until a machine answers at its address: an ICMP echo, a TCP port, or both."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from macbind.core.errors import HypervisorUnavailable, MachineFailed
from macbind.core.mac_address import MacAddress
from macbind.machines.diagnosis import Diagnosis
from macbind.machines.progress import Step
from macbind.machines.values import Wait
from macbind.probes.ping import EchoSocket, connects

TRANSITION_S = 15.0
"""How long a machine may be between two lives while it reboots."""
PAUSE_S = 0.1
"""How long a loop rests between two looks."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """A machine that is to answer.

    Attributes:
        name: Its allocation's name.
        address: Where it is to answer.
        mac: Its MAC.
        runs: Whether it still runs.
        hint: What to do when it does not answer.
        details: More details for the error.
        stranger: The MAC of another machine that has the address, as far as can be seen.
        pause: Rests between two tries; raises to end the wait.
        explain: Why it does not answer; asked when it has not in time.
    """

    name: str
    address: IPv4Address
    mac: MacAddress
    runs: Callable[[], bool]
    hint: str
    details: Mapping[str, Any] = field(default_factory=dict)
    stranger: Callable[[], MacAddress | None] = lambda: None
    pause: Callable[[], object] = lambda: time.sleep(PAUSE_S)
    explain: Callable[[], Diagnosis | None] = lambda: None

    def failed(self, what: str, why: Diagnosis | None = None) -> MachineFailed:
        """The error that says what the machine did not do, and why as far as it is known."""
        details = {"machine": self.name, "address": str(self.address), "mac": str(self.mac), **self.details}
        hint = self.hint
        if why is not None:
            details["cause"] = str(why.cause)
            what = f"{what}: {why.sentence}" if why.sentence else what
            hint = f"{why.hint} {hint}"
        return MachineFailed(f"The machine '{self.name}' {what}.", hint=hint, step="wait", **details)

    def has_ended(self) -> bool:
        """Whether it runs no more."""
        try:
            return not self.runs()
        except HypervisorUnavailable:
            return False  # it cannot be asked; the machine may answer all the same


def lasting(runs: Callable[[], bool | None], for_s: float) -> Callable[[], bool]:
    """Believes that a machine has ended only if it is so for good.

    A machine that reboots is between two lives for some seconds where a driver ends its domain and makes a new one.

    Args:
        runs: Whether it runs; None while it may be between two lives.
        for_s: How long it may be that without a break.
    """
    since: float | None = None

    def still_runs() -> bool:
        nonlocal since
        found = runs()
        if found is not None:
            since = None
            return found
        now = time.monotonic()
        since = now if since is None else since
        return now - since < for_s

    return still_runs


def wait_until_reachable(
    machine: Awaited, wait: Wait, report: Callable[[str, Step], object], give_up_at: float | None = None
) -> None:
    """Waits until the machine answers as it must, and not another one.

    Args:
        machine: The machine.
        wait: What it must do.
        report: Is told of each answer.
        give_up_at: By when, of the monotonic clock; by default, after the time that ``wait`` gives.

    Raises:
        MachineFailed: It did not in time, or it has ended.
    """
    deadline = time.monotonic() + wait.timeout_s if give_up_at is None else give_up_at
    address, port = machine.address, wait.tcp
    if wait.pings:
        with EchoSocket(address) as echo:
            _until(echo.answers, machine, f"answer a ping at {address}", wait, deadline)
        report(machine.name, Step.PINGED)
    if port is not None:
        what = f"take connections at {address}:{port}"
        _until(lambda: connects(address, port), machine, what, wait, deadline)
        report(machine.name, Step.CONNECTED)


def _until(answers: Callable[[], bool], machine: Awaited, what: str, wait: Wait, deadline: float) -> None:
    while not answers() or machine.stranger() is not None:
        if time.monotonic() >= deadline:
            other = machine.stranger()
            but = "" if other is None else f", but {other} has that address"
            why = None if other is not None else machine.explain()
            raise machine.failed(f"did not {what} within {wait.timeout_s:g} s{but}", why)
        if machine.has_ended():
            raise machine.failed(f"stopped by itself before it could {what}")
        machine.pause()
