"""Commands that explain macbind itself: explain, schema, completion, man. They need no service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from macbind.cli.options import Json
from macbind.cli.output import EXIT_CODES, say
from macbind.cli.service_tables import ENTRIES
from macbind.cli.shells import Shell, script
from macbind.cli.show import Show, prints, table_of
from macbind.core.errors import InvalidRequest, NotFound

STATUSES = (
    (0, "done"),
    (1, "an admin should look (status, doctor, render --check, import), or nothing was agreed to"),
    (2, "the command line is not understood, doctor has found an error, or import cannot read a list"),
    *((code, meaning) for _, code, meaning in EXIT_CODES),
    (130, "ended with Ctrl-C"),
)
"""Every exit status with its meaning."""


def _words(incomplete: str) -> list[str]:
    """What can be explained, for completion."""
    from macbind.cli.explained import entries

    return sorted({one.name for one in entries() if one.name.startswith(incomplete)})


@prints(ENTRIES)
def explain(
    what: Annotated[
        str | None,
        typer.Argument(
            help="A configuration key as pool.release, or the code of an error, a finding or a reason.",
            metavar="KEY|CODE",
            autocompletion=_words,
        ),
    ] = None,
    *,
    show: Show,
) -> None:
    """Say what a configuration key or a code means; without one, list all."""
    from macbind.cli.explained import entries, explained

    if what is None:
        show.print(entries())
        return
    show.print(explained(what), prose=_tell)


def _tell(found: list[Any]) -> None:
    for number, one in enumerate(found):
        if number:
            say("")
        say(f"{one.name} ({one.kind})")
        say(f"  {one.meaning}")
        if one.example is not None:
            say(f"  {one.name.partition('.')[2]} = {one.example}")


def _tree(ctx: typer.Context) -> Any:
    """The command tree."""
    return ctx.find_root().command


def _commands_with_rows(tree: Any, path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, one in tree.commands.items():
        if hasattr(one, "commands"):
            found |= _commands_with_rows(one, f"{path}{name} ")
        elif (table := table_of(one.callback)) is not None:
            found[f"{path}{name}"] = table
    return found


def schema(
    ctx: typer.Context,
    command: Annotated[
        list[str], typer.Argument(help="A command, as list or vm list.", metavar="COMMAND...")
    ],
    json: Json = False,  # noqa: ARG001  # it is JSON anyhow
) -> None:
    """Print the JSON schema of what a command prints with -o json; with -o jsonl a line is one item."""
    known = _commands_with_rows(_tree(ctx))
    name = " ".join(command)
    if name not in known:
        raise NotFound(
            f"{name[:64]!r} is no command that prints values.", hint=f"Commands are: {', '.join(known)}."
        )
    ctx.obj.value(known[name].schema())


def completion(
    shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.")],
) -> None:
    """Print what makes a shell complete macbind's commands, options, pools, names and groups."""
    typer.echo(script(shell), nl=False)


def man(
    ctx: typer.Context,
    directory: Annotated[
        Path,
        typer.Option("--dir", help="Where man1 and man5 are made.", file_okay=False),
    ],
) -> None:
    """Write the manual pages below a directory."""
    from macbind.cli.manual import pages

    for name, text in pages(_tree(ctx), STATUSES).items():
        place = directory / f"man{name.rpartition('.')[2]}"
        try:
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text, encoding="ascii")
        except OSError as error:
            raise InvalidRequest(
                f"{place / name} cannot be written: {error.strerror}.", hint="Name another --dir."
            ) from error
        say(f"{place / name}: written")
