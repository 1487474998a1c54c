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
from ipaddress import IPv4Address

from macbind.core.allocation import Allocation, State
from macbind.core.errors import MacbindError
from macbind.registry.pending_changes import Confirmed, PendingChange
from macbind.registry.queries import find
from macbind.registry.store import Registry

_Key = tuple[str, IPv4Address, int | None]
"""What is awaited: this DHCP server holds this generation of this address, or none of it (None)."""


class Waiter:
    """The confirmations one caller needs, and the future that is resolved when none is missing."""

    def __init__(self) -> None:
        self.future: Future[None] = Future()
        self.missing: set[_Key] = set()
        self.has_to_wait = False
        self.since = time.monotonic()

    @property
    def addresses(self) -> set[IPv4Address]:
        """The addresses that some DHCP server has yet to confirm."""
        return {address for _, address, _ in self.missing}

    @property
    def dhcpds(self) -> set[str]:
        """The DHCP servers that have yet to confirm something."""
        return {dhcpd for dhcpd, _, _ in self.missing}


class Confirmations:
    """Matches the writers' reports with those who wait for them. Any thread may call it.

    Args:
        after_report: Called after each report.

    Attributes:
        on_gone: Called with the addresses for which a DHCP server holds nothing any more.
        is_served_elsewhere: Says whether another controller gets on with a DHCP server. What that one records counts,
            whatever became of our own connection.
    """

    def __init__(self, after_report: Callable[[], None] = lambda: None) -> None:
        self._after_report = after_report
        self.on_gone: Callable[[Iterable[IPv4Address]], object] = lambda _: None
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
    ) -> None:
        """Lets ``waiter`` wait until the DHCP servers hold the allocation.

        The call must come before the commit: afterwards a writer may already have reported the confirmation.
        What was confirmed before is awaited only from servers whose content is in doubt.

        Args:
            waiter: Who waits.
            allocation: What for.
            dhcpds: All that have to hold it.
            confirmed_by: Those of which the registry says that they do; all, if the allocation is bound.
        """
        is_bound = allocation.state is State.BOUND
        with self._lock:
            for name in dhcpds:
                if self._is_doubtful(name) or not (is_bound or name in confirmed_by):
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
            waiter.has_to_wait = False
            if waiter.future.done():
                waiter.future = Future()

    def _leave(self, waiter: Waiter) -> None:
        for key in waiter.missing:
            waiting = self._waiting[key]
            waiting.discard(waiter)
            if not waiting:
                del self._waiting[key]
                self._released.pop(key, None)
        waiter.missing.clear()

    def confirmed(self, dhcpd: str, done: Sequence[PendingChange]) -> None:
        """A writer reports what it recorded as confirmed."""
        self._resolve((dhcpd, item.address, item.confirms) for item in done)
        self.on_gone(item.address for item in done if item.confirms is None)
        self._after_report()

    def _resolve(self, keys: Iterable[_Key]) -> None:
        complete: list[Waiter] = []
        with self._lock:  # a waiter leaves the table once, so only one thread ever resolves it
            for key in keys:
                self._released.pop(key, None)
                for waiter in self._waiting.pop(key, ()):
                    waiter.missing.discard(key)
                    if not waiter.missing:
                        complete.append(waiter)
        for waiter in complete:
            waiter.future.set_result(None)

    def refused(self, dhcpd: str, address: IPv4Address, confirms: int | None, error: MacbindError) -> None:
        """A writer reports a refusal; those who wait for exactly this fail now."""
        key = (dhcpd, address, confirms)
        with self._lock:
            failed = list(self._waiting.get(key, ()))
            for waiter in failed:
                self._leave(waiter)  # it still has to look at its future: the refusal is in there
        for waiter in failed:
            waiter.future.set_exception(error)

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

    def reconsider(self, registry: Registry, dhcpds: Collection[str], renewed: int) -> None:
        """Adapts what is awaited to a configuration that was taken into use.

        Args:
            registry: Has it.
            dhcpds: The configured dhcpds; nobody waits for another one any more.
            renewed: The generation of bindings that it has made anew: who waits for an earlier one gets this one.
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
            elif one is not None and one.generation == renewed:
                self._exchange((dhcpd, address, generation), (dhcpd, address, renewed))
        self._resolve(needless)
        self.recheck(registry)

    def _exchange(self, old: _Key, new: _Key) -> None:
        with self._lock:
            for waiter in self._waiting.pop(old, ()):
                waiter.missing.discard(old)
                waiter.missing.add(new)
                self._waiting[new].add(waiter)

    def recheck(self, registry: Registry, *, older_than_s: float = 0.0) -> None:
        """Resolves what the registry records as confirmed: another controller writes there, too.

        Args:
            registry: Asked once for all waiting addresses.
            older_than_s: Leaves out those who have waited less than this, in seconds.
        """
        asked = registry.ids.dhcpds
        horizon = time.monotonic() - older_than_s
        with self._lock:
            keys = {
                key: self._released.get(key, 0)
                for key, waiters in self._waiting.items()
                if key[0] in asked
                and not self._is_doubtful(key[0])
                and any(waiter.since <= horizon for waiter in waiters)
            }
        if not keys:
            return
        with registry.read() as view:
            confirmed = Confirmed(view, {address for _, address, _ in keys})
        self._resolve(
            (dhcpd, address, generation)
            for (dhcpd, address, generation), released in keys.items()
            if (
                confirmed.has_let_go(dhcpd, address, released)
                if generation is None
                else confirmed.holds(dhcpd, address, generation)
            )
        )
