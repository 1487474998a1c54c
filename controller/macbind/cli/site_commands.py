"""Commands that need the configuration: serve, check, init, render."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from macbind.cli.options import DEFAULT_CONFIG, Config, Json, settings_of
from macbind.cli.output import Output, say
from macbind.core.errors import InvalidRequest

if TYPE_CHECKING:
    from macbind.config import Settings


def serve(
    config: Config = DEFAULT_CONFIG,
    take_over: Annotated[
        bool,
        typer.Option(
            "--take-over", help="Other controllers of the registry have to use this file's pools, too."
        ),
    ] = False,
) -> None:
    """Run the service beside dhcpd, until SIGTERM."""
    from macbind.daemon.main import serve as run

    run(config, take_over=take_over)


def check(
    ctx: typer.Context,
    file: Annotated[
        Path, typer.Argument(envvar="MACBIND_CONFIG", help="The configuration file.", readable=False)
    ] = DEFAULT_CONFIG,
    json: Json = False,  # noqa: ARG001  # its callback keeps it
) -> None:
    """Say what is wrong with a configuration, or what it would change. Nothing is changed."""
    from macbind.cli.check import check as run

    run(ctx.obj, file)


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
    domain_name: Annotated[str | None, typer.Option("--domain-name", help="DNS domain.")] = None,
    hypervisor: Annotated[
        list[str] | None,
        typer.Option("--hypervisor", help="A libvirt URI to watch, or none; may be repeated."),
    ] = None,
    beside: Annotated[
        bool | None,
        typer.Option(
            "--beside/--instead",
            help="Beside what an own dhcpd.conf serves, which then includes macbind's part; or instead of it.",
        ),
    ] = None,
    config: Config = DEFAULT_CONFIG,
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
        beside=beside,
    )


def render(
    ctx: typer.Context,
    config: Config = DEFAULT_CONFIG,
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
    settings = settings_of(config)
    from macbind.dhcp.isc import render as renderer

    names = [dhcpd] if dhcpd is not None else list(settings.dhcpds)
    if stdout:
        for name in names:
            typer.echo(renderer.render(settings, name), nl=False)
        return
    if check:
        _check(ctx.obj, settings, names, json)
        return
    from macbind.dhcp.isc.shared_networks import unreached

    key_group = None if group is None else _gid(group)
    results = [renderer.write(settings, name, key_group=key_group) for name in names]
    if json:
        ctx.obj.value(results)
        return
    for name, result in zip(names, results, strict=True):
        say(f"{result.path}: {'written' if result.changed else 'up to date'}")
        if result.key_created:
            say(f"{settings.dhcpds[name].key_file}: new key")
        if result.restart_needed:
            say(f"dhcpd '{name}' has no reload: restart it now (systemctl restart isc-dhcp-server).")
        for sentence in unreached(settings, name):
            say(f"! {sentence}", err=True)


def _check(output: Output, settings: Settings, names: list[str], as_json: bool) -> None:
    from macbind.dhcp.isc import render as renderer

    stale = []
    for name in names:
        renderer.try_out(settings, name, renderer.render(settings, name))
        if not renderer.is_current(settings, name):
            stale.append(str(settings.dhcpds[name].config_file))
    if as_json:
        output.value({"stale": stale})
    for one in stale:
        say(f"{one} is not up to date: run `macbind render`.", err=True)
    if stale:
        raise typer.Exit(1)


def _gid(group: str) -> int:
    import grp

    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise InvalidRequest(f"There is no group '{group}'.", hint="Create it with addgroup.") from None
