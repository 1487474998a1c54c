"""``macbind renumber``: a machine gets another address."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated

import typer

from macbind.cli.output import problems_told, tell
from macbind.cli.vm import Json, Socket, Uri
from macbind.errors import InvalidRequest

if TYPE_CHECKING:
    from macbind.machine import Renumbered


def renumber(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The machine's name, or that of any allocation.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to", help="Its new address: of its pool, or of another on its network.", metavar="ADDRESS"
        ),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="It runs: exchange its network card for one with the new MAC.")
    ] = False,
    abort: Annotated[
        bool,
        typer.Option("--abort", help="Give a move up that was broken off: the old address and card again."),
    ] = False,
    uri: Uri = "qemu:///system",
    ping: Annotated[bool, typer.Option("--ping/--no-ping", help="Wait until it answers a ping.")] = True,
    tcp: Annotated[
        int | None, typer.Option("--tcp", min=1, max=65535, help="Wait until it takes connections there.")
    ] = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", min=0.1, help="Seconds within which it must answer, or all is undone."),
    ] = 60.0,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Move a machine to another address; both are held until it answers there."""
    if (to is None) != abort or (abort and live):
        raise InvalidRequest(
            "Say where to move it with --to, or --abort, which takes no --live.",
            hint=f"For example: macbind renumber {name} --to 10.1.1.9 --live.",
        )
    from macbind import machine
    from macbind.client import Client

    # Ended by a supervisor or with its terminal, it tidies up as after Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.default_int_handler)
    wait = machine.Wait(ping=ping, tcp=tcp, timeout_s=timeout)
    with Client(socket) as client, problems_told():
        if to is None:
            done = machine.abort_renumbering(client, name, uri=uri, wait=wait, on_progress=tell)
        else:
            done = machine.renumber(client, name, to, live=live, uri=uri, wait=wait, on_progress=tell)
    if json:
        ctx.obj.value(done)
    else:
        typer.echo(_sentence(done, abort=abort))


def _sentence(done: Renumbered, *, abort: bool) -> str:
    if abort:
        what = f"keeps its address; {done.before} is free"
        if done.before == done.address:
            what = "has its network card again" if done.changed else "has no move under way"
        return f"{done.name}: {done.address} ({done.mac}) {what}"
    if not done.changed:
        return f"{done.name}: {done.address} ({done.mac}) is its address already"
    return f"{done.name}: {done.address} ({done.mac}); {done.before} is free"
