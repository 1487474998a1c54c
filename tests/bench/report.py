"""The tables as Markdown: in the results' directory, and between two comments of two documents."""

import os
import platform
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.rows import TOLD, By, Row
from macbind import __version__

BEGIN = "<!-- speed: written by `make bench` -->"
END = "<!-- speed: end -->"
_SHORT_HEAD = "| what | macbind | to compare |\n|" + " --- |" * 3
_HEAD = "| what | macbind | against | | ratio (min-max of the rounds) | target | |\n|" + " --- |" * 7


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    return "\n".join([_HEAD, *(f"| {' | '.join(_cells(row))} |" for row in rows)])


def headlines(rows: Iterable[Row]) -> str:
    """The rows that the README shows, as a short Markdown table."""
    return "\n".join([_SHORT_HEAD, *(_headline(row) for row in rows if row.headline)])


def _headline(row: Row) -> str:
    unit = f" {row.unit}".rstrip()
    base = f"{_number(row.pick(row.base))}{unit}"
    return f"| {row.what} | {_number(row.pick(row.ours))}{unit} | {base}: {row.baseline} |"


def _cells(row: Row) -> Sequence[str]:
    unit = f" {row.unit}".rstrip()
    judged = row.judged
    if row.by is By.RATIO:
        verdict = f"{row.value:.2f} ({min(judged):.2f}-{max(judged):.2f})"
    elif row.by is By.EXCESS:
        verdict = (
            f"{_number(row.value, '+')}{unit} ({_number(min(judged), '+')} to {_number(max(judged), '+')})"
        )
    else:
        verdict = f"{_number(row.value)}{unit} ({_number(min(judged))}-{_number(max(judged))})"
    base = f"{_number(row.pick(row.base))}{unit}" if row.base else ""
    outcome = "" if row.target is TOLD else "met" if row.met else "**missed**"
    return [
        row.what,
        f"{_number(row.pick(row.ours))}{unit}",
        row.baseline,
        base,
        verdict,
        row.target.text,
        outcome,
    ]


def _number(value: float, sign: str = "") -> str:
    """Three digits, and no exponent."""
    if abs(value) >= 100:
        return f"{value:{sign},.0f}"
    return f"{value:{sign}.3g}"


def outcome(rows: Sequence[Row], failures: Mapping[str, str]) -> tuple[str, int]:
    """One sentence for the end, and the exit status: a missed target is told, a row that is missing fails."""
    judged = [row for row in rows if row.target is not TOLD]
    missed = [row for row in judged if not row.met]
    lines = [f"{len(judged) - len(missed)} of {len(judged)} targets met."]
    lines += [f"- Missed: {row.what}, against {row.baseline}." for row in missed]
    lines += [f"- Not measured: {what}: {why}" for what, why in failures.items()]
    return "\n".join(lines), 1 if failures else 0


def replace_between(text: str, inner: str) -> str:
    """The text with what stands between the two comments replaced.

    Raises:
        ValueError: The comments are not there exactly once, in this order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the file needs the lines {BEGIN} and {END} once each, in this order")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{inner.strip()}\n\n{END}{tail}"


def circumstances(rounds: str) -> str:
    """Where and with what was measured, in general words."""
    os_release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} by `make bench` ({rounds}) on {os.cpu_count()} shared cores: "
        f"{os_release['PRETTY_NAME'].strip(chr(34))}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version} on {_said('findmnt', '-no', 'FSTYPE', '-T', tempfile.gettempdir())}, "
        f"{_said('dhcpd', '--version')}, libvirt {_said('virsh', '--version')}, macbind {__version__}."
    )


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (done.stdout + done.stderr).strip().splitlines()[0]
