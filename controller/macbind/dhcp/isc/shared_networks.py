"""Which subnets lie on one wire. dhcpd must be told: an interface may belong to one shared network only.

Subnets are together if the configuration names one ``shared_network`` for them, or if one interface of dhcpd's own
machine has an address on each. dhcpd ends at its start, or serves the wrong subnet, when it is not told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from macbind.config import Settings
from macbind.core.errors import ConfigError
from macbind.core.pool import Subnet
from macbind.dhcp.isc.conf_look import is_local
from macbind.probes.interfaces import Interfaces, interfaces


@dataclass(frozen=True, slots=True)
class SharedNetwork:
    """Subnets on one wire.

    Attributes:
        name: The name for dhcpd.
        subnets: The subnets, in the order of the configuration; at least one.
    """

    name: str
    subnets: tuple[Subnet, ...]

    def has(self, addresses: Iterable[IPv4Address]) -> bool:
        """Whether one of these addresses lies on it."""
        return any(one in subnet.network for one in addresses for subnet in self.subnets)

    def is_reached(self, by: Interfaces) -> bool:
        """Whether a relay or one of these interfaces brings the questions of its machines to dhcpd."""
        return any(one.relayed for one in self.subnets) or any(map(self.has, by.values()))


def shared_networks(settings: Settings, dhcpd: str, here: Interfaces) -> list[SharedNetwork]:
    """The networks of one dhcpd; most have one subnet.

    Args:
        settings: The configuration.
        dhcpd: The dhcpd's name.
        here: The interfaces of its machine.

    Raises:
        ConfigError: One interface has addresses on two shared networks that have different names.
    """
    networks = [SharedNetwork(one.shared_network or "", (one,)) for one in settings.subnets_of(dhcpd)]
    for name in dict.fromkeys(one.name for one in networks if one.name):
        networks = _joined(networks, [one for one in networks if one.name == name], name)
    for interface, addresses in here.items():
        together = [one for one in networks if one.has(addresses)]
        names = list(dict.fromkeys(one.name for one in together if one.name))
        given = [one for one in names if not one.startswith("interface ")]
        if len(given) > 1:
            where = next(
                one for network in together for one in network.subnets if one.shared_network == given[1]
            )
            raise settings.document.error(
                ("subnet", str(where.network), "shared_network"),
                f"The interface {interface} has addresses on the shared networks {' and '.join(given)}.",
                "dhcpd serves one shared network on an interface: give their subnets one shared_network.",
            )
        if len(together) > 1:
            networks = _joined(networks, together, (given or names or [f"interface {interface}"])[0])
    return networks


def interfaces_of(settings: Settings, dhcpd: str) -> Interfaces:
    """The interfaces of a dhcpd's machine, as far as they can be seen: none if it is another machine.

    Raises:
        ConfigError: The kernel does not say.
    """
    if not is_local(settings.dhcpds[dhcpd].host):
        return {}
    try:
        return interfaces()
    except OSError as error:
        raise ConfigError(f"The network interfaces cannot be listed: {error.strerror}.") from error


def unreachable(settings: Settings, dhcpd: str, by: Interfaces) -> Iterator[Subnet]:
    """The subnets with machines that neither a relay nor one of these interfaces brings to dhcpd."""
    pooled = {pool.subnet.network for pool in settings.pools_of(dhcpd)}
    for network in shared_networks(settings, dhcpd, by):
        if not network.is_reached(by):
            yield from (one for one in network.subnets if one.dynamic or one.network in pooled)


def unreached(settings: Settings, dhcpd: str) -> list[str]:
    """A sentence for each subnet whose machines do not reach a dhcpd of this machine, whether it runs or not."""
    if not is_local(settings.dhcpds[dhcpd].host):
        return []
    here = interfaces_of(settings, dhcpd)
    return [" ".join(not_reached(dhcpd, subnet)) for subnet in unreachable(settings, dhcpd, here)]


def not_reached(dhcpd: str, subnet: Subnet) -> tuple[str, str]:
    """The sentence about a subnet whose machines do not reach dhcpd, and how to mend it."""
    return (
        f"No interface of dhcpd '{dhcpd}' and no relay reaches the subnet {subnet.network}: nobody is served there.",
        f'Give dhcpd\'s interface an address there, or write relayed = true in [subnet."{subnet.network}"].',
    )


def _joined(
    networks: Sequence[SharedNetwork], together: Sequence[SharedNetwork], name: str
) -> list[SharedNetwork]:
    """The networks with some of them made one, at the place of the first."""
    subnets = tuple(subnet for one in together for subnet in one.subnets)
    found = []
    for one in networks:
        if one == together[0]:
            found.append(SharedNetwork(name, subnets))
        elif one not in together:
            found.append(one)
    return found
