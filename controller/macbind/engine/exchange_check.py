"""Compares what a DHCP server gives to machines, as its log says, with what the registry says they have.

Most lines are right, and that is arithmetic: the MAC is the image of the address. Only for the others is the registry
asked, once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

from macbind.core.evidence import Evidence, Source
from macbind.core.findings import Finding
from macbind.core.mac_address import MacAddress
from macbind.core.pool import Pool
from macbind.dhcp.port import Exchange, ExchangeKind
from macbind.engine.life_signs import LifeSign, LifeSigns
from macbind.registry import evidence
from macbind.registry.queries import find
from macbind.registry.store import Registry

MOST_ASKED = 200
"""MACs that the registry is asked about in one go; more in a second are a flood."""
STRANGER_KEPT_S = 900.0
"""How long an address counts as a stranger's after the line that shows it, at least; then the lease itself does."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a MAC: the name of an allocation and its address."""

    name: str
    address: IPv4Address


Holders = Callable[[Collection[MacAddress]], dict[MacAddress, list[Holder]]]
"""Asks the registry for the allocations of these MACs."""


@dataclass
class ExchangeCheck:
    """The check of one DHCP server.

    Attributes:
        dhcpd: Its name in the configuration.
        pools: Says which pools it serves now.
        holders: Asks the registry.
        servers: Says which addresses of servers are our own.
        life: Takes every machine that was heard of.
        take: Takes what shows that an address of a pool is in use by others.
    """

    dhcpd: str
    pools: Callable[[], Iterable[Pool]]
    holders: Holders
    servers: Callable[[], Collection[IPv4Address]] = tuple
    life: LifeSigns = field(default_factory=LifeSigns)
    take: Callable[[Sequence[Evidence]], object] = lambda _: None

    def findings(self, heard: Sequence[Exchange]) -> list[Finding]:
        """What an admin should know of these exchanges, the last one of each kind last.

        Raises:
            RegistryUnavailable: The registry cannot be asked.
        """
        if not heard:
            return []
        now = datetime.now(UTC)
        for one in heard:
            if one.kind is not ExchangeKind.DECLINE:
                self.life.note(LifeSign(one.mac, one.address, now, str(one.kind)))
        return [*self._elsewhere(heard), *self._declined(heard), *self._given(heard, now)]

    def _elsewhere(self, heard: Sequence[Exchange]) -> list[Finding]:
        """Requests to another server, which ours has turned down."""
        named = [one for one in heard if one.server is not None and one.said]
        if not named:
            return []
        ours = self.servers()
        return [
            Finding(
                "second_dhcp_server",
                f"The machine {one.mac} was offered {one.address} by another DHCP server than dhcpd '{self.dhcpd}': "
                f"{one.server}.",
                "Stop it, or keep its answers off this network: machines take whichever answer comes first.",
                str(one.server),
            )
            for one in named
            if one.server not in ours
        ]

    def _declined(self, heard: Sequence[Exchange]) -> list[Finding]:
        """Machines that do not take their own address, because another machine answers for it."""
        return [
            Finding(
                "address_declined",
                f"The machine {one.mac} found its address {one.address} in use by another machine.",
                "Find the machine that has the address without having been given it.",
                str(one.address),
            )
            for one in heard
            if one.kind is ExchangeKind.DECLINE and self._is_right(one)
        ]

    def _given(self, heard: Sequence[Exchange], now: datetime) -> list[Finding]:
        """Addresses that were given to other machines than they belong to."""
        odd = [one for one in heard if one.kind is ExchangeKind.ACK and not self._is_right(one)]
        macs = list(dict.fromkeys(one.mac for one in odd))[:MOST_ASKED]
        if not macs:
            return []
        holders = self.holders(macs)
        found: list[Finding] = []
        strangers: dict[IPv4Address, Evidence] = {}
        for one in odd:
            held = holders.get(one.mac, [])
            pool = next((pool for pool in self.pools() if one.address in pool.plan), None)
            if one.mac not in macs or any(holder.address == one.address for holder in held):
                continue
            if held:
                found.append(_wrong(self.dhcpd, one, held[0]))
            elif pool is not None:
                found.append(_stranger(self.dhcpd, one, pool))
            if pool is not None:
                until = now + timedelta(seconds=max(STRANGER_KEPT_S, pool.subnet.lease_time_s))
                strangers[one.address] = Evidence(
                    Source.EXCHANGE, self.dhcpd, one.address, one.mac, str(one.mac), now, now, until
                )
        if strangers:
            self.take(list(strangers.values()))
        return found

    def _is_right(self, one: Exchange) -> bool:
        """Whether the MAC is the image of the address in a pool; then nobody needs to be asked."""
        return any(pool.plan.assignable_of(one.mac) == one.address for pool in self.pools())


def holders_in(registry: Registry) -> Holders:
    """Asks a registry for the allocations of MACs, in one transaction."""

    def ask(macs: Collection[MacAddress]) -> dict[MacAddress, list[Holder]]:
        with registry.read() as view:
            return {
                mac: [Holder(one.name, one.address) for one in find(view, mac=mac, released=True)]
                for mac in macs
            }

    return ask


def taken_by(registry: Registry) -> Callable[[Sequence[Evidence]], None]:
    """Takes evidence into a registry."""

    def take(found: Sequence[Evidence]) -> None:
        with registry.write("monitor") as txn:
            evidence.add(txn, found)

    return take


def _wrong(dhcpd: str, one: Exchange, holder: Holder) -> Finding:
    return Finding(
        "wrong_address",
        f"dhcpd '{dhcpd}' gave {one.address} to {one.mac}, which is '{holder.name}' and has {holder.address}.",
        "Look for another host with this MAC or with a dhcp-client-identifier, and for a range, in dhcpd's "
        "configuration.",
        str(one.mac),
    )


def _stranger(dhcpd: str, one: Exchange, pool: Pool) -> Finding:
    return Finding(
        "stranger_in_pool",
        f"dhcpd '{dhcpd}' gave {one.address} of the pool '{pool.name}' to {one.mac}, to which nobody allocated "
        "it: it is passed over.",
        "Take the range or host that gives it out of dhcpd's configuration, or exclude the address from the pool.",
        str(one.address),
    )
