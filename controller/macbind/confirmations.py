"""Who waits for which dhcpd to confirm what.

A request that changed the registry waits here until every dhcpd concerned has confirmed; writers report what
they did, and the registry's own record is consulted now and then, so that a report by another controller, or
one that was missed, only costs a moment.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future
from ipaddress import IPv4Address

from macbind.errors import MacbindError
from macbind.model import Allocation, State
from macbind.registry.due import Dirty
from macbind.registry.store import Registry

_Key = tuple[str, IPv4Address, int | None]
"""What is awaited: this dhcpd holds this generation of this address; None: no generation."""


class Waiter:
    """A set of confirmations and the future that is resolved when none is missing."""

    def __init__(self) -> None:
        self.future: Future[None] = Future()
        self.missing: set[_Key] = set()
        self.has_to_wait = False
        self.since = time.monotonic()

    @property
    def addresses(self) -> set[IPv4Address]:
        """The addresses not confirmed by everybody yet."""
        return {address for _, address, _ in self.missing}

    @property
    def dhcpds(self) -> set[str]:
        """The dhcpds that have yet to confirm something."""
        return {dhcpd for dhcpd, _, _ in self.missing}


class Confirmations:
    """Matches what writers report with those who wait for it. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[_Key, set[Waiter]] = defaultdict(set)
        self._doubtful: set[str] = set()

    def expect_bound(self, waiter: Waiter, allocation: Allocation, dhcpds: Iterable[str]) -> None:
        """Lets ``waiter`` wait until the dhcpds hold the allocation.

        Must be called before the transaction that made the allocation commits: afterwards a writer may
        already have reported it. An allocation that was bound before counts as missing only for dhcpds whose
        content is in doubt.
        """
        with self._lock:
            for name in dhcpds:
                if allocation.state is not State.BOUND or name in self._doubtful:
                    self._expect(waiter, (name, allocation.address, allocation.generation))

    def expect_answer(self, waiter: Waiter, who: str, allocation: Allocation) -> None:
        """Lets ``waiter`` wait for somebody who is not a dhcpd; call before the commit."""
        with self._lock:
            self._expect(waiter, (who, allocation.address, allocation.generation))

    def expect_gone(self, waiter: Waiter, address: IPv4Address, dhcpds: Iterable[str]) -> None:
        """Lets ``waiter`` wait until the dhcpds hold nothing for the address; call before the commit."""
        with self._lock:
            for name in dhcpds:
                self._expect(waiter, (name, address, None))

    def _expect(self, waiter: Waiter, key: _Key) -> None:
        waiter.missing.add(key)
        waiter.has_to_wait = True
        self._waiting[key].add(waiter)

    def forget(self, waiter: Waiter) -> None:
        """Ends the waiting of one who gave up or whose transaction was rolled back; it may begin anew."""
        with self._lock:
            self._leave(waiter)
            waiter.has_to_wait = False
            if waiter.future.done():
                waiter.future = Future()

    def _leave(self, waiter: Waiter) -> None:
        for key in waiter.missing:
            waiting = self._waiting[key]
            waiting.discard(waiter)
            if not waiting:
                del self._waiting[key]
        waiter.missing.clear()

    def answered(self, who: str, allocation: Allocation) -> None:
        """Somebody who is not a dhcpd has no objection to an allocation."""
        self._resolve([(who, allocation.address, allocation.generation)])

    def confirmed(self, dhcpd: str, done: Sequence[Dirty]) -> None:
        """A writer reports what it recorded as confirmed."""
        self._resolve((dhcpd, item.address, item.confirms) for item in done)

    def _resolve(self, keys: Iterable[_Key]) -> None:
        complete: list[Waiter] = []
        with self._lock:  # a waiter leaves the table once, so only one thread ever resolves it
            for key in keys:
                for waiter in self._waiting.pop(key, ()):
                    waiter.missing.discard(key)
                    if not waiter.missing:
                        complete.append(waiter)
        for waiter in complete:
            waiter.future.set_result(None)

    def refused(self, dhcpd: str, address: IPv4Address, confirms: int | None, error: MacbindError) -> None:
        """A writer reports that dhcpd refused; those who wait for exactly this fail now."""
        key = (dhcpd, address, confirms)
        with self._lock:
            failed = list(self._waiting.get(key, ()))
            for waiter in failed:
                self._leave(waiter)  # it still has to look at its future: the refusal is in there
        for waiter in failed:
            waiter.future.set_exception(error)

    def in_doubt(self, dhcpd: str) -> None:
        """What this dhcpd holds is unknown until :meth:`trusted`."""
        with self._lock:
            self._doubtful.add(dhcpd)

    def trusted(self, dhcpd: str) -> None:
        """This dhcpd holds what the registry says it confirmed."""
        with self._lock:
            self._doubtful.discard(dhcpd)

    def recheck(
        self, registry: Registry, *, older_than_s: float = 0.0, dhcpds: Collection[str] | None = None
    ) -> None:
        """Resolves what the registry records as confirmed.

        Args:
            registry: Asked once for all waiting addresses.
            older_than_s: Leaves out those who have waited less than this, in seconds.
            dhcpds: Only what these have to confirm; of all by default.
        """
        asked = registry.ids.dhcpds.keys() if dhcpds is None else dhcpds
        horizon = time.monotonic() - older_than_s
        with self._lock:
            keys = {
                key
                for key, waiters in self._waiting.items()
                if key[0] in asked
                and key[0] not in self._doubtful
                and any(waiter.since <= horizon for waiter in waiters)
            }
        if not keys:
            return
        with registry.read() as view:
            told = view.confirmed({address for _, address, _ in keys})
        self._resolve(
            (dhcpd, address, generation)
            for dhcpd, address, generation in keys
            if told(dhcpd, address, generation)
        )
