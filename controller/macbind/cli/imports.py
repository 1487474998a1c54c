"""Commands that take over what others have, and give out what macbind has: import, recover, export."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macbind.cli.complete import pools
from macbind.cli.formats import Form
from macbind.cli.import_tables import EXPORTED, IMPORTED, RECOVERED
from macbind.cli.options import Socket, Timeout, Why, connect
from macbind.cli.output import say, tell_error
from macbind.cli.show import Show, prints
from macbind.core.errors import InvalidRequest
from macbind.core.import_plan import ImportVerdict

if TYPE_CHECKING:
    from macbind.core.import_plan import ImportPlan, ImportRow

Apply = Annotated[
    bool, typer.Option("--apply", help="Do it, all or nothing. Without it only the plan is printed.")
]
SkipConflicts = Annotated[
    bool, typer.Option("--skip-conflicts", help="With --apply: leave out what is in conflict or impossible.")
]
_FORMS = ("dhcpd", "csv", "libvirt", "kea", "macbind")
_UNUSABLE = 2
"""The exit status of a list that cannot be read."""


def _known_form(value: str | None) -> str | None:
    if value is not None and value not in _FORMS:
        raise typer.BadParameter(f"{value[:64]!r} is no form of a list. Forms are: {', '.join(_FORMS)}.")
    return value


@prints(IMPORTED)
def import_(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(help="The list; - reads it from standard input.", metavar="FILE|-")],
    form: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FORM",
            help=f"The form of the list: {', '.join(_FORMS)}; recognised by itself if left out.",
            callback=_known_form,
            autocompletion=lambda incomplete: [one for one in _FORMS if one.startswith(incomplete)],
        ),
    ] = None,
    apply: Apply = False,
    skip_conflicts: SkipConflicts = False,
    reason: Why = None,
    timeout: Timeout = 60.0,
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Reserve the addresses of a list: of dhcpd.conf, a table, libvirt, Kea or an export. Prints a plan first."""
    from macbind.importing.forms import ListForm, read_list

    _check_together(apply=apply, skip_conflicts=skip_conflicts)
    try:
        data, path = _content(file)
        _, found = read_list(data, path, None if form is None else ListForm(form))
    except InvalidRequest as error:
        tell_error(ctx, error)
        raise typer.Exit(_UNUSABLE) from error
    for note in found.notes:
        say(f"! {note}", err=True)
    with connect(socket, timeout, reason=reason) as client:
        plan = client.import_entries(found.entries, apply=apply, skip_conflicts=skip_conflicts)
    rows = plan.rows if show.form is not Form.TEXT else _of_interest(plan.rows)
    if rows or show.form is not Form.TEXT:
        show.print(rows, whole=plan)
    _conclude(plan, apply=apply)


@prints(RECOVERED)
def recover(
    apply: Apply = False,
    skip_conflicts: SkipConflicts = False,
    reason: Why = None,
    timeout: Timeout = 60.0,
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Allocate again what DHCP servers and hypervisors show, and the registry does not know. Prints a plan first."""
    _check_together(apply=apply, skip_conflicts=skip_conflicts)
    with connect(socket, timeout, reason=reason) as client:
        plan = client.recover(apply=apply, skip_conflicts=skip_conflicts)
    show.print(plan.rows, whole=plan)
    if plan.rows:
        _conclude(plan, apply=apply)


def _check_together(*, apply: bool, skip_conflicts: bool) -> None:
    if skip_conflicts and not apply:
        raise InvalidRequest("--skip-conflicts goes with --apply.", hint="Leave it out, or add --apply.")


def _content(file: str) -> tuple[bytes, Path]:
    """A list, and where it was.

    Raises:
        InvalidRequest: It cannot be read, or is too large.
    """
    from macbind.importing.forms import MAX_BYTES

    path = Path.cwd() / "standard input" if file == "-" else Path(file)
    try:
        if file == "-":
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as opened:
                data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(
            f"{file} cannot be read: {error.strerror}.", hint="Name a file, or - ."
        ) from error
    if len(data) > MAX_BYTES:
        raise InvalidRequest(
            f"{file} has more than {MAX_BYTES >> 20} MiB.",
            hint="Split it, and import one part after the other.",
        )
    return data, path


def _of_interest(rows: Sequence[ImportRow]) -> list[ImportRow]:
    return [one for one in rows if one.verdict is not ImportVerdict.SAME]


def _conclude(plan: ImportPlan, *, apply: bool) -> None:
    """Says in one line what is done and what is left, and ends with the status of that."""
    count = Counter(one.verdict for one in plan.rows)
    said = ", ".join(f"{count[one]} {one}" for one in ImportVerdict if count[one])
    blocked = sum(count[one] for one in ImportVerdict if not one.is_done)
    to_do = count[ImportVerdict.NEW] + count[ImportVerdict.CHANGED]
    if apply:
        end = "Done." if plan.applied else "Nothing was done: mend these, or say --skip-conflicts."
    elif to_do:
        end = "Nothing is changed yet: --apply does it."
    else:
        end = "Nothing can be done." if blocked else "Nothing to do."
    if apply and plan.applied and not to_do:
        end = "Nothing to do."
    say(f"{said or 'The list has no machine'}. {end}", err=True)
    if blocked or (to_do and not plan.applied):
        raise typer.Exit(1)


@prints(EXPORTED, frozenset(Form) - {Form.TEXT})
def export(
    pool: Annotated[
        str | None, typer.Option("--pool", "-p", help="Only of this pool.", autocompletion=pools)
    ] = None,
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Print reservations and allocations as `macbind import` reads them: JSON, or CSV without options and labels."""
    from macbind.importing.own import exported

    with connect(socket) as client:
        found = [one for one in client.list(pool=pool) if one.renumbers_from is None]
    if show.form is Form.TEXT:  # no form is asked for
        show = replace(show, form=Form.JSON)
    show.print(found, whole=exported(show.pick(found)))
