"""The dhcpd that a site has already: which configuration it runs, where it listens, and what it serves."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from macbind.core.address_range import AddressRange
from macbind.core.errors import ConfigError
from macbind.dhcp.isc.conf_file import read_conf
from macbind.dhcp.isc.conf_look import Started, running_dhcpds

DEFAULTS = Path("/etc/default/isc-dhcp-server")
CONFIGURATION = Path("/etc/dhcp/dhcpd.conf")


@dataclass(frozen=True, slots=True)
class OwnDhcpd:
    """A site's own dhcpd.

    Attributes:
        path: The configuration it runs.
        interfaces: Where it is told to listen; empty for everywhere.
        chosen: Whether Debian's file of defaults names the configuration.
        subnets: The subnets that it serves.
        taken: Ranges and single addresses that it hands out.
        omapi_port: Its own OMAPI port; None if it opens none.
    """

    path: Path
    interfaces: tuple[str, ...] = ()
    chosen: bool = False
    subnets: tuple[IPv4Network, ...] = ()
    taken: tuple[AddressRange, ...] = ()
    omapi_port: int | None = None

    def within(self, network: IPv4Network) -> list[str]:
        """What of its addresses and ranges lies inside a network."""
        return [str(one) for one in self.taken if one.lo in network and one.hi in network]


def own_dhcpd(
    defaults: Path = DEFAULTS, configuration: Path = CONFIGURATION, running: Iterable[Started] | None = None
) -> OwnDhcpd | None:
    """The dhcpd that runs here, or that Debian's service would run; None if it has no configuration.

    Raises:
        ConfigError: Its configuration cannot be read.
    """
    said = _defaults(defaults)
    named = said.get("DHCPDv4_CONF")
    started = next(iter(running_dhcpds() if running is None else running), None)
    path = started.conf if started is not None else Path(named or configuration)
    if not path.exists():
        return None
    conf = read_conf(path, cwd=Path("/") if started is None else started.cwd)
    if conf.failed is not None:
        raise ConfigError(
            f"dhcpd's configuration {conf.failed.filename} cannot be read: {conf.failed.strerror}.",
            hint="Run the command as root.",
        )
    fixed = [AddressRange(address, address) for host in conf.hosts for address in host.addresses]
    return OwnDhcpd(
        path,
        tuple((said.get("INTERFACESv4") or said.get("INTERFACES") or "").split()),
        named is not None,
        tuple(dict.fromkeys(one.network for one in conf.subnets)),
        tuple(sorted({*(one.addresses for one in conf.ranges), *fixed})),
        conf.omapi_port,
    )


def _defaults(path: Path) -> dict[str, str]:
    """The variables of a file of defaults, which a shell reads."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found = {}
    for line in lines:
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # a quote that does not end
            continue
        for word in words:
            name, given, value = word.partition("=")
            if given and value:
                found[name] = value
    return found
