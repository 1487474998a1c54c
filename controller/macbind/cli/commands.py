"""The commands. Each parses, calls the client (or, for ``serve`` and ``render``, the module), and prints.

Heavy modules are imported inside the commands that need them, so that the others start quickly.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from macbind import __version__
from macbind.cli import guest
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
from macbind.cli.output import EXIT_CODES, Group, Output, table, when
from macbind.cli.renumber import renumber
from macbind.cli.vm import vm
from macbind.errors import InvalidAddress, InvalidRequest, MacbindError, NotFound

if TYPE_CHECKING:
    from macbind.client import Client
    from macbind.config import Settings
    from macbind.model import Allocation, Released

_EPILOG = "Exit codes: " + "; ".join(
    [
        "0 done",
        "1 an admin should look (status, render --check)",
        "2 the command line is not understood",
        *(f"{code} {meaning}" for _, code, meaning in EXIT_CODES),
    ]
)

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _json(ctx: typer.Context, value: bool) -> bool:
    ctx.ensure_object(Output).json = value
    return value


def _version(value: bool) -> None:
    if value:
        typer.echo(f"macbind {__version__}")
        raise typer.Exit


Json = Annotated[bool, typer.Option("--json", help="Print JSON.", callback=_json)]
Socket = Annotated[
    Path | None,
    typer.Option(
        "--socket",
        envvar="MACBIND_SOCKET",
        help="The service's socket.",
        show_default=False,
        readable=False,  # whether it may be opened is told by the error of opening it
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, max=300, help="Seconds to wait for dhcpd.")]
Config = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="MACBIND_CONFIG", help="The configuration file.", readable=False),
]

_DEFAULT_CONFIG = Path("/etc/macbind/macbind.toml")

app.add_typer(vm, name="vm")


@app.callback()
def macbind(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Binds IP addresses to the MACs of virtual machines, and makes it so in ISC dhcpd."""
    ctx.ensure_object(Output)


# -- changes -------------------------------------------------------------------------------------------------


@app.command()
def allocate(
    ctx: typer.Context,
    pool: Annotated[str, typer.Argument(help="The pool to take from.")],
    name: Annotated[str | None, typer.Argument(help="The key to find it again; made up if left out.")] = None,
    group: Annotated[str | None, typer.Option("--group", "-g", help="A group to release it with.")] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", "-n", min=1, help="So many, all or none; named GROUP-1, GROUP-2 …"),
    ] = None,
    address: Annotated[str | None, typer.Option("--address", "-a", help="This address and no other.")] = None,
    ttl: Annotated[
        float | None, typer.Option("--ttl", help="Released by itself after so many seconds.")
    ] = None,
    domain: Annotated[str | None, typer.Option("--domain", help="The libvirt domain it is for.")] = None,
    hostname: Hostname = None,
    router: Routers = None,
    dns: Dns = None,
    domain_name: DomainName = None,
    next_server: NextServer = None,
    filename: Filename = None,
    route: Routes = None,
    timeout: Timeout = 10.0,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Take the first unoccupied address; when it is printed, the machine may be started."""
    options = dhcp_options(hostname, router, dns, domain_name, next_server, filename, route)
    if count is not None and (group is None or name is not None or address is not None):
        raise InvalidRequest(
            "--count needs --group, and neither NAME nor --address.",
            hint="For example: macbind allocate farm --group speck-7 --count 3.",
        )
    with _client(socket, timeout) as client:
        if count is not None and group is not None:
            made = client.allocate_group(pool, group, count, options=options, domain=domain, ttl_s=ttl)
        else:
            made = [
                client.allocate(
                    pool, name, address=address, options=options, group=group, domain=domain, ttl_s=ttl
                )
            ]
    if json:
        ctx.obj.value(made if count is not None else made[0])
    else:
        _print(made)


@app.command()
def release(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of allocations.", metavar="NAME...")
    ] = None,
    group: Annotated[str | None, typer.Option("--group", "-g", help="All allocations of a group.")] = None,
    address: Annotated[
        str | None, typer.Option("--address", "-a", help="The allocation of an address.")
    ] = None,
    timeout: Timeout = 10.0,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Release allocations; when this returns, their addresses can be allocated again."""
    if sum(given is not None for given in (names or None, group, address)) != 1:
        raise InvalidRequest(
            "Say what to release: NAME..., --group or --address.",
            hint="For example: macbind release build-7.",
        )
    done: list[tuple[str, Released]] = []
    with _client(socket, timeout) as client:
        try:
            if group is not None:
                done.append((f"group {group}", client.release_group(group)))
            elif address is not None:
                done.append((address, client.release(address=address)))
            # One by one, so that the list holds what was released before an error.
            done.extend((name, client.release(name)) for name in names or ())
        except MacbindError as error:
            if done:  # what is released already must not go unsaid
                error.details["released"] = [name for name, _ in done]
                if not json:
                    _print_released(ctx.obj, done, json)
            raise
    _print_released(ctx.obj, done, json)


@app.command()
def reserve(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name.")],
    address: Annotated[str, typer.Argument(help="An address of a pool's subnet.")],
    mac: Annotated[str | None, typer.Option("--mac", "-m", help="A foreign MAC, e.g. of a printer.")] = None,
    hostname: Hostname = None,
    router: Routers = None,
    dns: Dns = None,
    domain_name: DomainName = None,
    next_server: NextServer = None,
    filename: Filename = None,
    route: Routes = None,
    timeout: Timeout = 10.0,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Pin an address: allocate passes it by, and only unreserve ends it."""
    options = dhcp_options(hostname, router, dns, domain_name, next_server, filename, route)
    with _client(socket, timeout) as client:
        made = client.reserve(name, address, mac=mac, options=options)
    if json:
        ctx.obj.value(made)
    else:
        _print([made])


@app.command()
def unreserve(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The pinned reservation's name.")],
    timeout: Timeout = 10.0,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """End a pinned reservation."""
    with _client(socket, timeout) as client:
        done = client.unreserve(name)
    _print_released(ctx.obj, [(name, done)], json)


app.command()(renumber)


# -- questions -----------------------------------------------------------------------------------------------


@app.command("list")
def list_(
    ctx: typer.Context,
    pool: Annotated[str | None, typer.Option("--pool", "-p", help="Only of this pool.")] = None,
    group: Annotated[str | None, typer.Option("--group", "-g", help="Only of this group.")] = None,
    released: Annotated[
        bool, typer.Option("--released", help="Also released ones that are not gone yet.")
    ] = False,
    wide: Annotated[bool, typer.Option("--wide", "-w", help="Also gateways and IPv6 addresses.")] = False,
    socket: Socket = None,
    json: Json = False,
) -> None:
    """List allocations in the order of their addresses."""
    with _client(socket) as client:
        found = list(client.list(pool=pool, group=group, released=released))
    if json:
        ctx.obj.value(found)
    else:
        _print(found, wide=wide)


@app.command()
def show(
    ctx: typer.Context,
    what: Annotated[
        str, typer.Argument(help="A name, an address (IPv4 or IPv6) or a MAC.", metavar="NAME|ADDRESS|MAC")
    ],
    socket: Socket = None,
    json: Json = False,
) -> None:
    """Show one allocation and its history."""
    with _client(socket) as client:
        found = _find(client, what)
        moves_to = next((one.new for one in client.moves() if one.old.address == found.address), None)
        history = list(client.history(address=found.address, limit=20))
    if json:
        ctx.obj.value({"allocation": found, "moves_to": moves_to, "history": history})
        return
    facts: dict[str, Any] = {
        "name": found.name,
        "address": found.address,
        "mac": found.mac,
        "gateway": found.gateway,
        "link_local": found.link_local,
        "ipv6": found.ipv6,
        "pool": found.pool,
        "group": found.group,
        "state": found.state,
        "pinned": "yes" if found.pinned else "no",
        "generation": found.generation,
        "domain": found.domain,
        "created": when(found.created_at),
        "moves from": found.moves_from,
        "moves to": None if moves_to is None else moves_to.address,
        "expires" if found.moves_from is None else "settled": when(found.expires_at),
    }
    facts |= found.options.to_dict()
    for key, value in facts.items():
        if value is not None:
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            typer.echo(f"{key + ':':<21} {text}")
    typer.echo("history:")
    for entry in history:
        reason = f" ({entry.detail['reason']})" if "reason" in entry.detail else ""
        typer.echo(f"  {when(entry.at)}  {entry.action:<9} {entry.name or '':<20} by {entry.actor}{reason}")


@app.command()
def pools(ctx: typer.Context, socket: Socket = None, json: Json = False) -> None:
    """Show how full the pools are."""
    with _client(socket) as client:
        usage = list(client.pools())
    if json:
        ctx.obj.value(usage)
        return
    table(
        ["POOL", "SIZE", "FREE", "ALLOCATED", "PINNED", "RELEASING"],
        [(one.pool, one.size, one.free, one.allocated, one.pinned, one.releasing) for one in usage],
        "No pools.",
    )


@app.command()
def status(ctx: typer.Context, socket: Socket = None, json: Json = False) -> None:
    """Show how service, dhcpds and pools are; exit 1 if something needs an admin."""
    with _client(socket) as client:
        now = client.status()
    if json:
        ctx.obj.value(now)
    else:
        typer.echo(f"macbind {now.version}, up since {when(now.started_at)}, registry {now.registry}")
        table(
            ["DHCPD", "STATE", "SINCE", "BACKLOG", "COMPARED", "ANSWERED"],
            [
                (
                    one.name,
                    one.state,
                    when(one.since),
                    one.backlog,
                    when(one.compared_at),
                    when(one.answered_at),
                )
                for one in now.dhcpds
            ],
            "No dhcpd.",
        )
        table(
            ["POOL", "SIZE", "FREE", "ALLOCATED"],
            [(one.pool, one.size, one.free, one.allocated) for one in now.pools],
            "No pools.",
        )
        if now.hypervisors:
            table(
                ["HYPERVISOR", "CONNECTED", "SINCE", "DOMAINS", "URI"],
                [
                    (one.name, "yes" if one.connected else "no", when(one.since), one.domains, one.uri)
                    for one in now.hypervisors
                ],
                "No hypervisor.",
            )
        for finding in now.findings:
            typer.echo(f"! {finding.message}")
            if finding.hint:
                typer.echo(f"  {finding.hint}")
    if now.findings:
        raise typer.Exit(1)


# -- running -------------------------------------------------------------------------------------------------


@app.command()
def serve(config: Config = _DEFAULT_CONFIG) -> None:
    """Run the service beside dhcpd, until SIGTERM."""
    settings = _load(config)
    from macbind.daemon import serve as run

    run(settings)


@app.command()
def init(
    ctx: typer.Context,
    interface: Annotated[
        str | None, typer.Option("--interface", "-i", help="The interface the machines are behind: a bridge.")
    ] = None,
    subnet: Annotated[str | None, typer.Option("--subnet", help="Their subnet; the interface's.")] = None,
    pool: Annotated[str | None, typer.Option("--pool", help="The pool's name; farm.")] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", help="Addresses to allocate from; all of the subnet. May be repeated."),
    ] = None,
    gateway: Annotated[
        list[str] | None,
        typer.Option("--gateway", help="Default gateway, a rule as x.x.0.1, or none; may be repeated."),
    ] = None,
    dns: Annotated[
        list[str] | None, typer.Option("--dns", help="DNS server, or none; may be repeated.")
    ] = None,
    domain_name: DomainName = None,
    hypervisor: Annotated[
        list[str] | None,
        typer.Option("--hypervisor", help="A libvirt URI to watch, or none; may be repeated."),
    ] = None,
    config: Config = _DEFAULT_CONFIG,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing: take the proposals for what is not given.")
    ] = False,
    json: Json = False,  # noqa: ARG001  # its callback keeps it
) -> None:
    """Set up a new site: macbind's configuration, dhcpd's and their key. Nothing is overwritten."""
    from macbind.cli.init import Asker
    from macbind.cli.init import init as run
    from macbind.cli.site import GROUP

    run(
        ctx.obj,
        Asker(yes=yes),
        config,
        _gid(GROUP),
        interface=interface,
        subnet=subnet,
        pool=pool,
        ranges=ranges,
        gateways=gateway,
        dns=dns,
        domain_name=domain_name,
        hypervisors=hypervisor,
    )


@app.command()
def render(
    ctx: typer.Context,
    config: Config = _DEFAULT_CONFIG,
    dhcpd: Annotated[
        str | None, typer.Option("--dhcpd", help="Only this dhcpd; all of them by default.")
    ] = None,
    stdout: Annotated[
        bool, typer.Option("--stdout", help="Print what would be written, and write nothing.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if a file is not up to date.")
    ] = False,
    group: Annotated[
        str | None, typer.Option("--group", help="Group that may read a new key file: macbind's.")
    ] = None,
    json: Json = False,
) -> None:
    """Write dhcpd's configuration and key from the pools, after dhcpd itself has tested them."""
    settings = _load(config)
    from macbind.dhcpd import render as renderer

    names = [dhcpd] if dhcpd is not None else list(settings.dhcpds)
    if stdout:
        for name in names:
            typer.echo(renderer.render(settings, name), nl=False)
        return
    if check:
        _check(ctx.obj, settings, names, json)
        return
    key_group = None if group is None else _gid(group)
    results = [renderer.write(settings, name, key_group=key_group) for name in names]
    if json:
        ctx.obj.value(results)
        return
    for name, result in zip(names, results, strict=True):
        typer.echo(f"{result.path}: {'written' if result.changed else 'up to date'}")
        if result.key_created:
            typer.echo(f"{settings.dhcpds[name].key_file}: new key")
        if result.restart_needed:
            typer.echo(f"dhcpd '{name}' has no reload: restart it now (systemctl restart isc-dhcp-server).")


def _check(output: Output, settings: Settings, names: list[str], as_json: bool) -> None:
    from macbind.dhcpd import render as renderer

    stale = []
    for name in names:
        text = renderer.render(settings, name)
        renderer.check(text)
        path = settings.dhcpds[name].config_file
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(str(path))
    if as_json:
        output.value({"stale": stale})
    for one in stale:
        typer.echo(f"{one} is not up to date: run `macbind render`.", err=True)
    if stale:
        raise typer.Exit(1)


@app.command("guest-script")
def guest_script(
    ctx: typer.Context,
    kind: Annotated[str, typer.Argument(help=f"{guest.KINDS}.", metavar="KIND")],
    pool: Annotated[
        list[str] | None,
        typer.Option("--pool", "-p", help="Only for machines of this pool; may be repeated. All by default."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; standard output by default.", readable=False),
    ] = None,
    config: Config = _DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Print what a machine runs to find its address by its MAC, without DHCP. Needs the configuration only."""
    text, script = guest.guest_script(kind, lambda: _load(config), pool or [])
    if output is not None:
        guest.write(output, text, executable=script.executable)
    if json:
        ctx.obj.value({"kind": kind, "file": output, "script": text})
    elif output is None:
        typer.echo(text, nl=False)
    else:
        typer.echo(f"{output}: written")


# -- helpers -------------------------------------------------------------------------------------------------


def _client(socket: Path | None, timeout_s: float = 10.0) -> Client:
    from macbind.client import Client

    return Client(socket, timeout_s=timeout_s)


def _load(path: Path) -> Settings:
    from macbind.config import load

    return load(path)


def _gid(group: str) -> int:
    import grp

    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise InvalidRequest(f"There is no group '{group}'.", hint="Create it with addgroup.") from None


def _find(client: Client, what: str) -> Allocation:
    from macbind.addressing import MacAddress, parse_address
    from macbind.ipv6 import mac_of

    address = mac = ipv6 = None
    with suppress(InvalidAddress):
        address = parse_address(what)
    with suppress(InvalidAddress):
        mac = MacAddress.parse(what)
    with suppress(ValueError):
        ipv6 = IPv6Address(what.strip().partition("%")[0])  # people copy it with the zone: fe80::1%eth0
        mac = mac_of(ipv6)
    if address is None and mac is None:
        return client.get(what)
    for one in client.list(address=address, mac=mac, released=True):
        if ipv6 in (None, one.ipv6, one.link_local):
            return one
    with suppress(NotFound):  # a name may look like a MAC or an address
        return client.get(what)
    raise NotFound(f"{address or ipv6 or mac} is not allocated.", hint="`macbind list` shows all.")


def _print(found: list[Allocation], *, wide: bool = False) -> None:
    targets = {one.moves_from: one.address for one in found if one.moves_from is not None}
    table(
        ["ADDRESS", "MAC", "NAME", "POOL", "GROUP", *["GATEWAY", "LINK-LOCAL", "IPV6"] * wide, "STATE"],
        [
            (one.address, one.mac, one.name, one.pool, one.group)
            + (one.gateway, one.link_local, one.ipv6) * wide
            + (_state(one, targets.get(one.address)),)
            for one in found
        ],
        "No allocations.",
    )


def _state(one: Allocation, moves_to: IPv4Address | None) -> str:
    """What stands in the last column: words, of which no other column has more than one."""
    words = [str(one.state), "pinned" if one.pinned else None]
    words += [f"moves from {one.moves_from}" if one.moves_from else None]
    words += [f"moves to {moves_to}" if moves_to else None]
    return " ".join(word for word in words if word)


def _print_released(output: Output, done: list[tuple[str, Released]], as_json: bool) -> None:
    if as_json:
        output.value([result for _, result in done])
        return
    for what, result in done:
        if result.already_gone:
            typer.echo(f"{what}: nothing to release, it is gone already")
        for one in result.allocations:
            typer.echo(f"{one.address} ({one.name}) released")
