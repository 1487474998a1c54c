"""Carries out what was judged of domains: records, doubts, graces and releases.

A release is fenced: the row must still have the generation, hypervisor and domain that were judged, so that a late
report can never hurt a successor of the address.

A domain that is missing without a cause is in doubt, and one that stopped by itself has a grace: the record says so,
and the watcher is asked to look again when that is over. Only that look, which comes after everything that libvirt
has said, can end it by a release. No hypervisor is waited for because of a domain of another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import structlog

from macbind.config.tables import HypervisorSettings
from macbind.core.domain import NOTHING_SAID, Claim, Domain, DomainEvent, Phase
from macbind.core.pool import Pool, ReleasePolicy
from macbind.core.release_cause import ReleaseCause
from macbind.core.release_policy import (
    Doubt,
    Keep,
    LetGo,
    Note,
    Release,
    Rest,
    Verdict,
    has_nic,
    judge,
    patience_s,
)
from macbind.engine.domains.adoption import record_users
from macbind.engine.domains.sightings import Sightings, Watching
from macbind.engine.group_commit import GroupCommitter
from macbind.registry import claims
from macbind.registry.release import release
from macbind.registry.transaction import Transaction

_log = structlog.get_logger()

ACTOR = "libvirt"
_AGAIN_S = 1.0
"""How long other hypervisors may take to say that a missing domain is not there."""


@dataclass(frozen=True, slots=True)
class Look:
    """The domain of an allocation as it was just seen, and whether its time to come back is over."""

    claim: Claim
    domain: Domain | None
    event: DomainEvent = NOTHING_SAID
    outlasted: bool = False


class Verdicts:
    """Judges looks, and carries out what follows.

    Args:
        committer: Changes the registry.
        hypervisors: What is watched, by name.
        watchers: What watches it.
        sightings: What was seen.
        is_alive: Whether a machine shows a sign of life that no hypervisor shows to run.
        clock: Tells the time in seconds; never goes back.
    """

    def __init__(
        self,
        committer: GroupCommitter,
        hypervisors: Mapping[str, HypervisorSettings],
        watchers: Mapping[str, Watching],
        sightings: Sightings,
        is_alive: Callable[[Claim], bool],
        clock: Callable[[], float],
    ) -> None:
        self._committer, self._hypervisors, self._watchers = committer, hypervisors, watchers
        self._sightings, self._is_alive = sightings, is_alive
        self._clock = clock

    def patience_s(self, claim: Claim, domain: Domain | None) -> float:
        """How long the domain of an allocation is waited for when it is missing or off."""
        settings = self._hypervisors[claim.hypervisor or ""]
        return patience_s(claim, domain, settings.transition_s, settings.grace_s)

    def is_over(self, claim: Claim, domain: Domain | None, missing_s: float | None) -> bool:
        """Whether a domain, or its NIC, has been missing for so long that it does not come back."""
        patience_s = self.patience_s(claim, domain)
        if domain is None or has_nic(claim, domain):
            return missing_s is not None and missing_s >= patience_s
        # The record is written a moment after the look that was the reason.
        since = claim.doubted_at
        return since is not None and datetime.now(UTC) - since >= timedelta(seconds=patience_s - _AGAIN_S)

    def carry_out(self, hypervisor: str, looks: Iterable[Look], pools: Mapping[str, Pool]) -> None:
        """Judges what was seen of domains of one hypervisor, and carries it out in one transaction."""
        judged: list[tuple[Claim, Verdict, float | None]] = []
        heirs: list[tuple[Claim, Domain]] = []
        for look in looks:
            claim, policy = look.claim, pools[look.claim.pool].release
            verdict = judge(
                claim,
                policy,
                look.domain,
                look.event,
                outlasted=look.outlasted,
                was_persistent=self._sightings.was_persistent(claim),
            )
            if isinstance(verdict, Release) and look.event.cause is None and claim.stopped_at is not None:
                verdict = self._unless_alive(claim, verdict)
            is_proven = (
                not isinstance(verdict, Release) or verdict.certain or self._is_proven(hypervisor, claim)
            )
            heir = self._heir(claim, policy, verdict, is_proven=is_proven)
            if heir is not None:
                heirs.append((claim, heir))
                continue
            if not is_proven:
                continue
            self._prepare(hypervisor, look, verdict)
            if not isinstance(verdict, Keep) and getattr(verdict, "is_new", True):
                judged.append((claim, verdict, look.event.said_at))
        record_users(self._committer, ACTOR, heirs)
        if not judged:
            return

        def work(txn: Transaction) -> list[Claim]:
            return [claim for claim, verdict, since in judged if apply(txn, claim, verdict, since)]

        for claim in self._committer.submit(ACTOR, work).result():
            # It is free when every DHCP server has confirmed.
            _log.info("releasing", address=str(claim.address), name=claim.name, hypervisor=hypervisor)

    def release(self, due: Sequence[Claim], reason: str) -> None:
        """Releases allocations that wait for their domain."""
        verdict = Release(reason, certain=True, cause=ReleaseCause.UNCLAIMED)
        self._committer.submit(ACTOR, lambda txn: [apply(txn, one, verdict) for one in due]).result()

    def cut_graces(self, due: Sequence[Claim], reason: str) -> None:
        """Releases allocations whose domain has stopped by itself, unless one lives or has been started since."""
        judged = [(one, self._unless_alive(one, Release(reason, certain=False))) for one in due]
        self._committer.submit(ACTOR, lambda txn: [apply(txn, *one) for one in judged]).result()

    def _unless_alive(self, claim: Claim, verdict: Release) -> Verdict:
        """The release of a machine that has stopped by itself; a doubt if it was heard of since."""
        if not self._is_alive(claim):
            return verdict
        with self._sightings.lock:
            self._sightings.of[claim.hypervisor or ""].missing_since[claim.uuid or ""] = self._clock()
        return Doubt(Phase.RUNNING, is_new=True)

    def _heir(
        self, claim: Claim, policy: ReleasePolicy, verdict: Verdict, *, is_proven: bool
    ) -> Domain | None:
        """The domain that goes on with an allocation whose recorded one does not."""
        has_migrated = verdict == Note(Phase.MIGRATED)
        if not has_migrated and not isinstance(verdict, Release | LetGo):
            return None
        keeps_off = policy is not ReleasePolicy.DESTROY
        return self._sightings.heir(claim, keeps_off=keeps_off, may_live=has_migrated or not is_proven)

    def _prepare(self, hypervisor: str, look: Look, verdict: Verdict) -> None:
        """What a verdict needs beside the registry: another look, or another wait."""
        match verdict:
            case Rest(is_new):
                if is_new:
                    with self._sightings.lock:
                        self._sightings.of[hypervisor].missing_since[look.claim.uuid or ""] = self._clock()
                stopped = replace(look.claim, phase=Phase.STOPPED)
                self._watchers[hypervisor].ask_again(
                    look.claim.uuid or "", self._over_at(hypervisor, stopped, look.domain)
                )
            case Doubt():
                self._ask(hypervisor, look.claim, self._over_at(hypervisor, look.claim, look.domain))

    def _over_at(self, hypervisor: str, claim: Claim, domain: Domain | None) -> float:
        """When the time is over in which a domain may come back."""
        uuid, now = claim.uuid or "", self._clock()
        with self._sightings.lock:
            seen = self._sightings.of[hypervisor]
            at = seen.missing_since.get(uuid, now) + self.patience_s(claim, domain)
            seen.again_at[uuid] = datetime.now(UTC) + timedelta(seconds=at - now)
        return at

    def _ask(self, hypervisor: str, claim: Claim, at: float) -> None:
        """Has all hypervisors look for a domain; its own after the others."""
        for name, watcher in self._watchers.items():
            watcher.ask_again(claim.uuid or "", at if name == hypervisor else at - _AGAIN_S / 2)

    def _is_proven(self, hypervisor: str, claim: Claim) -> bool:
        """Whether a domain that is missing without a cause is nowhere else, and shows no sign of life."""
        now, transition_s = self._clock(), self._hypervisors[hypervisor].transition_s
        with self._sightings.lock:
            since = self._sightings.of[hypervisor].missing_since.get(claim.uuid or "", now)
        all_there = all(one.status.connected for one in self._watchers.values())
        if not all_there or self._sightings.is_elsewhere_unknown(claim, since + transition_s - _AGAIN_S):
            self._ask(hypervisor, claim, now + _AGAIN_S)
            return False
        if self._is_alive(claim):
            self._ask(hypervisor, claim, now + transition_s)
            return False
        return True


def apply(txn: Transaction, claim: Claim, verdict: Verdict, since: float | None = None) -> bool:
    """Carries a verdict out if the row is still what was judged; True if something was released.

    ``since`` is when libvirt said what is the reason (monotonic); None if it was no event.
    """
    if not claims.holds(txn, claim):
        return False
    match verdict:
        case Note(phase):
            claims.note(txn, claim, phase)
        case Doubt(phase):
            claims.doubt(txn, claim, phase)
        case Rest():
            claims.rest(txn, claim)
        case LetGo():
            claims.let_go(txn, claim)
        case Release(reason, certain, cause):
            if not certain and not claims.is_still_doubted(txn, claim):
                return False
            release(
                txn,
                address=claim.address,
                generation=claim.generation,
                reason=reason,
                still_used=False,
                cause=cause,
                since=since,
            )
            return True
    return False
