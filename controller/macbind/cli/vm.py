"""``macbind vm``: machines from the command line."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macbind.cli import complete
from macbind.cli.machine_tables import DESTROYED, LAUNCHED, MACHINES
from macbind.cli.options import (
    AnswerTime,
    Count,
    Label,
    Socket,
    Ttl,
    Why,
    connect,
    seconds,
    takes_dhcp_options,
)
from macbind.cli.output import problems_told, say, tell
from macbind.cli.show import Show, prints
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import InvalidRequest
from macbind.core.labels import read_labels

if TYPE_CHECKING:
    from macbind.machines import Destroyed

vm = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Launch and destroy machines: an address, copies of a template's disks, and a libvirt domain.",
)


Uri = Annotated[
    str, typer.Option("--uri", "-c", envvar="LIBVIRT_DEFAULT_URI", help="The hypervisor's libvirt URI.")
]
DEFAULT_URI = "qemu:///system"
Ping = Annotated[
    bool | None,
    typer.Option(
        "--ping/--no-ping",
        help="Wait until it answers a ping; by default unless --tcp is given.",
        show_default=False,
    ),
]


@vm.command()
@prints(LAUNCHED)
@takes_dhcp_options
def launch(
    template: Annotated[
        str, typer.Argument(help="The name of a domain, or a file with domain XML: ./NAME or NAME.xml.")
    ],
    pool: Annotated[
        str, typer.Argument(help="The pool to take the address from.", autocompletion=complete.pools)
    ],
    name: Annotated[str | None, typer.Argument(help="The machine's name; made up if left out.")] = None,
    count: Count = None,
    group: Annotated[str | None, typer.Option("--group", "-g", help="A group to destroy it with.")] = None,
    uri: Uri = DEFAULT_URI,
    ping: Ping = None,
    tcp: Annotated[
        int | None, typer.Option("--tcp", min=1, max=65535, help="Wait until it takes connections there.")
    ] = None,
    timeout: AnswerTime = 120.0,
    clone: Annotated[
        str, typer.Option("--clone", help="How it gets its disks: linked or full.", metavar="KIND")
    ] = "linked",
    network: Annotated[
        str | None,
        typer.Option("--network", help="The bridge or network of the NIC that gets the address."),
    ] = None,
    anti_spoofing: Annotated[
        bool, typer.Option("--anti-spoofing", help="Let it use its own MAC and IP only (network filter).")
    ] = False,
    ttl: Ttl = None,
    label: Label = None,
    reason: Why = None,
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
    keep: Annotated[
        bool,
        typer.Option("--keep", help="If it does not answer in time, leave it as it is, to be looked at."),
    ] = False,
    socket: Socket = None,
    *,
    options: DhcpOptions,
    show: Show,
) -> None:
    """Launch a machine; when it is printed, it runs and answers."""
    if count is not None and (group is None or name is not None):
        raise InvalidRequest(
            "--count needs --group and no NAME.",
            hint="For example: macbind vm launch web.xml farm --group speck-7 --count 3.",
        )
    from macbind import machines

    # Ended by a supervisor, it tidies up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    what = _template(template)
    how: machines.How = {
        "uri": uri,
        "wait": machines.Wait(ping=ping, tcp=tcp, timeout_s=timeout),
        "clone": clone,
        "network": network,
        "anti_spoofing": anti_spoofing,
        "options": options,
        "ttl_s": seconds(ttl),
        "labels": read_labels(label or ()),
        "data": _pairs(data or ()),
        "seed_pool": seed_pool,
        "user_data": None if user_data is None else _user_data(user_data),
        "on_progress": tell,
        "keep": keep,
    }
    if channel:
        how["channels"] = [] if channel == ["none"] else channel
    with connect(socket, reason=reason) as client, problems_told():
        if count is not None and group is not None:
            made = machines.launch_many(client, what, pool, group, count, **how)
        else:
            made = [machines.launch(client, what, pool, name=name, group=group, **how)]
    show.print(made, whole=made if count is not None else made[0])


@vm.command("list")
@prints(MACHINES)
def list_(uri: Uri = DEFAULT_URI, socket: Socket = None, *, show: Show) -> None:
    """List the domains that use allocations."""
    from macbind import machines

    with connect(socket) as client:
        found = machines.list_machines(client, uri=uri)
    show.print(found)


@vm.command()
@prints(DESTROYED)
def destroy(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names of machines.", metavar="NAME...", autocompletion=complete.held),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option("--group", "-g", help="All machines of a group.", autocompletion=complete.groups),
    ] = None,
    uri: Uri = DEFAULT_URI,
    reason: Why = None,
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Destroy machines as by pulling the plug; delete their clones and release their addresses."""
    if (group is None) == (not names):
        raise InvalidRequest(
            "Say what to destroy: NAME... or --group.", hint="For example: macbind vm destroy build-7."
        )
    from macbind import machines

    with connect(socket, reason=reason) as client, problems_told():
        if group is not None:
            done = machines.destroy_group(client, group, uri=uri, on_progress=tell)
        else:
            done = machines.destroy_all(client, list(dict.fromkeys(names or ())), uri=uri, on_progress=tell)
    empty = f"group {group}: nothing to destroy"
    show.print(done, empty=empty, prose=lambda rows: _tell(rows, empty))


def _tell(done: Sequence[Destroyed], empty: str) -> None:
    """What was destroyed, in sentences."""
    for one in done:
        say(_sentence(one))
    if not done:
        say(empty, err=True)


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


def _template(text: str) -> Path | str:
    """What a template is: a file only if it is written as one, so that no file nearby is taken for a domain."""
    if "/" in text or text.endswith(".xml"):
        say(f"template: the file {Path(text).absolute()}", err=True)
        return Path(text)
    say(f"template: the domain '{text}'", err=True)
    return text


def _user_data(path: Path) -> str:
    from macbind.machines.files import read_text
    from macbind.machines.guest_data import MAX_USER_DATA

    return read_text(path, "The user-data", MAX_USER_DATA)


def _sentence(done: Destroyed) -> str:
    if done.already_gone:
        return f"{done.name}: nothing to destroy, it is gone already"
    parts = [
        "domain destroyed" if done.domain else "no domain",
        *(f"{path} deleted" for path in done.clones),
        *(f"{address} released" for address in done.addresses),
    ]
    return f"{done.name}: {', '.join(parts)}"
