"""The command that draws a pool: map."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Annotated

import typer

from macbind.cli.options import Socket, connect
from macbind.cli.page_tables import RUNS
from macbind.cli.show import Show, prints
from macbind.core.map_picture import most_blocks, picture


@prints(RUNS)
def map_(
    pool: Annotated[str, typer.Argument(help="The pool.")],
    width: Annotated[
        int | None,
        typer.Option("--width", "-w", min=20, max=1000, help="Columns to draw in; those of the terminal."),
    ] = None,
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Draw what the addresses of a pool are; in every other form list them as runs of one state."""
    with connect(socket) as client:
        if not show.is_prose or show.order or show.limit is not None:
            show.print(client.map(pool))
            return
        columns = width or shutil.get_terminal_size().columns
        found = client.map_blocks(pool, most=most_blocks(columns))
    for line in picture(found, columns, plain=not _has_unicode(), colour=_has_colour()):
        typer.echo(line, color=True)  # whether there are colours is decided here


def _has_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _has_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
