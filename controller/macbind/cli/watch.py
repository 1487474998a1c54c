"""Commands that follow what changes: watch, wait, history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from macbind.cli import complete
from macbind.cli.formats import Form, json_of, plain
from macbind.cli.options import INTERRUPTED, LabelFilter, Socket, connect, seconds
from macbind.cli.output import say, when
from macbind.cli.service_tables import NAMES
from macbind.cli.show import Show, prints
from macbind.cli.tables import EVENTS, HISTORY
from macbind.core.errors import InvalidRequest
from macbind.core.event import Change, FindingsNow, Gap
from macbind.core.labels import read_wanted

if TYPE_CHECKING:
    from macbind.core.allocation import AuditEntry
    from macbind.core.event import Event


class Goal(StrEnum):
    """What is waited for."""

    BOUND = "bound"
    FREE = "free"
    ANSWERS = "answers"


After = Annotated[
    int | None,
    typer.Option(
        "--after", min=0, help="Only what came after the change of this number; 0 for all that is kept."
    ),
]


OfPool = Annotated[
    str | None,
    typer.Option("--pool", "-p", help="Only changes of this pool.", autocompletion=complete.pools),
]
OfName = Annotated[
    str | None,
    typer.Option("--name", help="Only changes of this name.", autocompletion=complete.names),
]
OfGroup = Annotated[
    str | None,
    typer.Option("--group", "-g", help="Only changes of this group.", autocompletion=complete.groups),
]


@prints(EVENTS, without=frozenset({"sort", "limit"}))
def watch(
    ctx: typer.Context,
    after: After = None,
    pool: OfPool = None,
    name: OfName = None,
    group: OfGroup = None,
    label: LabelFilter = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Whether to go on when all that is there is printed.")
    ] = True,
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Print what changes, as it changes, until it is interrupted; connects again by itself."""
    give_up_s = None if wait else 0.0
    with connect(socket) as client:
        client.status()  # that there is no service is said at once
        events = client.events(
            after,
            pool=pool,
            name=name,
            group=group,
            labels=read_wanted(label or ()),
            wait=wait,
            give_up_s=give_up_s,
        )
        try:
            for number, event in enumerate(events):
                print_event(event, show, is_first=not number)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@prints(NAMES)
def wait(
    names: Annotated[
        list[str],
        typer.Argument(help="Names of allocations.", metavar="NAME...", autocompletion=complete.names),
    ],
    goal: Annotated[
        Goal,
        typer.Option(
            "--for",
            help="bound: the machine may start. free: gone from every dhcpd. answers: it answers ARP.",
        ),
    ] = Goal.BOUND,
    any_of: Annotated[bool, typer.Option("--any", help="One of the names is enough.")] = False,
    generation: Annotated[
        int | None,
        typer.Option(
            "--generation", min=0, help="Of the allocation that is meant, whoever has the name after it."
        ),
    ] = None,
    timeout: Annotated[
        str,
        typer.Option("--timeout", metavar="TIME", help="How long to wait: 90, 15m, 1h."),
    ] = "60",
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Wait until names are bound, are free again, or their machines answer; print those names."""
    with connect(socket) as client:
        ask = {
            Goal.BOUND: client.wait_bound,
            Goal.FREE: client.wait_free,
            Goal.ANSWERS: client.wait_answers,
        }
        found = list(ask[goal](*names, generation=generation, any_of=any_of, timeout_s=seconds(timeout)))
    show.print(found, prose=lambda rows: _tell_goal(rows, goal))


def _tell_goal(names: Sequence[str], goal: Goal) -> None:
    for name in names:
        say(f"{name}: {goal}")


@prints(HISTORY, without=frozenset({"limit"}))
def history(
    ctx: typer.Context,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Only the last so long: 90, 15m, 2h, 7d."),
    ] = None,
    actor: Annotated[str | None, typer.Option("--actor", help="Only by this user, or by macbind.")] = None,
    pool: OfPool = None,
    action: Annotated[str | None, typer.Option("--action", help="Only this action, as release.")] = None,
    name: OfName = None,
    request: Annotated[
        str | None, typer.Option("--request", metavar="ID", help="Only of the request with this id.")
    ] = None,
    label: LabelFilter = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=1000, help="At most the last so many.")
    ] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Show who changed what, oldest first."""
    if follow and not show.is_prose:
        raise InvalidRequest(
            "--follow has no --json, and no other form.",
            hint="`macbind watch -o jsonl` prints JSON as it comes.",
        )
    begin, labels = _ago(since), read_wanted(label or ())
    with connect(socket) as client:
        found = client.history(
            name=name,
            pool=pool,
            actor=actor,
            action=action,
            request=request,
            labels=labels,
            since=begin,
            limit=limit,
        )
        show.print(list(found)[::-1], prose=_tell_history)
        if not follow:
            return
        after = max((one.id for one in client.history(limit=1)), default=0) if not found else found[0].id
        try:
            for event in client.events(after, pool=pool, name=name, labels=labels):
                if isinstance(event, Change) and _is_wanted(event, actor, action, request):
                    say(change_line(event))
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def _tell_history(entries: Sequence[AuditEntry]) -> None:
    for entry in entries:
        say(_entry_line(entry))


def _ago(since: str | None) -> datetime | None:
    """The time so long ago; the beginning of all times at the earliest."""
    span = seconds(since)
    if span is None:
        return None
    return datetime.fromtimestamp(max(0.0, datetime.now(UTC).timestamp() - span), UTC)


def _is_wanted(one: Change, actor: str | None, action: str | None, request: str | None) -> bool:
    by = actor is None or one.actor == actor or one.actor.startswith(f"{actor} (")
    return by and action in (None, one.action) and request in (None, one.request)


def _entry_line(one: AuditEntry) -> str:
    """An entry of the audit log in the form of a change."""
    pool, group = one.detail.get("pool"), one.detail.get("group")
    return change_line(
        Change(
            one.id,
            one.at,
            one.actor,
            one.action,
            one.address,
            one.generation,
            one.name,
            pool,
            group,
            one.detail,
            one.request,
        )
    )


def print_event(event: Event, show: Show, *, is_first: bool = False) -> None:
    """Prints one event; rows have changes only, and the rest is said beside them."""
    has_rows = bool(show.columns) or show.form in (Form.CSV, Form.NAME, Form.WIDE)
    if has_rows:
        _print_row(event, show, is_first=is_first)
    elif show.form in (Form.JSON, Form.JSONL):
        typer.echo(json_of(_value(event), spread=False))
    elif show.form is Form.YAML:
        for line in ("---", *show.lines([_value(event)])):
            typer.echo(line)
    else:
        _tell(event, err=False)


def _print_row(event: Event, show: Show, *, is_first: bool) -> None:
    if is_first and show.headers and show.form is Form.CSV:
        typer.echo(next(iter(show.lines([]))))
    if not isinstance(event, Change):
        _tell(event, err=True)
        return
    form = {Form.JSON: Form.JSONL}.get(show.form, show.form)
    for line in replace(show, form=form, headers=False).lines([event]):
        typer.echo(line)


def _tell(event: Event, *, err: bool) -> None:
    match event:
        case Change():
            say(change_line(event), err=err)
        case Gap():
            say(
                f"! The changes from {event.after + 1} to {event.oldest - 1} are no longer in the audit log.",
                err=err,
            )
        case FindingsNow():
            news = [finding for finding in event.findings if not finding.muted]
            for finding in news:
                say(f"! {finding}", err=err)
            if not news:
                say("No findings.", err=err)


def change_line(one: Change) -> str:
    """A change as a person reads it."""
    detail = one.detail.get("reason")
    words = [when(one.at), one.action, one.address, one.name, one.pool, one.group, f"by {one.actor}"]
    reason = "" if detail is None else f" ({detail})"
    request = "" if one.request is None else f"  request {one.request}"
    return "  ".join(str(word) for word in words if word is not None) + reason + request


def _value(event: Event) -> dict[str, Any]:
    kind = {Change: "change", Gap: "gap", FindingsNow: "findings"}[type(event)]
    return {"event": kind, **plain(event)}
