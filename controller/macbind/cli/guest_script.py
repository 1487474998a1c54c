"""The command ``macbind guest-script``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from macbind.cli import guest
from macbind.cli.options import DEFAULT_CONFIG, Config, Json, settings_of
from macbind.cli.output import say


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
    persist: Annotated[
        list[str] | None,
        typer.Option(
            "--persist",
            help="linux: also write for networkd, networkmanager, netplan, ifupdown, ifcfg, "
            "or auto (the one the machine has); resolved may be added.",
            metavar="KIND",
        ),
    ] = None,
    channels: Annotated[
        str,
        typer.Option(
            "--channels",
            help="Also ask what the host says: all, or some of fw_cfg,smbios,xenstore (Windows: no fw_cfg).",
            metavar="LIST",
        ),
    ] = "",
    config: Config = DEFAULT_CONFIG,
    json: Json = False,
) -> None:
    """Print what a machine runs to find its address by its MAC, without DHCP. Needs the configuration only."""
    text, script = guest.guest_script(
        kind, lambda: settings_of(config), pool or [], persist=persist or [], channels=channels
    )
    if output is not None:
        guest.write(output, text, executable=script.executable)
    if json:
        ctx.obj.value({"kind": kind, "file": output, "script": text})
    elif output is None:
        typer.echo(text, nl=False)
    else:
        say(f"{output}: written")
