"""Notes when machines are seen, keeps that over restarts, and finds those that never ask for their address.

Every quarter of a minute it asks libvirt's watchers which domains run, and the kernel which machines have answered.
What DHCP servers hear is noted by their monitors. The registry is told at most once a minute, a bounded number of
machines at a time, and only of what has changed by some minutes: a restart forgets no more than that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import structlog

from macbind.core.allocation import Allocation, State
from macbind.core.domain import Domain
from macbind.core.findings import Finding
from macbind.core.mac_address import MacAddress
from macbind.core.pool import Pool
from macbind.engine.hearing import Hearing
from macbind.engine.last_seen import By, LastSeen, Seen
from macbind.probes.neighbours import Neighbour, neighbours
from macbind.registry.queries import find
from macbind.registry.seen import load_seen, load_watching, save_seen, save_watching
from macbind.registry.store import Registry
from macbind.registry.transaction import View
from macbind.service.peers import CurrentPeers

_log = structlog.get_logger()

LOOK_S = 15.0
"""How often libvirt's watchers and the kernel are asked."""
SAVE_S = 60.0
"""How often the registry is told, at most."""
LAG = timedelta(minutes=5)
"""How much older what the registry has may be, and how long nobody may have looked, before a look begins anew."""
MOST_LOOKED_UP = 200
"""Machines that the registry is asked about in one look; those that are not known to ask are few."""
MOST_SAVED = 1000
"""Machines that the registry is told of at a time."""
ASKS_WITHIN = timedelta(seconds=120)
"""A machine that runs for so long and has a DHCP client has asked."""

_Run = tuple[str, str, int]
"""One run of a domain: hypervisor, UUID, libvirt's number."""


@dataclass(frozen=True, slots=True)
class _Running:
    domain: Domain
    since: datetime


class MachinesSeen:
    """Looks after what is known of machines. :meth:`tend` and :meth:`close` are used in one thread at a time.

    Args:
        registry: Keeps it.
        peers: The DHCP servers and hypervisors now.
        last_seen: What is known.
        table: Asks the kernel.
        now: Tells the time of day (UTC).
        clock: Tells the time in seconds; never goes back.
    """

    def __init__(
        self,
        registry: Registry,
        peers: CurrentPeers,
        last_seen: LastSeen,
        *,
        table: Callable[[], Sequence[Neighbour]] = neighbours,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry, self._peers, self._last_seen = registry, peers, last_seen
        self._table, self._now, self._clock = table, now, clock
        self._look_at = 0.0
        self._save_at: float | None = None
        self._since = now()
        self._saved: dict[MacAddress, datetime] = {}
        self._runs: Mapping[_Run, _Running] = {}
        self._found: list[Finding] = []

    # -- what is asked ---------------------------------------------------------------------------------

    def shown(self, found: Sequence[Allocation]) -> list[Allocation]:
        """These allocations with when their machines were last seen."""
        return [self._with(one) for one in found]

    def _with(self, one: Allocation) -> Allocation:
        seen = self.of(one)
        return one if seen is None else replace(one, last_seen=seen.at, seen_by=str(seen.by))

    def of(self, one: Allocation) -> Seen | None:
        """When the machine of an allocation was last seen since that was made."""
        return self._last_seen.of(one.mac, one.created_at)

    def is_idle(self, one: Allocation, seconds: float) -> bool:
        """Whether nothing was seen of a machine for so long, although somebody looked, and it was allocated."""
        times = [one.created_at, self._since, *([one.last_seen] if one.last_seen else [])]
        return (self._now() - max(times)).total_seconds() >= seconds

    def findings(self) -> list[Finding]:
        """Machines that run and have never asked for their address, as of the last look."""
        return self._found

    def _never_asked(self) -> list[Finding]:
        now = self._now()
        macs = {
            mac: running
            for running in self._runs.values()
            if now - running.since >= ASKS_WITHIN
            for mac in running.domain.live
            if self._last_seen.by(mac, By.DHCP) is None
        }
        if not macs:
            return []
        monitors = self._peers().monitors
        with self._registry.read() as view:
            held = [
                (running, one)
                for mac, running in sorted(macs.items(), key=lambda item: item[0])[:MOST_LOOKED_UP]
                for one in find(view, mac=mac)
                if self._never_asks(
                    view, one, running, {name: each.hearing for name, each in monitors.items()}
                )
            ]
        return [_never_asked(*held[0], len(held), now)] if held else []

    def _never_asks(
        self, view: View, one: Allocation, running: _Running, hearing: Mapping[str, Hearing]
    ) -> bool:
        if one.state is not State.BOUND or one.renumbers_from is not None:
            return False
        answered = self._last_seen.by(one.mac, By.NEIGHBOURS)
        if answered is not None and answered >= running.since:
            return False  # it has its address otherwise
        pool = view.pools[one.pool]
        return all(
            would_have_heard(hearing.get(name), one, running.since, pool, self._now()) for name in pool.dhcpds
        )

    # -- what is done from time to time ----------------------------------------------------------------

    def begin(self) -> None:
        """Reads what the registry has kept."""
        with self._registry.read() as view:
            kept, watching = load_seen(view), load_watching(view)
        for mac, (at, source) in kept.items():
            with suppress(ValueError):  # of a newer version
                self._last_seen.note(mac, By(source), at)
                self._saved[mac] = at
        if watching is not None and timedelta() <= self._now() - watching[1] <= LAG:
            self._since = min(self._since, watching[0])

    def tend(self) -> None:
        """Does what is due. Call often."""
        at = self._clock()
        if at >= self._look_at:
            self._look_at = at + LOOK_S
            self._look()
        if self._save_at is None:
            self._save_at = at + SAVE_S
        elif at >= self._save_at:
            self._save_at = at + SAVE_S
            self._save(LAG)

    def close(self) -> None:
        """Tells the registry what it does not know yet."""
        self._save(timedelta(seconds=1))

    def _look(self) -> None:
        now, peers = self._now(), self._peers()
        running = [] if peers.machines is None else peers.machines.running()
        before = self._runs
        runs = {(one.hypervisor, one.uuid, one.run): one for one in running}
        self._runs = {
            run: _Running(domain, before[run].since if run in before else now) for run, domain in runs.items()
        }
        for domain in running:
            for mac in domain.live:
                self._last_seen.note(mac, By.LIBVIRT, now)
        with suppress(OSError):  # the kernel does not say: nobody was seen in this way
            for one in self._table():
                if self._is_ours(one.address):
                    self._last_seen.note(one.mac, By.NEIGHBOURS, now - timedelta(seconds=one.age_s))

        self._found = self._never_asked()

    def _is_ours(self, address: IPv4Address) -> bool:
        return any(address in pool.plan.subnet for pool in self._registry.pools.values())

    def _save(self, lag: timedelta) -> None:
        known = self._last_seen.all()
        oldest = datetime.min.replace(tzinfo=UTC)
        late = [mac for mac, seen in known.items() if seen.at - self._saved.get(mac, oldest) >= lag]
        late.sort(key=lambda mac: self._saved.get(mac, oldest))
        due = late[:MOST_SAVED]
        with self._registry.write("macbind", now=self._now(), lazy=True) as txn:
            save_seen(txn, {mac: (known[mac].at, str(known[mac].by)) for mac in due})
            save_watching(txn, self._since)
        self._saved = {mac: at for mac, at in self._saved.items() if mac in known}
        self._saved |= {mac: known[mac].at for mac in due}


def would_have_heard(
    hearing: Hearing | None, one: Allocation, runs_since: datetime, pool: Pool, now: datetime
) -> bool:
    """Whether a DHCP server's log would have shown that a machine asks for its address.

    The log must show others, now. It must have been read since the machine's allocation was made; or for longer than
    a lease lasts, within which every DHCP client asks again.
    """
    if hearing is None or hearing.since is None or hearing.heard_at is None:
        return False
    heard_lately = hearing.heard_at > runs_since
    lease = timedelta(seconds=pool.subnet.lease_time_s)
    return heard_lately and (one.created_at >= hearing.since or now - hearing.since > lease + ASKS_WITHIN)


def _never_asked(running: _Running, one: Allocation, count: int, now: datetime) -> Finding:
    minutes = int((now - running.since).total_seconds() / 60)
    more = f" There are {count} of these." if count > 1 else ""
    return Finding(
        "never_asked",
        f"The domain '{running.domain.name}' on '{running.domain.hypervisor}' has run for {minutes} minutes, and "
        f"never asked for its address {one.address} ('{one.name}') by DHCP.{more}",
        "Look at its console: whether it boots, has a DHCP client, and is on the network of its pool.",
    )
