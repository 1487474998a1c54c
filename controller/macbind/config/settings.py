"""The checked configuration as frozen values; only :func:`macbind.config.load` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

from macbind.model import Pool, Subnet


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """Where allocations are kept.

    Attributes:
        url: SQLAlchemy URL; not shown in ``repr`` because it may hold a password.
        audit_keep_days: How long the audit log is kept, in days.
    """

    url: str = field(repr=False)
    audit_keep_days: int


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How the daemon listens, and to whom.

    Attributes:
        socket: Its Unix socket.
        socket_mode: The socket's permissions.
        socket_group: The socket's group; None leaves it as created.
        may_change: Users, ``@groups`` or ``*`` that may change things.
        may_read: Users, ``@groups`` or ``*`` that may ask.
        timeout_s: How long a request waits for dhcpd unless it says otherwise, in seconds.
        log_format: ``auto``, ``json`` or ``console``.
        log_level: ``debug``, ``info``, ``warning`` or ``error``.
    """

    socket: Path
    socket_mode: int
    socket_group: str | None
    may_change: tuple[str, ...]
    may_read: tuple[str, ...]
    timeout_s: float
    log_format: str
    log_level: str


@dataclass(frozen=True, slots=True)
class DhcpdSettings:
    """One dhcpd: how to reach it and what is rendered for it.

    Attributes:
        name: Its name in the configuration.
        host: Where its OMAPI port is.
        port: The OMAPI port.
        key_name: Name of the OMAPI key.
        key_file: The key stanza, the only place of the secret.
        key_algorithm: The key's algorithm.
        config_file: What ``macbind render`` writes.
        leases_file: dhcpd's lease file, where the controller can read it.
        log: Where dhcpd logs: a file's path, or ``journal:`` and a systemd unit; None: it is not read.
        probe: The network interface on which dhcpd is asked for an address by DHCP; None: it is not asked.
        probe_interval_s: How often, in seconds.
        resync_s: How often every reservation is compared even without a reason, in seconds.
        fsync: Whether dhcpd flushes its lease file to disk before it answers.
        authoritative: Whether dhcpd refuses addresses from elsewhere instead of staying silent.
    """

    name: str
    host: str
    port: int
    key_name: str
    key_file: Path
    key_algorithm: str
    config_file: Path
    leases_file: Path | None
    log: str | None
    probe: str | None
    probe_interval_s: float
    resync_s: float
    fsync: bool
    authoritative: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration; mappings are in the order of the file.

    Attributes:
        path: The file it came from.
        registry: The database.
        service: The daemon.
        dhcpds: Every dhcpd by name; at least one.
        subnets: Every subnet by its network, those without a table of their own included.
        pools: Every pool by name; at least one.
        hypervisors: The libvirt URI of every hypervisor to watch, by name; may be empty.
    """

    path: Path
    registry: RegistrySettings
    service: ServiceSettings
    dhcpds: Mapping[str, DhcpdSettings]
    subnets: Mapping[IPv4Network, Subnet]
    pools: Mapping[str, Pool]
    hypervisors: Mapping[str, str]

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
