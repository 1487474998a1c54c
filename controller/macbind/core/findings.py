"""Findings, and the state of the service and its peers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from macbind.core.pool import PoolUsage

CODES = {
    "address_answered": "A machine answers on the network for addresses of a pool that nobody has allocated.",
    "address_contested": "Somebody else uses an address that is allocated.",
    "address_declined": "A machine found its address in use by another machine.",
    "bridge_slow": "A bridge lets a machine speak only seconds after it was switched on.",
    "check_crashed": "A check of `macbind doctor` ended with a defect of its own; what it looks at is unknown.",
    "check_late": "A check of `macbind doctor` did not end in time; what it looks at is unknown.",
    "client_id_shared": "Clones with one machine-id take one address in turns, in a subnet that is not macbind's.",
    "clock_wrong": "The clock of this machine is wrong, or differs from the database's.",
    "conf_file_old": "dhcpd runs with an older configuration than the one on disk.",
    "conf_file_other": "dhcpd runs with a configuration that macbind's part is not in.",
    "conf_file_unclear": "A line of the configuration that dhcpd runs with cannot be understood.",
    "conf_file_unreadable": "macbind cannot read the configuration that dhcpd runs with.",
    "config_outdated": "The configuration file is older than what all controllers were told to use.",
    "config_refused": "The configuration file is refused; the configuration from before is in force.",
    "connections_unknown": "macbind cannot list who is connected to the OMAPI port.",
    "controller_silent": "A controller of this registry was not heard of for a while, and had not said that it ends.",
    "dhcpd_deaf": "dhcpd confirms over OMAPI, and does not answer machines.",
    "dhcpd_discontinued": "The next release of this distribution has no dhcpd.",
    "dhcpd_ended": "dhcpd has ended at its start, and says why.",
    "dhcpd_not_running": "No dhcpd runs on this machine.",
    "dhcpd_out": "An admin has taken a DHCP server out; nobody waits for it.",
    "dhcpd_refused": "dhcpd refuses a binding.",
    "dhcpd_unavailable": "dhcpd does not answer over OMAPI.",
    "disk_low": "The file system of dhcpd's lease file is nearly full.",
    "domain_missing": "A machine is missing or off, and libvirt has not said why; its address is kept meanwhile.",
    "domain_unreadable": "libvirt shows a domain that cannot be read; what it may use is kept.",
    "file_open": "A file with a secret may be read by every user of this machine.",
    "firewall_open": "The rules that close dhcpd's OMAPI port are not loaded, or were gone within the last hour.",
    "foreign_host": "A host in dhcpd that macbind did not make has an address of a pool.",
    "foreign_mac": "A machine on the network has a MAC of a pool that is not allocated.",
    "foreign_omapi_client": "Somebody else is connected to the OMAPI port.",
    "foreign_range": "dhcpd hands out addresses of a pool by itself, from a dynamic range.",
    "host_masked": "A record of dhcpd's lease file masks a host of a static pool.",
    "hypervisor_unavailable": "libvirt does not answer; no address is released meanwhile.",
    "key_refused": "dhcpd does not take macbind's key, or the key file cannot be used.",
    "lease_file_damaged": "dhcpd could not read all of its lease file.",
    "lease_file_missing": "The lease file is gone while dhcpd runs.",
    "lease_file_unreadable": "macbind cannot read dhcpd's lease file.",
    "lease_file_unwritable": "dhcpd cannot write its lease file.",
    "leased_address": "dhcpd leases an address of a pool by itself.",
    "leases_differ": "The lease file of dhcpd and the registry differ, and no service mends that.",
    "leftover": "dhcpd does not give up a binding that no allocation accounts for.",
    "log_unavailable": "dhcpd's log cannot be read.",
    "machine_away": "A released address may be used again by a machine that was saved or migrated.",
    "machine_unseen": "A machine that no hypervisor shows uses an allocation.",
    "names_contested": "Somebody else changes the same records of a name server.",
    "names_doubled": "Allocations have a host name that another allocation has already, and are not found by name.",
    "names_file_failed": "The hosts file cannot be written.",
    "names_file_foreign": "The hosts file was written by somebody else, and is left as it is.",
    "names_foreign": "A name server has records of others under the name of an allocation; they are left alone.",
    "names_key_refused": "The key that signs updates of names cannot be used.",
    "names_refused": "A name server refuses a transfer or an update.",
    "names_unavailable": "A name server does not answer; its names are made up for when it is back.",
    "names_unfit": "Allocations have names that are no host names, and are not found by name.",
    "neighbours_differ": "A machine on the network has an allocated address, with another MAC.",
    "network_unavailable": "The interface of `arp_probe` or `probe` cannot be used.",
    "never_asked": "A machine runs, and has never asked for its address by DHCP.",
    "nic_lost": "A machine has let go of its NIC after a renumbering was given up.",
    "not_durable": "The database may forget what it has confirmed.",
    "other_registry": "dhcpd has bindings that this registry never made; they are left alone.",
    "pool_exhausted": "A pool has no unoccupied address left.",
    "registry_unavailable": "The registry cannot be used.",
    "render_needed": "dhcpd's configuration on disk is not what macbind.toml says.",
    "renumbering_unfinished": "A renumbering was broken off; the name has two addresses.",
    "second_dhcp_server": "Another DHCP server answers machines.",
    "service_unavailable": "The macbind service does not answer.",
    "shared_mac": "A domain has the MAC of another domain.",
    "storage_failed": "dhcpd cannot write down a change; what it serves now may be lost at its next start.",
    "stranger_in_pool": "dhcpd gave an address of a pool to a machine to which nobody allocated it.",
    "subnet_unreachable": "No interface of dhcpd's machine and no relay brings the machines of a subnet to dhcpd.",
    "two_dhcpds": "A second dhcpd runs on this machine.",
    "unallocated_mac": "A domain has a MAC of a pool that is not allocated to it.",
    "wrong_address": "dhcpd gave a machine another address than the one that is allocated to it.",
}
"""What each code means. A code never changes; an error that lasts has the code of the error."""


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """Machines are not served, or what is promised may be lost."""
    WARNING = "warning"
    """Something is wrong, and macbind goes on around it."""
    INFO = "info"
    """Nothing is wrong yet."""

    @property
    def rank(self) -> int:
        """Its place in a list: the worst first."""
        return list(Severity).index(self)


_ERRORS = (
    "address_contested address_declined check_crashed check_late clock_wrong conf_file_other config_refused "
    "dhcpd_deaf dhcpd_ended dhcpd_not_running dhcpd_refused dhcpd_unavailable disk_low file_open firewall_open "
    "foreign_omapi_client host_masked key_refused lease_file_damaged lease_file_missing lease_file_unwritable "
    "neighbours_differ nic_lost not_durable pool_exhausted registry_unavailable second_dhcp_server "
    "service_unavailable shared_mac storage_failed subnet_unreachable two_dhcpds wrong_address"
)
_INFOS = "dhcpd_discontinued machine_away machine_unseen"
SEVERITIES = {
    code: Severity.ERROR
    if code in _ERRORS.split()
    else Severity.INFO
    if code in _INFOS.split()
    else Severity.WARNING
    for code in CODES
}
"""How much each code matters."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something an admin should look at.

    Attributes:
        code: One of :data:`CODES`, for programs.
        message: One sentence: what is wrong, and where.
        hint: One sentence: how to mend it.
        subject: What it is about: an address, a MAC, a name, a file. It is the same as long as the finding lasts.
        commands: The commands that mend it, a shell line each; empty when no command can.
        severity: How much it matters; its code says so.
        since: Since when it is there (UTC); None while nobody has kept account.
        last_seen: When it was last seen (UTC).
        count: How often it has come, since the service started.
        muted: Whether an admin does not want to hear of it now.
    """

    code: str
    message: str
    hint: str = ""
    subject: str = ""
    commands: tuple[str, ...] = ()
    severity: Severity = Severity.WARNING
    since: datetime | None = None
    last_seen: datetime | None = field(default=None, compare=False)
    count: int = 1
    muted: bool = False

    def __post_init__(self) -> None:
        """Takes the severity from the table; of a code that a newer service has, it stays."""
        object.__setattr__(self, "severity", SEVERITIES.get(self.code, self.severity))

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others, whatever its sentence says."""
        return self.code, self.subject

    @property
    def needs_admin(self) -> bool:
        """Whether an admin should look: it is more than information, and not muted."""
        return self.severity is not Severity.INFO and not self.muted


def worst_first(found: Iterable[Finding]) -> list[Finding]:
    """Findings in the order of their severity; within it in the order given."""
    return sorted(found, key=lambda one: one.severity.rank)


RESTART_DHCPD = ("systemctl restart isc-dhcp-server",)
"""The command that restarts a dhcpd of this machine."""


class DhcpdState(StrEnum):
    """How macbind gets on with a dhcpd."""

    CONNECTING = "connecting"
    """Not connected yet, or again."""
    COMPARING = "comparing"
    """Connected; every binding is being compared with the registry."""
    SERVING = "serving"
    """Connected; dhcpd holds what the registry says, and answers DHCP where it is asked to."""
    DEAF = "deaf"
    """Connected, and dhcpd holds what the registry says, but it does not answer DHCP."""
    UNAVAILABLE = "unavailable"
    """It does not answer, or refuses us; macbind keeps trying."""
    STANDBY = "standby"
    """Another controller writes to it."""

    @property
    def is_good(self) -> bool:
        """Whether machines get what the registry says, as far as this controller knows."""
        return self in (DhcpdState.SERVING, DhcpdState.STANDBY)


@dataclass(frozen=True, slots=True)
class DhcpdStatus:
    """One dhcpd as its writer sees it.

    Attributes:
        name: Its name in the configuration.
        state: How macbind gets on with it.
        since: Since when (UTC).
        backlog: Addresses it has yet to confirm.
        problem: Why it is not serving, or what it refused last; empty if all is well.
        compared_at: When all bindings were last compared with it (UTC).
        answered_at: When it last answered a DHCP probe (UTC); None if it never did, or is not probed.
        findings: What an admin should look at; empty if all is well.
    """

    name: str
    state: DhcpdState
    since: datetime
    backlog: int = 0
    problem: str = ""
    compared_at: datetime | None = None
    answered_at: datetime | None = None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Lead:
    """A DHCP server that a controller writes to.

    Attributes:
        dhcpd: Its name in the configuration.
        state: How the controller gets on with it.
        since: Since when (UTC).
        findings: What the controller found when it compared and wrote.
    """

    dhcpd: str
    state: DhcpdState
    since: datetime
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class ControllerStatus:
    """One controller, as the registry knows it. The times are those of the database's clock.

    Attributes:
        id: Made anew at each start.
        host: The name of its machine.
        socket: Where it listens there.
        version: Its version of macbind.
        since: When it started (UTC).
        heard_at: When it was last heard of (UTC).
        is_alive: Whether that is not long ago.
        is_asked: Whether it is the one that answers.
        leads: The DHCP servers that it writes to; none if it is not alive.
        wants: DHCP servers that it is ready to write to as well.
    """

    id: str
    host: str
    socket: str
    version: str
    since: datetime
    heard_at: datetime
    is_alive: bool
    is_asked: bool = False
    leads: tuple[Lead, ...] = ()
    wants: tuple[str, ...] = ()

    def lead(self, dhcpd: str) -> Lead | None:
        """What it leads under this name."""
        return next((one for one in self.leads if one.dhcpd == dhcpd), None)

    @property
    def rank(self) -> tuple[int, datetime, str]:
        """Its place among those that might lead everything: who leads most comes first, then who is there longest."""
        return -len(self.leads), self.since, self.id


@dataclass(frozen=True, slots=True)
class HypervisorStatus:
    """One hypervisor as its watcher sees it.

    Attributes:
        name: Its name in the configuration.
        uri: Its libvirt URI.
        connected: Whether libvirt answers.
        since: Since when (UTC).
        domains: How many domains the last scan found.
        problem: Why it is not connected.
    """

    name: str
    uri: str
    connected: bool
    since: datetime
    domains: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast things go just now.

    Attributes:
        allocations_per_minute: Addresses that were allocated and confirmed in the last minute.
        releases_per_minute: Addresses whose release became complete in the last minute.
        destroy_to_free_p50_s: From libvirt's word that a machine ended until its address was free, in seconds: the
            median of the last 15 minutes; None if no machine ended.
        destroy_to_free_p99_s: The same, as 99 of 100 do not exceed it.
        waiting: Callers that wait for a DHCP server or the registry.
    """

    allocations_per_minute: int = 0
    releases_per_minute: int = 0
    destroy_to_free_p50_s: float | None = None
    destroy_to_free_p99_s: float | None = None
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Status:
    """The service at a glance.

    Attributes:
        version: macbind's version.
        started_at: When the service started (UTC).
        registry: Where the registry lives, without secrets.
        dhcpds: One entry per configured dhcpd.
        pools: One entry per configured pool.
        findings: What an admin should look at; empty if all is well.
        hypervisors: One entry per configured hypervisor.
        rates: How fast things go; None where an older service does not say.
        controllers: All that share the registry.
    """

    version: str
    started_at: datetime
    registry: str
    dhcpds: tuple[DhcpdStatus, ...]
    pools: tuple[PoolUsage, ...]
    findings: tuple[Finding, ...] = ()
    hypervisors: tuple[HypervisorStatus, ...] = ()
    rates: Rates | None = None
    controllers: tuple[ControllerStatus, ...] = ()
