"""What has to be done now and then, without anybody asking for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog

from macbind.core.steady_time import SteadyTime
from macbind.engine.confirmations import Confirmations
from macbind.engine.group_commit import GroupCommitter
from macbind.registry import evidence
from macbind.registry.audit import trim_audit
from macbind.registry.queries import has_chores
from macbind.registry.release import expire
from macbind.registry.requests import trim_requests
from macbind.registry.resting import sweep
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction
from macbind.service.answers import Answers
from macbind.service.machines_seen import MachinesSeen
from macbind.service.own_addresses import OwnAddresses
from macbind.service.peers import CurrentPeers

_log = structlog.get_logger()

_LONG_WAIT_S = 0.5


class Housekeeping:
    """Releases what has expired, frees what has rested or is no longer in use, and looks after those who wait long.

    Args:
        registry: The truth.
        committer: Changes it.
        confirmations: Where others wait for DHCP servers.
        peers: The DHCP servers and hypervisors now.
        own_addresses: Looks after the addresses of this machine's interfaces.
        machines_seen: Looks after when machines were last seen.
        now: Tells the time of day (UTC); it may jump.
        clock: Tells the time in seconds; never jumps.
    """

    def __init__(
        self,
        registry: Registry,
        committer: GroupCommitter,
        confirmations: Confirmations,
        peers: CurrentPeers,
        *,
        own_addresses: OwnAddresses | None = None,
        machines_seen: MachinesSeen | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry, self._committer = registry, committer
        self._confirmations, self._peers = confirmations, peers
        self._now, self._clock = now, clock
        self._steady = SteadyTime()
        self._answers = Answers(registry, committer)
        self._own_addresses, self._machines_seen = own_addresses, machines_seen

    def tend(self) -> None:
        """Does what is due. Call often."""
        # Where another controller writes, only the registry tells what was confirmed.
        peers = self._peers()
        self._confirmations.recheck(self._registry, older_than_s=_LONG_WAIT_S)
        now, at = self._now(), self._clock()
        jump = self._steady.note(now, at)
        if jump:
            _log.warning(
                "the clock has jumped forward; what ends by time is kept for as long", jump=str(jump)
            )
        if peers.machines:
            peers.machines.release_abandoned()
        self._answers.tend()
        if self._own_addresses is not None:
            self._own_addresses.tend()
        if self._machines_seen is not None:
            self._machines_seen.tend()
        if self._steady.is_held(at):
            return
        if peers.machines:
            peers.machines.settle_renumberings()
        with self._registry.read() as view:
            due = has_chores(view, now)
        if due:
            self._committer.submit("macbind", _expire_and_sweep).result()

    def trim(self, before: datetime) -> bool:
        """Forgets some audit entries older than ``before``, and requests; True if there may be more."""

        def work(txn: Transaction) -> int:
            return trim_requests(txn) + trim_audit(txn, before)

        return self._committer.submit("macbind", work).result() > 0


def _expire_and_sweep(txn: Transaction) -> None:
    expire(txn)
    evidence.expire(txn)
    for pool in txn.pools.values():
        sweep(txn, pool, txn.sizes.chores)
