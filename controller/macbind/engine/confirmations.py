"""Who waits for which DHCP server to confirm what.

A change of the registry notes here, before it is committed, which confirmations its caller needs. Writers report
what their servers confirmed or refused. Now and then the registry's own record is read: it has what another
controller confirmed, and what a report missed.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from ipaddress import IPv4Address

from macbind.core.allocation import Allocation, State
from macbind.core.errors import Conflict, MacbindError, StorageFailed
from macbind.registry.pending_changes import Confirmed, PendingChange, ended
from macbind.registry.queries import find
from macbind.registry.store import Registry

_Key = tuple[str, IPv4Address, int | None]
"""What is awaited: this DHCP server holds this generation of this address, or none of it (None)."""


class Waiter:
    """The confirmations one caller needs, and the future that is resolved when none is missing."""

    def __init__(self) -> None:
        self.future: Future[None] = Future()
        self.missing: set[_Key] = set()
        self.confirmed: set[_Key] = set()
        self.either: dict[tuple[IPv4Address, int], tuple[str, ...]] = {}
        """The bindings of which one DHCP server is enough, and of which."""
        self.allocations: dict[tuple[IPv4Address, int], Allocation] = {}
        """Whose bindings are awaited."""
        self.has_to_wait = False
        self.since = time.monotonic()

    @property
    def addresses(self) -> set[IPv4Address]:
        """The addresses that some DHCP server has yet to confirm."""
        return {address for _, address, _ in tuple(self.missing)}  # writers go on meanwhile

    @property
    def dhcpds(self) -> set[str]:
        """The DHCP servers that have yet to confirm something."""
        return {dhcpd for dhcpd, _, _ in tuple(self.missing)}

    def cannot_end(self, away: Collection[str]) -> bool:
        """Whether something is missing that only these DHCP servers could confirm."""
        missing = set(self.missing)  # it may change meanwhile
        return any(
            key[0] in away and not any(other[0] not in away for other in self.others(key) & missing)
            for key in missing
        )

    def others(self, key: _Key) -> set[_Key]:
        """What is as good as this."""
        dhcpd, address, generation = key
        if generation is None:
            return set()
        names = self.either.get((address, generation), ())
        return {(name, address, generation) for name in names if name != dhcpd}


class Confirmations:
    """Matches the writers' reports with those who wait for them. Any thread may call it.

    Args:
        after_report: Called after each report.

    Attributes:
        is_served_elsewhere: Says whether another controller gets on with a DHCP server. What that one records counts,
            whatever became of our own connection.
    """

    def __init__(self, after_report: Callable[[], None] = lambda: None) -> None:
        self._after_report = after_report
        self.is_served_elsewhere: Callable[[str], bool] = lambda _: False
        self._lock = threading.Lock()
        self._waiting: dict[_Key, set[Waiter]] = defaultdict(set)
        self._released: dict[_Key, int] = {}
        """The latest generation of which nothing is to be held, where none is awaited."""
        self._doubtful: set[str] = set()

    def expect_bound(
        self,
        waiter: Waiter,
        allocation: Allocation,
        dhcpds: Iterable[str],
        confirmed_by: Collection[str] = (),
        *,
        one_is_enough: bool = False,
    ) -> None:
        """Lets ``waiter`` wait until the DHCP servers hold the allocation.

        The call must come before the commit: afterwards a writer may already have reported the confirmation.
        What was confirmed before is awaited only from servers whose content is in doubt.

        Args:
            waiter: Who waits.
            allocation: What for.
            dhcpds: All that have to hold it.
            confirmed_by: Those of which the registry says that they do; all, if the allocation is bound.
            one_is_enough: Whether one of them has to hold it, of which ``confirmed_by`` says it if it does.
        """
        is_bound = allocation.state is State.BOUND and not one_is_enough
        names = tuple(dhcpds)
        with self._lock:
            if one_is_enough:
                if any(not self._is_doubtful(name) for name in confirmed_by if name in names):
                    return
                waiter.either[allocation.address, allocation.generation] = names
            for name in names:
                if self._is_doubtful(name) or not (is_bound or name in confirmed_by):
                    waiter.allocations[allocation.address, allocation.generation] = allocation
                    self._expect(waiter, (name, allocation.address, allocation.generation))

    def expect_gone(self, waiter: Waiter, released: Allocation, dhcpds: Iterable[str]) -> None:
        """Lets ``waiter`` wait until the DHCP servers hold nothing of what was released; call before the commit."""
        with self._lock:
            for name in dhcpds:
                key = (name, released.address, None)
                self._expect(waiter, key)
                self._released[key] = max(released.generation, self._released.get(key, 0))

    def _expect(self, waiter: Waiter, key: _Key) -> None:
        waiter.missing.add(key)
        waiter.has_to_wait = True
        self._waiting[key].add(waiter)

    def forget(self, waiter: Waiter) -> None:
        """Ends the waiting of a caller that gave up, or whose transaction was rolled back. It may begin anew."""
        with self._lock:
            self._leave(waiter)
            waiter.confirmed.clear()
            waiter.either.clear()
            waiter.allocations.clear()
            if waiter.has_to_wait:
                # A report may be about to resolve the old one: that says nothing of what is awaited next.
                waiter.has_to_wait, waiter.future = False, Future()

    def _leave(self, waiter: Waiter) -> None:
        for key in list(waiter.missing):
            self._need_not(waiter, key)

    def _need_not(self, waiter: Waiter, key: _Key) -> None:
        """Ends the waiting for this."""
        waiter.missing.discard(key)
        waiting = self._waiting[key]
        waiting.discard(waiter)
        if not waiting:
            del self._waiting[key]
            self._released.pop(key, None)

    def confirmed(self, dhcpd: str, done: Sequence[PendingChange]) -> None:
        """A writer reports what it recorded as confirmed."""
        self._resolve((dhcpd, item.address, item.confirms) for item in done)
        self._after_report()

    def _resolve(self, keys: Iterable[_Key]) -> None:
        complete: list[Future[None]] = []
        with self._lock:  # a waiter leaves the table once, so only one thread ever resolves its future
            for key in keys:
                self._released.pop(key, None)
                for waiter in self._waiting.pop(key, ()):
                    waiter.missing.discard(key)
                    waiter.confirmed.add(key)
                    for other in waiter.others(key) & waiter.missing:
                        self._need_not(waiter, other)
                    if not waiter.missing:
                        complete.append(waiter.future)
        for future in complete:
            future.set_result(None)

    def refused(self, dhcpd: str, address: IPv4Address, confirms: int | None, error: MacbindError) -> None:
        """A writer reports a refusal; those who wait for exactly this fail now."""
        key = (dhcpd, address, confirms)
        with self._lock:
            failed = []
            for waiter in list(self._waiting.get(key, ())):
                if isinstance(error, StorageFailed) and waiter.others(key) & waiter.missing:
                    self._need_not(waiter, key)  # another server may confirm; this has confirmed nothing
                    continue
                self._leave(waiter)  # it still has to look at its future: the refusal is in there
                failed.append(waiter.future)
        for future in failed:
            future.set_exception(error)

    def in_doubt(self, dhcpd: str) -> None:
        """What this DHCP server holds is unknown until :meth:`trusted`."""
        with self._lock:
            self._doubtful.add(dhcpd)

    def trusted(self, dhcpd: str) -> None:
        """This DHCP server holds what the registry says it confirmed."""
        with self._lock:
            self._doubtful.discard(dhcpd)

    def _is_doubtful(self, dhcpd: str) -> bool:
        return dhcpd in self._doubtful and not self.is_served_elsewhere(dhcpd)

    def reconsider(self, registry: Registry, dhcpds: Collection[str], renewed: Collection[int]) -> None:
        """Adapts what is awaited to a configuration that was taken into use.

        Args:
            registry: Has it.
            dhcpds: The configured dhcpds; nobody waits for another one any more.
            renewed: The generations of bindings that were made anew: who waits for an earlier one gets this one.
        """
        with self._lock:
            keys = [key for key in self._waiting if key[0] in registry.ids.dhcpds]
        with registry.read() as view:
            held = {one.address: one for one in find(view, addresses=list({key[1] for key in keys}))}
            serving = {name: pool.dhcpds for name, pool in view.pools.items()}
        needless = []
        for dhcpd, address, generation in keys:
            one = None if generation is None else held.get(address)
            if dhcpd not in dhcpds or (one is not None and dhcpd not in serving[one.pool]):
                needless.append((dhcpd, address, generation))
            elif one is not None and one.generation != generation and one.generation in renewed:
                self._exchange((dhcpd, address, generation), (dhcpd, address, one.generation))
        self._resolve(needless)
        self.recheck(registry)

    def _exchange(self, old: _Key, new: _Key) -> None:
        with self._lock:
            for waiter in self._waiting.pop(old, ()):
                waiter.missing.discard(old)
                waiter.missing.add(new)
                if old[2] is not None and new[2] is not None and (old[1], old[2]) in waiter.either:
                    waiter.either[new[1], new[2]] = waiter.either[old[1], old[2]]
                if old[2] is not None and new[2] is not None:
                    before = waiter.allocations[old[1], old[2]]
                    waiter.allocations[new[1], new[2]] = replace(before, generation=new[2])
                self._waiting[new].add(waiter)

    def recheck(self, registry: Registry, *, older_than_s: float = 0.0) -> None:
        """Resolves what the registry records as confirmed: another controller writes there, too.

        Who waits for an allocation that has ended meanwhile is told so.

        Args:
            registry: Asked once for all waiting addresses.
            older_than_s: Leaves out those who have waited less than this, in seconds.
        """
        asked, horizon = registry.ids.dhcpds, time.monotonic() - older_than_s
        with self._lock:
            waiting = [
                key
                for key, waiters in self._waiting.items()
                if key[0] in asked and any(waiter.since <= horizon for waiter in waiters)
            ]
            keys = {key: self._released.get(key, 0) for key in waiting if not self._is_doubtful(key[0])}
            awaited = {
                key: waiter.allocations[key[1], key[2]]
                for key in waiting
                if key[2] is not None
                for waiter in self._waiting[key]
            }
        if not waiting:
            return
        with registry.read() as view:
            confirmed = Confirmed(view, {address for _, address, _ in keys})
            over = {(one.address, one.generation) for one in ended(view, list(awaited.values()))}
        self._resolve(
            (dhcpd, address, generation)
            for (dhcpd, address, generation), released in keys.items()
            if (
                confirmed.has_let_go(dhcpd, address, released)
                if generation is None
                else confirmed.holds(dhcpd, address, generation)
            )
        )
        for (dhcpd, _, _), one in awaited.items():
            if (one.address, one.generation) in over:
                self.refused(dhcpd, one.address, one.generation, _has_ended(one))


def _has_ended(one: Allocation) -> Conflict:
    return Conflict(
        f"'{one.name}' ({one.address}) has ended before dhcpd confirmed it: it was released, or its time was over.",
        hint="Ask again.",
        name=one.name,
        address=str(one.address),
    )
