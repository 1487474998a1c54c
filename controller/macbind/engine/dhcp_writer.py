"""One writer per DHCP server: the only code that changes it.

The writer drains the registry's pending changes: it reads what is due, has the server do it, and records what the
server confirmed. Requests that arrive while a batch is on its way become the next batch; nobody waits for a timer.
After every (re)connection the :mod:`~macbind.engine.reconciler` compares everything. Only then is the server
trusted again. A crash at any line is repaired by running it again: a pending change goes only together with the
record of its confirmation, and every change is idempotent.
"""

from __future__ import annotations

import os
import select
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv4Address

import structlog

from macbind.core.binding import probe_mac
from macbind.core.binding_plan import Ensure, Remove
from macbind.core.errors import (
    DhcpdUnavailable,
    InvariantViolation,
    MacbindError,
    PeerError,
    RegistryUnavailable,
    StorageFailed,
)
from macbind.core.findings import DhcpdState, DhcpdStatus, Finding, Lead
from macbind.dhcp.port import DhcpServer
from macbind.engine.confirmations import Confirmations
from macbind.engine.lead import Alone, LeadHolder, Others
from macbind.engine.meter import Meter, Unmetered, count_released
from macbind.engine.reconciler import Reconciler
from macbind.engine.supervised import LONGEST_PAUSE_S, OnDefect, Supervised
from macbind.registry.leader import Leader
from macbind.registry.pending_changes import PendingChange, backlog, confirm, pending_changes
from macbind.registry.store import Registry

_log = structlog.get_logger()

POLL_S = 1.0
"""A safety net behind the wake-up and the news of other controllers."""
LOOK_S = 5.0
"""A server that had nothing to do for so long is asked something: whether it is still there."""
SHORT_S, LONG_S = 0.25, 0.5
"""After a batch of removals that took less, the next one is larger; after one that took more, smaller. A new binding
waits for its end."""
FIRST_REMOVALS, FEWEST_REMOVALS = 64, 4
RETRY_REFUSED_S = 5.0
"""How long a change that the server refused waits before it is tried again."""


class DhcpWriter:
    """Keeps one DHCP server as the registry says it should be.

    Args:
        dhcpd: The server.
        registry: The registry.
        leader: Says whether this controller may write to it.
        confirmations: Hears of everything that the server confirmed or refused.
        resync_s: How often everything is compared even without a reason, in seconds.
        retry_refused_s: How long a change that the server refused waits before it is tried again, in seconds.
        beat: Called whenever the writer goes on; when it has not been for long, the writer hangs.
        on_defect: Called with a defect of ours; the writer has stopped.
        meter: Counts what happens.
        others: The other controllers, with whom it shares the lead.
    """

    def __init__(
        self,
        dhcpd: DhcpServer,
        registry: Registry,
        leader: Leader,
        confirmations: Confirmations,
        *,
        resync_s: float = 300.0,
        retry_refused_s: float = RETRY_REFUSED_S,
        beat: Callable[[], None] = lambda: None,
        on_defect: OnDefect = lambda _: None,
        meter: Meter = Unmetered(),  # noqa: B008  # it has no state
        others: Others = Alone(),  # noqa: B008  # it has no state
    ) -> None:
        self._meter = meter
        self._lead = LeadHolder(dhcpd, leader, others)
        self._dhcpd, self._registry = dhcpd, registry
        self._confirmations, self._resync_s, self._on_defect = confirmations, resync_s, on_defect
        self._retry_refused_s, self._batch, self._beat = retry_refused_s, registry.sizes.batch, beat
        self._removals = min(FIRST_REMOVALS, self._batch)
        self._asked_at = self._looked_at = 0.0
        self._reconciler = Reconciler(dhcpd, registry)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        weakref.finalize(self, os.close, self._wake)  # whoever still knows this writer may still wake it
        self._refused: dict[IPv4Address, tuple[int, float, MacbindError]] = {}
        self._state, self._since = DhcpdState.CONNECTING, datetime.now(UTC)
        self._problem: MacbindError | None = None
        self._away_since: float | None = None
        # The server could not write a change down; and it can again, but what it writes behind a damaged place it
        # may not find at its next start.
        self._unwritable: MacbindError | None = None
        self._writes_again = False
        self._compared_at: datetime | None = None
        self._found: tuple[Finding, ...] = ()
        self._thread = Supervised(
            f"writer-{dhcpd.name}", self._session_until_broken, self._on_broken, at_end=self._let_go
        )
        self._stop = self._thread.stopping

    # -- life ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the thread. The server need not be there yet."""
        self._confirmations.in_doubt(self._dhcpd.name)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after the batch it is at; what is left stays in the registry."""
        self._stop.set()
        self.wake()
        self._lead.look_soon()
        self._thread.close()

    def wake(self) -> None:
        """Says that something may be due; cheap, and safe from any thread."""
        os.eventfd_write(self._wake, 1)

    def look_soon(self) -> None:
        """Says that the lead may be free, or wanted; cheap, and safe from any thread."""
        self._lead.look_soon()

    @property
    def state(self) -> DhcpdState:
        """How macbind gets on with this server."""
        return self._state

    @property
    def away_s(self) -> float:
        """For how long the server has been known to be away, in seconds; 0 if it is not."""
        since = self._away_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def leads(self) -> bool:
        """Whether this controller is the one that writes to the server."""
        return self._lead.is_held

    @property
    def lead(self) -> Lead | None:
        """What other controllers should know of this one's lead; None if another has it."""
        if not self.leads:
            return None
        return Lead(self._dhcpd.name, self._state, self._since, self._findings())

    @property
    def wants(self) -> bool:
        """Whether this controller reaches the server, and should lead it instead of another one."""
        return self._lead.is_wanted

    def status(self) -> DhcpdStatus:
        """How things stand."""
        with self._registry.read() as view:
            left = backlog(view, self._dhcpd.name)
        problem = self._trouble()
        return DhcpdStatus(
            self._dhcpd.name,
            self._state,
            self._since,
            left,
            "" if problem is None else str(problem),
            compared_at=self._compared_at,
            findings=self._findings(),
        )

    def _trouble(self) -> MacbindError | None:
        return self._problem or next((error for _, _, error in list(self._refused.values())), None)

    def _findings(self) -> tuple[Finding, ...]:
        lasting = [error for error in (self._trouble(), self._unwritable) if error is not None]
        return (*dict.fromkeys(_finding(error, self._dhcpd.name) for error in lasting), *self._found)

    def _enter(self, state: DhcpdState, problem: MacbindError | None = None) -> None:
        is_new = state is not self._state or str(problem) != str(self._problem)
        if is_new:
            self._since = datetime.now(UTC)
            log = _log.warning if problem else _log.info
            why = {"problem": str(problem)} if problem else {}
            log("dhcpd", dhcpd=self._dhcpd.name, state=str(state), **why)
        if state is DhcpdState.UNAVAILABLE:
            self._away_since = self._away_since or time.monotonic()
        elif state in (DhcpdState.SERVING, DhcpdState.STANDBY):
            self._away_since = None
        self._state, self._problem = state, problem
        if is_new:
            self._lead.has_news()

    # -- the loop --------------------------------------------------------------------------------------

    def _on_broken(self, error: BaseException) -> None:
        self._enter(
            DhcpdState.UNAVAILABLE, InvariantViolation(f"The writer stopped because of a defect: {error}.")
        )
        self._on_defect(error)

    def _let_go(self) -> None:
        self._dhcpd.close()
        self._lead.let_go()

    def _session_until_broken(self) -> None:
        """Connects, compares, serves. Returns when asked to stop, or when a session that served broke.

        Raises:
            PeerError: It did not get as far as serving, or served but for a moment.
        """
        served, began = False, time.monotonic()
        self._beat()  # a try that fails is progress: it is the peer who hangs
        try:
            if not self._lead.take():
                self._stand_by()
                return
            self._confirmations.in_doubt(self._dhcpd.name)
            if self._state is DhcpdState.STANDBY:
                self._enter(DhcpdState.CONNECTING)
            self._lead.reach()
            self._unwritable = None  # when it started, it wrote its files anew
            while not self._stop.is_set() and not self._lead.is_claimed:
                self._compare()
                served = True
                self._serve(until=time.monotonic() + self._resync_s)
            if not self._stop.is_set():
                self._lead.hand_over()
                self._stand_by()
        except PeerError as error:
            self._confirmations.in_doubt(self._dhcpd.name)
            self._dhcpd.close()
            self._enter(DhcpdState.UNAVAILABLE, error)
            self._lead.broke(error)
            if not served or time.monotonic() - began < LONGEST_PAUSE_S:
                raise

    def _stand_by(self) -> None:
        """Waits while another controller writes to the server."""
        self._confirmations.trusted(self._dhcpd.name)  # what the other one records counts
        self._enter(DhcpdState.STANDBY)
        self._found, self._unwritable = (), None  # what became of it, the other one knows
        self._refused.clear()
        self._beat()
        self._lead.wait(self._stop)

    def _serve(self, until: float) -> None:
        """Drains until it is time to compare again: by the clock, or because something was out of order."""
        registry_was_away = False
        while not self._stop.is_set() and not self._lead.is_claimed and time.monotonic() < until:
            self._beat()
            self._lead.check()
            try:
                busy = self._drain()
            except RegistryUnavailable as error:
                _log.warning("registry", problem=str(error))
                registry_was_away = True
                self._stop.wait(LONGEST_PAUSE_S)
                continue
            if registry_was_away or self._writes_again:
                self._writes_again = False
                return
            if not busy:
                self._wait()
                if time.monotonic() - self._asked_at >= LOOK_S:
                    self._asked_at = time.monotonic()
                    self._dhcpd.observe([probe_mac(self._dhcpd.name)])

    def _wait(self) -> None:
        """Waits until something may be due, the server has gone, or the poll interval is over."""
        poll = select.poll()  # select() would fail once the service has a thousand connections
        poll.register(self._wake, select.POLLIN)
        poll.register(self._dhcpd.fileno(), select.POLLIN)
        readable = {number for number, _ in poll.poll(POLL_S * 1000)}
        if self._wake in readable:
            os.eventfd_read(self._wake)
        if readable - {self._wake}:
            raise DhcpdUnavailable(
                f"dhcpd '{self._dhcpd.name}' closed the connection.", hint="Its log says why it ended."
            )

    # -- draining --------------------------------------------------------------------------------------

    def _drain(self) -> bool:
        """Does one batch of what is due; True if more may be due already."""
        name = self._dhcpd.name
        due, is_whole = self._due()
        if not due:
            return False
        began = self._asked_at = time.monotonic()
        outcomes = iter(self._dhcpd.apply([item.change for item in due if item.change is not None]))
        self._suit(sum(isinstance(item.change, Remove) for item in due), time.monotonic() - began)
        results = [(item, None if item.change is None else next(outcomes)) for item in due]
        done = [item for item, error in results if error is None]
        self._lead.check()
        with self._registry.write("writer", lazy=True) as txn:
            completed = confirm(txn, name, done)
        self._confirmations.confirmed(name, done)
        count_released(self._meter, self._registry, completed)
        for item in done:
            self._refused.pop(item.address, None)
        if self._unwritable is not None and any(isinstance(item.change, Ensure) for item in done):
            self._unwritable, self._writes_again = None, True
        for item, error in results:
            if error is not None:
                self._postpone(item, error)
        return not is_whole  # whoever has made more due meanwhile has woken us

    def _due(self) -> tuple[list[PendingChange], bool]:
        """A batch of what is due, and whether that is all. New bindings do not wait for many removals."""
        name, more = self._dhcpd.name, len(self._refused)
        size = self._removals
        with self._registry.read() as view:
            found = pending_changes(view, name, size + more)
            is_whole = len(found) < size + more
            if not is_whole and self._may_have_new():
                first = pending_changes(view, name, self._batch + more, held=True)
                known = {item.address for item in first}
                others = (item for item in found if item.address not in known)
                found = [*first, *others][: self._batch + more]
        return [item for item in found if not self._is_postponed(item)], is_whole

    def _may_have_new(self) -> bool:
        """Whether somebody has said so, or has not been asked for a while: it is a long question."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        is_said = bool(poll.poll(0))
        if is_said:
            os.eventfd_read(self._wake)
        now = time.monotonic()
        if not is_said and now - self._looked_at < POLL_S:
            return False
        self._looked_at = now
        return True

    def _suit(self, removals: int, seconds: float) -> None:
        """Makes the next batch of removals larger or smaller, after one of so many that took so long."""
        if removals and seconds > LONG_S:
            self._removals = max(FEWEST_REMOVALS, removals // 2)
        elif removals >= self._removals and seconds < SHORT_S:
            self._removals = 2 * self._removals
        self._removals = min(self._removals, self._batch)

    def _is_postponed(self, item: PendingChange) -> bool:
        seq, retry_at, _ = self._refused.get(item.address, (None, 0.0, None))
        return seq == item.seq and time.monotonic() < retry_at

    def _postpone(self, item: PendingChange, error: MacbindError) -> None:
        self._refused[item.address] = (item.seq, time.monotonic() + self._retry_refused_s, error)
        if isinstance(error, StorageFailed):
            self._unwritable = error
        _log.warning("dhcpd refused", dhcpd=self._dhcpd.name, address=str(item.address), problem=str(error))
        self._confirmations.refused(self._dhcpd.name, item.address, item.confirms, error)

    # -- comparing -------------------------------------------------------------------------------------

    def _compare(self) -> None:
        """Compares everything; afterwards what the registry says was confirmed is true again."""
        name = self._dhcpd.name
        if self._state is not DhcpdState.SERVING:  # else it goes on to be served meanwhile
            self._enter(DhcpdState.COMPARING)
        cycle = self._reconciler.cycle(self._between, self._pause)
        if cycle is None:
            return
        self._confirmations.trusted(name)
        self._confirmations.recheck(self._registry)
        known = {finding.code for finding in self._found}
        self._compared_at, self._found = datetime.now(UTC), cycle.findings
        self._meter.repaired(name, mended=cycle.mended, removed=cycle.cleared)
        self._enter(DhcpdState.SERVING)
        _log.info(
            "compared",
            dhcpd=name,
            summary=str(cycle),
            bindings=cycle.bindings,
            mended=cycle.mended,
            cleared=cycle.cleared,
            seconds=round(cycle.seconds, 3),
        )
        for finding in cycle.findings:
            if finding.code in known:
                continue
            _log.warning("finding", dhcpd=name, code=finding.code, finding=str(finding))

    def _between(self) -> bool:
        """What must not wait for the rest of a long comparison; False if it is to end."""
        if self._stop.is_set():
            return False
        self._beat()
        self._lead.check()  # it must not outlive the right to write
        self._drain()
        return True

    def _pause(self, seconds: float) -> bool:
        """Waits in the middle of a comparison; what is due does not. True if it is to end."""
        return not self._between() or self._stop.wait(seconds)


def _finding(error: MacbindError, dhcpd: str) -> Finding:
    return Finding(error.code, error.message, error.hint, dhcpd)
