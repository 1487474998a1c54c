"""The two ways into a site that has a dhcpd already: beside its own configuration, or instead of it.

*Beside*: the site's own file includes macbind's part, and serves on what it serves. *Instead*: dhcpd runs macbind's
part alone. What either way cannot do, or would end, is said before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

from macbind.cli.own_dhcpd import DEFAULTS
from macbind.core.errors import InvalidRequest

if TYPE_CHECKING:
    from macbind.cli.interfaces import Interface
    from macbind.cli.own_dhcpd import OwnDhcpd
    from macbind.cli.site import Site


def check_beside(own: OwnDhcpd, there: Interface, network: IPv4Network) -> None:
    """Refuses what dhcpd could not serve together with the site's own configuration.

    Raises:
        InvalidRequest: With the reason.
    """
    _check_listening(own, there)
    if own.omapi_port is not None:
        raise InvalidRequest(
            f"{own.path} opens OMAPI port {own.omapi_port} for others, and dhcpd has one OMAPI port only.",
            hint="Remove omapi-port and omapi-key there, or choose --instead.",
        )
    if network in own.subnets:
        return
    for theirs in own.subnets:
        if theirs.overlaps(network):
            raise InvalidRequest(
                f"{own.path} serves {theirs}, which overlaps {network}: dhcpd would take clients of the one for the "
                "other's.",
                hint=f"Give --subnet {theirs}, or choose --instead.",
            )
        if any(one.ip in theirs for one in there.addresses):
            raise InvalidRequest(
                f"{there.name} has addresses on {theirs}, which {own.path} serves, and on {network}: dhcpd needs "
                "both in one shared-network.",
                hint=f"Declare {network} in a shared-network with {theirs} in {own.path}, and run init again.",
            )


def check_instead(own: OwnDhcpd | None, there: Interface) -> None:
    """Refuses where Debian's file of defaults would have dhcpd run another configuration, or listen elsewhere.

    Raises:
        InvalidRequest: With the reason.
    """
    if own is None:
        return
    _check_listening(own, there)
    if own.chosen:
        raise InvalidRequest(
            f"{DEFAULTS} has dhcpd run {own.path}, and counts more than what macbind says.",
            hint="Remove DHCPDv4_CONF there, or choose --beside.",
        )


def consequences(own: OwnDhcpd | None, company: OwnDhcpd | None, site: Site) -> Iterator[str]:
    """What will change for the site's own clients, a line each."""
    if company is not None:
        yield f"Beside {company.path}: a line at its end includes macbind's part, and all it serves stays served."
        if site.subnet in map(str, company.subnets):
            yield f"The subnet {site.subnet} stays as it is declared there; macbind declares no second one."
    elif own is not None and own.subnets:
        lost = ", ".join(str(one) for one in own.subnets if str(one) != site.subnet)
        yield f"Instead of {own.path}: dhcpd no longer reads it, and nothing of it is served any longer."
        if lost:
            yield f"No longer served: {lost}."
        yield (
            f"No longer served on {site.subnet}: clients that macbind does not know."
            if (site.subnet in map(str, own.subnets))
            else "The file itself stays as it is."
        )


def _check_listening(own: OwnDhcpd, there: Interface) -> None:
    if own.interfaces and there.name not in own.interfaces:
        raise InvalidRequest(
            f"{DEFAULTS} has dhcpd listen on {', '.join(own.interfaces)} only, and not on {there.name}.",
            hint=f"Add {there.name} to INTERFACESv4 there.",
        )
