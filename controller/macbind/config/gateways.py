"""Gateways by rule: what a table may say, and which of the gateways it makes cannot be.

A rule counts for every address of the subnet, because any of them may be reserved by hand.
"""

from __future__ import annotations

from ipaddress import IPv4Network

from macbind.config.document import Document, label
from macbind.config.lines import KeyPath
from macbind.config.tables import PoolTable, SubnetTable
from macbind.core.address_range import AddressRange, by_gateway
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.gateway_rule import GatewayRule
from macbind.core.option_kinds import poisons

MAX_GATEWAYS = 65_536
"""Gateways a rule may make: one for each /24 of a /8. Each is a gap in a pool; so many cost a start two seconds."""


def read_rule(
    document: Document, path: KeyPath, table: PoolTable | SubnetTable, network: IPv4Network
) -> GatewayRule | None:
    """The rule of a table, all of whose gateways can be machines' gateways on the network; None if it has none.

    Raises:
        ConfigError: The key is no rule, stands beside ``routers``, or makes gateways that cannot be.
    """
    if table.gateway is None:
        return None
    where = (*path, "gateway")
    if table.routers:
        raise document.error(
            where,
            f"{label(path)} has both gateway and routers.",
            "Keep gateway for a router by rule, or routers for the same ones for every machine.",
        )
    with document.at(*where):
        rule = GatewayRule.parse(table.gateway)
    _check_subnet(document, where, rule, network)
    if rule.count(network) > MAX_GATEWAYS:
        raise document.error(
            where,
            f"{label(path)} gateway: The rule {rule} makes {rule.count(network):,} gateways on {network}; "
            f"at most {MAX_GATEWAYS:,} can be kept apart from machines.",
            "Write numbers for more of its octets, or use smaller subnets.",
        )
    with document.at(*where):
        DhcpOptions(routers=(next(rule.gateways(network)),))  # whether addresses of this subnet can be hosts'
    for gateway in rule.gateways(network):
        if poisons(gateway.packed):
            raise document.error(
                where,
                f"{label(path)} gateway: The rule {rule} makes the gateway {gateway}, which would corrupt dhcpd's "
                "lease file (all its bytes are printable characters and one is a quote or backslash).",
                "Use another last octet.",
            )
    return rule


def check_dynamic(document: Document, where: KeyPath, item: AddressRange, rule: GatewayRule) -> None:
    """A dynamic range must hold no gateway of any rule on its subnet."""
    found = next((gateway for gateway, piece in by_gateway(rule, [item]) if gateway in piece), None)
    if found is not None:
        raise document.error(
            where,
            f"{label(where[:2])} dynamic: The range {item} contains {found}, "
            f"which is a gateway by the rule {rule}.",
            "dhcpd would give that address to a machine; leave it out of the range.",
        )


def _check_subnet(document: Document, where: KeyPath, rule: GatewayRule, network: IPv4Network) -> None:
    """Every gateway must be a machine's address on the subnet, or the machines cannot reach it."""
    first = network[1] if network.num_addresses > 1 else network[0]
    wrong = [(first, rule.of(first))] if rule.of(first) not in network else []
    if network.prefixlen <= 30:
        ends = ((network[1], network[0]), (network[-2], network[-1]))
        wrong += [(one, end) for one, end in ends if rule.of(one) == end]
    for address, gateway in wrong:
        raise document.error(
            where,
            f"{label(where[:-1])} gateway: The rule {rule} gives {address} the gateway {gateway}, which is not a "
            f"machine's address on the subnet {network}.",
            "A gateway must be on the machines' own subnet, or they cannot reach it.",
        )
