"""What the tables of the configuration mean together.

This file refuses whatever would give one address, or one MAC, to two machines, and whatever dhcpd would take
silently and serve wrongly. What is refused is a :class:`ConfigError` that names file, line and key; nothing
is guessed or skipped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from macbind.addressing import AddressPlan, AddressRange, MacScheme, check_plans, parse_network
from macbind.config.document import Document, did_you_mean, label
from macbind.config.gateways import check_dynamic, read_rule
from macbind.config.lines import KeyPath
from macbind.config.settings import DhcpdSettings, Settings
from macbind.config.tables import PoolTable, SubnetTable, Tables
from macbind.errors import ConfigError, InvalidAddress
from macbind.gateway import GatewayRule
from macbind.ipv6 import parse_prefix
from macbind.model import NO_OPTIONS, Pool, PoolMode, ReleasePolicy, Subnet, probe_mac
from macbind.options import DhcpOptions

DEFAULT_PATH = Path("/etc/macbind/macbind.toml")
MAX_LISTED = 1 << 20
"""Addresses of a static pool, or of a subnet's dynamic ranges: dhcpd keeps some 400 bytes for each."""


def load(path: Path = DEFAULT_PATH) -> Settings:
    """Reads and checks a configuration file.

    Raises:
        ConfigError: It cannot be used; the message names file, line and key. Of several faults one is told,
            the first in the file where that can be known.
    """
    document = Document.read(path)
    return _Build(document, document.tables()).settings()


class _Build:
    """Turns checked tables into settings, one kind of table after the other."""

    def __init__(self, document: Document, tables: Tables) -> None:
        self.document = document
        self.tables = tables
        self.subnets: dict[IPv4Network, Subnet] = {}
        self.subnet_paths: dict[IPv4Network, KeyPath] = {}
        self.gateways: dict[IPv4Network, set[IPv4Address]] = {}
        self.servers: dict[IPv4Network, set[IPv4Address]] = {}
        self.rules: dict[IPv4Network, list[GatewayRule]] = {}

    def settings(self) -> Settings:
        tables, at = self.tables, self.document.at
        for kind in ("dhcpd", "pool"):
            if not getattr(tables, kind):
                raise self.document.error((), f"There is no [{kind}.NAME] table; at least one is needed.")
        dhcpds = self._dhcpds()
        for text, subnet_table in tables.subnet.items():
            with at("subnet", text):
                network = parse_network(text)
            self._add_subnet(network, ("subnet", text), subnet_table)
        networks: dict[str, IPv4Network] = {}
        options: dict[str, DhcpOptions] = {}
        rules: dict[str, GatewayRule | None] = {}
        for name, table in tables.pool.items():
            with at("pool", name, "subnet"):
                network = parse_network(table.subnet)
            if network not in self.subnets:
                self._add_subnet(network, ("pool", name, "subnet"), SubnetTable())
            networks[name] = network
            options[name] = self._options(("pool", name), table, network)
            rules[name] = self._rule(("pool", name), table, network)
        self._check_dynamic()
        pools = {
            name: self._pool(name, table, self.subnets[networks[name]], options[name], rules[name])
            for name, table in tables.pool.items()
        }
        try:
            check_plans([(name, pool.plan) for name, pool in pools.items()])
        except ConfigError as error:
            where = ("pool", error.details["pool"], error.details["key"])
            raise self.document.error(where, error.message, error.hint, **error.details) from error
        settings = Settings(
            self.document.path,
            tables.registry.settings(),
            tables.service.settings(),
            MappingProxyType(dhcpds),
            MappingProxyType(self.subnets),
            MappingProxyType(pools),
            MappingProxyType({name: table.uri for name, table in tables.hypervisor.items()}),
        )
        self._check_one_server_per_dynamic(settings)
        self._check_probes(settings)
        return settings

    def _dhcpds(self) -> dict[str, DhcpdSettings]:
        """Every dhcpd; two of them must not share a port or a file."""
        ports: dict[tuple[str, int], str] = {}
        files: dict[PurePosixPath, str] = {}
        found: dict[str, DhcpdSettings] = {}
        for name, table in self.tables.dhcpd.items():
            other = ports.setdefault((table.host.lower(), table.port), name)
            if other != name:
                raise self.document.error(
                    ("dhcpd", name, "port"),
                    f"[dhcpd.{name}] is at the same address as [dhcpd.{other}]: {table.host}:{table.port}.",
                    "Every dhcpd needs its own host or port.",
                )
            for key in ("key_file", "config_file", "leases_file"):
                value = getattr(table, key)
                owner = f"[dhcpd.{name}] {key}"
                other = owner if value is None else files.setdefault(PurePosixPath(value), owner)
                if other != owner:
                    raise self.document.error(
                        ("dhcpd", name, key),
                        f"{owner} is the same file as {other}: {value}.",
                        "Every dhcpd needs its own files.",
                    )
            found[name] = table.settings(name)
        return found

    def _add_subnet(self, network: IPv4Network, path: KeyPath, table: SubnetTable) -> None:
        for other in self.subnets:
            if network.overlaps(other):
                theirs = label(self.subnet_paths[other][:2])
                raise self.document.error(
                    path,
                    f"{label(path[:2])} is on the subnet {network}, which overlaps {other} of {theirs}.",
                    "dhcpd serves an address from one subnet only; write the same network in both places.",
                )
        self.subnet_paths[network] = path
        self.gateways[network], self.servers[network], self.rules[network] = set(), set(), []
        own = path[0] == "subnet"
        options = self._options(path[:2], table, network) if own else NO_OPTIONS
        rule = self._rule(path[:2], table, network) if own else None
        dynamic = self._ranges(path, "dynamic", table.dynamic, network)
        self.subnets[network] = Subnet(network, options, table.lease_time_s, dynamic, rule)
        if rule is not None:
            with self.document.at(*path[:2], "static_routes"):  # with a default route they may be too many
                replace(options, routers=(rule.of(network[1]),))

    def _rule(
        self, path: KeyPath, table: PoolTable | SubnetTable, network: IPv4Network
    ) -> GatewayRule | None:
        """A table's gateways by rule; none of them is ever handed out on the subnet."""
        rule = read_rule(self.document, path, table, network)
        if rule is not None:
            self.rules[network].append(rule)
        return rule

    def _options(self, path: KeyPath, table: PoolTable | SubnetTable, network: IPv4Network) -> DhcpOptions:
        """A table's options; every gateway among them must be on the subnet and is never handed out."""
        values = table.options()
        for key, value in values.items():
            with self.document.at(*path, key):
                DhcpOptions.parse({key: value})
        last = "static_routes" if "static_routes" in values else "routers"
        with self.document.at(*path, last):  # routes and routers share one option; the sum may be refused
            options = DhcpOptions.parse(values)
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
        self.gateways[network].update(options.routers, routes)
        self.servers[network].update(options.domain_name_servers)
        if options.next_server:
            self.servers[network].add(options.next_server)
        return options

    def _ranges(
        self, path: KeyPath, key: str, texts: Iterable[str], network: IPv4Network
    ) -> tuple[AddressRange, ...]:
        """The address ranges of a list, all inside the network."""
        found = []
        for index, text in enumerate(texts):
            with self.document.at(*path[:2], key, index):
                item = AddressRange.parse(text)
                if item.lo not in network or item.hi not in network:
                    raise InvalidAddress(
                        f"The range {item} is not inside the subnet {network}.",
                        hint=f"It spans {AddressRange.of(network)}.",
                    )
                found.append(item)
        return tuple(found)

    def _check_dynamic(self) -> None:
        """Dynamic ranges must be disjoint and hold no address that is somebody's already."""
        for network, subnet in self.subnets.items():
            where = (*self.subnet_paths[network][:2], "dynamic")
            taken = {network[0]: "the network address", network[-1]: "the broadcast address"}
            taken |= dict.fromkeys(self.servers[network], "a server")
            taken |= dict.fromkeys(self.gateways[network], "a gateway")
            for index, item in enumerate(subnet.dynamic):
                for address in sorted(taken):
                    if address in item:
                        raise self.document.error(
                            (*where, index),
                            f"{label(where[:2])} dynamic: The range {item} contains {address}, "
                            f"which is {taken[address]}.",
                            "dhcpd would give that address to a machine; leave it out of the range.",
                        )
                for rule in self.rules[network]:
                    check_dynamic(self.document, (*where, index), item, rule)
            if sum(map(len, subnet.dynamic)) > MAX_LISTED:
                raise self.document.error(
                    where,
                    f"{label(where[:2])} dynamic: {sum(map(len, subnet.dynamic))} addresses are too many for "
                    f"dynamic ranges, which have at most {MAX_LISTED} on a subnet.",
                    "dhcpd keeps a record in memory for each of them; use shorter ranges.",
                )
            for left, right in pairwise(sorted(subnet.dynamic)):
                if left.overlaps(right):
                    raise self.document.error(
                        where,
                        f"{label(where[:2])} dynamic: The ranges {left} and {right} overlap.",
                        "Name every address once.",
                    )

    def _pool(
        self, name: str, table: PoolTable, subnet: Subnet, options: DhcpOptions, rule: GatewayRule | None
    ) -> Pool:
        path = ("pool", name)
        mode = PoolMode(table.mode)
        plan = self._plan(path, table, subnet)
        if mode is PoolMode.STATIC and plan.size > MAX_LISTED:
            raise self.document.error(
                (*path, "mode"),
                f"{label(path)} mode: {plan.size} addresses are too many for a static pool, "
                f"which has at most {MAX_LISTED}.",
                'Use mode = "live", where an unoccupied address costs nothing.',
            )
        with self.document.at(*path, "ipv6_prefix"):
            prefix = None if table.ipv6_prefix is None else parse_prefix(table.ipv6_prefix)
        pool = Pool(
            name,
            plan,
            subnet,
            self._dhcpds_of(path, table),
            mode,
            options,
            table.cooldown_s,
            ReleasePolicy(table.release),
            table.claim_timeout_s,
            table.arp_probe,
            rule,
            prefix,
        )
        key = "static_routes" if table.static_routes else "gateway" if table.gateway else "routers"
        with self.document.at(
            *path, key
        ):  # with the subnet's, or a default route, the routes may be too many
            pool.told(plan.assignable[0].lo)
        return pool

    def _plan(self, path: KeyPath, table: PoolTable, subnet: Subnet) -> AddressPlan:
        """Which addresses the pool hands out: none of a gateway, a server or a dynamic range."""
        network = subnet.network
        with self.document.at(*path, "mac_prefix"):
            MacScheme.for_subnet(table.mac_prefix, network)
        ranges = self._ranges(path, "ranges", table.ranges, network)
        exclude = self._ranges(path, "exclude", table.exclude, network)
        # A server named by an option is never allocated, but unlike a gateway it may be reserved by hand.
        servers = [AddressRange(one, one) for one in self.servers[network] if one in network]
        with self.document.at(*path, "subnet" if network.prefixlen > 30 else "ranges"):
            plan = AddressPlan.build(
                network,
                table.mac_prefix,
                ranges=ranges,
                exclude=(*exclude, *servers),
                gateways=self.gateways[network],
                rules=self.rules[network],
            )
        for item in plan.assignable:
            for dynamic in subnet.dynamic:
                if item.overlaps(dynamic):
                    shared = AddressRange(max(item.lo, dynamic.lo), min(item.hi, dynamic.hi))
                    raise self.document.error(
                        (*path, "ranges"),
                        f"{label(path)} and the dynamic range {dynamic} of {network} overlap: "
                        f"both hand out {shared}.",
                        f'Write exclude = ["{dynamic}"] in the pool.',
                    )
        return plan

    def _dhcpds_of(self, path: KeyPath, table: PoolTable) -> tuple[str, ...]:
        known = self.tables.dhcpd
        if table.dhcpd is None:
            return tuple(known)
        for index, name in enumerate(table.dhcpd):
            if name not in known:
                raise self.document.error(
                    (*path, "dhcpd", index),
                    f"{label(path)} dhcpd: There is no table {label(('dhcpd', name))}.",
                    did_you_mean(name, known, quote="'"),
                )
        if not table.dhcpd:
            raise self.document.error(
                (*path, "dhcpd"), f"{label(path)} dhcpd: At least one dhcpd must serve the pool."
            )
        return tuple(dict.fromkeys(table.dhcpd))

    def _check_probes(self, settings: Settings) -> None:
        """The MAC that asks a dhcpd must be no machine's, and there must be a network to ask on."""
        for name, dhcpd in settings.dhcpds.items():
            if dhcpd.probe is None:
                continue
            if all(subnet.network.prefixlen > 30 for subnet in settings.subnets_of(name)):
                raise self.document.error(
                    ("dhcpd", name, "probe"),
                    f"[dhcpd.{name}] probe: This dhcpd serves no subnet with machines.",
                )
            mac = probe_mac(name)
            for pool in settings.pools.values():
                ends = (pool.plan.scheme.encode(pool.plan.subnet[end]) for end in (0, -1))
                if next(ends) <= mac <= next(ends):
                    raise self.document.error(
                        ("pool", pool.name, "mac_prefix"),
                        f"{label(('pool', pool.name))} has a mac_prefix that would give a machine {mac}, "
                        f"with which [dhcpd.{name}] is probed.",
                        "Choose another mac_prefix, such as 52:54:00, 0a:58 or 02:00.",
                    )

    def _check_one_server_per_dynamic(self, settings: Settings) -> None:
        for network, subnet in settings.subnets.items():
            serving = [name for name in settings.dhcpds if subnet in settings.subnets_of(name)]
            if subnet.dynamic and len(serving) > 1:
                raise self.document.error(
                    (*self.subnet_paths[network][:2], "dynamic"),
                    f"The dynamic ranges of {network} would be served by {' and '.join(serving)}, "
                    "which would give one address to two machines.",
                    "Leave dynamic ranges to a subnet that one dhcpd serves.",
                )
