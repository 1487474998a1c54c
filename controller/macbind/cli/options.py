"""The DHCP options of a machine, as options of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from macbind.options import DhcpOptions

Hostname = Annotated[str | None, typer.Option("--hostname", help="Host name sent by DHCP.")]
Routers = Annotated[list[str] | None, typer.Option("--router", help="Default gateway; may be repeated.")]
Dns = Annotated[list[str] | None, typer.Option("--dns", help="DNS server; may be repeated.")]
DomainName = Annotated[str | None, typer.Option("--domain-name", help="DNS domain.")]
NextServer = Annotated[str | None, typer.Option("--next-server", help="Boot (TFTP) server.")]
Filename = Annotated[str | None, typer.Option("--filename", help="Boot file.")]
Routes = Annotated[
    list[str] | None, typer.Option("--route", help="Static route, 'NETWORK via GATEWAY'; may be repeated.")
]


def dhcp_options(
    hostname: str | None,
    routers: list[str] | None,
    dns: list[str] | None,
    domain_name: str | None,
    next_server: str | None,
    filename: str | None,
    routes: list[str] | None,
) -> DhcpOptions:
    """What a command line says of a machine's options.

    Raises:
        InvalidOption: A value is not usable.
    """
    from macbind.options import DhcpOptions

    values: dict[str, Any] = {
        "hostname": hostname,
        "routers": routers,
        "domain_name_servers": dns,
        "domain_name": domain_name,
        "next_server": next_server,
        "filename": filename,
        "static_routes": routes,
    }
    return DhcpOptions.parse({key: value for key, value in values.items() if value})
