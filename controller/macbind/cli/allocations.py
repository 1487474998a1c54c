"""Commands that change allocations: allocate, release, reserve, unreserve."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from macbind.cli.bulk import agreed
from macbind.cli.complete import groups, held, pools, reserved
from macbind.cli.options import (
    Count,
    DryRun,
    Label,
    LabelFilter,
    Socket,
    Timeout,
    Ttl,
    Why,
    Yes,
    connect,
    seconds,
    takes_dhcp_options,
)
from macbind.cli.output import NOT_POSSIBLE, say
from macbind.cli.show import Show, prints
from macbind.cli.tables import MADE, RELEASED, RESERVED, lines_of
from macbind.core.allocation import Released
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import InvalidRequest, MacbindError
from macbind.core.labels import Wanted, read_change, read_labels, read_wanted
from macbind.core.pool import Confirm

if TYPE_CHECKING:
    from macbind.client.client import Client

_Job = tuple[str, Callable[[bool], Released]]
"""What is released as a person calls it, and the call, which takes whether it is a dry run."""


@prints(MADE)
@takes_dhcp_options
def allocate(
    pool: Annotated[str, typer.Argument(help="The pool to take from.", autocompletion=pools)],
    name: Annotated[str | None, typer.Argument(help="The key to find it again; made up if left out.")] = None,
    group: Annotated[str | None, typer.Option("--group", "-g", help="A group to release it with.")] = None,
    count: Count = None,
    address: Annotated[str | None, typer.Option("--address", "-a", help="This address and no other.")] = None,
    ttl: Ttl = None,
    domain: Annotated[str | None, typer.Option("--domain", help="The libvirt domain it is for.")] = None,
    label: Label = None,
    confirm: Annotated[
        Confirm | None,
        typer.Option("--confirm", help="How many of the pool's DHCP servers to wait for; as the pool says."),
    ] = None,
    reason: Why = None,
    dry_run: DryRun = False,
    timeout: Timeout = 10.0,
    socket: Socket = None,
    *,
    options: DhcpOptions,
    show: Show,
) -> None:
    """Take the first unoccupied address; when it is printed, the machine may be started."""
    if count is not None and (group is None or name is not None or address is not None):
        raise InvalidRequest(
            "--count needs --group, and neither NAME nor --address.",
            hint="For example: macbind allocate farm --group speck-7 --count 3.",
        )
    labels = read_labels(label or ())
    with connect(socket, timeout, reason=reason) as client:
        if count is not None and group is not None:
            made = client.allocate_group(
                pool,
                group,
                count,
                options=options,
                domain=domain,
                ttl_s=seconds(ttl),
                labels=labels,
                confirm=confirm,
                dry_run=dry_run,
            )
        else:
            made = [
                client.allocate(
                    pool,
                    name,
                    address=address,
                    options=options,
                    group=group,
                    domain=domain,
                    ttl_s=seconds(ttl),
                    labels=labels,
                    confirm=confirm,
                    dry_run=dry_run,
                )
            ]
    show.print(lines_of(made), whole=made if count is not None else made[0])
    _say_dry(dry_run)


@prints(RELEASED)
def release(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names of allocations.", metavar="NAME...", autocompletion=held),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", "-g", help="All allocations of a group.", autocompletion=groups),
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", "-a", help="The allocation of an address.")
    ] = None,
    label: LabelFilter = None,
    pool: Annotated[str | None, typer.Option("--pool", "-p", help="With --label: only of this pool.")] = None,
    reason: Why = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    timeout: Timeout = 10.0,
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Release allocations; when this returns, their addresses can be allocated again."""
    if sum(given is not None for given in (names or None, group, address, label or None)) != 1:
        raise InvalidRequest(
            "Say what to release: NAME..., --group, --address or --label.",
            hint="For example: macbind release build-7.",
        )
    if pool is not None and not label:
        raise InvalidRequest("--pool goes with --label.", hint="Leave it out.")
    with connect(socket, timeout, reason=reason) as client:
        if label:
            _release_labelled(show, client, read_wanted(label), pool, dry_run=dry_run, yes=yes)
            return
        jobs: list[_Job] = []
        if group is not None:
            jobs.append((f"group {group}", lambda dry: client.release_group(group, dry_run=dry)))
        elif address is not None:
            jobs.append((address, lambda dry: client.release(address=address, dry_run=dry)))
        jobs += [(one, _call(client.release, one)) for one in names or ()]
        _give_back(show, jobs, is_bulk=group is not None or len(jobs) > 1, dry_run=dry_run, yes=yes)


@prints(RESERVED)
@takes_dhcp_options
def reserve(
    name: Annotated[str, typer.Argument(help="Its name.")],
    address: Annotated[str, typer.Argument(help="An address of a pool's subnet.")],
    mac: Annotated[str | None, typer.Option("--mac", "-m", help="A foreign MAC, e.g. of a printer.")] = None,
    label: Label = None,
    reason: Why = None,
    dry_run: DryRun = False,
    timeout: Timeout = 10.0,
    socket: Socket = None,
    *,
    options: DhcpOptions,
    show: Show,
) -> None:
    """Reserve an address for good: allocate never takes it, and only unreserve ends it."""
    labels = read_labels(label or ())
    with connect(socket, timeout, reason=reason) as client:
        made = client.reserve(name, address, mac=mac, options=options, labels=labels, dry_run=dry_run)
    show.print(lines_of([made]), whole=made)
    _say_dry(dry_run)


@prints(RELEASED)
def unreserve(
    names: Annotated[
        list[str],
        typer.Argument(help="Names of reservations.", metavar="NAME...", autocompletion=reserved),
    ],
    reason: Why = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    timeout: Timeout = 10.0,
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """End reservations."""
    with connect(socket, timeout, reason=reason) as client:
        jobs = [(one, _call(client.unreserve, one)) for one in names]
        _give_back(show, jobs, is_bulk=len(jobs) > 1, dry_run=dry_run, yes=yes)


@prints(RESERVED)
def label(
    name: Annotated[str, typer.Argument(help="Its name.", autocompletion=held)],
    changes: Annotated[
        list[str],
        typer.Argument(help="KEY=VALUE sets a label, KEY- removes one.", metavar="KEY=VALUE|KEY-..."),
    ],
    reason: Why = None,
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Set or remove labels of an allocation or a reservation; all others stay."""
    labels, removed = read_change(changes)
    with connect(socket, reason=reason) as client:
        found = client.label(name, labels, remove=removed)

    def tell(_: object) -> None:
        said = ", ".join(f"{key}={value}" for key, value in found.labels.items())
        say(f"{name}: {said or 'no labels'}")

    show.print(lines_of([found]), whole=found, prose=tell)


def _release_labelled(
    show: Show, client: Client, labels: Wanted, pool: str | None, *, dry_run: bool, yes: bool
) -> None:
    """Releases all that have these labels, with an answer for each."""
    meant = [one for one in client.list(labels=labels, pool=pool) if not one.pinned]
    if dry_run:
        _print(show, [("", Released(tuple(meant), already_gone=False))], dry_run=True)
        return
    if not agreed(lambda: [f"{one.address} ({one.name}) would be released" for one in meant], yes=yes):
        say("Nothing was released.", err=True)
        raise typer.Exit(1)
    items = client.release_labelled(labels, pool=pool)

    def tell(_: object) -> None:
        for one in items:
            kept = "" if one.error is None else "not "
            why = "" if one.error is None else f": {one.error['message']}"
            say(f"{one.allocation.address} ({one.allocation.name}) {kept}released{why}")
        if not items:
            say("No allocation has these labels.", err=True)

    gone = [one.allocation for one in items if one.error is None]
    show.print(lines_of(gone), whole=list(items), prose=tell)
    if any(one.error is not None for one in items):
        raise typer.Exit(NOT_POSSIBLE)


def _call(give: Callable[..., Released], name: str) -> Callable[[bool], Released]:
    return lambda dry: give(name, dry_run=dry)


def _give_back(show: Show, jobs: list[_Job], *, is_bulk: bool, dry_run: bool, yes: bool) -> None:
    """Gives back one after the other; what was done before an error is said with the error."""
    if (
        is_bulk
        and not dry_run
        and not agreed(lambda: _sentences(_done(jobs, dry_run=True), "would be"), yes=yes)
    ):
        say("Nothing was released.", err=True)
        raise typer.Exit(1)
    done: list[tuple[str, Released]] = []
    try:
        done.extend(
            _each(jobs, dry_run=dry_run)
        )  # one by one, so that it holds what was done before an error
    except MacbindError as error:
        if done:  # what is released already must not go unsaid
            error.details["released"] = [what for what, _ in done]
            if not show.form.is_structured:
                _print(show, done, dry_run=dry_run)
        raise
    _print(show, done, dry_run=dry_run)


def _each(jobs: list[_Job], *, dry_run: bool) -> Iterator[tuple[str, Released]]:
    for what, give in jobs:
        yield what, give(dry_run)


def _done(jobs: list[_Job], *, dry_run: bool) -> list[tuple[str, Released]]:
    return list(_each(jobs, dry_run=dry_run))


def _print(show: Show, done: list[tuple[str, Released]], *, dry_run: bool) -> None:
    """Prints what was released: sentences, rows, or the answers of the service."""
    gone = [one for _, result in done for one in result.allocations]

    def tell(_: object) -> None:
        for sentence in _sentences(done, "would be" if dry_run else ""):
            say(sentence)

    show.print(lines_of(gone), whole=[result for _, result in done], prose=tell)
    _say_dry(dry_run)


def _sentences(done: list[tuple[str, Released]], verb: str) -> list[str]:
    found = []
    for what, result in done:
        if result.already_gone:
            found.append(f"{what}: nothing to release, it is gone already")
        found += [
            f"{one.address} ({one.name}) {verb} released".replace("  ", " ") for one in result.allocations
        ]
    return found


def _say_dry(dry_run: bool) -> None:
    if dry_run:
        say("A dry run: nothing was changed, and nobody was asked or told.", err=True)
