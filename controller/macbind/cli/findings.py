"""How findings are printed: the worst first, each with how to mend it."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from macbind.cli.output import say, when
from macbind.core.findings import Finding, Severity, worst_first

_MARKS = {Severity.ERROR: ("✗", "x"), Severity.WARNING: ("!", "!"), Severity.INFO: ("·", "-")}
WELL, CRASHED = ("✓", "+"), ("☠", "#")


def mark(severity: Severity) -> str:
    """The sign of a severity, as the terminal can show it."""
    return shown(_MARKS[severity])


def shown(signs: tuple[str, str]) -> str:
    """A sign, or its ASCII where the terminal has no UTF-8."""
    try:
        signs[0].encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return signs[1]
    return signs[0]


def print_findings(found: Iterable[Finding]) -> None:
    """Prints findings; those that are muted are only counted."""
    there = worst_first(found)
    for one in there:
        if not one.muted:
            print_finding(one)
    silent = sum(one.muted for one in there)
    if silent:
        say(f"{silent} muted; `macbind doctor --muted` lists what is.")


def print_finding(one: Finding, sign: str | None = None, check: str = "", *, err: bool = False) -> None:
    """Prints a finding: what is wrong, how to mend it, and since when."""
    found_by = f"{check}: " if check else ""
    say(f"{sign or mark(one.severity)} {found_by}{one.message}{_account(one)}", err=err)
    if one.hint:
        say(f"  {one.hint}", err=err)
    for line in one.commands:
        say(f"    {line}", err=err)


def _account(one: Finding) -> str:
    if one.since is None:
        return ""
    again = f", {one.count} times" if one.count > 1 else ""
    return f" (since {when(one.since)}{again})"
