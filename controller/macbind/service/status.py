"""The service at a glance: DHCP servers, pools, hypervisors, and what an admin should look at."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address

from macbind import __version__
from macbind.core.allocation import Renumbering
from macbind.core.errors import HypervisorUnavailable
from macbind.core.findings import ControllerStatus, DhcpdStatus, Finding, Rates, Status, worst_first
from macbind.core.free_range import FreePage
from macbind.core.pool import PoolStates, PoolUsage
from macbind.registry.controllers import controllers
from macbind.registry.database import place
from macbind.registry.lookups import free_ranges
from macbind.registry.muted import all_muted, marked
from macbind.registry.pool_states import pool_states
from macbind.registry.queries import renumberings, usage
from macbind.registry.servers import taken_out
from macbind.registry.store import Registry
from macbind.service.finding_log import FindingLog
from macbind.service.peers import CurrentPeers
from macbind.service.used_addresses import completed, used_addresses

_OF_MAINTENANCE = (
    "dhcpd_unavailable",
    "dhcpd_not_running",
    "dhcpd_ended",
    "dhcpd_deaf",
    "subnet_unreachable",
)
"""Codes of what is to be expected of a DHCP server that is taken out."""


class StatusReport:
    """What the service knows of itself and its peers.

    Args:
        registry: The truth.
        peers: The DHCP servers and hypervisors now.
        around: What the machine around the service says, as findings.
        machines: What is found of machines, beside what libvirt shows.
        rates: How fast things go.
        names: What is found where names are written.

    Attributes:
        refused_configuration: Why the configuration file is not in force; None if it is.
        outdated_file: What the file says otherwise than all controllers mean; None if it says the same.
    """

    def __init__(
        self,
        registry: Registry,
        peers: CurrentPeers,
        around: Callable[[], Iterable[Finding]] = tuple,
        machines: Callable[[], Iterable[Finding]] = tuple,
        rates: Callable[[], Rates | None] = lambda: None,
        names: Callable[[], Iterable[Finding]] = tuple,
    ) -> None:
        self._registry, self._peers, self._around = registry, peers, around
        self._machines, self._rates, self._names = machines, rates, names
        self.refused_configuration: Finding | None = None
        self.outdated_file: Finding | None = None
        self._account = FindingLog()
        self._started_at = datetime.now(UTC)

    def status(self) -> Status:
        """The service at a glance."""
        now, look = datetime.now(UTC), self._account.begin()
        peers = self._peers()
        dhcpds = tuple(peers.status(name) for name in sorted(peers.writers))
        with self._registry.read() as view:
            pools = [usage(view, name) for name in sorted(view.pools)]
            under_way = renumberings(view)
            used = used_addresses(view)
            silent = all_muted(view, now)
            there = controllers(view.db, self._registry.origin)
            out = taken_out(view)
        dhcpds = tuple(completed(one, used.pop(one.name, ())) for one in dhcpds)
        dhcpds = tuple(_in_maintenance(one, *out[one.name]) if one.name in out else one for one in dhcpds)
        of_file = (self.refused_configuration, self.outdated_file)
        findings = [one for one in of_file if one is not None]
        findings += [finding for one in dhcpds for finding in one.findings]
        findings += [finding for found in used.values() for finding in found]
        findings += [finding for one in there if not one.is_asked for finding in _of_other(one, out)]
        findings += [*self._around(), *_exhausted(pools), *_unfinished(under_way)]
        hypervisors = peers.machines.status() if peers.machines else ()
        findings += [
            Finding(HypervisorUnavailable.code, one.problem, subject=one.name)
            for one in hypervisors
            if one.problem
        ]
        findings += peers.machines.findings() if peers.machines else []
        findings += [*self._machines(), *self._names()]
        noted = self._account.note(findings, now, look)
        known = dict(zip(findings, marked(noted, silent, now), strict=True))
        return Status(
            version=__version__,
            started_at=self._started_at,
            registry=place(self._registry.url),
            dhcpds=tuple(
                replace(one, findings=tuple(known[finding] for finding in one.findings)) for one in dhcpds
            ),
            pools=tuple(pools),
            findings=tuple(worst_first(known.values())),
            hypervisors=hypervisors,
            rates=self._rates(),
            controllers=tuple(there),
        )

    def controllers(self) -> list[ControllerStatus]:
        """All that share the registry, by host and socket."""
        with self._registry.read() as view:
            return controllers(view.db, self._registry.origin)

    def keep_account(self) -> None:
        """Looks at the findings although nobody asks, so that it is known when each has come and gone.

        Raises:
            RegistryUnavailable: The registry cannot be used now.
        """
        self.status()

    def pools(self) -> list[PoolUsage]:
        """All pools in numbers, by name."""
        with self._registry.read() as view:
            return [usage(view, name) for name in sorted(view.pools)]

    def pool_states(self) -> list[PoolStates]:
        """What the addresses of all pools are, by name."""
        with self._registry.read() as view:
            return [pool_states(view, name) for name in sorted(view.pools)]

    @property
    def leads(self) -> set[str]:
        """The DHCP servers that this controller writes to."""
        return {name for name, one in self._peers().writers.items() if one.leads}

    def free(self, pool: str, *, after: IPv4Address | None = None, limit: int = 500) -> FreePage:
        """The free space of a pool in the order of its addresses, so many ranges at a time.

        Raises:
            NotFound: There is no such pool.
        """
        with self._registry.read() as view:
            found = free_ranges(view, pool, after=after, limit=limit)
        return FreePage(found, found[-1].hi if len(found) == limit else None)

    @property
    def summary(self) -> str:
        """One line for the service manager: how each DHCP server is, and what is wrong with the configuration."""
        peers = self._peers()
        found = ", ".join(f"dhcpd {name}: {peers.state(name)}" for name in sorted(peers.writers))
        refused = self.refused_configuration
        return found if refused is None else f"{refused.message} ({found})"


def _in_maintenance(one: DhcpdStatus, since: datetime, by: str) -> DhcpdStatus:
    """A DHCP server that is taken out may be down: that it is out is said instead."""
    said = Finding(
        "dhcpd_out",
        f"dhcpd '{one.name}' was taken out at {since:%Y-%m-%d %H:%M:%S} UTC by {by}: nobody waits for it.",
        "Take it in again when it serves.",
        one.name,
        (f"macbind dhcp in {one.name}",),
    )
    left = (finding for finding in one.findings if finding.code not in _OF_MAINTENANCE)
    return replace(one, findings=(said, *left))


def _of_other(one: ControllerStatus, out: Container[str]) -> list[Finding]:
    """What is to be said of another controller, and what that one has found where it leads."""
    if one.is_alive:
        return [
            finding
            for lead in one.leads
            for finding in lead.findings
            if lead.dhcpd not in out or finding.code not in _OF_MAINTENANCE
        ]
    return [
        Finding(
            "controller_silent",
            f"The controller on '{one.host}' with the socket {one.socket} was last heard of "
            f"{one.heard_at:%Y-%m-%d %H:%M:%S} UTC, and has not said that it ends.",
            "Start it again, or look why its machine does not reach the database. It is forgotten after an hour.",
            f"{one.host}:{one.socket}",
        )
    ]


def _exhausted(pools: Iterable[PoolUsage]) -> list[Finding]:
    return [
        Finding(
            "pool_exhausted",
            f"The pool '{one.pool}' has no unoccupied address left."
            + (f" {one.used_by_others} are passed over, because others use them." * bool(one.used_by_others)),
            "Release what is not needed, or widen its ranges.",
            one.pool,
        )
        for one in pools
        if not one.free
    ]


def _unfinished(renumberings: Iterable[Renumbering]) -> list[Finding]:
    """Findings about renumberings whose time is over, and which nobody can settle."""
    now = datetime.now(UTC)
    return [
        Finding(
            "renumbering_unfinished",
            f"'{one.old.name}' was to be renumbered from {one.old.address} to {one.new.address}, and nobody can "
            "say whether it has been: both are kept.",
            f"Repeat `macbind renumber {one.old.name} --to {one.new.address}` as it was, or take it back with "
            "--abort.",
            one.old.name,
        )
        for one in renumberings
        if one.new.expires_at is not None and one.new.expires_at <= now
    ]
