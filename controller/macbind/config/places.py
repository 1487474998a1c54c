"""What an address is to the configuration, and where the file says so."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

from macbind.config.build import Settings
from macbind.config.document import label
from macbind.config.lines import KeyPath, line_of
from macbind.core.address_range import AddressRange, parse_network
from macbind.core.gateway_rule import GatewayRule
from macbind.core.pool import Subnet
from macbind.core.static_route import StaticRoute
from macbind.core.why import Because, Reason


def pool_of(settings: Settings, address: IPv4Address) -> str | None:
    """The pool that hands out an address."""
    return next((name for name, pool in settings.pools.items() if address in pool.plan), None)


def reasons(settings: Settings, address: IPv4Address) -> tuple[Because, ...]:
    """Why no pool hands out an address; empty if one does."""
    if pool_of(settings, address) is not None:
        return ()
    subnet = next((one for network, one in settings.subnets.items() if address in network), None)
    if subnet is None:
        known = ", ".join(map(str, settings.subnets))
        return (Because(Reason.OUTSIDE, f"{address} is on no subnet of the configuration; it has {known}."),)
    found = [
        *_ends(address, subnet),
        *_roles(settings, address, subnet),
        *_dynamic(settings, address, subnet),
    ]
    found += _excluded(settings, address, subnet)
    if not found:
        sentence = f"{address} is on the subnet {subnet.network}, and no pool has it in its ranges."
        found.append(Because(Reason.NOT_IN_RANGES, sentence))
    return tuple(found)


def _ends(address: IPv4Address, subnet: Subnet) -> Iterator[Because]:
    if subnet.network.prefixlen > 30:
        return
    if address == subnet.network[0]:
        yield Because(Reason.NETWORK_ADDRESS, f"{address} is the network address of {subnet.network}.")
    if address == subnet.network[-1]:
        yield Because(Reason.BROADCAST_ADDRESS, f"{address} is the broadcast address of {subnet.network}.")


def _tables(settings: Settings, subnet: Subnet) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """The tables of a subnet and of the pools on it."""
    for kind in ("subnet", "pool"):
        for name, table in settings.document.values.get(kind, {}).items():
            if parse_network(name if kind == "subnet" else table["subnet"]) == subnet.network:
                yield (kind, name), table


def _roles(settings: Settings, address: IPv4Address, subnet: Subnet) -> Iterator[Because]:
    """Gateways and servers that a table names."""
    for path, table in _tables(settings, subnet):
        here = f"the machines of {label(path)}"
        if str(address) in table.get("routers", ()):
            yield _because(
                settings, Reason.GATEWAY, f"{address} is the gateway of {here}", (*path, "routers")
            )
        if "gateway" in table and GatewayRule.parse(table["gateway"]).is_gateway(address):
            sentence = f"{address} is a gateway of {here}, by the rule {table['gateway']}"
            yield _because(settings, Reason.GATEWAY, sentence, (*path, "gateway"))
        for route in map(StaticRoute.parse, table.get("static_routes", ())):
            if route.gateway == address:
                sentence = f"{address} is the gateway to {route.destination} for {here}"
                yield _because(settings, Reason.GATEWAY, sentence, (*path, "static_routes"))
        if str(address) in table.get("domain_name_servers", ()):
            sentence = f"{address} is a DNS server of {here}"
            yield _because(settings, Reason.SERVER, sentence, (*path, "domain_name_servers"))
        if str(address) in table.get("ntp_servers", ()):
            sentence = f"{address} is a time server of {here}"
            yield _because(settings, Reason.SERVER, sentence, (*path, "ntp_servers"))
        if str(address) == table.get("next_server"):
            sentence = f"{address} is the boot server of {here}"
            yield _because(settings, Reason.SERVER, sentence, (*path, "next_server"))


def _dynamic(settings: Settings, address: IPv4Address, subnet: Subnet) -> Iterator[Because]:
    for path, table in _tables(settings, subnet):
        for index, text in enumerate(table.get("dynamic", ())):
            if address in AddressRange.parse(text):
                sentence = f"{address} is in the dynamic range {text}, which dhcpd hands out by itself"
                yield _because(settings, Reason.DYNAMIC, sentence, (*path, "dynamic", index))


def _excluded(settings: Settings, address: IPv4Address, subnet: Subnet) -> Iterator[Because]:
    for path, table in _tables(settings, subnet):
        for index, text in enumerate(table.get("exclude", ())):
            if address in AddressRange.parse(text):
                sentence = f"{address} is excluded from {label(path)} by {text}"
                yield _because(settings, Reason.EXCLUDED, sentence, (*path, "exclude", index))


def _because(settings: Settings, code: Reason, sentence: str, path: KeyPath) -> Because:
    where = f"{settings.document.path} line {line_of(settings.document.lines, path)}"
    return Because(code, f"{sentence} ({where}).", where)
