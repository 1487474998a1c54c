"""The options with which a command prints rows, and the printing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import wraps
from inspect import Parameter, signature
from itertools import islice
from typing import Annotated, Any, get_type_hints

import typer

from macbind.cli.columns import Column, Order, Table, in_order
from macbind.cli.formats import Form, csv_lines, structured
from macbind.cli.output import Output, has_colour, say, text_lines
from macbind.core.errors import InvalidRequest
from macbind.core.printable import visible

UNSET: Any = object()
VALUES = frozenset({Form.TEXT, Form.JSON, Form.JSONL, Form.YAML})
"""The forms of a command that shows no rows."""


@dataclass(frozen=True, slots=True)
class Show:
    """How one invocation prints rows.

    Attributes:
        table: What they are.
        form: The form.
        columns: The columns asked for; empty for those that are shown anyhow.
        order: What to sort by; empty for the order in which they come.
        limit: At most so many rows; None for all.
        headers: Whether text and CSV begin with the names of the columns.
    """

    table: Table
    form: Form = Form.TEXT
    columns: Sequence[Column] = ()
    order: Sequence[Order] = ()
    limit: int | None = None
    headers: bool = True

    @property
    def is_prose(self) -> bool:
        """Whether a command may print sentences instead of a table."""
        return self.form is Form.TEXT and not self.columns

    def pick(self, rows: Iterable[Any]) -> list[Any]:
        """The rows to print, in their order. Where nothing is sorted, no more rows are taken than are printed."""
        return list(islice(in_order(rows, self.order) if self.order else rows, self.limit))

    def print(
        self,
        rows: Iterable[Any],
        *,
        whole: Any = UNSET,
        prose: Callable[[list[Any]], None] | None = None,
        empty: str | None = None,
    ) -> None:
        """Prints rows.

        Args:
            rows: The rows.
            whole: What JSON and YAML show instead of a list of the rows, unless columns are asked for.
            prose: Prints them as sentences; by default text is a table.
            empty: What is said where there is none; by default what the table says.
        """
        if whole is not UNSET and self.form.is_structured and not self.columns:
            lines = structured(self.form, whole)
        else:
            found = self.pick(rows)
            if prose is not None and self.is_prose:
                prose(found)
                return
            if not found and self.form in (Form.TEXT, Form.WIDE):
                say(empty or self.table.empty, err=True)
                return
            lines = self.lines(found)
        for line in lines:
            typer.echo(line)

    def lines(self, found: Sequence[Any], *, colour: bool | None = None) -> Iterator[str]:
        """The lines of rows that were picked, without their ends."""
        columns = self.columns or self.table.shown(wide=self.form is Form.WIDE)
        if self.form is Form.NAME:
            return self._names(found)
        if self.form.is_structured:
            if self.columns:
                return structured(self.form, [{c.name: c.of(one) for c in columns} for one in found])
            return structured(self.form, [self.table.value(one) for one in found])
        names = [one.name for one in columns] if self.headers else []
        cells = ([one.of(row) for one in columns] for row in found)
        if self.form is Form.CSV:
            return csv_lines([*[names] * bool(names), *cells])
        return text_lines(
            [name.upper() for name in names], cells, colour=has_colour() if colour is None else colour
        )

    def _names(self, found: Sequence[Any]) -> Iterator[str]:
        return (visible(name) for one in found if (name := self.table.key(one)) is not None)


@dataclass(slots=True)
class _Chosen:
    """The options as they were given."""

    output: str | None = None
    json: bool = False
    columns: str | None = None
    sort: str | None = None
    limit: int | None = None
    headers: bool = field(default=True)


def prints(
    table: Table, forms: frozenset[Form] = frozenset(Form), *, without: frozenset[str] = frozenset()
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of output; the command gets a :class:`Show` as ``show``.

    Args:
        table: What it shows.
        forms: The forms it has.
        without: Options that it has not, or has of its own: ``limit``, ``sort``.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        added = _options(table, forms, without)

        @wraps(command)
        def run(*args: Any, **given: Any) -> None:
            chosen = _Chosen(**{name: given.pop(f"show_{name}") for name in added})
            command(*args, **given, show=_show(table, chosen))

        hints = get_type_hints(command, include_extras=True)
        own = [
            one.replace(annotation=hints.get(one.name, one.annotation))
            for one in signature(command).parameters.values()
            if one.name != "show"
        ]
        flags = [
            Parameter(
                f"show_{name}",
                Parameter.KEYWORD_ONLY,
                default=getattr(_Chosen(), name),
                annotation=annotation,
            )
            for name, annotation in added.items()
        ]
        run.__signature__ = signature(command).replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
        run.__annotations__ = {name: hint for name, hint in hints.items() if name != "show"}
        run.__macbind_table__ = table  # type: ignore[attr-defined]
        return run

    return decorate


def table_of(command: Callable[..., object] | None) -> Table | None:
    """What a command shows, if it has the options of output."""
    return getattr(command, "__macbind_table__", None)


def _show(table: Table, chosen: _Chosen) -> Show:
    form = Form.JSON if chosen.json else Form(chosen.output or Form.TEXT)
    return Show(
        table,
        form,
        table.chosen(chosen.columns) if chosen.columns is not None else (),
        table.order(chosen.sort) if chosen.sort is not None else (),
        chosen.limit,
        chosen.headers,
    )


def _options(table: Table, forms: frozenset[Form], without: frozenset[str]) -> dict[str, Any]:
    known = [one.value for one in Form if one in forms]

    def form(ctx: typer.Context, value: str | None) -> str | None:
        if value is not None:
            if value not in known:
                raise typer.BadParameter(
                    f"{value[:64]!r} is no form of this command. Forms are: {', '.join(known)}."
                )
            _remember(ctx, Form(value))
        return value

    def as_json(ctx: typer.Context, value: bool) -> bool:
        if value:
            _remember(ctx, Form.JSON)
        return value

    found: dict[str, Any] = {
        "output": Annotated[
            str | None,
            typer.Option(
                "--output",
                "-o",
                help=f"The form: {', '.join(known)}.",
                metavar="FORM",
                callback=form,
                autocompletion=_one_of(known),
            ),
        ],
        "json": Annotated[
            bool, typer.Option("--json", help="Print JSON; short for -o json.", callback=as_json)
        ],
    }
    if forms <= VALUES:
        return found
    names = f"Known: {', '.join(table.names)}."
    found |= {
        "columns": Annotated[
            str | None,
            typer.Option(
                "--columns",
                help=f"Only these columns, or all. {names}",
                metavar="A,B,C",
                callback=_checked(table.chosen),
                autocompletion=_some_of(table.names),
            ),
        ],
        "sort": Annotated[
            str | None,
            typer.Option(
                "--sort",
                help="Sort by these columns; with a minus from the greatest down.",
                metavar="A,-B",
                callback=_checked(table.order),
                autocompletion=_some_of(table.names),
            ),
        ],
        "limit": Annotated[int | None, typer.Option("--limit", min=1, help="At most so many rows.")],
        "headers": Annotated[
            bool, typer.Option("--headers/--no-headers", help="Whether the first line names the columns.")
        ],
    }
    return {name: one for name, one in found.items() if name not in without}


def _one_of(words: Sequence[str]) -> Callable[[str], list[str]]:
    """A completion to one of these words."""
    return lambda incomplete: [one for one in words if one.startswith(incomplete)]


def _some_of(words: Sequence[str]) -> Callable[[str], list[str]]:
    """A completion to several of these words, with commas between them."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        taken = before.split(",")
        return [f"{before}{comma}{one}" for one in words if one.startswith(last) and one not in taken]

    return complete


def _remember(ctx: typer.Context, form: Form) -> None:
    output = ctx.ensure_object(Output)
    if output.form not in (Form.TEXT, form):
        raise typer.BadParameter("--json is --output json: give one form, not two.")
    output.form, output.json = form, form is Form.JSON


def _checked(read: Callable[[str], object]) -> Callable[[str | None], str | None]:
    """A callback that refuses what cannot be read, as a usage error."""

    def check(value: str | None) -> str | None:
        if value is not None:
            try:
                read(value)
            except InvalidRequest as error:
                raise typer.BadParameter(f"{error.message} {error.hint}") from error
        return value

    return check
