"""``macbind doctor``: what is wrong with the site, and the commands that mend it."""

from __future__ import annotations

import os
import pwd
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from macbind.cli.findings import CRASHED, WELL, print_finding, shown
from macbind.cli.options import DEFAULT_CONFIG, Config, Socket
from macbind.cli.output import say, when
from macbind.cli.service_tables import CHECKS, FOUND, MUTED, Found
from macbind.cli.show import Show, prints
from macbind.core.duration import parse_duration
from macbind.core.errors import InvalidRequest
from macbind.core.findings import CODES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from macbind.doctor import Result
    from macbind.registry.transaction import Transaction

_UNTIL = "Give --until, as 2h, 7d or 2027-01-31."


class Only(StrEnum):
    """Which findings are looked at."""

    ERROR = "error"
    WARNING = "warning"


@prints(FOUND)
def doctor(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Only these checks, and those that they depend on.", metavar="NAME"),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the checks, and run none.")] = False,
    only: Annotated[Only | None, typer.Option("--only", help="Only findings of this severity.")] = None,
    mute: Annotated[
        list[str] | None,
        typer.Option("--mute", metavar="CODE[=SUBJECT]", help="Do not tell of these findings, with --until."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME|DATE", help="Until when: 2h, 7d, 2027-01-31.")
    ] = None,
    unmute: Annotated[
        list[str] | None, typer.Option("--unmute", metavar="CODE[=SUBJECT]", help="Tell of them again.")
    ] = None,
    muted: Annotated[bool, typer.Option("--muted", help="List what is muted.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only what is wrong.")] = False,
    config: Config = DEFAULT_CONFIG,
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Look for what is wrong with this site, and print the commands that mend it. Nothing is changed.

    Exit 0: all is well. Exit 1: there is a warning. Exit 2: there is an error.
    """
    if until is not None and not mute:
        raise InvalidRequest(
            "--until goes with --mute.", hint="Say what is to be muted, as --mute bridge_slow."
        )
    if (list_ or muted) and (show.columns or show.order):
        raise InvalidRequest(
            "--columns and --sort are for findings.", hint="Leave them out with --list and --muted."
        )
    if list_:
        _list(show)
    elif mute or unmute:
        _mute(config, mute or [], until, unmute or [])
    elif muted:
        _list_muted(show, config)
    else:
        from macbind.doctor import Site, chosen, exit_code, run
        from macbind.doctor.check import Examination

        results = tuple(_only(one, only) for one in run(chosen(names or []), Site.at(config, socket)))
        code = exit_code(finding for one in results for finding in one.findings)
        found = [Found(one.check, there) for one in results for there in one.findings if not there.muted]
        show.print(found, whole=Examination(code, results), prose=lambda _: _print(results, quiet=quiet))
        raise typer.Exit(code)


def _only(result: Result, only: Only | None) -> Result:
    """A result with the findings of one severity."""
    if only is None:
        return result
    return replace(result, findings=tuple(one for one in result.findings if one.severity == only.value))


def _print(results: Sequence[Result], *, quiet: bool) -> None:
    silent = 0
    for one in results:
        sign = shown(CRASHED) if one.state in ("crashed", "late") else None
        there = [finding for finding in one.findings if not finding.muted]
        silent += len(one.findings) - len(there)
        for finding in there:
            print_finding(finding, sign, one.check)
        if quiet or there:
            continue
        if one.note:
            say(f"- {one.check}: left out, {one.note}")
        elif one.findings:
            say(f"- {one.check}: muted")
        else:
            say(f"{shown(WELL)} {one.check}")
    if silent and not quiet:
        say(f"{silent} muted; `macbind doctor --muted` lists what is.")


def _list(show: Show) -> None:
    from macbind import doctor

    values = [
        {
            "name": one.name,
            "severity": one.severity,
            "about": one.about,
            "needs": one.needs,
            "depends_on": one.depends_on,
            "visible_after_s": one.visible_after_s,
            "deadline_s": one.deadline_s,
            "commands": one.commands,
        }
        for one in doctor.CHECKS
    ]
    replace(show, table=CHECKS).print(doctor.CHECKS, whole=values)


# -- what is muted -----------------------------------------------------------------------------------------


def _mute(config: Path, mute: Sequence[str], until: str | None, unmute: Sequence[str]) -> None:
    """Mutes and unmutes, all or nothing.

    Raises:
        InvalidRequest: There is no such code or moment.
    """
    from macbind.registry import muted

    silent, loud = [_finding_of(one) for one in mute], [_finding_of(one) for one in unmute]
    end = _moment(until) if silent else None
    with _changing(config) as txn:
        gone = [muted.unmute(txn, code, subject) for code, subject in loud]
        for code, subject in silent:
            assert end is not None
            muted.mute(txn, code, subject, end)
    for text, was_muted in zip(unmute, gone, strict=True):
        say(f"{text}: {'told of again' if was_muted else 'was not muted'}")
    for text in mute:
        say(f"{text}: muted until {when(end)}")


def _list_muted(show: Show, config: Path) -> None:
    from macbind.doctor import Site

    site = Site.at(config, ask=False)
    if site.refused is not None:
        raise site.refused
    found = site.muted()
    replace(show, table=MUTED).print(found, whole=found)


def _finding_of(text: str) -> tuple[str, str]:
    from macbind.config.document import did_you_mean

    code, _, subject = text.partition("=")
    if code not in CODES:
        raise InvalidRequest(f"There is no finding '{code}'.", hint=did_you_mean(code, CODES, quote="'"))
    return code, subject


def _moment(text: str | None) -> datetime:
    """So long from now, or a date with or without a time, in the local time zone if it names none."""
    if text is None:
        raise InvalidRequest("What is muted must be told of again some day.", hint=_UNTIL)
    now = datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        try:
            moment = now + timedelta(seconds=parse_duration(text))
        except (InvalidRequest, OverflowError) as error:
            raise InvalidRequest(f"{text!r} is no time and no date.", hint=_UNTIL) from error
    if moment <= now:
        raise InvalidRequest(f"{text!r} is over already.", hint=_UNTIL)
    return moment


@contextmanager
def _changing(config: Path) -> Iterator[Transaction]:
    from macbind.doctor import Site

    site = Site.at(config, ask=False)
    if site.refused is not None:
        raise site.refused
    with site.registry() as registry:
        if registry is None:
            raise InvalidRequest(
                "There is no registry yet that could keep it.", hint="Start macbind, which makes one."
            )
        user = pwd.getpwuid(os.geteuid()).pw_name
        with registry.write(f"{user} (uid {os.geteuid()}, pid {os.getpid()})") as txn:
            yield txn
