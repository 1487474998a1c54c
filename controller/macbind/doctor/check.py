"""What a check is, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from macbind.core.findings import Finding, Severity
from macbind.doctor.site import Site

Look = Callable[[Site], Iterable[Finding]]
"""Looks at one thing, and yields what is wrong; may raise."""


class Need(StrEnum):
    """What a check needs to look at all."""

    CONFIGURATION = "configuration"
    """A configuration that can be read."""
    ROOT = "root"
    """The rights of root."""
    FILES = "root or macbind"
    """The rights of root or of the service's user: its files are nobody else's."""
    DAEMON = "daemon"
    """A service that answers."""
    NO_DAEMON = "no daemon"
    """No service: it does better itself what this check does."""
    DHCPD = "dhcpd"
    """A dhcpd of this machine in the configuration."""
    PROBE = "probe"
    """An interface in the configuration on which a dhcpd of this machine is asked."""
    LIBVIRT = "libvirt"
    """A hypervisor in the configuration, and libvirt's module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A named check.

    Attributes:
        name: Its name on the command line.
        severity: The worst that it finds.
        about: One sentence: what is wrong when it finds something.
        look: Looks.
        needs: What it needs; without that it is left out, and the result says why.
        depends_on: Checks that must have found no error: else it would only find the same again.
        visible_after_s: What it finds counts only if it is still there after so long, in seconds.
        deadline_s: It must end within so long, in seconds, not counting the time until it counts.
        commands: What mends it, for the documentation; a finding has the commands with their values.
        is_cheap: Whether it is run before a start, too: it takes a moment and asks nobody.
    """

    name: str
    severity: Severity
    about: str
    look: Look = field(repr=False)
    needs: tuple[Need, ...] = (Need.CONFIGURATION,)
    depends_on: tuple[str, ...] = ()
    visible_after_s: float = 0.0
    deadline_s: float = 20.0
    commands: tuple[str, ...] = ()
    is_cheap: bool = False


class State(StrEnum):
    """What came of a check."""

    WELL = "well"
    """It found nothing."""
    FOUND = "found"
    """It found something."""
    LEFT_OUT = "left out"
    """It could not look; the note says why."""
    LATE = "late"
    """It did not end in time."""
    CRASHED = "crashed"
    """It ended with a defect of its own."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a check.

    Attributes:
        check: Its name.
        state: What came of it.
        seconds: How long it took.
        findings: What it found.
        note: Why it was left out.
    """

    check: str
    state: State
    seconds: float = 0.0
    findings: tuple[Finding, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """What came of all checks.

    Attributes:
        exit: The exit code of the command.
        checks: What came of each.
    """

    exit: int
    checks: tuple[Result, ...]
