"""Options that several commands share, and the DHCP options as options of the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from macbind.cli.formats import Form
from macbind.cli.output import Output
from macbind.core.dhcp_options import OPTIONS, DhcpOptions
from macbind.core.duration import parse_duration
from macbind.core.errors import InvalidRequest
from macbind.core.origin import MAX_REASON, request_id

if TYPE_CHECKING:
    from macbind.client.client import Client
    from macbind.config import Settings

MAX_WAIT_S = 300.0
INTERRUPTED = 130
"""The exit status of a command that was ended with Ctrl-C."""
DEFAULT_CONFIG = Path("/etc/macbind/macbind.toml")


def _json(ctx: typer.Context, value: bool) -> bool:
    output = ctx.ensure_object(Output)
    output.json, output.form = value, Form.JSON if value else Form.TEXT
    return value


Json = Annotated[bool, typer.Option("--json", help="Print JSON.", callback=_json)]
Socket = Annotated[
    str | None,
    typer.Option(
        "--socket",
        envvar="MACBIND_SOCKET",
        metavar="PLACE",
        help="The service's socket, or its URLs on other hosts.",
        show_default=False,
    ),
]
Config = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="MACBIND_CONFIG", help="The configuration file.", readable=False),
]
Count = Annotated[
    int | None, typer.Option("--count", "-n", min=1, help="So many, all or none; named GROUP-1, GROUP-2 …")
]


Label = Annotated[
    list[str] | None,
    typer.Option("--label", "-l", metavar="KEY=VALUE", help="A label to find it by. May be repeated."),
]
LabelFilter = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        "-l",
        metavar="KEY[=VALUE]",
        help="Only with this label; KEY alone: whatever its value. May be repeated: all of them.",
    ),
]
Why = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the audit log.")]


def seconds(text: str | None) -> float | None:
    """A duration of the command line in seconds.

    Raises:
        InvalidRequest: It is none.
    """
    return None if text is None else parse_duration(text)


def _duration(text: str | float) -> float:
    """A duration of the command line; a default is one already."""
    if not isinstance(text, str):
        return text
    try:
        return parse_duration(text)
    except InvalidRequest as error:
        raise typer.BadParameter(f"{error.message} {error.hint}") from error


def _patience(text: str | float) -> float:
    """A duration of the command line that has bounds; a default is one already."""
    found = _duration(text)
    if not 0.1 <= found <= MAX_WAIT_S:
        raise typer.BadParameter(f"{text} is not between 0.1 and {MAX_WAIT_S:g} seconds.")
    return found


Timeout = Annotated[
    float,
    typer.Option("--timeout", parser=_patience, metavar="TIME", help="How long to wait for dhcpd: 90, 2m."),
]
AnswerTime = Annotated[
    float,
    typer.Option(
        "--timeout",
        parser=_duration,
        metavar="TIME",
        help="How long after its start it may take to answer: 90, 2m.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be done. Nothing is changed, nobody is told.")
]
Yes = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask before several are given back at a terminal.")
]
Watch = Annotated[
    bool, typer.Option("--watch", "-w", help="Show it again whenever something changes, until Ctrl-C.")
]
Ttl = Annotated[
    str | None,
    typer.Option("--ttl", metavar="TIME", help="Released by itself after so long: 90, 15m, 1h30m, 2d."),
]


def takes_dhcp_options(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command a flag for each DHCP option; the command gets them together, as ``options``."""

    @wraps(command)
    def run(*args: Any, **given: Any) -> None:
        values = {option.field: given.pop(option.field) for option in OPTIONS}
        options = DhcpOptions.parse({name: value for name, value in values.items() if value})
        command(*args, **given, options=options)

    hints = get_type_hints(command, include_extras=True)
    own = [
        one.replace(annotation=hints[one.name])
        for one in signature(command).parameters.values()
        if one.name != "options"
    ]
    flags = [
        Parameter(
            option.field,
            Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                list[str] | None if option.kind.is_list else str | None,
                typer.Option(f"--{option.flag}", help=option.usage),
            ],
        )
        for option in OPTIONS
    ]
    run.__signature__ = signature(command).replace(parameters=[*own, *flags])  # type: ignore[attr-defined]
    run.__annotations__ = {name: hint for name, hint in hints.items() if name != "options"}
    return run


def connect(socket: str | None, timeout_s: float = 10.0, *, reason: str | None = None) -> Client:
    """A client of the service. All that one command changes is one request, also where it takes several calls."""
    from macbind.client.client import Client

    if reason is not None and (len(reason) > MAX_REASON or not reason.isprintable()):
        raise InvalidRequest(
            "--reason is not one line of text.", hint=f"Use at most {MAX_REASON} printable characters."
        )
    return Client(socket, timeout_s=timeout_s, reason=reason or None, request_id=request_id())


def settings_of(path: Path) -> Settings:
    """The checked configuration.

    Raises:
        ConfigError: It cannot be read, or something in it is wrong.
    """
    from macbind.config import load

    return load(path)
