"""``macbind vm``: machines from the command line."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macbind.cli.options import (
    Dns,
    DomainName,
    Filename,
    Hostname,
    NextServer,
    Routers,
    Routes,
    dhcp_options,
)
from macbind.cli.output import Output, table
from macbind.cli.output import problems_told as _problems_told
from macbind.cli.output import tell as _tell
from macbind.errors import InvalidRequest

if TYPE_CHECKING:
    from macbind.client import Client
    from macbind.machine import Destroyed, Machine

vm = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Launch and destroy machines: an address, copies of a template's disks, and a libvirt domain.",
)


def _json(ctx: typer.Context, value: bool) -> bool:
    ctx.ensure_object(Output).json = value
    return value


Json = Annotated[bool, typer.Option("--json", help="Print JSON.", callback=_json)]
Socket = Annotated[
    Path | None,
    typer.Option("--socket", envvar="MACBIND_SOCKET", help="The service's socket.", show_default=False),
]
Uri = Annotated[
    str, typer.Option("--uri", "-c", envvar="LIBVIRT_DEFAULT_URI", help="The hypervisor's libvirt URI.")
]
_DEFAULT_URI = "qemu:///system"


@vm.command()
def launch(
    ctx: typer.Context,
    template: Annotated[str, typer.Argument(help="A file with domain XML, or the name of a domain.")],
    pool: Annotated[str, typer.Argument(help="The pool to take the address from.")],
    name: Annotated[str | None, typer.Argument(help="The machine's name; made up if left out.")] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="So many, all or none; named GROUP-1, GROUP-2 …"),
    ] = None,
    group: Annotated[str | None, typer.Option("--group", "-g", help="A group to destroy it with.")] = None,
    uri: Uri = _DEFAULT_URI,
    ping: Annotated[bool, typer.Option("--ping/--no-ping", help="Wait until it answers a ping.")] = True,
    tcp: Annotated[
        int | None, typer.Option("--tcp", min=1, max=65535, help="Wait until it takes connections there.")
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds from its start within which it must answer.")
    ] = 120.0,
    clone: Annotated[
        str, typer.Option("--clone", help="How it gets its disks: linked or full.", metavar="KIND")
    ] = "linked",
    network: Annotated[
        str | None,
        typer.Option("--network", help="The bridge or network of the interface that gets the address."),
    ] = None,
    anti_spoofing: Annotated[
        bool, typer.Option("--anti-spoofing", help="Let it use its own MAC and IP only (network filter).")
    ] = False,
    ttl: Annotated[
        float | None, typer.Option("--ttl", help="Its address is released by itself after so many seconds.")
    ] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(
            "--channel",
            help="Tell it who it is beside its MAC: fw_cfg, smbios, nocloud or xenstore; repeatable. "
            "none: by nothing. By default what the template says.",
            metavar="KIND",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Tell it this as well; repeatable. No secrets.", metavar="KEY=VALUE"),
    ] = None,
    user_data: Annotated[
        Path | None,
        typer.Option(
            "--user-data", help="A file with cloud-init's user-data (nocloud).", exists=True, dir_okay=False
        ),
    ] = None,
    seed_pool: Annotated[
        str | None,
        typer.Option(
            "--seed-pool", help="The storage pool of the seed disk (nocloud); else the first disk's."
        ),
    ] = None,
    hostname: Hostname = None,
    router: Routers = None,
    dns: Dns = None,
    domain_name: DomainName = None,
    next_server: NextServer = None,
    filename: Filename = None,
    route: Routes = None,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Launch a machine; when it is printed, it runs and answers."""
    if count is not None and (group is None or name is not None):
        raise InvalidRequest(
            "--count needs --group and no NAME.",
            hint="For example: macbind vm launch web.xml farm --group speck-7 --count 3.",
        )
    from macbind import machine

    # Ended by a supervisor, it tidies up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    what = Path(template) if Path(template).is_file() else template
    how: machine.How = {
        "uri": uri,
        "wait": machine.Wait(ping=ping, tcp=tcp, timeout_s=timeout),
        "clone": clone,
        "network": network,
        "anti_spoofing": anti_spoofing,
        "options": dhcp_options(hostname, router, dns, domain_name, next_server, filename, route),
        "ttl_s": ttl,
        "data": _pairs(data or ()),
        "seed_pool": seed_pool,
        "user_data": None if user_data is None else _text_of(user_data),
        "on_progress": _tell,
    }
    if channel:
        how["channels"] = [] if channel == ["none"] else channel
    with _client(socket) as client, _problems_told():
        if count is not None and group is not None:
            made = machine.launch_many(client, what, pool, group, count, **how)
        else:
            made = [machine.launch(client, what, pool, name=name, group=group, **how)]
    if json:
        ctx.obj.value(made if count is not None else made[0])
    else:
        _print(made)


@vm.command("list")
def list_(ctx: typer.Context, uri: Uri = _DEFAULT_URI, socket: Socket = None, json: Json = False) -> None:
    """List the domains that use allocations."""
    from macbind import machine

    with _client(socket) as client:
        found = machine.list_machines(client, uri=uri)
    if json:
        ctx.obj.value(found)
        return
    table(
        ["NAME", "ADDRESS", "MAC", "STATE", "UP", "DOMAIN"],
        [(one.name, one.address, one.mac, one.state, _duration(one.uptime_s), one.domain) for one in found],
        "No machines.",
    )


@vm.command()
def destroy(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(help="Names of machines.", metavar="NAME...")] = None,
    group: Annotated[str | None, typer.Option("--group", "-g", help="All machines of a group.")] = None,
    uri: Uri = _DEFAULT_URI,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Destroy machines as by pulling the plug; delete their clones and release their addresses."""
    if (group is None) == (not names):
        raise InvalidRequest(
            "Say what to destroy: NAME... or --group.", hint="For example: macbind vm destroy build-7."
        )
    from macbind import machine

    with _client(socket) as client, _problems_told():
        if group is not None:
            done = machine.destroy_group(client, group, uri=uri, on_progress=_tell)
        else:
            done = machine.destroy_all(client, list(dict.fromkeys(names or ())), uri=uri, on_progress=_tell)
    if json:
        ctx.obj.value(done)
        return
    for one in done:
        typer.echo(_sentence(one))
    if not done:
        typer.echo(f"group {group}: nothing to destroy", err=True)


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    """Options KEY=VALUE as a mapping."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise InvalidRequest(f"--data {text!r} has no '='.", hint="Write it as --data KEY=VALUE.")
        if key in found:
            raise InvalidRequest(f"--data has the key {key!r} twice.", hint="Leave one of them out.")
        found[key] = value
    return found


def _text_of(path: Path) -> str:
    try:
        # Every line end as it is; but with Windows' mark before it cloud-init would not know what the text is.
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise InvalidRequest(
            f"{path} cannot be read: {error}.", hint="Give a file with UTF-8 text."
        ) from error


def _client(socket: Path | None) -> Client:
    from macbind.client import Client

    return Client(socket)


def _print(made: Sequence[Machine]) -> None:
    table(
        ["NAME", "ADDRESS", "MAC", "DOMAIN"],
        [(one.name, one.address, one.mac, one.domain) for one in made],
        "No machines.",
    )


def _sentence(done: Destroyed) -> str:
    if done.already_gone:
        return f"{done.name}: nothing to destroy, it is gone already"
    parts = [
        "domain destroyed" if done.domain else "no domain",
        *(f"{path} deleted" for path in done.clones),
        *(f"{address} released" for address in done.addresses),
    ]
    return f"{done.name}: {', '.join(parts)}"


def _duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
