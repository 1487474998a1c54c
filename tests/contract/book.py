"""A registry under test: pools made in one line, a clock moved by hand, dhcpds that obey when told to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any

from contract.invariant import check_history, check_invariant
from macbind.core.address_plan import AddressPlan
from macbind.core.address_range import AddressRange
from macbind.core.allocation import Allocation
from macbind.core.dhcp_options import NO_OPTIONS, DhcpOptions
from macbind.core.evidence import Evidence, Source
from macbind.core.gateway_rule import GatewayRule
from macbind.core.mac_address import MacAddress
from macbind.core.pool import Pool, PoolMode, Subnet
from macbind.registry import evidence
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.audit import history
from macbind.registry.pending_changes import PendingChange, confirm, pending_changes
from macbind.registry.queries import find
from macbind.registry.release import expire, release
from macbind.registry.reserve import reserve
from macbind.registry.resting import put_aside, sweep
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction, View

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


def ip(text: str) -> IPv4Address:
    """An address."""
    return IPv4Address(text)


def make_pool(
    name: str = "farm",
    *,
    subnet: str = "10.1.1.0/28",
    prefix: str = "00:16:3e",
    ranges: Iterable[str] = (),
    exclude: Iterable[str] = (),
    gateways: Iterable[str] = (),
    dynamic: Iterable[str] = (),
    dhcpds: tuple[str, ...] = ("d1",),
    mode: PoolMode = PoolMode.LIVE,
    options: DhcpOptions = NO_OPTIONS,
    subnet_options: DhcpOptions = NO_OPTIONS,
    cooldown_s: float = 0.0,
    gateway: str | None = None,
    ipv6_prefix: str | None = None,
) -> Pool:
    """A pool; without ranges it hands out .1 to .14 of its /28. `gateway` is a rule of the pool's own."""
    network = IPv4Network(subnet)
    rule = None if gateway is None else GatewayRule.parse(gateway)
    plan = AddressPlan.build(
        network,
        prefix,
        ranges=[AddressRange.parse(one) for one in ranges],
        exclude=[AddressRange.parse(one) for one in exclude],
        gateways=[ip(one) for one in gateways],
        rules=[] if rule is None else [rule],
    )
    spans = tuple(AddressRange.parse(one) for one in dynamic)
    lies_on = Subnet(network, subnet_options, dynamic=spans)
    advertised = None if ipv6_prefix is None else IPv6Network(ipv6_prefix)
    return Pool(
        name,
        plan,
        lies_on,
        dhcpds,
        mode=mode,
        options=options,
        cooldown_s=cooldown_s,
        own_gateway_rule=rule,
        ipv6_prefix=advertised,
    )


class Book:
    """One registry, opened, closed and opened again, whose invariant holds at every closing.

    Attributes:
        url: Where it lives.
        now: The time of the next change; :meth:`later` moves it.
    """

    def __init__(self, url: str) -> None:
        self.url, self.now = url, EPOCH
        self._registry: Registry | None = None

    # -- life ------------------------------------------------------------------------------------------

    def open(self, *pools: Pool, dhcpds: Iterable[str] = ("d1",), **registry: Any) -> None:
        """Opens it with these pools, closing it first if it was open; other arguments are the registry's."""
        self.close()
        by_name = {pool.name: pool for pool in pools}
        self._registry = Registry.open(self.url, by_name, dhcpds, **registry)
        self.check()

    def close(self) -> None:
        """Closes it; harmless if it is closed."""
        if self._registry is not None:
            registry, self._registry = self._registry, None
            registry.close()
            check_invariant(self.url, registry.pools)
            check_history(self.url)

    def abandon(self) -> None:
        """Closes it without asking whether the invariant holds: its database may be gone."""
        if self._registry is not None:
            self._registry.close()
            self._registry = None

    def check(self) -> None:
        """Holds the invariant against the database."""
        check_invariant(self.url, self.registry.pools)

    @property
    def registry(self) -> Registry:
        """The open registry."""
        assert self._registry is not None, "the registry is not open"
        return self._registry

    def later(self, seconds: float) -> None:
        """Lets time pass."""
        self.now += timedelta(seconds=seconds)

    # -- transactions ----------------------------------------------------------------------------------

    @contextmanager
    def write(self, actor: str = "tester") -> Iterator[Transaction]:
        """A transaction at the book's time."""
        with self.registry.write(actor, now=self.now) as txn:
            yield txn

    @contextmanager
    def read(self) -> Iterator[View]:
        """A look."""
        with self.registry.read() as view:
            yield view

    def allocate(
        self, *names: str, pool: str = "farm", actor: str = "tester", **wanted: Any
    ) -> list[Allocation]:
        """Allocates in a transaction of its own."""
        with self.write(actor) as txn:
            return allocate(txn, Wanted(pool, names, **wanted))

    def one(self, name: str, **wanted: Any) -> Allocation:
        """Allocates one."""
        return self.allocate(name, **wanted)[0]

    def reserve(
        self, name: str, address: str, mac: str | None = None, options: DhcpOptions = NO_OPTIONS
    ) -> Allocation:
        """Pins an address."""
        with self.write() as txn:
            return reserve(
                txn, name, ip(address), mac=None if mac is None else MacAddress.parse(mac), options=options
            )

    def release(self, name: str | None = None, **how: Any) -> list[Allocation]:
        """Releases in a transaction of its own."""
        with self.write() as txn:
            return release(txn, name=name, **how)

    def put_aside(self, address: str, rest_s: float) -> None:
        """Puts a released address aside."""
        with self.write() as txn:
            put_aside(txn, ip(address), rest_s)

    def show(self, *found: Evidence, source: Source = Source.HOST, origin: str = "d1") -> None:
        """All that this source shows now."""
        with self.write("looker") as txn:
            evidence.replace(txn, source, origin, found)

    def evidence(self) -> list[str]:
        """All evidence: address, source and holder."""
        with self.read() as view:
            return [f"{one.address} {one.source} {one.holder}" for one in evidence.all_of(view)]

    def seen(
        self,
        address: str,
        holder: str = "printer",
        mac: str | None = "aa:bb:cc:00:00:01",
        *,
        source: Source = Source.HOST,
        origin: str = "d1",
        until: datetime | None = None,
    ) -> Evidence:
        """A piece of evidence, seen now."""
        parsed = None if mac is None else MacAddress.parse(mac)
        return Evidence(source, origin, ip(address), parsed, holder, self.now, self.now, until)

    def expire(self) -> list[str]:
        """Releases what has expired; returns the names."""
        with self.write("keeper") as txn:
            return [one.name for one in expire(txn)]

    def sweep(self, pool: str = "farm", limit: int = 1000) -> int:
        """Returns rested addresses; returns how many."""
        with self.write() as txn:
            return sweep(txn, txn.pools[pool], limit)

    # -- dhcpd -----------------------------------------------------------------------------------------

    def due(self, dhcpd: str = "d1", limit: int = 100_000) -> list[PendingChange]:
        """What this dhcpd should look at."""
        with self.read() as view:
            return pending_changes(view, dhcpd, limit)

    def confirm(self, *dhcpds: str, done: Iterable[PendingChange] | None = None) -> None:
        """These dhcpds ("d1" by default) do all that is due, or just ``done``, and confirm it."""
        for name in dhcpds or ("d1",):
            items = self.due(name) if done is None else list(done)
            with self.write("writer") as txn:
                confirm(txn, name, items)

    # -- looks -----------------------------------------------------------------------------------------

    def find(self, **which: Any) -> list[Allocation]:
        """Allocations."""
        with self.read() as view:
            return find(view, **which)

    def state(self, address: str) -> str:
        """How an address stands: an allocation's state, or ``free`` where there is none."""
        found = self.find(addresses=[ip(address)], released=True)
        return str(found[0].state) if found else "free"

    def history(self, **which: Any) -> list[tuple[str, str, str | None]]:
        """Actor, action and name of the changes, oldest first."""
        with self.read() as view:
            return [(one.actor, one.action, one.name) for one in reversed(history(view, **which))]


def addresses(allocations: Iterable[Allocation]) -> list[str]:
    """Their addresses as texts."""
    return [str(one.address) for one in allocations]
