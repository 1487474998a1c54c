"""One call's search for addresses that nobody uses.

A pool may want the network asked before an address is handed out. What answers is passed over, and so is what a DHCP
server refuses because a host of others is in the way. The call goes on with the next addresses by itself. From the
second try on it asks for many addresses ahead, so that many strangers cost one wait.

The network is asked before an address is taken, and again if another one was taken than was asked for. A service that
ends between taking and asking would otherwise leave a name with an address in use, and the next call with that name
finds it as it is.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import structlog

from macbind.core.allocation import Allocation
from macbind.core.errors import AddressAnswered, AddressInUse, DhcpdRefused, MacbindError
from macbind.core.evidence import Evidence, Source
from macbind.core.mac_address import MacAddress
from macbind.probes.arp import probe
from macbind.registry import evidence
from macbind.registry.queries import find
from macbind.registry.store import Registry

_log = structlog.get_logger()

MOST_IN_USE = 64
"""So many addresses may turn out to be in use before a call gives up."""
AHEAD = 64
"""So many addresses are asked for ahead, once one was in use."""
NOTHING_TAKEN = "Nothing was allocated. What is in use is passed over for as long as it is seen to be."
"""What becomes of a call that found addresses in use and no other."""
REFUSED_S = 300.0
"""How long an address counts as used that a DHCP server refused, unless its audit shows the host, in seconds."""


@dataclass(frozen=True, slots=True)
class Ahead:
    """Addresses that may be taken.

    Attributes:
        interface: Where the network is asked for them; None: it is not asked.
        addresses: The addresses.
        own: The MAC of the machine that they are for, which may answer.
    """

    interface: str | None = None
    addresses: Sequence[IPv4Address] = ()
    own: MacAddress | None = None


class Search:
    """What one call has learned of addresses.

    Attributes:
        silent: Addresses for which nobody answered.
        in_use: Evidence of those that others use.
        is_bound: Whether every DHCP server has confirmed what it found in the end.
    """

    def __init__(self) -> None:
        self.silent: set[IPv4Address] = set()
        self.in_use: list[Evidence] = []
        self.is_bound = False
        self._refusal: DhcpdRefused | None = None

    async def look(self, ahead: Ahead) -> list[Evidence]:
        """Asks the network for addresses that may be taken.

        Raises:
            NetworkUnavailable: The network cannot be asked.
        """
        if ahead.interface is None or not ahead.addresses:
            return []
        own = {(one, ahead.own) for one in ahead.addresses if ahead.own is not None}
        return await self._probe(ahead.interface, ahead.addresses, own)

    async def ask(
        self, interface: str | None, new: Sequence[Allocation], ahead: Sequence[IPv4Address]
    ) -> list[Evidence]:
        """Asks the network for addresses that were just allocated, and for some that may be next.

        The machine that an address is reserved for may answer.

        Raises:
            NetworkUnavailable: The network cannot be asked.
        """
        wanted = [one.address for one in new if one.address not in self.silent]
        if interface is None or not wanted:
            return []
        own = {(one.address, one.mac) for one in new if one.pinned}
        return await self._probe(interface, [*wanted, *ahead], own)

    async def _probe(
        self, interface: str, asked: Sequence[IPv4Address], own: Collection[tuple[IPv4Address, MacAddress]]
    ) -> list[Evidence]:
        answers = await asyncio.to_thread(probe, interface, asked)
        strangers = {address: mac for address, mac in answers.items() if (address, mac) not in own}
        self.silent.update(one for one in asked if one not in strangers)
        found = [answer(interface, *one) for one in sorted(strangers.items())]
        for one in found:
            _log.warning("arp", address=str(one.address), mac=one.holder, interface=one.origin)
        return self._remember(found)

    def refused(self, error: DhcpdRefused, new: Sequence[Allocation]) -> list[Evidence]:
        """Evidence of a host of others that a DHCP server says is in the way.

        Raises:
            DhcpdRefused: It refuses for another reason.
        """
        now = datetime.now(UTC)
        holder, server = error.details.get("holder"), error.details.get("dhcpd")
        refused = [one for one in new if str(one.address) == error.details.get("address")]
        if holder is None or server is None or not refused:
            raise error
        until, self._refusal = now + timedelta(seconds=REFUSED_S), error
        return self._remember(
            [Evidence(Source.HOST, server, one.address, one.mac, holder, now, now, until) for one in refused]
        )

    def _remember(self, found: list[Evidence]) -> list[Evidence]:
        self.in_use += found
        return found

    @property
    def is_vain(self) -> bool:
        """Whether too many addresses were in use to go on."""
        return len(self.in_use) >= MOST_IN_USE

    def error_of(self, refusal: AddressInUse) -> MacbindError:
        """Why the wanted address was not taken: who answers for it, if that was just heard."""
        if refusal.details.get("address") not in {str(one.address) for one in self.in_use}:
            return refusal
        error = self.error()
        error.hint = f"{error.hint} {NOTHING_TAKEN}"
        return error

    def error(self) -> MacbindError:
        """Why nothing was allocated."""
        answers = [one for one in self.in_use if one.source is Source.ANSWER]
        if self._refusal is not None and not answers:
            return self._refusal
        first = answers[0]
        addresses = {one.address for one in answers}
        who, count = Counter(one.holder for one in answers).most_common(1)[0]
        if len(addresses) == 1:
            text, hint = f"{first.address} is in use: {first.holder} answers for it", "Find that machine."
        elif count > 1:
            text = f"{len(addresses)} addresses are in use: {who} answers for {count} of them, as {first.address},"
            hint = "It does proxy ARP, or it lies: find it, or leave its addresses out of the pool."
        else:
            text = f"{len(addresses)} addresses are in use: {first.holder} answers for {first.address}"
            hint = "Find these machines, or leave their addresses out of the pool."
        return AddressAnswered(
            f"{text} on {first.origin}, though nobody has allocated it.",
            hint=hint,
            address=str(first.address),
            mac=first.holder,
            holder=first.holder,
            addresses=[str(one) for one in sorted(addresses)[:100]],
        )


def ahead_of(
    registry: Registry,
    address: IPv4Address,
    used: Collection[IPv4Address],
    own: MacAddress | None = None,
) -> Ahead:
    """One address that somebody wants, to be asked for if its pool wants that and the registry knows of no holder.

    Args:
        registry: The registry.
        address: The address.
        used: Addresses that were asked for, and are in use.
        own: The MAC of the machine that it is for, which may answer; None: nobody may.
    """
    pool = next((one for one in registry.pools.values() if address in one.plan), None)
    if pool is None or pool.arp_probe is None or address in used:
        return Ahead()
    with registry.read() as view:
        is_known = find(view, addresses=[address], released=True) or evidence.having(view, [int(address)])
    return Ahead() if is_known else Ahead(pool.arp_probe, [address], own)


def answer(interface: str, address: IPv4Address, mac: MacAddress) -> Evidence:
    """Evidence of an answer that was just heard."""
    now = datetime.now(UTC)
    return Evidence(Source.ANSWER, interface, address, mac, str(mac), now, now)
