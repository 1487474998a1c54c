"""Signs of life: what shows that a machine uses an allocation although no domain does.

They are asked for before an allocation is released only because libvirt shows no domain: the machine may be a
container, a bare machine, a guest of a host that nobody watches, or one whose process libvirt has lost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address

from macbind.core.domain import Claim
from macbind.core.errors import NetworkUnavailable
from macbind.core.evidence import Source
from macbind.core.mac_address import MacAddress
from macbind.core.pool import Pool
from macbind.engine.life_signs import LifeSigns
from macbind.probes import arp
from macbind.registry import evidence
from macbind.registry.transaction import View

Probe = Callable[[str, Sequence[IPv4Address]], dict[IPv4Address, MacAddress]]
"""Asks the network on an interface who answers for some addresses."""


class Life:
    """Looks for signs of life.

    Args:
        signs: What was heard of machines.
        probe: Asks the network.
    """

    def __init__(self, signs: LifeSigns, probe: Probe = arp.probe) -> None:
        self._signs, self._probe = signs, probe

    def of(self, view: View, claims: Sequence[Claim], now: datetime) -> dict[Claim, str]:
        """Those of the allocations that show a sign of life, and which, as the end of a sentence."""
        found: dict[Claim, str] = {}
        silent: dict[str, list[Claim]] = defaultdict(list)
        for claim in claims:
            pool = view.pools[claim.pool]
            sign = self._heard(claim, pool, now) or _shown(view, claim, now)
            if sign is not None:
                found[claim] = sign
            elif pool.arp_probe is not None:
                silent[pool.arp_probe].append(claim)
        for interface, some in silent.items():
            found |= self._answers(interface, some)
        return found

    def _heard(self, claim: Claim, pool: Pool, now: datetime) -> str | None:
        for mac in sorted(claim.macs):
            sign = self._signs.last(mac)
            if sign is None or (claim.stopped_at is not None and sign.at <= claim.stopped_at):
                continue
            if now - sign.at <= timedelta(seconds=pool.subnet.lease_time_s):
                return f"its last sign was {sign.what} at {sign.at:%Y-%m-%d %H:%M:%S} UTC"
        return None

    def _answers(self, interface: str, some: Sequence[Claim]) -> dict[Claim, str]:
        try:
            answers = self._probe(interface, [claim.address for claim in some])
        except NetworkUnavailable as error:
            return dict.fromkeys(some, f"nobody can be asked whether it lives: {error.message}")
        return {
            claim: f"{answers[claim.address]} answers for the address on {interface}"
            for claim in some
            if claim.address in answers
        }


def _shown(view: View, claim: Claim, now: datetime) -> str | None:
    for one in evidence.of_addresses(view, [claim.address]):
        if one.mac in claim.macs and one.source not in (Source.DOMAIN, Source.AWAY) and one.counts_at(now):
            return f"{one.described}, shows it as '{one.holder}'"
    return None
