"""The use case of `why`: gathers what is known of an address, MAC, name or domain, and has it explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address

from macbind.config import Settings
from macbind.config.places import pool_of, reasons
from macbind.core.address_range import parse_address
from macbind.core.allocation import Allocation, State
from macbind.core.errors import InvalidAddress, InvalidRequest, NotFound
from macbind.core.explain import explain, former_name, strange_ipv6, strange_mac
from macbind.core.ipv6 import mac_of
from macbind.core.mac_address import MacAddress
from macbind.core.why import Facts, Sign, Why
from macbind.engine.last_seen import By
from macbind.engine.life_signs import LifeSigns
from macbind.registry import evidence
from macbind.registry.audit import history
from macbind.registry.lookups import addresses_of_domain, standing
from macbind.registry.queries import find
from macbind.registry.store import Registry
from macbind.registry.transaction import View
from macbind.service.machines_seen import MachinesSeen
from macbind.service.peers import CurrentPeers

_ENTRIES = 50
"""Entries of the audit log that are told of one address."""
_ZONE = "%"
_SEEN = {
    By.DHCP: "asks by DHCP",
    By.LIBVIRT: "its domain runs",
    By.NEIGHBOURS: "answers this host",
}


class WhyReport:
    """Says why an address is as it is.

    Args:
        registry: The truth.
        settings: The configuration in use.
        peers: The DHCP servers and hypervisors now.
        signs: What was heard of machines.
        machines: When machines were last seen.
    """

    def __init__(
        self,
        registry: Registry,
        settings: Callable[[], Settings],
        peers: CurrentPeers,
        signs: LifeSigns,
        machines: MachinesSeen,
    ) -> None:
        self._registry, self._settings, self._peers, self._signs = registry, settings, peers, signs
        self._machines = machines

    def why(self, query: str, pools: frozenset[str] | None = None) -> list[Why]:
        """The answer for an address, MAC, name, IPv6 address or domain; a domain may have several.

        Args:
            query: What is asked for.
            pools: Only of addresses in these pools; None: of all.

        Raises:
            NotFound: Nobody has or had this name.
            InvalidAddress: It looks like an address, and is none.
            InvalidRequest: It is nothing that could be asked for.
        """
        text = query.strip()
        if not text or not text.isprintable():
            raise InvalidRequest(
                f"{query!r} is no address, MAC, name or domain.", hint="For example: macbind why 10.1.1.3."
            )
        with self._registry.read() as view:
            found = self._answers(view, text)
        if pools is not None:
            found = [one for one in found if isinstance(one, Facts) and one.is_within(pools)]
            if not found:
                raise NotFound(
                    f"Nothing is named '{text}' in your pools.", hint="`macbind list` shows all.", name=text
                )
        return [self._with_servers(one) if isinstance(one, Facts) else one for one in found]

    def _answers(self, view: View, text: str) -> Sequence[Facts | Why]:
        addresses, otherwise = self._addresses(view, text)
        if addresses is None:
            named = self._named(view, text)
            if named is None:
                raise self._unknown(text)
            return named
        if not addresses and otherwise is not None:  # a name may look like a MAC
            return self._named(view, text) or [otherwise]
        also = [one.address for one in find(view, names=[text])]  # it may look like an address, too
        return [self._facts(view, text, address) for address in dict.fromkeys([*addresses, *also])]

    def _addresses(self, view: View, text: str) -> tuple[list[IPv4Address] | None, Why | None]:
        """The addresses that a text means as an address or MAC; None if it is neither."""
        with suppress(InvalidAddress):
            return [parse_address(text)], None
        with suppress(InvalidAddress):
            mac = MacAddress.parse(text)
            return self._of_mac(view, mac), strange_mac(text, mac)
        with suppress(ValueError):
            ipv6 = IPv6Address(text.partition(_ZONE)[0])
            made_from = mac_of(ipv6)
            prefixes = [pool.ipv6_prefix for pool in view.pools.values() if pool.ipv6_prefix is not None]
            if made_from is None or not (ipv6.is_link_local or any(ipv6 in one for one in prefixes)):
                return [], strange_ipv6(text)
            return self._of_mac(view, made_from), strange_mac(text, made_from)
        return None, None

    def _of_mac(self, view: View, mac: MacAddress) -> list[IPv4Address]:
        held = [one.address for one in find(view, mac=mac, released=True)]
        used = [one.address for one in evidence.of_mac(view, mac)]
        own = [pool.plan.assignable_of(mac) for pool in view.pools.values()]
        return list(dict.fromkeys([*held, *used, *(one for one in own if one is not None and not held)]))

    def _named(self, view: View, text: str) -> list[Facts | Why] | None:
        found = find(view, names=[text], released=True)
        held = [one for one in found if one.released_at is None] or [
            one for one in found if one.state is State.RELEASING
        ]
        if held:
            return [self._facts(view, text, held[0].address)]
        shown = addresses_of_domain(view, text)
        if shown:
            return [self._facts(view, text, address) for address in shown]
        past = history(view, name=text, limit=_ENTRIES)
        return [former_name(text, text, tuple(past))] if past else None

    def _unknown(self, text: str) -> InvalidAddress | NotFound:
        if set(text) <= set("0123456789."):
            return InvalidAddress(
                f"{text!r} is not an IPv4 address.", hint="Write four decimal numbers, as 10.1.1.3."
            )
        days = self._settings().registry.audit_keep_days
        return NotFound(
            f"Nothing is named '{text}': no allocation and no domain, now or within {days} days.",
            hint="`macbind list` shows all allocations.",
            name=text,
        )

    def _facts(self, view: View, text: str, address: IPv4Address) -> Facts:
        at, settings = standing(view, address), self._settings()
        return Facts(
            query=text,
            address=address,
            now=datetime.now(UTC),
            pool=pool_of(settings, address),
            configured=reasons(settings, address),
            allocation=at.allocation,
            confirmed=at.confirmed,
            missing=tuple((name, "") for name in at.missing),
            free_at=at.free_at,
            renumbers_to=at.renumbers_to,
            hypervisor=at.hypervisor,
            phase=at.phase,
            is_watched=bool(settings.hypervisors),
            sign=None if at.allocation is None else self._sign(at.allocation),
            evidence=tuple(evidence.of_addresses(view, [address])),
            history=tuple(history(view, address=address, limit=_ENTRIES)),
        )

    def _sign(self, one: Allocation) -> Sign | None:
        """What shows last that its machine lives: by its own words if it asked by DHCP."""
        heard, seen = self._signs.last(one.mac), self._machines.of(one)
        own = None if heard is None or heard.address != one.address else Sign(heard.what, heard.at)
        if seen is None or (own is not None and (seen.by is By.DHCP or own.at >= seen.at)):
            return own
        return Sign(_SEEN[seen.by], seen.at)

    def _with_servers(self, facts: Facts) -> Why:
        """The answer, with what is wrong with DHCP servers that have yet to confirm; outside of the transaction."""
        writers = self._peers().writers
        missing = tuple(
            (name, self._peers().status(name).problem if name in writers else "") for name, _ in facts.missing
        )
        return explain(replace(facts, missing=missing))
