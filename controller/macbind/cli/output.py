"""What the command line prints: tables for people, JSON for programs, and errors for both."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from macbind.cli.formats import Form, structured
from macbind.core.errors import ConfigError, MacbindError, NotPermitted, PeerError, RequestError
from macbind.core.printable import visible

if TYPE_CHECKING:
    from macbind.machines import Progress

EXIT_CODES: tuple[tuple[type[MacbindError], int, str], ...] = (
    (ConfigError, 3, "the configuration must be mended"),
    (NotPermitted, 6, "your user may not do this"),
    (RequestError, 4, "the request is not possible; asking again changes nothing"),
    (PeerError, 5, "dhcpd, the registry or the service is unavailable; asking again may succeed"),
    (MacbindError, 70, "a defect of macbind"),
)
"""Exit codes beside 0 (done), 1 (``status``, ``doctor``, ``render --check``, ``import``: an admin should look) and 2
(the command line is not understood, ``doctor`` has found an error, ``import`` cannot read a list); the first class
that fits counts."""


NOT_POSSIBLE = 4
"""Of a bulk in which some was not possible."""


@dataclass
class Output:
    """How this invocation prints."""

    json: bool = False
    form: Form = Form.TEXT

    def value(self, value: Any) -> None:
        """Prints a value (or list of values) as JSON, or in the structured form that was asked for."""
        for line in structured(self.form if self.form.is_structured else Form.JSON, value):
            typer.echo(line)


def say(text: object, *, err: bool = False) -> None:
    """Prints one line; what is not printable in it stands there as an escape."""
    typer.echo(visible(text), err=err)


def has_colour() -> bool:
    """Whether standard output is a terminal that may show colours (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


WIDEST = 64
"""A longer cell is shown whole, and the other rows are not made as wide for it."""


def text_lines(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, colour: bool = False
) -> Iterator[str]:
    """The lines of a table as wide as its content: tab-free columns that ``awk`` can read.

    Args:
        columns: The headers; empty for none.
        rows: The cells of each row.
        colour: Whether the headers are bold.
    """
    lines = [[_cell(one) for one in row] for row in rows]
    if columns:
        lines.insert(0, list(columns))
    widths = [max(min(len(line[index]), WIDEST) for line in lines) for index in range(len(lines[0]))]
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        yield typer.style(text, bold=True) if colour and columns and not number else text


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return str(when(value))
    return visible(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Prints a table."""
    found = list(rows)
    if not found:
        say(empty, err=True)
        return
    for line in text_lines(columns, found, colour=has_colour()):
        typer.echo(line)


def when(moment: datetime | None) -> str | None:
    """A time as a person reads it, in the local time zone."""
    return None if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def tell(progress: Progress) -> None:
    """Prints a step on a machine's way."""
    say(f"{progress.seconds:6.1f} s  {progress.machine}: {progress.step}", err=True)


@contextmanager
def problems_told() -> Iterator[None]:
    """Prints what else an error has to say: what could not be undone, which others failed."""
    try:
        yield
    except MacbindError as error:
        for note in getattr(error, "__notes__", ()):
            say(f"macbind: {note}", err=True)
        raise


class Group(TyperGroup):
    """Turns our errors into one sentence, a hint and an exit code."""

    @override
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MacbindError as error:
            tell_error(ctx, error)
            ctx.exit(exit_code(error))


def tell_error(ctx: Any, error: MacbindError) -> None:
    """Prints an error as one sentence and a hint, and as a value if values were asked for."""
    output = ctx.ensure_object(Output)
    if output.json or output.form.is_structured:
        output.value({"error": error.to_dict()})
    say(f"macbind: {error.message}", err=True)
    if error.hint:
        say(f"  {error.hint}", err=True)


def exit_code(error: MacbindError) -> int:
    """The exit code for an error."""
    return next(code for kind, code, _ in EXIT_CODES if isinstance(error, kind))
