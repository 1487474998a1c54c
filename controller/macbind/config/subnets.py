"""The subnets of a configuration: their options, their gateways, and the ranges dhcpd hands out by itself.

Options and gateways of a pool count for its whole subnet, because any address of it may be reserved by hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise

from macbind.config.document import Document, label
from macbind.config.gateways import check_dynamic, read_rule
from macbind.config.lines import KeyPath
from macbind.config.tables import PoolTable, SubnetTable
from macbind.core.address_range import AddressRange
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import InvalidAddress
from macbind.core.gateway_rule import GatewayRule
from macbind.core.pool import Subnet

MAX_LISTED = 1 << 20
"""Addresses of a static pool, or of a subnet's dynamic ranges: dhcpd keeps some 400 bytes for each."""


@dataclass(frozen=True)
class Network:
    """A subnet, and the addresses on it that no machine may have.

    Attributes:
        subnet: The subnet.
        path: Where the configuration names it.
        gateways: Gateways that an option names.
        servers: Servers that an option names; they may lie elsewhere.
        rules: The rules that make gateways.
        hostname: The pattern by which its machines get the name of their allocation as host name; None for none.
    """

    subnet: Subnet
    path: KeyPath
    gateways: set[IPv4Address] = field(default_factory=set)
    servers: set[IPv4Address] = field(default_factory=set)
    rules: list[GatewayRule] = field(default_factory=list)
    hostname: str | None = None


class Networks(dict[IPv4Network, Network]):
    """The subnets by network, in the order of the file."""

    def __init__(self, document: Document) -> None:
        super().__init__()
        self.document = document

    def add(self, network: IPv4Network, path: KeyPath, table: SubnetTable | None = None) -> None:
        """Adds a subnet; without a table if only a pool names it.

        Raises:
            ConfigError: It overlaps another one, or its table cannot be used.
        """
        for other, theirs in self.items():
            if network.overlaps(other):
                raise self.document.error(
                    path,
                    f"{label(path[:2])} is on the subnet {network}, which overlaps {other} of "
                    f"{label(theirs.path[:2])}.",
                    "dhcpd serves an address from one subnet only; write the same network in both places.",
                )
        self[network] = Network(Subnet(network), path)
        if table is None:
            return
        options, rule = self.options(path, table, network), self.rule(path, table, network)
        dynamic = ranges(self.document, path, "dynamic", table.dynamic, network)
        # No DHCP server makes a machine's name by itself: the pools tell it with each binding.
        subnet = Subnet(
            network,
            replace(options, hostname=None),
            table.lease_time_s,
            dynamic,
            rule,
            table.shared_network,
            table.relayed,
            table.rendered,
        )
        if not table.rendered:
            self._check_unrendered(path, table)
        self[network] = replace(self[network], subnet=subnet, hostname=options.hostname)
        if rule is not None:
            with self.document.at(*path, "static_routes"):  # with a default route they may be too many
                replace(options, routers=(rule.of(network[1]),))

    def _check_unrendered(self, path: KeyPath, table: SubnetTable) -> None:
        """What only a rendered subnet can say must not stand in the table of another."""
        for key in ("dynamic", "lease_time_s", "shared_network"):
            if key in table.model_fields_set:
                raise self.document.error(
                    (*path, key),
                    f"{label(path)} {key} has no effect with rendered = false.",
                    "Say it in your own dhcpd.conf, which declares this subnet.",
                )

    def rule(self, path: KeyPath, table: PoolTable | SubnetTable, network: IPv4Network) -> GatewayRule | None:
        """A table's gateways by rule; none of them is ever handed out on the subnet."""
        rule = read_rule(self.document, path, table, network)
        if rule is not None:
            self[network].rules.append(rule)
        return rule

    def options(self, path: KeyPath, table: PoolTable | SubnetTable, network: IPv4Network) -> DhcpOptions:
        """A table's options; every gateway among them must be on the subnet and is never handed out."""
        values = table.options()
        for key, value in values.items():
            with self.document.at(*path, key):
                DhcpOptions.parse({key: value})
        last = "static_routes" if "static_routes" in values else "routers"
        with self.document.at(*path, last):  # routes and routers share one option; the sum may be refused
            options = DhcpOptions.parse(values)
        self._check_hostname(path, options)
        ends = () if network.prefixlen > 30 else (network.network_address, network.broadcast_address)
        routes = tuple(route.gateway for route in options.static_routes)
        for key, addresses in (("routers", options.routers), ("static_routes", routes)):
            for address in addresses:
                if address not in network or address in ends:
                    raise self.document.error(
                        (*path, key),
                        f"{label(path)} {key}: {address} is not a machine's address on the subnet {network}.",
                        "A gateway must be on the machines' own subnet, or they cannot reach it.",
                    )
        self[network].gateways.update(options.routers, routes)
        self[network].servers.update(options.domain_name_servers, options.ntp_servers)
        if options.next_server:
            self[network].servers.add(options.next_server)
        return options

    def _check_hostname(self, path: KeyPath, options: DhcpOptions) -> None:
        """Many machines cannot have one name, and they are no group whose members have numbers."""
        name = options.hostname
        if name is not None and ("{name}" not in name or "{n}" in name):
            raise self.document.error(
                (*path, "hostname"),
                f"{label(path)} hostname: {name!r} would be the host name of several machines.",
                'Write "{name}": the name of each allocation, where that is a host name.',
            )

    def check_dynamic(self) -> None:
        """Dynamic ranges must be disjoint and hold no address that is somebody's already."""
        for network, one in self.items():
            dynamic, where = one.subnet.dynamic, (*one.path[:2], "dynamic")
            taken = {network[0]: "the network address", network[-1]: "the broadcast address"}
            taken |= dict.fromkeys(one.servers, "a server")
            taken |= dict.fromkeys(one.gateways, "a gateway")
            for index, item in enumerate(dynamic):
                for address in sorted(taken):
                    if address in item:
                        raise self.document.error(
                            (*where, index),
                            f"{label(where[:2])} dynamic: The range {item} contains {address}, "
                            f"which is {taken[address]}.",
                            "dhcpd would give that address to a machine; leave it out of the range.",
                        )
                for rule in one.rules:
                    check_dynamic(self.document, (*where, index), item, rule)
            if sum(map(len, dynamic)) > MAX_LISTED:
                raise self.document.error(
                    where,
                    f"{label(where[:2])} dynamic: {sum(map(len, dynamic))} addresses are too many for "
                    f"dynamic ranges, which have at most {MAX_LISTED} on a subnet.",
                    "dhcpd keeps a record in memory for each of them; use shorter ranges.",
                )
            for left, right in pairwise(sorted(dynamic)):
                if left.overlaps(right):
                    raise self.document.error(
                        where,
                        f"{label(where[:2])} dynamic: The ranges {left} and {right} overlap.",
                        "Name every address once.",
                    )


def ranges(
    document: Document, path: KeyPath, key: str, texts: Iterable[str], network: IPv4Network
) -> tuple[AddressRange, ...]:
    """The address ranges of a list, all inside the network."""
    found = []
    for index, text in enumerate(texts):
        with document.at(*path[:2], key, index):
            item = AddressRange.parse(text)
            if item.lo not in network or item.hi not in network:
                raise InvalidAddress(
                    f"The range {item} is not inside the subnet {network}.",
                    hint=f"It spans {AddressRange.of(network)}.",
                )
            found.append(item)
    return tuple(found)
