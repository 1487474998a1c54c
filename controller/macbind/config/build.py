"""What the tables of the configuration mean together.

This file refuses whatever would give one address, or one MAC, to two machines, and whatever dhcpd would take
silently and serve wrongly. What is refused is a :class:`ConfigError` that names file, line and key; nothing
is guessed or skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from pathlib import Path
from types import MappingProxyType

from macbind.config.document import Document, did_you_mean, label
from macbind.config.lines import KeyPath
from macbind.config.names import check_names
from macbind.config.page import check_api, check_page
from macbind.config.subnets import MAX_LISTED, Network, Networks, ranges
from macbind.config.tables import (
    ApiSettings,
    DhcpdSettings,
    HypervisorSettings,
    MetricsSettings,
    NamesSettings,
    PageSettings,
    PoolTable,
    RegistrySettings,
    ServiceSettings,
    Tables,
)
from macbind.core.address_plan import AddressPlan, check_plans
from macbind.core.address_range import AddressRange, parse_network
from macbind.core.binding import probe_mac
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import ConfigError
from macbind.core.gateway_rule import GatewayRule
from macbind.core.ipv6 import parse_prefix
from macbind.core.mac_scheme import MacScheme
from macbind.core.pool import Pool, PoolMode, Subnet

DEFAULT_PATH = Path("/etc/macbind/macbind.toml")


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration; mappings are in the order of the file.

    Attributes:
        document: The file it came from.
        registry: The database.
        service: The daemon.
        metrics: Where Prometheus finds it.
        dhcpds: Every dhcpd by name; at least one.
        subnets: Every subnet by its network, those without a table of their own included.
        pools: Every pool by name; at least one.
        hypervisors: Every hypervisor to watch, by name; may be empty.
        page: The web page.
        api: Where cores on other hosts reach the service.
        names: Where allocations are found by name.
    """

    document: Document = field(repr=False, compare=False)
    registry: RegistrySettings
    service: ServiceSettings
    metrics: MetricsSettings
    dhcpds: Mapping[str, DhcpdSettings]
    subnets: Mapping[IPv4Network, Subnet]
    pools: Mapping[str, Pool]
    hypervisors: Mapping[str, HypervisorSettings]
    page: PageSettings = PageSettings()  # noqa: RUF009  # it is frozen
    api: ApiSettings = ApiSettings()  # noqa: RUF009  # it is frozen
    names: NamesSettings = NamesSettings()  # noqa: RUF009  # it is frozen

    def pools_of(self, dhcpd: str) -> tuple[Pool, ...]:
        """The pools a dhcpd serves."""
        return tuple(pool for pool in self.pools.values() if dhcpd in pool.dhcpds)

    def subnets_of(self, dhcpd: str) -> tuple[Subnet, ...]:
        """The subnets a dhcpd serves: those of its pools, and those without any pool."""
        mine = {pool.subnet.network for pool in self.pools_of(dhcpd)}
        any_pool = {pool.subnet.network for pool in self.pools.values()}
        return tuple(
            subnet for network, subnet in self.subnets.items() if network in mine or network not in any_pool
        )


def load(path: Path = DEFAULT_PATH) -> Settings:
    """Reads and checks a configuration file.

    Raises:
        ConfigError: It cannot be used; the message names file, line and key. Of several faults one is told,
            the first in the file where that can be known; :func:`faults` lists the others that are known.
    """
    return settings_of(Document.read(path))


def settings_of(document: Document) -> Settings:
    """What a configuration that was read means; as :func:`load`.

    Raises:
        ConfigError: It cannot be used.
    """
    tables = document.tables()
    for kind in ("dhcpd", "pool"):
        if not getattr(tables, kind):
            raise document.error((), f"There is no [{kind}.NAME] table; at least one is needed.")
    _check_dhcpds(document, tables.dhcpd)
    networks = _networks(document, tables)
    pools = _pools(document, tables, networks)
    settings = Settings(
        document,
        tables.registry,
        tables.service,
        tables.metrics,
        MappingProxyType(tables.dhcpd),
        MappingProxyType({network: one.subnet for network, one in networks.items()}),
        MappingProxyType(pools),
        MappingProxyType(tables.hypervisor),
        tables.page,
        tables.api,
        tables.names,
    )
    check_page(document, tables.page, tables.service)
    check_api(document, tables.api, tables.page)
    check_names(document, tables.names)
    _check_one_server_per_dynamic(settings, networks)
    _check_probes(settings)
    return settings


def faults(error: ConfigError) -> list[ConfigError]:
    """Every fault that is known when :func:`load` has raised this error."""
    others = error.__cause__.exceptions if isinstance(error.__cause__, ExceptionGroup) else ()
    return [error, *(other for other in others if isinstance(other, ConfigError))]


def _check_dhcpds(document: Document, dhcpds: Mapping[str, DhcpdSettings]) -> None:
    """Refuses two dhcpds that share a port or a file."""
    ports: dict[tuple[str, int], str] = {}
    files: dict[Path, str] = {}
    for name, table in dhcpds.items():
        other = ports.setdefault((table.host.lower(), table.port), name)
        if other != name:
            raise document.error(
                ("dhcpd", name, "port"),
                f"[dhcpd.{name}] is at the same address as [dhcpd.{other}]: {table.host}:{table.port}.",
                "Every dhcpd needs its own host or port.",
            )
        for key in ("key_file", "config_file", "leases_file"):
            value = getattr(table, key)
            owner = f"[dhcpd.{name}] {key}"
            other = owner if value is None else files.setdefault(value, owner)
            if other != owner:
                raise document.error(
                    ("dhcpd", name, key),
                    f"{owner} is the same file as {other}: {document.values['dhcpd'][name].get(key, value)}.",
                    "Every dhcpd needs its own files.",
                )


def _networks(document: Document, tables: Tables) -> Networks:
    """Every subnet: those with a table, and those that only a pool names."""
    networks = Networks(document)
    for text, table in tables.subnet.items():
        with document.at("subnet", text):
            network = parse_network(text)
        networks.add(network, ("subnet", text), table)
    return networks


def _pools(document: Document, tables: Tables, networks: Networks) -> dict[str, Pool]:
    """Every pool. The gateways of all pools of a subnet must be known before the first plan is made."""
    drafts: list[_Draft] = []
    for name, table in tables.pool.items():
        path: KeyPath = ("pool", name)
        with document.at(*path, "subnet"):
            network = parse_network(table.subnet)
        if network not in networks:
            networks.add(network, (*path, "subnet"))
        options, rule = networks.options(path, table, network), networks.rule(path, table, network)
        drafts.append(_Draft(name, table, network, options, rule))
    networks.check_dynamic()
    pools = {draft.name: _pool(document, tables, networks, draft) for draft in drafts}
    try:
        check_plans([(name, pool.plan) for name, pool in pools.items()])
    except ConfigError as error:
        raise document.located(error) from error
    return pools


@dataclass(frozen=True)
class _Draft:
    """A pool whose own table has been read."""

    name: str
    table: PoolTable
    network: IPv4Network
    options: DhcpOptions
    rule: GatewayRule | None

    @property
    def path(self) -> KeyPath:
        return ("pool", self.name)


def _pool(document: Document, tables: Tables, networks: Networks, draft: _Draft) -> Pool:
    path, table, network = draft.path, draft.table, networks[draft.network]
    plan = _plan(document, draft, network)
    if table.mode is PoolMode.STATIC and plan.size > MAX_LISTED:
        raise document.error(
            (*path, "mode"),
            f"{label(path)} mode: {plan.size} addresses are too many for a static pool, "
            f"which has at most {MAX_LISTED}.",
            'Use mode = "live", where an unoccupied address costs nothing.',
        )
    with document.at(*path, "ipv6_prefix"):
        prefix = None if table.ipv6_prefix is None else parse_prefix(table.ipv6_prefix)
    options = replace(draft.options, hostname=draft.options.hostname or network.hostname)
    if options.hostname and table.mode is PoolMode.STATIC:
        raise document.error(
            (*path, "hostname" if table.hostname else "mode"),
            f"{label(path)} mode: The names of machines are told live, and all that a static pool says stands in "
            "dhcpd's configuration file.",
            'Use mode = "live", or leave hostname out of the pool and its subnet.',
        )
    pool = Pool(
        draft.name,
        plan,
        network.subnet,
        _dhcpds_of(document, draft, tables.dhcpd),
        mode=table.mode,
        options=options,
        cooldown_s=table.cooldown_s,
        release=table.release,
        claim_timeout_s=table.claim_timeout_s,
        arp_probe=table.arp_probe,
        own_gateway_rule=draft.rule,
        ipv6_prefix=prefix,
        confirm=table.confirm,
    )
    key = "static_routes" if table.static_routes else "gateway" if table.gateway else "routers"
    with document.at(*path, key):  # with the subnet's, or a default route, the routes may be too many
        pool.effective_options(plan.assignable[0].lo)
    if table.mode is PoolMode.LIVE:
        with document.at(*path):
            pool.check_binding(plan.assignable[0].lo)
    return pool


def _plan(document: Document, draft: _Draft, on: Network) -> AddressPlan:
    """Which addresses the pool hands out: none of a gateway, a server or a dynamic range."""
    path, table, network = draft.path, draft.table, draft.network
    with document.at(*path, "mac_prefix"):
        MacScheme.for_subnet(table.mac_prefix, network)
    wanted = ranges(document, path, "ranges", table.ranges, network)
    exclude = ranges(document, path, "exclude", table.exclude, network)
    # A server named by an option is never allocated, but unlike a gateway it may be reserved by hand.
    servers = [AddressRange(one, one) for one in on.servers if one in network]
    with document.at(*path, "subnet" if network.prefixlen > 30 else "ranges"):
        plan = AddressPlan.build(
            network,
            table.mac_prefix,
            ranges=wanted,
            exclude=(*exclude, *servers),
            gateways=on.gateways,
            rules=on.rules,
        )
    for item in plan.assignable:
        for dynamic in on.subnet.dynamic:
            if item.overlaps(dynamic):
                shared = AddressRange(max(item.lo, dynamic.lo), min(item.hi, dynamic.hi))
                raise document.error(
                    (*path, "ranges"),
                    f"{label(path)} and the dynamic range {dynamic} of {network} overlap: "
                    f"both hand out {shared}.",
                    f'Write exclude = ["{dynamic}"] in the pool.',
                )
    return plan


def _dhcpds_of(document: Document, draft: _Draft, known: Mapping[str, DhcpdSettings]) -> tuple[str, ...]:
    path, wanted = draft.path, draft.table.dhcpd
    if wanted is None:
        return tuple(known)
    for index, name in enumerate(wanted):
        if name not in known:
            raise document.error(
                (*path, "dhcpd", index),
                f"{label(path)} dhcpd: There is no table {label(('dhcpd', name))}.",
                did_you_mean(name, known, quote="'"),
            )
    if not wanted:
        raise document.error(
            (*path, "dhcpd"), f"{label(path)} dhcpd: At least one dhcpd must serve the pool."
        )
    return tuple(dict.fromkeys(wanted))


def _check_probes(settings: Settings) -> None:
    """The MAC that asks a dhcpd must be no machine's, and there must be a network to ask on."""
    for name, dhcpd in settings.dhcpds.items():
        if dhcpd.probe is None:
            continue
        if all(subnet.network.prefixlen > 30 for subnet in settings.subnets_of(name)):
            raise settings.document.error(
                ("dhcpd", name, "probe"),
                f"[dhcpd.{name}] probe: This dhcpd serves no subnet with machines.",
            )
        mac = probe_mac(name)
        for pool in settings.pools.values():
            ends = (pool.plan.scheme.encode(pool.plan.subnet[end]) for end in (0, -1))
            if next(ends) <= mac <= next(ends):
                raise settings.document.error(
                    ("pool", pool.name, "mac_prefix"),
                    f"{label(('pool', pool.name))} has a mac_prefix that would give a machine {mac}, "
                    f"with which [dhcpd.{name}] is probed.",
                    "Choose another mac_prefix, such as 52:54:00, 0a:58 or 02:00.",
                )


def _check_one_server_per_dynamic(settings: Settings, networks: Networks) -> None:
    for network, subnet in settings.subnets.items():
        serving = [name for name in settings.dhcpds if subnet in settings.subnets_of(name)]
        if subnet.dynamic and len(serving) > 1:
            raise settings.document.error(
                (*networks[network].path[:2], "dynamic"),
                f"The dynamic ranges of {network} would be served by {' and '.join(serving)}, "
                "which would give one address to two machines.",
                "Leave dynamic ranges to a subnet that one dhcpd serves.",
            )
