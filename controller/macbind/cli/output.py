"""What the command line prints: tables for people, JSON for programs, and errors for both."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from textwrap import indent
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from macbind.addressing import MacAddress
from macbind.errors import ConfigError, MacbindError, NotPermitted, PeerError, RequestError
from macbind.options import DhcpOptions

if TYPE_CHECKING:
    from macbind.machine import Progress

EXIT_CODES: tuple[tuple[type[MacbindError], int, str], ...] = (
    (ConfigError, 3, "the configuration must be mended"),
    (NotPermitted, 6, "your user may not do this"),
    (RequestError, 4, "the request is not possible; asking again changes nothing"),
    (PeerError, 5, "dhcpd, the registry or the service is unavailable; asking again may succeed"),
    (MacbindError, 70, "a defect of macbind"),
)
"""Exit codes beside 0 (done), 1 (``status`` and ``render --check``: an admin should look) and 2 (the command line
is not understood); the first class that fits counts."""


@dataclass
class Output:
    """How this invocation prints."""

    json: bool = False

    def value(self, value: Any) -> None:
        """Prints a value (or list of values) as JSON; of a long list never more than one item is held as text."""
        if not isinstance(value, list) or not value:
            typer.echo(json.dumps(plain(value), indent=2))
            return
        start = "[\n"
        for one in value:
            typer.echo(start + indent(json.dumps(plain(one), indent=2), "  "), nl=False)
            start = ",\n"
        typer.echo("\n]")


def plain(value: Any) -> Any:
    """A value as JSON types: dataclasses become objects, addresses and times text."""
    if isinstance(value, DhcpOptions):
        return value.to_dict()
    if dataclasses.is_dataclass(value) and not isinstance(value, (type, MacAddress)):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Prints a table as wide as its content: tab-free columns that ``awk`` can read."""
    lines = [[("-" if cell is None else str(cell)) for cell in row] for row in rows]
    if not lines:
        typer.echo(empty, err=True)
        return
    widths = [max(len(line[index]) for line in [list(columns), *lines]) for index in range(len(columns))]
    colour = sys.stdout.isatty()
    header = "  ".join(name.ljust(width) for name, width in zip(columns, widths, strict=True)).rstrip()
    typer.echo(typer.style(header, bold=True) if colour else header)
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def when(moment: datetime | None) -> str | None:
    """A time as a person reads it, in the local time zone."""
    return None if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def tell(progress: Progress) -> None:
    """Prints a step on a machine's way."""
    typer.echo(f"{progress.seconds:6.1f} s  {progress.machine}: {progress.step}", err=True)


@contextmanager
def problems_told() -> Iterator[None]:
    """Prints what else an error has to say: what could not be undone, which others failed."""
    try:
        yield
    except MacbindError as error:
        for note in getattr(error, "__notes__", ()):
            typer.echo(f"macbind: {note}", err=True)
        raise


class Group(TyperGroup):
    """Turns our errors into one sentence, a hint and an exit code."""

    @override
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MacbindError as error:
            output = ctx.ensure_object(Output)
            if output.json:
                typer.echo(json.dumps({"error": plain(error.to_dict())}, indent=2))
            typer.echo(f"macbind: {error.message}", err=True)
            if error.hint:
                typer.echo(f"  {error.hint}", err=True)
            ctx.exit(next(code for kind, code, _ in EXIT_CODES if isinstance(error, kind)))
