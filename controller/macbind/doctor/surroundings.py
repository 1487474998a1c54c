"""What the machine around the service says: which subnets reach dhcpd, and whether its OMAPI port is closed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from macbind.config import Settings
from macbind.core.errors import ConfigError
from macbind.core.findings import Finding
from macbind.dhcp.isc.conf_look import is_local
from macbind.dhcp.isc.shared_networks import not_reached, unreachable
from macbind.probes.interfaces import Interfaces, served_interfaces

_RULES = Path("/etc/macbind/omapi.nft")
_FIREWALL = Path("/run/macbind-firewall")
"""There while macbind-firewall.service has the rules loaded; its check leaves word of lost ones in it."""
_KEPT_S = 3600.0
CLOSE_PORT = ("systemctl enable --now macbind-firewall",)
"""The command that loads the rules that close dhcpd's OMAPI port."""


def look_around(settings: Settings, rules: Path = _RULES, firewall: Path = _FIREWALL) -> Iterator[Finding]:
    """What an admin should look at on this machine.

    Args:
        settings: The configuration.
        rules: The firewall's rules; a site that has none closes the port otherwise.
        firewall: Where the firewall's unit keeps its state.
    """
    try:
        served = served_interfaces()
    except OSError as error:
        yield Finding(
            "network_unavailable",
            f"macbind cannot list the network interfaces: {error.strerror}.",
            "Let macbind read /proc/self/net.",
            "/proc/self/net",
        )
        return
    if not served:  # no dhcpd runs here
        return
    here = [name for name, dhcpd in settings.dhcpds.items() if is_local(dhcpd.host)]
    for name in here:
        yield from _unreached(settings, name, served)
    if here and rules.exists():
        yield from _open_port(firewall)


def _unreached(settings: Settings, dhcpd: str, served: Interfaces) -> Iterator[Finding]:
    try:
        lost = list(unreachable(settings, dhcpd, served))
    except ConfigError as error:
        yield Finding("subnet_unreachable", error.message, error.hint, dhcpd)
    else:
        yield from (Finding("subnet_unreachable", *not_reached(dhcpd, one), str(one.network)) for one in lost)


def _open_port(firewall: Path) -> Iterator[Finding]:
    """Whether the rules are loaded, as the firewall's unit and its check say: macbind may not look at them."""
    if not firewall.is_dir():
        yield Finding(
            "firewall_open",
            "The rules that close dhcpd's OMAPI port are not loaded: macbind-firewall.service does not run.",
            "Run `systemctl enable --now macbind-firewall`: whoever reaches the port controls dhcpd.",
            "omapi",
            CLOSE_PORT,
        )
        return
    lost = firewall / "lost"
    try:
        what, when = lost.read_text(encoding="ascii"), lost.stat().st_mtime
    except FileNotFoundError:
        return
    at = datetime.fromtimestamp(when, UTC).strftime("%H:%M:%S")
    if not what.startswith("loaded"):
        yield Finding(
            "firewall_open",
            f"The rules that close dhcpd's OMAPI port are gone since {at} UTC, and cannot be loaded again.",
            "`systemctl status macbind-firewall-check` says why.",
            "omapi",
        )
    elif time.time() - when < _KEPT_S:
        yield Finding(
            "firewall_open",
            f"The rules that close dhcpd's OMAPI port were gone at {at} UTC, and have been loaded again.",
            "Find what empties the rule set, and have it include /etc/macbind/omapi.nft.",
            "omapi",
        )
