"""Renumberings that nobody has finished or aborted in time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import structlog

from macbind.core.allocation import Renumbering
from macbind.core.domain import Claim, DomainState, Phase
from macbind.core.errors import HypervisorUnavailable
from macbind.core.pool import Pool
from macbind.core.settlement import Settlement, settle, waits_for_ever
from macbind.engine.domains.sightings import Sightings, Watching
from macbind.engine.group_commit import GroupCommitter
from macbind.registry import claims
from macbind.registry.queries import renumberings
from macbind.registry.renumber import drop_renumber, end_renumber
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction

_log = structlog.get_logger()


class Settling:
    """Settles them by what libvirt says their machines have now.

    Args:
        registry: The truth.
        committer: Changes it.
        watchers: What watches each hypervisor.
        sightings: What they have seen.
        has_watched_all: Whether all have been watched for longer than any transition.
        clock: Tells the time in seconds; never goes back.
    """

    def __init__(
        self,
        registry: Registry,
        committer: GroupCommitter,
        watchers: Mapping[str, Watching],
        sightings: Sightings,
        has_watched_all: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self._registry, self._committer = registry, committer
        self._watchers, self._sightings = watchers, sightings
        self._has_watched_all, self._clock = has_watched_all, clock

    def settle_due(self, actor: str) -> None:
        """Finishes or aborts the renumberings whose time is over."""
        now = datetime.now(UTC)
        with self._registry.read() as view:
            due = [
                one
                for one in renumberings(view)
                if one.new.expires_at is not None and one.new.expires_at <= now
            ]
            found = {one.address: one for one in claims.of_macs(view, [one.old.mac for one in due])}
            pools = view.pools
        settled = [
            (one, self._settle(claim, pools[claim.pool]))
            for one in due
            if (claim := found.get(one.old.address)) is not None
        ]
        settled = [(one, how) for one, how in settled if how is not Settlement.KEEP]
        if not settled:
            return

        def work(txn: Transaction) -> list[tuple[Renumbering, Settlement]]:
            return [(one, how) for one, how in settled if end_renumbering(txn, one, how)]

        for one, how in self._committer.submit(actor, work).result():
            _log.info(
                "renumbering settled",
                name=one.old.name,
                old=str(one.old.address),
                new=str(one.new.address),
                how=how.name,
            )

    def _settle(self, claim: Claim, pool: Pool) -> Settlement:
        if not self._watchers or (claim.hypervisor is not None and claim.hypervisor not in self._watchers):
            return Settlement.KEEP  # nobody watches its machine
        scanned = all(since is not None for since in self._sightings.watched_since().values())
        if not scanned or not all(one.status.connected for one in self._watchers.values()):
            return Settlement.KEEP
        uuid = claim.uuid or self._user_of(claim)
        if uuid is None and waits_for_ever(claim, pool.release, pool.claim_timeout_s):
            return Settlement.KEEP
        try:
            looks = [] if uuid is None else [watcher.look(uuid) for watcher in self._watchers.values()]
        except HypervisorUnavailable:
            return Settlement.KEEP
        domains = [domain for domain in looks if domain is not None]
        running = [domain for domain in domains if domain.state is DomainState.ACTIVE]
        domain = next(iter([*running, *domains]), None)
        if domain is None and claim.uuid is None and (uuid is not None or not self._has_watched_all()):
            return Settlement.KEEP
        missing = domain is None or (domain.state is DomainState.OFF and claim.phase is Phase.RUNNING)
        if missing and claim.hypervisor is not None and claim.uuid is not None:
            self._watchers[claim.hypervisor].ask_again(claim.uuid, self._clock())  # it may not know yet
        return settle(claim, domain)

    def _user_of(self, claim: Claim) -> str | None:
        """The domain that has one of the MACs of an allocation that has no recorded user."""
        return next((one.uuid for one in self._sightings.having(claim.macs)), None)


def end_renumbering(txn: Transaction, seen: Renumbering, how: Settlement) -> bool:
    """Ends a renumbering that is under way and that nobody has gone on with since; True if it was ended."""
    for one in renumberings(txn, name=seen.old.name):
        if one.new == seen.new:
            if how is Settlement.FINISH:
                end_renumber(txn, one)
            else:
                drop_renumber(txn, one, "nobody finished it in time")
            return True
    return False
