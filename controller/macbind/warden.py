"""Brings what watchers see together with the registry: claims, releases with proof, findings.

A watcher reports what libvirt says now; :mod:`macbind.lifecycle` judges; here it is carried out. A release is
fenced: the row must still have the generation, hypervisor and domain that were judged, so that a late
report can never hurt a successor of the address.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from macbind.addressing import MacAddress
from macbind.committer import Committer
from macbind.errors import HypervisorUnavailable
from macbind.lifecycle import (
    Keep,
    Note,
    Release,
    Settlement,
    Verdict,
    is_abandoned,
    judge,
    settle,
    waits_for_ever,
)
from macbind.model import Claim, Domain, DomainState, Finding, HypervisorStatus, Move, Phase, StopCause
from macbind.registry import claims
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction
from macbind.registry.view import View
from macbind.virt.watcher import Watcher

_log = structlog.get_logger()

ACTOR = "libvirt"


class Warden:
    """Releases what has ended, and reports what should not be.

    Args:
        registry: The truth.
        committer: Changes it.
        hypervisors: The libvirt URI of each, by name. With none, nothing is ever released by it.
        on_defect: Called with a defect of ours; a watcher has stopped.
    """

    def __init__(
        self,
        registry: Registry,
        committer: Committer,
        hypervisors: Mapping[str, str],
        *,
        on_defect: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._registry, self._committer = registry, committer
        self._lock = threading.Lock()
        self._seen: dict[str, dict[str, Domain]] = {}
        self._reported: set[Finding] = set()
        self.watchers = {
            name: Watcher(name, uri, self, on_defect=on_defect) for name, uri in hypervisors.items()
        }

    def start(self) -> None:
        """Starts watching."""
        for watcher in self.watchers.values():
            watcher.start()

    def close(self) -> None:
        """Stops watching."""
        for watcher in self.watchers.values():
            watcher.close()

    def status(self) -> tuple[HypervisorStatus, ...]:
        """How things stand with each hypervisor."""
        return tuple(self.watchers[name].status for name in sorted(self.watchers))

    # -- what watchers report --------------------------------------------------------------------------

    def scanned(self, hypervisor: str, domains: Mapping[str, Domain]) -> None:
        """All domains of a hypervisor, as just listed."""
        with self._lock:
            self._seen[hypervisor] = dict(domains)
        self._adopt(domains.values())
        with self._registry.read() as view:
            found = claims.of_hypervisor(view, hypervisor)
        self._carry_out(hypervisor, [(claim, domains.get(claim.uuid or "")) for claim in found], None)
        self._report_findings()

    def changed(self, hypervisor: str, uuid: str, domain: Domain | None, cause: StopCause | None) -> None:
        """One domain, as just looked up."""
        with self._lock:
            seen = self._seen.setdefault(hypervisor, {})
            if domain is None:
                seen.pop(uuid, None)
            else:
                seen[uuid] = domain
        if domain is not None:
            self._adopt([domain])
        with self._registry.read() as view:
            found = claims.of_hypervisor(view, hypervisor, uuid)
        self._carry_out(hypervisor, [(claim, domain) for claim in found], cause)
        self._report_findings()

    def _adopt(self, domains: Iterable[Domain]) -> None:
        """Records which domain uses which allocation, where that is new."""
        by_mac: dict[MacAddress, Domain] = {}
        for domain in domains:
            for mac in domain.macs:
                other = by_mac.get(mac)
                if other is None or other.state is not DomainState.ACTIVE:
                    by_mac[mac] = domain
        with self._registry.read() as view:
            new = [
                (claim, domain)
                for claim in claims.of_macs(view, list(by_mac))
                for domain in [by_mac[next(mac for mac in sorted(claim.macs) if mac in by_mac)]]
                if self._may_use(view, claim, domain)
            ]
        self._record(new)

    def _record(self, new: Sequence[tuple[Claim, Domain]]) -> None:
        if not new:
            return

        def work(txn: Transaction) -> None:
            for claim, domain in new:
                phase = Phase.RUNNING if domain.state is DomainState.ACTIVE else Phase.DEFINED
                claims.record(txn, claim, domain, phase)

        self._committer.submit(ACTOR, work).result()

    def _may_use(self, view: View, claim: Claim, domain: Domain) -> bool:
        """Whether a domain becomes the recorded user of an allocation it is not the user of yet."""
        if (claim.hypervisor, claim.uuid) == (domain.hypervisor, domain.uuid):
            return False
        if claim.uuid is None:
            # Released while its machine still ran, and taken again: the old machine is not the new holder's.
            return not claims.was_last_used_by(view, claim.address, domain.uuid)
        return self._may_take_over(claim, domain)

    def _may_take_over(self, claim: Claim, domain: Domain) -> bool:
        """Whether another domain may become the user of an allocation: it runs, and the recorded one does not."""
        if domain.state is not DomainState.ACTIVE:
            return False
        with self._lock:
            recorded = self._seen.get(claim.hypervisor or "", {}).get(claim.uuid or "")
        return recorded is None or recorded.state is not DomainState.ACTIVE

    def _carry_out(
        self, hypervisor: str, found: Sequence[tuple[Claim, Domain | None]], cause: StopCause | None
    ) -> None:
        judged: list[tuple[Claim, Verdict]] = []
        heirs: list[tuple[Claim, Domain]] = []
        for claim, domain in found:
            verdict = judge(claim, self._registry.pools[claim.pool].release, domain, cause)
            if isinstance(verdict, Release):
                other = self._other_user(claim)
                if other is not None:
                    heirs.append((claim, other))
                if other is not None or not self._is_proven(hypervisor, claim, verdict):
                    continue
            if not isinstance(verdict, Keep):
                judged.append((claim, verdict))
        self._record(heirs)
        if not judged:
            return

        def work(txn: Transaction) -> list[Claim]:
            return [claim for claim, verdict in judged if _apply(txn, claim, verdict)]

        for claim in self._committer.submit(ACTOR, work).result():
            _log.info("released", address=str(claim.address), name=claim.name, hypervisor=hypervisor)

    def _other_user(self, claim: Claim) -> Domain | None:
        """A running domain with the MAC that is not the recorded one: it inherits the allocation."""
        with self._lock:
            for seen in self._seen.values():
                for domain in seen.values():
                    recorded = (domain.hypervisor, domain.uuid) == (claim.hypervisor, claim.uuid)
                    if claim.macs & domain.macs and domain.state is DomainState.ACTIVE and not recorded:
                        return domain
        return None

    def _is_proven(self, hypervisor: str, claim: Claim, verdict: Release) -> bool:
        """Whether the domain did not move to another hypervisor, as far as these can say now."""
        for name, watcher in self.watchers.items():
            if name == hypervisor:
                continue
            elsewhere = watcher.has(claim.uuid or "")
            if elsewhere or (elsewhere is None and not verdict.certain):
                return False  # it moved there, or may have
        return True

    # -- allocations no domain ever used ---------------------------------------------------------------

    def release_abandoned(self) -> None:
        """Releases allocations whose domain never appeared, once every hypervisor has been looked at."""
        if not self.watchers or not all(one.connected for one in self.status()):
            return
        now = datetime.now(UTC)
        timeouts = [p.claim_timeout_s for p in self._registry.pools.values() if p.claim_timeout_s]
        if not timeouts:
            return
        with self._lock:
            present = {mac for seen in self._seen.values() for one in seen.values() for mac in one.macs}
        with self._registry.read() as view:
            waiting = claims.unused_since(view, now - timedelta(seconds=min(timeouts)))
        due = [
            claim
            for claim in waiting
            if not claim.macs & present
            for pool in [self._registry.pools[claim.pool]]
            if is_abandoned(claim, pool.release, pool.claim_timeout_s, now)
        ]
        if not due:
            return

        def work(txn: Transaction) -> None:
            for claim in due:
                _apply(txn, claim, Release("no domain with its MAC appeared in time", certain=True))

        self._committer.submit(ACTOR, work).result()

    # -- moves nobody finished -------------------------------------------------------------------------

    def settle_moves(self) -> None:
        """Finishes or aborts the moves whose time is over, by what libvirt says that their machines have now."""
        now = datetime.now(UTC)
        with self._registry.read() as view:
            due = [
                one for one in view.moves() if one.new.expires_at is not None and one.new.expires_at <= now
            ]
            found = {one.address: one for one in claims.of_macs(view, [move.old.mac for move in due])}
        settled = [(move, self._settle(found[move.old.address])) for move in due if move.old.address in found]
        settled = [(move, how) for move, how in settled if how is not Settlement.KEEP]
        if not settled:
            return

        def work(txn: Transaction) -> list[tuple[Move, Settlement]]:
            return [(move, how) for move, how in settled if end_move(txn, move, how)]

        for move, how in self._committer.submit(ACTOR, work).result():
            _log.info(
                "move settled",
                name=move.old.name,
                old=str(move.old.address),
                new=str(move.new.address),
                how=how.name,
            )

    def _settle(self, claim: Claim) -> Settlement:
        if not self.watchers or (claim.hypervisor is not None and claim.hypervisor not in self.watchers):
            return Settlement.KEEP  # nobody watches its machine
        with self._lock:
            scanned = self._seen.keys() >= self.watchers.keys()
        if not scanned or not all(one.connected for one in self.status()):
            return Settlement.KEEP
        uuid = claim.uuid or self._user_of(claim)
        pool = self._registry.pools[claim.pool]
        if uuid is None and waits_for_ever(claim, pool.release, pool.claim_timeout_s):
            return Settlement.KEEP
        try:
            looks = [] if uuid is None else [watcher.look(uuid) for watcher in self.watchers.values()]
        except HypervisorUnavailable:
            return Settlement.KEEP
        domains = [domain for domain in looks if domain is not None]
        running = [domain for domain in domains if domain.state is DomainState.ACTIVE]
        return settle(claim, next(iter([*running, *domains]), None))

    def _user_of(self, claim: Claim) -> str | None:
        """The domain that has one of the MACs of an allocation that has no recorded user."""
        with self._lock:
            for seen in self._seen.values():
                for domain in seen.values():
                    if claim.macs & domain.macs:
                        return domain.uuid
        return None

    # -- findings --------------------------------------------------------------------------------------

    def findings(self) -> list[Finding]:
        """Running domains that use a MAC of ours which is not allocated, or one MAC together, or have lost theirs."""
        with self._lock:
            running = [
                domain
                for seen in self._seen.values()
                for domain in seen.values()
                if domain.state is DomainState.ACTIVE
            ]
        users: dict[MacAddress, list[Domain]] = {}
        for domain in running:
            for mac in domain.macs:
                users.setdefault(mac, []).append(domain)
        lost = {mac: one for one in running for mac in one.unplugged - one.live}
        with self._registry.read() as view:
            allocated = {mac for claim in claims.of_macs(view, list(users)) for mac in claim.macs}
            losers = [
                (claim, domain)
                for claim in claims.of_macs(view, list(lost))
                if claim.moves_to is None and claim.uuid == (domain := lost[claim.mac]).uuid
            ]
        plans = [pool.plan for pool in self._registry.pools.values()]
        found = [_card_lost(claim, domain) for claim, domain in losers]
        for mac, domains in sorted(users.items()):
            names = " and ".join(sorted(f"'{one.name}' ({one.hypervisor})" for one in domains))
            if len(domains) > 1:
                found.append(
                    Finding(
                        "shared_mac",
                        f"The domains {names} run with one MAC, {mac}.",
                        "All but one must get another.",
                    )
                )
            ours = next((one for plan in plans if (one := plan.assignable_of(mac)) is not None), None)
            if ours is not None and mac not in allocated:
                found.append(
                    Finding(
                        "unallocated_mac",
                        f"The domain {names} runs with {mac}, the MAC of {ours}, which is not allocated: "
                        "DHCP does not serve it.",
                        "End it, or reserve the address for it.",
                    )
                )
        return found

    def _report_findings(self) -> None:
        """Logs each finding once, when it appears."""
        now = set(self.findings())
        for finding in sorted(now - self._reported, key=str):
            _log.warning("finding", code=finding.code, finding=str(finding))
        self._reported = now


def _card_lost(claim: Claim, domain: Domain) -> Finding:
    return Finding(
        "card_lost",
        f"The domain '{domain.name}' ({domain.hypervisor}) has let go of its interface {claim.mac} after its move "
        "was given up; it runs without.",
        f"`macbind renumber {claim.name} --abort` plugs it in again; or switch the domain off and on.",
    )


def end_move(txn: Transaction, move: Move, how: Settlement) -> bool:
    """Ends a move if it is still under way and nobody has gone on with it meanwhile; True if it was ended."""
    if not any(one.new == move.new for one in txn.moves(name=move.old.name)):
        return False
    if how is Settlement.FINISH:
        txn.finish_move(move.old.name, move.new.generation)
    else:
        txn.abort_move(move.old.name, move.new.generation, reason="nobody finished it in time")
    return True


def _apply(txn: Transaction, claim: Claim, verdict: Verdict) -> bool:
    """Carries a verdict out if the row is still what was judged; True if something was released."""
    if not claims.holds(txn, claim):
        return False
    match verdict:
        case Note(phase):
            claims.note(txn, claim, phase)
            return False
        case Release(reason):
            txn.release(address=claim.address, generation=claim.generation, reason=reason)
            return True
    return False
