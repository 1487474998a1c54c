"""Brings what watchers see together with the registry: claims, releases with proof, findings.

A watcher reports what libvirt says now; :mod:`macbind.core.ownership` says whose machine it is, and
:mod:`macbind.core.release_policy` what becomes of its allocation; :mod:`macbind.engine.domains.verdicts` carries it
out. How long a domain has been missing is counted by this process, for as long as it watches without a break: what
happened while nobody watched, a reboot or two, nobody can know.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime

import structlog

from macbind.config.tables import HypervisorSettings
from macbind.core.domain import NOTHING_SAID, Claim, Domain, DomainEvent, DomainState, Phase
from macbind.core.findings import Finding, HypervisorStatus
from macbind.core.mac_address import MacAddress
from macbind.engine.domains.adoption import new_users, record_users
from macbind.engine.domains.evidence import DomainEvidence
from macbind.engine.domains.findings import DomainFindings
from macbind.engine.domains.life import Life
from macbind.engine.domains.settling import Settling
from macbind.engine.domains.sightings import Sightings, Watching
from macbind.engine.domains.verdicts import ACTOR, Look, Verdicts
from macbind.engine.domains.waiting import Waiting, utc_now
from macbind.engine.group_commit import GroupCommitter
from macbind.engine.life_signs import LifeSigns
from macbind.registry import claims
from macbind.registry.queries import usage
from macbind.registry.store import Registry
from macbind.virt.watcher import CLOSE_S, Watcher

_log = structlog.get_logger()

FIRST_LOOK_S = 5.0
"""How long the service waits at its start for what is there already."""
_REPORT_SHARE = 20.0
"""The look for findings rests for so many times as long as it took."""


class DomainTracker:
    """Releases what has ended, and reports what should not be.

    Args:
        registry: The truth.
        committer: Changes it.
        hypervisors: What is to be watched, by name. With none, nothing is ever released by it.
        on_defect: Called with a defect of ours; a watcher has stopped.
        life: Looks for signs of life of machines that no hypervisor shows.
        watch: Makes what watches a hypervisor, of its name, its URI and whom to tell.
        clock: Tells the time in seconds; never goes back.
        now: Tells the time of day (UTC); it may jump.
    """

    def __init__(
        self,
        registry: Registry,
        committer: GroupCommitter,
        hypervisors: Mapping[str, HypervisorSettings],
        *,
        on_defect: Callable[[BaseException], None] = lambda _: None,
        life: Life | None = None,
        watch: Callable[..., Watching] = Watcher,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._registry, self._committer, self._clock, self._now = registry, committer, clock, now
        self._hypervisors = hypervisors
        self._sightings = Sightings(hypervisors)
        self._life = Life(LifeSigns()) if life is None else life
        self._waiting = Waiting(registry, self._sightings, self._life, clock, now)
        self._evidence = DomainEvidence(registry, committer, self._sightings, ACTOR)
        self._reported: set[Finding] = set()
        self._reporting = threading.Lock()
        self._is_news, self._report_at = False, float("-inf")
        self.watchers = {
            name: watch(name, one.uri, self, on_defect=on_defect) for name, one in hypervisors.items()
        }
        self._verdicts = Verdicts(
            committer,
            hypervisors,
            self.watchers,
            self._sightings,
            self._is_alive,
            clock,
        )
        self._findings = DomainFindings(registry, self.watchers, self._sightings)
        self._settling = Settling(
            registry, committer, self.watchers, self._sightings, self._has_watched_all, clock
        )

    def start(self) -> None:
        """Starts watching."""
        for watcher in self.watchers.values():
            watcher.start()

    def wait_until_seen(self, within_s: float = FIRST_LOOK_S) -> None:
        """Waits until every hypervisor that can be reached has been listed once, but not for long."""
        until = time.monotonic() + within_s
        for watcher in self.watchers.values():
            watcher.tried.wait(max(0.0, until - time.monotonic()))

    def close(self) -> None:
        """Stops watching."""
        for watcher in self.watchers.values():
            watcher.stop()
        until = time.monotonic() + CLOSE_S
        for watcher in self.watchers.values():
            watcher.close(max(0.0, until - time.monotonic()))

    def look_again(self, macs: AbstractSet[MacAddress]) -> None:
        """Has the domains with these MACs looked at again: their allocations may be younger than they are."""
        now = self._clock()
        for domain in self._sightings.having(macs):
            self.watchers[domain.hypervisor].ask_again(domain.uuid, now)

    def status(self) -> tuple[HypervisorStatus, ...]:
        """How things stand with each hypervisor."""
        with self._sightings.lock:
            counts = {name: len(seen.domains) for name, seen in self._sightings.of.items()}
        return tuple(
            replace(self.watchers[name].status, domains=counts[name]) for name in sorted(self.watchers)
        )

    # -- what watchers report --------------------------------------------------------------------------

    def connected(self, hypervisor: str) -> None:
        """A hypervisor is connected anew: what happened before, nobody has seen."""
        self._sightings.begin(hypervisor)

    def scanned(self, hypervisor: str, domains: Mapping[str, Domain], began_at: float) -> None:
        """All domains of a hypervisor, in a list begun at this moment. It may cause doubts and ends none."""
        with self._sightings.lock:
            listed = self._sightings.of[hypervisor].take_list(domains, began_at)
            vanished = dict(self._sightings.of[hypervisor].vanished)
        transition_s = self._hypervisors[hypervisor].transition_s
        for uuid, one in vanished.items():
            self.watchers[hypervisor].ask_again(uuid, one.at + transition_s)
        self._adopt(listed.values())
        with self._registry.read() as view:
            found, pools = claims.of_hypervisor(view, hypervisor), view.pools
        with self._sightings.lock:
            seen = self._sightings.of[hypervisor]
            seen.forget({claim.uuid for claim in found})
            looks = [
                Look(claim, domain)
                for claim in found
                if claim.uuid is not None and claim.uuid not in seen.looked_at  # which is newer than the list
                for domain in [listed.get(claim.uuid)]
            ]
            for look in looks:
                seen.missing(str(look.claim.uuid), look.domain, self._clock())
        self._verdicts.carry_out(hypervisor, looks, pools)
        self._evidence.take_list(hypervisor)
        self._report_findings()

    def changed(
        self, hypervisor: str, uuid: str, domain: Domain | None, event: DomainEvent = NOTHING_SAID
    ) -> None:
        """One domain, as just looked up, and the event that was the reason."""
        now, transition_s = self._clock(), self._hypervisors[hypervisor].transition_s
        with self._sightings.lock:
            seen = self._sightings.of[hypervisor]
            gone = seen.vanished.get(uuid)
            before = seen.domains.get(uuid) or (gone and gone.domain)
            event = seen.take_look(uuid, domain, event, now, transition_s)
            domain = seen.domains.get(uuid)
            vanished = seen.vanished.get(uuid)
        if vanished is not None:
            self.watchers[hypervisor].ask_again(uuid, vanished.at + transition_s)
        if domain is not None:
            self._adopt([domain])
        with self._registry.read() as view:
            found, pools = claims.of_hypervisor(view, hypervisor, uuid), view.pools
        looks = [Look(claim, domain, event) for claim in found]
        if found:
            with self._sightings.lock:
                missing_s = self._sightings.of[hypervisor].missing(uuid, domain, now, started=event.started)
            looks = [
                replace(look, outlasted=self._verdicts.is_over(look.claim, domain, missing_s))
                for look in looks
            ]
        self._verdicts.carry_out(hypervisor, looks, pools)
        macs = {mac for one in (before, domain) if one is not None for mac in one.macs}
        self._evidence.take_look(hypervisor, macs, event.cause)
        self._is_news = True
        self._report_news()

    def _adopt(self, domains: Iterable[Domain]) -> None:
        """Records which domain uses which allocation, where that is new."""
        with self._registry.read() as view:
            new = new_users(view, self._sightings, domains)
        record_users(self._committer, ACTOR, new)

    # -- what is done from time to time ----------------------------------------------------------------

    def release_abandoned(self) -> None:
        """Releases allocations whose domain never appeared, once every hypervisor has been watched long enough."""
        if not self.watchers:
            return
        self._report_news()
        self._waiting.note_time()
        if self._has_watched_all() and (due := self._waiting.abandoned()):
            self._verdicts.release(due, "no domain with its MAC appeared in time")
        self._cut_graces()

    def _cut_graces(self) -> None:
        """Ends the grace of machines that have stopped by themselves where a pool has no other address left."""
        seen = {
            one.name for one in self.status() if one.connected
        }  # elsewhere it may have been started since
        with self._registry.read() as view:
            stopped = [one for one in claims.doubted(view) if one.phase is Phase.STOPPED]
            resting = [one for one in stopped if one.hypervisor in seen]
            full = {name for name in {one.pool for one in resting} if not usage(view, name).free}
        due = sorted((one for one in resting if one.pool in full), key=lambda one: str(one.doubted_at))
        if due:
            first = [next(one for one in due if one.pool == name) for name in sorted(full)]
            self._verdicts.cut_graces(first, "its domain has stopped, and the pool has no other address")

    def _is_alive(self, claim: Claim) -> bool:
        """Whether a machine that libvirt does not show to run shows a sign of life."""
        with self._registry.read() as view:
            return bool(self._life.of(view, [claim], self._now()))

    def settle_renumberings(self) -> None:
        """Finishes or aborts the renumberings whose time is over, by what libvirt says their machines have now."""
        self._settling.settle_due(ACTOR)

    def _has_watched_all(self) -> bool:
        """Whether every hypervisor has been watched for longer than any transition, without a break."""
        if not all(one.connected for one in self.status()):
            return False
        now = self._clock()
        return all(
            since is not None and now - since >= self._hypervisors[name].transition_s
            for name, since in self._sightings.watched_since().items()
        )

    def running(self) -> list[Domain]:
        """The domains that run now, on hypervisors that are connected."""
        connected = {one.name for one in self.status() if one.connected}
        return [
            one
            for one in self._sightings.domains()
            if one.state is DomainState.ACTIVE and one.hypervisor in connected
        ]

    # -- findings --------------------------------------------------------------------------------------

    def findings(self) -> list[Finding]:
        """What an admin should look at."""
        return [*self._findings.all(), *self._waiting.findings()]

    def _report_news(self) -> None:
        """Reports findings after events. All domains are looked at for it, so a burst of events is one look."""
        if self._is_news and self._clock() >= self._report_at:
            self._report_findings()

    def _report_findings(self) -> None:
        """Logs each finding once, when it appears."""
        with self._reporting:
            self._is_news, began = False, self._clock()
            now = set(self.findings())
            for finding in sorted(now - self._reported, key=str):
                _log.warning("finding", code=finding.code, finding=str(finding))
            self._reported = now
            self._report_at = self._clock() + _REPORT_SHARE * (self._clock() - began)
