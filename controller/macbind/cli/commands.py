"""The command tree: which command is which function."""

from __future__ import annotations

from typing import Annotated

import typer

from macbind import __version__
from macbind.cli.allocations import allocate, label, release, reserve, unreserve
from macbind.cli.configuration import configuration
from macbind.cli.dhcp_servers import dhcp
from macbind.cli.doctor import doctor
from macbind.cli.guest_script import guest_script
from macbind.cli.imports import export, import_, recover
from macbind.cli.map import map_
from macbind.cli.metrics import metrics
from macbind.cli.output import Group, Output
from macbind.cli.questions import controllers, free, list_, pools, show_, status
from macbind.cli.reference import STATUSES, completion, explain, man, schema
from macbind.cli.renumber import renumber
from macbind.cli.report import report
from macbind.cli.site_commands import check, init, render, serve
from macbind.cli.token import token
from macbind.cli.vm import vm
from macbind.cli.watch import history, wait, watch
from macbind.cli.why import why

_EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in STATUSES)

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,  # `macbind completion` prints what a shell needs
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"macbind {__version__}")
        raise typer.Exit


@app.callback()
def macbind(
    ctx: typer.Context,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Binds IP addresses to the MACs of virtual machines, and makes it so in ISC dhcpd."""
    ctx.ensure_object(Output)


# In the order of the help text.
for command in (allocate, release, reserve, unreserve, renumber, label):
    app.command()(command)
app.command("import")(import_)
app.command()(recover)
app.command()(export)
app.command("list")(list_)
app.command("show")(show_)
for command in (why, free):
    app.command()(command)
app.command("map")(map_)
for command in (
    history,
    watch,
    wait,
    pools,
    controllers,
    status,
    doctor,
    report,
    metrics,
    explain,
    serve,
    check,
    init,
    render,
):
    app.command()(command)
app.command("guest-script")(guest_script)
app.add_typer(vm, name="vm")
app.add_typer(configuration, name="config")
app.add_typer(dhcp, name="dhcp")
app.add_typer(token, name="token")
for command in (schema, completion, man):
    app.command()(command)
