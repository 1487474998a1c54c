"""The values everything else is about: allocations, host reservations, leases.

All are frozen; text and bytes exist only at the edges. The name of a host reservation is decided here because
it is the fence between generations: it carries our prefix, the address and the generation of the allocation,
so that a late message about a former holder can never touch its successor.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from macbind.addressing import AddressPlan, AddressRange, MacAddress
from macbind.errors import InvalidRequest
from macbind.gateway import GatewayRule
from macbind.ipv6 import link_local
from macbind.options import DhcpOptions, default_route

HOST_PREFIX = "macbind-"
STATIC_HOST_PREFIX = f"{HOST_PREFIX}static-"
"""Hosts of static pools; :func:`host_name` never makes such a name."""
PROBE_HOST = f"{HOST_PREFIX}probe"
"""The host dhcpd is asked about to see that it answers; its MAC and address are nobody's."""
MAX_NAME = 128
NO_OPTIONS = DhcpOptions()
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]*")
_HOST_NAME = re.compile(re.escape(HOST_PREFIX) + r"([0-9.]{7,15})-g([1-9][0-9]*)")


def check_name(text: str, what: str = "name") -> str:
    """Returns ``text`` if it may name an allocation or a group.

    Raises:
        InvalidRequest: It is empty, too long or has other characters.
    """
    if len(text) > MAX_NAME or not _NAME.fullmatch(text):
        raise InvalidRequest(
            f"{text!r} cannot be a {what}.",
            hint=f"Use 1 to {MAX_NAME} letters, digits and . _ : @ / + -, beginning with a letter or digit.",
        )
    return text


def probe_mac(dhcpd: str) -> MacAddress:
    """The MAC that asks this dhcpd whether it answers.

    It is locally administered, and another one for each name, so that of two dhcpds on one network the right one
    answers.
    """
    return MacAddress.from_bytes(b"\x02\x6d\x62" + sha256(dhcpd.encode()).digest()[:3])


class State(StrEnum):
    """Where an allocation stands; computed by comparing the registry with what each dhcpd has confirmed."""

    PENDING = "pending"
    """Allocated; a required dhcpd has yet to confirm the host reservation. Do not start the machine."""
    BOUND = "bound"
    """Every required dhcpd has confirmed. The machine may start."""
    RELEASING = "releasing"
    """Released; a dhcpd has yet to confirm that reservation and lease are gone. Not reusable."""
    COOLING = "cooling"
    """Gone from every dhcpd; rests until its cool-down ends or the pool runs short."""


class PoolMode(StrEnum):
    """How a pool's addresses become known to dhcpd."""

    LIVE = "live"
    """One host reservation per allocation, over OMAPI: only allocated machines are served."""
    STATIC = "static"
    """Every address has its reservation in the configuration file; OMAPI only clears leases."""


class ReleasePolicy(StrEnum):
    """When a machine's end releases its address."""

    DESTROY = "destroy"
    """When the domain is gone or off: for machines that are never started a second time."""
    UNDEFINE = "undefine"
    """When the domain is gone: for machines that are stopped and started again."""
    NEVER = "never"
    """Only by command or expiry."""


@dataclass(frozen=True, slots=True)
class Subnet:
    """A network dhcpd serves.

    Attributes:
        network: The network.
        options: Options of every machine on it.
        lease_time_s: How long a client may use an address before it asks again, in seconds.
        dynamic: Ranges dhcpd hands out by itself to machines we do not know; never part of a pool.
        gateway: The router of each of its machines, by rule; None if ``options`` name the routers, or nobody does.
    """

    network: IPv4Network
    options: DhcpOptions = NO_OPTIONS
    lease_time_s: int = 600
    dynamic: tuple[AddressRange, ...] = ()
    gateway: GatewayRule | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """A named set of addresses that ``allocate`` takes from.

    Attributes:
        name: Its name.
        plan: Which addresses, and which MAC each has.
        subnet: The subnet it lies on.
        dhcpds: Names of the dhcpds that must confirm before an allocation is bound.
        mode: How dhcpd learns of its addresses.
        options: Options of its machines on top of the subnet's.
        cooldown_s: How long a released address rests, in seconds; cut short when the pool runs out.
        release: When a machine's end releases its address.
        claim_timeout_s: How long an allocation waits for its domain to appear before it is released, in
            seconds; 0 for ever.
        arp_probe: The interface on which to ask whether somebody uses an address before it is handed out;
            None: nobody is asked.
        gateway: The router of each of its machines, by rule, instead of what the subnet says; None if the pool
            has no rule of its own.
        ipv6_prefix: The /64 that a router advertises to its machines, if it is to be known which address each
            of them makes of it.
    """

    name: str
    plan: AddressPlan
    subnet: Subnet
    dhcpds: tuple[str, ...]
    mode: PoolMode = PoolMode.LIVE
    options: DhcpOptions = NO_OPTIONS
    cooldown_s: float = 0.0
    release: ReleasePolicy = ReleasePolicy.DESTROY
    claim_timeout_s: float = 900.0
    arp_probe: str | None = None
    gateway: GatewayRule | None = None
    ipv6_prefix: IPv6Network | None = None

    def needs_host(self, address: IPv4Address) -> bool:
        """Whether an allocation of this address needs a host reservation made over OMAPI.

        In static mode the addresses the pool hands out are reserved in the configuration file, and touching
        those over OMAPI would leave tombstones that mask the file for ever.
        """
        return self.mode is PoolMode.LIVE or address not in self.plan

    def reservation(
        self, address: IPv4Address, mac: MacAddress, generation: int, options: DhcpOptions
    ) -> HostReservation:
        """The host reservation that makes an allocation real in dhcpd."""
        return HostReservation(
            host_name(address, generation), mac, address, self.statements(address, options)
        )

    def statements(self, address: IPv4Address, options: DhcpOptions = NO_OPTIONS) -> str:
        """The dhcpd statements of the host reservation of this address, for a machine with these options.

        Of machines without options of their own they depend on the address by the gateway only.
        """
        return " ".join(self.told(address, options).beyond(self.subnet.options).statements())

    def told(self, address: IPv4Address, options: DhcpOptions = NO_OPTIONS) -> DhcpOptions:
        """All that the machine with this address and these options of its own is told by DHCP.

        What is said nearest to the machine counts: its own options, then the pool's, then the subnet's. A gateway
        by rule is said where the rule stands.
        """
        nearest = options.over(self.options)
        if self.rule is not None and not nearest.routers:
            nearest = replace(nearest, routers=(self.rule.of(address),))
        return nearest.over(self.subnet.options)

    @property
    def rule(self) -> GatewayRule | None:
        """The rule for the routers of machines that name none; None if pool or subnet name them, or nobody does."""
        if self.options.routers:
            return None
        if self.gateway is not None or self.subnet.options.routers:
            return self.gateway
        return self.subnet.gateway

    def gateway_of(self, address: IPv4Address, options: DhcpOptions = NO_OPTIONS) -> IPv4Address | None:
        """The default gateway of the machine with this address and these options: the one it is told.

        The same as ``told(address, options).gateway``, and cheaper for a machine without such options of its own.
        """
        if options.routers or options.static_routes:
            return self.told(address, options).gateway
        route = self._default_route
        if route is not None:
            return route
        if self.rule is not None:
            return self.rule.of(address)
        return next(iter(self.options.routers or self.subnet.options.routers), None)

    @property
    def gateways(self) -> GatewayRule | None:
        """The default gateway of machines without options of their own, as a rule; None if they have none."""
        if self.rule is not None and self._default_route is None:
            return self.rule
        gateway = self.gateway_of(self.plan.assignable[0].lo)
        return None if gateway is None else GatewayRule.fixed(gateway)

    @property
    def _default_route(self) -> IPv4Address | None:
        routes = self.options.static_routes or self.subnet.options.static_routes
        return default_route(routes) if routes else None


@dataclass(frozen=True, slots=True)
class Allocation:
    """One address with its MAC, held under a name.

    Attributes:
        address: The IPv4 address.
        mac: Its MAC: the pool's scheme applied to the address, unless pinned to a foreign one.
        name: The holder's key; unique among all live allocations.
        pool: Name of the pool.
        generation: Grows with every operation on an address, never repeats for it.
        state: Whether dhcpd has confirmed it.
        group: Allocations made together share a group.
        options: DHCP options of this machine on top of its pool's.
        domain: The libvirt domain that uses it, or is to; None if unknown.
        domain_uuid: That domain's UUID, once libvirt has shown it.
        pinned: Made by ``reserve``: only ``unreserve`` ends it.
        created_at: When it was allocated (UTC).
        expires_at: When it is released by itself (UTC), if ever; of one that is moved to, when the move is settled
            by itself.
        released_at: When it was released (UTC); such an allocation is only waiting to disappear.
        gateway: The default gateway the machine is told; None if it is told none.
        ipv6: The address it makes of the pool's IPv6 prefix by SLAAC (RFC 4862); None if the pool has no prefix.
        link_local: Its link-local IPv6 address (RFC 4291). Both hold for a machine that makes them from its MAC.
        moves_from: The address whose holder is moving to this one and has not arrived yet: until then the name has
            two addresses.
    """

    address: IPv4Address
    mac: MacAddress
    name: str
    pool: str
    generation: int
    state: State
    created_at: datetime
    group: str | None = None
    options: DhcpOptions = NO_OPTIONS
    domain: str | None = None
    domain_uuid: str | None = None
    pinned: bool = False
    expires_at: datetime | None = None
    released_at: datetime | None = None
    gateway: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    moves_from: IPv4Address | None = None
    link_local: IPv6Address = field(init=False, default=IPv6Address(0))

    def __post_init__(self) -> None:
        object.__setattr__(self, "link_local", link_local(self.mac))


@dataclass(frozen=True, slots=True)
class Told:
    """What a machine is told of its place in the network, by DHCP or otherwise.

    Attributes:
        name: Its allocation's name.
        mac: Its MAC.
        interface: Its address with the prefix length of its subnet, ``10.1.1.3/16``.
        options: Everything it is told beside: its own options, its pool's and its subnet's.
    """

    name: str
    mac: MacAddress
    interface: IPv4Interface
    options: DhcpOptions


MAX_MOVE_S = 86_400.0
"""How long a move may be somebody's own: a day, for who moves a machine waits for it."""


@dataclass(frozen=True, slots=True)
class Move:
    """A name on its way from one address to another; both are held until it has arrived or turned back.

    Attributes:
        old: The allocation it leaves; after the move, as it was released.
        new: The allocation it gets; the same as ``old`` where there is nothing to move.
    """

    old: Allocation
    new: Allocation


class DomainState(StrEnum):
    """A domain as libvirt sees it now."""

    ACTIVE = "active"
    """It runs, or is paused: it uses its addresses."""
    OFF = "off"
    """It is defined and does not run."""
    HELD = "held"
    """It does not run but may go on from where it stopped: saved, or reverted to a snapshot."""
    MOVED = "moved"
    """It does not run here because it was migrated away."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A libvirt domain as just seen.

    Attributes:
        uuid: Its UUID, as text.
        name: Its name.
        hypervisor: The configured name of the hypervisor it is on.
        state: Whether it runs.
        macs: The MACs of its interfaces, of the running machine and of its stored definition.
        live: Those of the running machine only; of the definition if it does not run.
        unplugged: That of the interface a move has unplugged, or has asked it to let go of.
    """

    uuid: str
    name: str
    hypervisor: str
    state: DomainState
    macs: frozenset[MacAddress]
    live: frozenset[MacAddress]
    unplugged: frozenset[MacAddress] = frozenset()


class StopCause(StrEnum):
    """Why a domain stopped, by libvirt's event; a hint for what to make of its absence, never a proof."""

    ENDED = "ended"
    """Shut down, destroyed, crashed or failed to start."""
    SAVED = "saved"
    MIGRATED = "migrated"
    REVERTED = "reverted"
    UNDEFINED = "undefined"
    """Its definition was removed, and a managed save image with it."""


class Phase(StrEnum):
    """How far the domain of an allocation has come, as recorded with the allocation."""

    DEFINED = "defined"
    """It exists and has not been seen running."""
    RUNNING = "running"
    """It has been seen running."""
    HELD = "held"
    """It was saved or reverted: it may come back, until it is undefined."""
    MOVED = "moved"
    """It was migrated away: whatever happens to its traces here says nothing of it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An allocation and the domain that uses it.

    Attributes:
        address, mac, generation, pool, name: Of the allocation.
        hypervisor, uuid: Of the domain; None if none was seen yet.
        phase: How far the domain has come; None if none was seen yet.
        pinned: Whether only a command may release the allocation.
        created_at: When the allocation was made (UTC).
        moves_to: The MAC of the address it is moving to: its domain may have either, or none for a moment.
    """

    address: IPv4Address
    mac: MacAddress
    generation: int
    pool: str
    name: str
    hypervisor: str | None
    uuid: str | None
    phase: Phase | None
    pinned: bool
    created_at: datetime
    moves_to: MacAddress | None = None

    @property
    def macs(self) -> frozenset[MacAddress]:
        """The MACs its domain may have."""
        return frozenset({self.mac} if self.moves_to is None else {self.mac, self.moves_to})


@dataclass(frozen=True, slots=True)
class HostReservation:
    """A ``host`` object of dhcpd.

    Attributes:
        name: The object's name; ours are made by :func:`host_name`.
        mac: The hardware address it matches (Ethernet).
        address: The fixed address; None for a host without one.
        statements: dhcpd statements for this machine only. OMAPI never shows them again, so they are not
            part of what can be observed: equal names mean equal statements, because every change of an
            allocation makes a new generation and thereby a new name.
    """

    name: str
    mac: MacAddress
    address: IPv4Address | None
    statements: str = ""

    @property
    def owner(self) -> tuple[IPv4Address, int] | None:
        """Address and generation if the host is ours, else None."""
        return owner_of(self.name)

    def serves_as(self, other: HostReservation) -> bool:
        """Whether dhcpd treats a machine the same by this object as by ``other``."""
        return (self.name, self.mac, self.address) == (other.name, other.mac, other.address)


def owner_of(name: str) -> tuple[IPv4Address, int] | None:
    """Address and generation if a host of this name is ours, else None."""
    match = _HOST_NAME.fullmatch(name)
    try:
        return (IPv4Address(match[1]), int(match[2])) if match else None
    except ValueError:  # not an address, e.g. macbind-999.1.1.1-g1: somebody else's
        return None


def host_name(address: IPv4Address, generation: int) -> str:
    """The name of the host reservation that makes this generation of an address real."""
    return f"{HOST_PREFIX}{address}-g{generation}"


@dataclass(frozen=True, slots=True)
class Lease:
    """dhcpd's record of a dynamic address.

    Attributes:
        address: The leased address.
        state: ``active``, ``free``, ``expired``, ``released``, ``abandoned``, ``backup``, ``reset`` or
            ``bootp``.
        mac: The client, if the record names an Ethernet address.
        ends: When it ends (UTC); None for a lease that never ends.
    """

    address: IPv4Address
    state: str
    mac: MacAddress | None = None
    ends: datetime | None = None


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """A pool in numbers of addresses; ``free`` is what ``allocate`` can take without cutting a rest short."""

    pool: str
    size: int
    free: int
    allocated: int
    pinned: int
    releasing: int


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change: who did what to which address, and when (UTC)."""

    at: datetime
    actor: str
    action: str
    address: IPv4Address | None
    generation: int | None
    name: str | None
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Released:
    """The answer to a release.

    Attributes:
        allocations: What was released; every dhcpd has confirmed that it is gone.
        already_gone: Whether there was nothing (left) to release.
    """

    allocations: tuple[Allocation, ...]
    already_gone: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """Something an admin should look at.

    Attributes:
        code: What kind of thing, for programs; never changes. An error that lasts has the error's code.
        message: One sentence: what is wrong, and where.
        hint: One sentence: how to mend it.
    """

    code: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class DhcpdState(StrEnum):
    """How macbind gets on with a dhcpd."""

    CONNECTING = "connecting"
    """Not connected yet, or again."""
    COMPARING = "comparing"
    """Connected; every reservation is being compared with the registry."""
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
        compared_at: When all reservations were last compared with it (UTC).
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
    """

    version: str
    started_at: datetime
    registry: str
    dhcpds: tuple[DhcpdStatus, ...]
    pools: tuple[PoolUsage, ...]
    findings: tuple[Finding, ...] = ()
    hypervisors: tuple[HypervisorStatus, ...] = ()
