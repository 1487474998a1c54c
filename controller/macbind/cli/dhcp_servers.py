"""The commands of DHCP servers: list, out, in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from macbind.cli.options import Json, Socket, Timeout, Why, connect
from macbind.cli.output import say, table, when

if TYPE_CHECKING:
    from macbind.core.dhcp_servers import Server

dhcp = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="DHCP servers: which are in, and taking one out for maintenance.",
)

Name = Annotated[str, typer.Argument(help="Its name in the configuration.")]


@dhcp.command("list")
def list_(ctx: typer.Context, timeout: Timeout = 10.0, socket: Socket = None, json: Json = False) -> None:
    """List the DHCP servers: whether they are in, what they hold, and what they have yet to look at."""
    with connect(socket, timeout) as client:
        found = client.dhcp_servers()
    if json:
        ctx.obj.value(found)
        return
    table(
        ["DHCPD", "USE", "SINCE", "BY", "POOLS", "HOLDS", "DUE"],
        [
            [
                one.name,
                one.use,
                "-" if one.since is None else when(one.since),
                one.by or "-",
                ",".join(one.pools) or "-",
                one.holds,
                one.due,
            ]
            for one in found
        ],
        "No DHCP server is configured.",
    )


@dhcp.command("out")
def out(
    ctx: typer.Context,
    name: Name,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="It is gone for good: what it holds keeps no address from being free."),
    ] = False,
    reason: Why = None,
    timeout: Timeout = 10.0,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Take a DHCP server out for all controllers: nobody waits for it; it is told what it can be told."""
    with connect(socket, timeout, reason=reason) as client:
        found = client.dhcp_out(name, forget=forget)
    _say(ctx, found, json=json)


@dhcp.command("in")
def in_(
    ctx: typer.Context,
    name: Name,
    reason: Why = None,
    timeout: Timeout = 10.0,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Take a DHCP server in again: it is told all that it should hold, and callers wait for it."""
    with connect(socket, timeout, reason=reason) as client:
        found = client.dhcp_in(name)
    _say(ctx, found, json=json)


def _say(ctx: typer.Context, one: Server, *, json: bool) -> None:
    if json:
        ctx.obj.value(one)
        return
    say(f"{one.name}: {one.use}, holds {one.holds}, {one.due} due")
