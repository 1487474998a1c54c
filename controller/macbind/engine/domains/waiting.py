"""Allocations whose domain never appeared, or that wait for one again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

from macbind.core.domain import Claim
from macbind.core.findings import Finding
from macbind.core.settlement import is_abandoned
from macbind.core.steady_time import SteadyTime
from macbind.engine.domains.life import Life
from macbind.engine.domains.sightings import Sightings
from macbind.registry import claims
from macbind.registry.store import Registry

_AGAIN_S = 30.0
"""When one that shows a sign of life is looked at again."""


class Waiting:
    """Finds those that have waited for too long, and show no sign of life.

    Args:
        registry: The truth.
        sightings: What was seen.
        life: Looks for signs of life.
        clock: Tells the time in seconds; never goes back.
        now: Tells the time of day (UTC); it may jump.
    """

    def __init__(
        self,
        registry: Registry,
        sightings: Sightings,
        life: Life,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._registry, self._sightings, self._life = registry, sightings, life
        self._clock, self._now = clock, now
        self._steady = SteadyTime()
        self._kept: dict[tuple[IPv4Address, int], tuple[float, Claim, str]] = {}

    def note_time(self) -> None:
        """Notices a jump of the clock. To be called often."""
        self._steady.note(self._now(), self._clock())

    def abandoned(self) -> list[Claim]:
        """Those to be released."""
        self.note_time()
        now, at = self._now(), self._clock()
        timeouts = [p.claim_timeout_s for p in self._registry.pools.values() if p.claim_timeout_s]
        if not timeouts:
            return []
        with self._registry.read() as view:
            waiting = claims.unused_since(view, now - timedelta(seconds=min(timeouts)))
            due = [
                claim
                for claim in waiting
                if not self._sightings.having(claim.macs)
                for pool in [view.pools[claim.pool]]
                for waited in [self._steady.since(claim.waits_since, now)]
                if is_abandoned(claim, pool.release, pool.claim_timeout_s, waited)
            ]
            keys = {(claim.address, claim.generation) for claim in due}
            self._kept = {key: kept for key, kept in self._kept.items() if key in keys}
            open_now = [one for one in due if not self._is_kept(one, at)]
            alive = self._life.of(view, open_now, now) if open_now else {}
        for claim, sign in alive.items():
            self._kept[claim.address, claim.generation] = at + _AGAIN_S, claim, sign
        return [claim for claim in open_now if claim not in alive]

    def _is_kept(self, claim: Claim, at: float) -> bool:
        kept = self._kept.get((claim.address, claim.generation))
        return kept is not None and at < kept[0]

    def findings(self) -> list[Finding]:
        """Those that are kept because of a sign of life."""
        return [
            Finding(
                "machine_unseen",
                f"No hypervisor shows a domain with {claim.mac}, the MAC of '{claim.name}' ({claim.address}), but "
                f"{sign}.",
                f"The address is kept. If nobody uses it, `macbind release {claim.name}` frees it; if its machine is "
                'none of libvirt, give its pool release = "never".',
                claim.name,
            )
            for _, claim, sign in sorted(self._kept.values(), key=lambda one: one[1].address)
        ]


def utc_now() -> datetime:
    """The time of day."""
    return datetime.now(UTC)
