"""The commands that explain: why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from macbind.cli.complete import anything
from macbind.cli.options import Socket, connect
from macbind.cli.output import say, when
from macbind.cli.show import Show, prints
from macbind.cli.tables import WHY

if TYPE_CHECKING:
    from macbind.core.why import Why


@prints(WHY)
def why(
    what: Annotated[
        str,
        typer.Argument(
            help="An address (IPv4 or IPv6), a MAC, a name, or a domain.",
            metavar="ADDRESS|MAC|NAME|DOMAIN",
            autocompletion=anything,
        ),
    ],
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Say why an address is as it is: who has it, or why nobody can."""
    with connect(socket) as client:
        answers = list(client.why(what))
    show.print(answers, whole=answers, prose=_tell)


def _tell(answers: Sequence[Why]) -> None:
    """Answers in lines."""
    for number, one in enumerate(answers):
        if number:
            say("")
        say(one.answer)
        for because in one.reasons[1:]:
            say(f"  {because.sentence}")
        for moment in one.timeline:
            by = "" if moment.actor is None else f" by {moment.actor}"
            say(f"  {when(moment.at)}  {moment.what}{by}")
