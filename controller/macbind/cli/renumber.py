"""``macbind renumber``: gives a machine another address."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Annotated

import typer

from macbind.cli.complete import held
from macbind.cli.machine_tables import RENUMBERED
from macbind.cli.options import AnswerTime, Socket, Why, connect
from macbind.cli.output import problems_told, say, tell
from macbind.cli.show import VALUES, Show, prints
from macbind.cli.vm import DEFAULT_URI, Ping, Uri
from macbind.core.errors import InvalidRequest

if TYPE_CHECKING:
    from macbind.machines import Renumbered


@prints(RENUMBERED, VALUES)
def renumber(
    name: Annotated[
        str,
        typer.Argument(help="The machine's name, or that of any allocation.", autocompletion=held),
    ],
    to: Annotated[
        str | None,
        typer.Option(
            "--to", help="Its new address: of its pool, or of another on its network.", metavar="ADDRESS"
        ),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="It runs: exchange its NIC for one with the new MAC.")
    ] = False,
    abort: Annotated[
        bool,
        typer.Option("--abort", help="End one that was broken off: the old address and NIC again."),
    ] = False,
    uri: Uri = DEFAULT_URI,
    ping: Ping = None,
    tcp: Annotated[
        int | None, typer.Option("--tcp", min=1, max=65535, help="Wait until it takes connections there.")
    ] = None,
    timeout: AnswerTime = 60.0,
    reason: Why = None,
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Give a machine another address; both are held until it answers there."""
    if (to is None) != abort or (abort and live):
        raise InvalidRequest(
            "Give its new address with --to, or --abort, which takes no --live.",
            hint=f"For example: macbind renumber {name} --to 10.1.1.9 --live.",
        )
    from macbind import machines

    # Ended by a supervisor or with its terminal, it tidies up as after Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.default_int_handler)
    wait = machines.Wait(ping=ping, tcp=tcp, timeout_s=timeout)
    with connect(socket, reason=reason) as client, problems_told():
        if to is None:
            done = machines.abort_renumbering(client, name, uri=uri, wait=wait, on_progress=tell)
        else:
            done = machines.renumber(client, name, to, live=live, uri=uri, wait=wait, on_progress=tell)
    show.print([done], whole=done, prose=lambda _: say(_sentence(done, abort=abort)))


def _sentence(done: Renumbered, *, abort: bool) -> str:
    if abort:
        what = f"keeps its address; {done.before} is free"
        if done.before == done.address:
            what = "has its NIC again" if done.changed else "is not being renumbered"
        return f"{done.name}: {done.address} ({done.mac}) {what}"
    if not done.changed:
        return f"{done.name}: {done.address} ({done.mac}) is its address already"
    return f"{done.name}: {done.address} ({done.mac}); {done.before} is free"
