"""The commands of the configuration that all controllers of a registry share: apply, show."""

from __future__ import annotations

import socket as sockets
from pathlib import Path
from typing import Annotated

import typer

from macbind.cli.options import Json, Socket, Timeout, Why, connect, settings_of
from macbind.cli.output import say, when

configuration = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The configuration that all controllers of a registry share.",
)


@configuration.command("apply")
def apply(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A configuration file.", readable=False)],
    reason: Why = None,
    timeout: Timeout = 60.0,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Have all controllers use the pools, subnets, dhcpds and hypervisors of a file; they read it within seconds."""
    from macbind.config.shared import shared_part

    shared = shared_part(settings_of(file), sockets.gethostname())
    with connect(socket, timeout, reason=reason) as client:
        made = client.apply_configuration(shared)
    if json:
        ctx.obj.value(made)
        return
    say(f"Revision {made.revision} is in use; all controllers read it within seconds.")


@configuration.command("show")
def show(
    ctx: typer.Context,
    timeout: Timeout = 10.0,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Print what all controllers share, as a configuration file has it."""
    with connect(socket, timeout) as client:
        found = client.configuration()
    if json:
        ctx.obj.value(found)
        return
    say(f"# revision {found.revision}, {when(found.at)}, {found.actor}")
    for line in found.shared.lines():
        say(line)
