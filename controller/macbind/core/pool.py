"""Pools, the subnets they lie on, and what a machine of theirs is told by DHCP."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import KW_ONLY, dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from macbind.core.address_plan import AddressPlan
from macbind.core.address_range import AddressRange
from macbind.core.binding import Binding, binding_name
from macbind.core.binding_size import check_size
from macbind.core.dhcp_options import NO_OPTIONS, DhcpOptions
from macbind.core.gateway_rule import GatewayRule
from macbind.core.mac_address import MacAddress
from macbind.core.option_kinds import MAX_HOSTNAME, is_pattern
from macbind.core.static_route import default_route


class PoolMode(StrEnum):
    """How a pool's addresses become known to dhcpd."""

    LIVE = "live"
    """One binding per allocation, told live: only allocated machines are served."""
    STATIC = "static"
    """Every address has its binding in the configuration file; only leases are cleared live."""


class ReleasePolicy(StrEnum):
    """When a machine's end releases its address."""

    DESTROY = "destroy"
    """When the domain is gone or off: for machines that are never started a second time."""
    UNDEFINE = "undefine"
    """When the domain is gone: for machines that are stopped and started again."""
    NEVER = "never"
    """Only by command or expiry."""


class Confirm(StrEnum):
    """How many of a pool's DHCP servers have to hold a binding before its machine may start."""

    ALL = "all"
    """All of them."""
    ANY = "any"
    """One of them; the others follow. An address becomes free only when all have let it go."""


@dataclass(frozen=True, slots=True)
class Subnet:
    """A network dhcpd serves.

    Attributes:
        network: The network.
        options: Options of every machine on it.
        lease_time_s: How long a client may use an address before it asks again, in seconds.
        dynamic: Ranges dhcpd hands out by itself to machines we do not know; never part of a pool.
        gateway_rule: The router of each of its machines, by rule; None if ``options`` name the routers, or
            nobody does.
        shared_network: The name of the wire that it shares with other subnets; None if it is alone, or if the
            interfaces of dhcpd's machine say it.
        relayed: Whether a DHCP relay brings its machines' questions.
        rendered: Whether macbind declares it to dhcpd; False: the site's own configuration does, with options that
            macbind does not know.
    """

    network: IPv4Network
    options: DhcpOptions = NO_OPTIONS
    lease_time_s: int = 600
    dynamic: tuple[AddressRange, ...] = ()
    gateway_rule: GatewayRule | None = None
    shared_network: str | None = None
    relayed: bool = False
    rendered: bool = True


@dataclass(frozen=True, slots=True)
class Pool:
    """A named set of addresses that ``allocate`` takes from.

    Attributes:
        name: Its name.
        plan: Which addresses, and which MAC each has.
        subnet: The subnet it lies on.
        dhcpds: Names of the dhcpds that are told its bindings.
        mode: How dhcpd learns of its addresses.
        options: Options of its machines on top of the subnet's.
        cooldown_s: How long a released address rests, in seconds; cut short when the pool runs out.
        release: When a machine's end releases its address.
        claim_timeout_s: How long an allocation waits for its domain to appear before it is released, in
            seconds; 0 for ever.
        arp_probe: The interface on which to ask whether somebody uses an address before it is handed out;
            None: nobody is asked.
        own_gateway_rule: The router of each of its machines, by rule, instead of what the subnet says; None if
            the pool has no rule of its own.
        ipv6_prefix: The /64 that a router advertises to its machines, if it is to be known which address each
            of them makes of it.
        confirm: How many of the dhcpds must confirm before an allocation is bound.
        out: Those of the dhcpds that nobody waits for, because an admin has taken them out.
    """

    name: str
    plan: AddressPlan
    subnet: Subnet
    dhcpds: tuple[str, ...]
    _: KW_ONLY
    mode: PoolMode = PoolMode.LIVE
    options: DhcpOptions = NO_OPTIONS
    cooldown_s: float = 0.0
    release: ReleasePolicy = ReleasePolicy.DESTROY
    claim_timeout_s: float = 900.0
    arp_probe: str | None = None
    own_gateway_rule: GatewayRule | None = None
    ipv6_prefix: IPv6Network | None = None
    confirm: Confirm = Confirm.ALL
    out: frozenset[str] = frozenset()

    @property
    def awaited(self) -> tuple[str, ...]:
        """The dhcpds that confirmations are awaited of; of all, where all were taken out."""
        return tuple(name for name in self.dhcpds if name not in self.out) or self.dhcpds

    def is_bound_by(self, confirmed: Collection[str], confirm: Confirm | None = None) -> bool:
        """Whether a machine may start when these dhcpds have confirmed its binding.

        Args:
            confirmed: The dhcpds.
            confirm: How many have to; what the pool says by default.
        """
        how = any if (confirm or self.confirm) is Confirm.ANY else all
        return how(name in confirmed for name in self.awaited)

    def needs_binding(self, address: IPv4Address) -> bool:
        """Whether an allocation of this address needs a binding that the DHCP server is told live.

        In static mode the addresses the pool hands out are bound in the configuration file. A live change of
        those would leave tombstones in dhcpd's lease file that mask the configuration for ever.
        """
        return self.mode is PoolMode.LIVE or address not in self.plan

    def binding(
        self, address: IPv4Address, mac: MacAddress, generation: int, options: DhcpOptions, name: str = ""
    ) -> Binding:
        """The binding that makes an allocation of this name real in a DHCP server."""
        return Binding(
            binding_name(address, generation), mac, address, self.binding_options(address, options, name)
        )

    def binding_options(
        self, address: IPv4Address, options: DhcpOptions = NO_OPTIONS, name: str = ""
    ) -> DhcpOptions:
        """What the binding of this address says beyond its subnet, for a machine with these options.

        The options of machines without their own depend on the address by the gateway only, and on the name where the
        pool :attr:`tells_names`.
        """
        effective = self.effective_options(address, options, name)
        return effective.beyond(self.subnet.options) if self.subnet.rendered else effective

    def check_binding(self, address: IPv4Address, options: DhcpOptions = NO_OPTIONS) -> None:
        """Refuses what no DHCP server can be told, whatever the name of the machine with this address is.

        Raises:
            InvalidOption: The pool's options and those of the machine are impossible together.
        """
        said = self.binding_options(address, options, "n" * MAX_HOSTNAME)
        check_size(said, f"a machine of the pool '{self.name}'")

    @property
    def tells_names(self) -> bool:
        """Whether its machines get the name of their allocation as host name."""
        return is_pattern(self.options.hostname)

    def effective_options(
        self, address: IPv4Address, options: DhcpOptions = NO_OPTIONS, name: str = ""
    ) -> DhcpOptions:
        """All that the machine with this address, name and options of its own is told by DHCP.

        The machine's own options count first, then the pool's, then the subnet's. A gateway by rule counts
        where the rule stands.
        """
        nearest = options.over(self.options).named(name)
        if self.gateway_rule is not None and not nearest.routers:
            nearest = replace(nearest, routers=(self.gateway_rule.of(address),))
        return nearest.over(self.subnet.options)

    @property
    def gateway_rule(self) -> GatewayRule | None:
        """The rule for the routers of machines that name none; None if pool or subnet name them, or nobody does."""
        if self.options.routers:
            return None
        if self.own_gateway_rule is not None or self.subnet.options.routers:
            return self.own_gateway_rule
        return self.subnet.gateway_rule

    def gateway_of(self, address: IPv4Address, options: DhcpOptions = NO_OPTIONS) -> IPv4Address | None:
        """The default gateway of the machine with this address and these options.

        The same as ``effective_options(address, options).gateway``, and cheaper for a machine without routers and
        routes of its own.
        """
        if options.routers or options.static_routes:
            return self.effective_options(address, options).gateway
        route = self._default_route
        if route is not None:
            return route
        if self.gateway_rule is not None:
            return self.gateway_rule.of(address)
        return next(iter(self.options.routers or self.subnet.options.routers), None)

    @property
    def default_gateway_rule(self) -> GatewayRule | None:
        """The default gateway of machines without options of their own, as a rule; None if they have none."""
        if self.gateway_rule is not None and self._default_route is None:
            return self.gateway_rule
        gateway = self.gateway_of(self.plan.assignable[0].lo)
        return None if gateway is None else GatewayRule.fixed(gateway)

    @property
    def _default_route(self) -> IPv4Address | None:
        routes = self.options.static_routes or self.subnet.options.static_routes
        return default_route(routes) if routes else None


@dataclass(frozen=True, slots=True)
class PoolStates:
    """The addresses that a pool hands out, each counted once.

    Attributes:
        pool: Its name.
        size: All of them: the sum of the five that follow.
        free: What ``allocate`` can take.
        allocated: Those that a name holds, without reservations.
        reserved: Reservations.
        releasing: Those that are released and not free yet.
        used_by_others: Those that are passed over, because others use them.
        outside: Allocations and reservations beside these, whose addresses the pool does not hand out.
    """

    pool: str
    size: int
    free: int
    allocated: int
    reserved: int
    releasing: int
    used_by_others: int
    outside: int = 0


@dataclass(frozen=True, slots=True)
class PoolUsage:
    """A pool in numbers of addresses.

    Attributes:
        pool: Its name.
        size: All that it hands out.
        free: What ``allocate`` can take without cutting a rest short.
        allocated: Those that a name holds.
        pinned: Those of them that are reservations.
        releasing: Those that are released and not free yet.
        used_by_others: Those that are passed over, because others use them.
    """

    pool: str
    size: int
    free: int
    allocated: int
    pinned: int
    releasing: int
    used_by_others: int = 0
