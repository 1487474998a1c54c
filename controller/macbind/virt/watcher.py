"""Watching a hypervisor: which domains exist, told again whenever something may have changed.

One thread per hypervisor does all the talking. libvirt's callbacks run in its event loop's thread, where they
may only enqueue: a call back into libvirt from there would wait for itself. An event says which domain to look
at again; a full scan follows every (re)connection and every ``resync_s`` seconds, so a missed event costs time
and nothing else. Events are handled before the next domain of a scan is read. A lost connection says nothing about
any domain. A domain that is to be looked at again later is looked at when that moment has come and all is handled
that libvirt has said until then.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import structlog
import tenacity

from macbind.core.domain import NOTHING_SAID, Domain, DomainEvent
from macbind.core.errors import HypervisorUnavailable, PeerError
from macbind.core.findings import HypervisorStatus
from macbind.virt.agenda import Agenda, Closed, Look, Question, Stop, left_over
from macbind.virt.connection import run_event_loop
from macbind.virt.session import Session

_log = structlog.get_logger()

_BACKOFF = tenacity.wait_exponential(multiplier=0.1, max=5.0) + tenacity.wait_random(0, 0.1)
_LOOK_S = 3.0
"""How long another thread waits for a look."""
_SLOW_S = 5.0
"""When a domain is asked for again for which libvirt does not answer."""
CLOSE_S = 2.0
"""How long the end of a watcher is waited for. It may be waiting for the registry."""


class Observer(Protocol):
    """Who is told. Called by the watcher's own thread, one call at a time."""

    def connected(self, hypervisor: str) -> None:
        """There is a new connection: what happened before it, nobody has seen."""

    def scanned(self, hypervisor: str, domains: Mapping[str, Domain], began_at: float) -> None:
        """All domains of a hypervisor by UUID, in a list that was begun at this moment (monotonic)."""

    def changed(self, hypervisor: str, uuid: str, domain: Domain | None, event: DomainEvent) -> None:
        """One domain as just looked up, and why it was; None if libvirt says that there is none."""


class Watcher:
    """Keeps an observer informed about one hypervisor.

    Args:
        name: Its name in the configuration.
        uri: Its libvirt URI.
        observer: Who is told.
        resync_s: How often everything is listed even without a reason, in seconds.
        on_defect: Called with a defect of ours; the watcher has stopped.

    Attributes:
        tried: Set when the first scan is told of, or when it has failed.
    """

    def __init__(
        self,
        name: str,
        uri: str,
        observer: Observer,
        *,
        resync_s: float = 60.0,
        on_defect: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self.name, self.uri = name, uri
        self._observer, self._resync_s, self._on_defect = observer, resync_s, on_defect
        self._agenda = Agenda()
        self._stop = threading.Event()
        self._session = Session(name, uri, self._stop)
        self._handling: Look | None = None
        self._left: list[Look] = []
        self.tried = threading.Event()
        self._status = HypervisorStatus(name, uri, connected=False, since=datetime.now(UTC))
        self._thread = threading.Thread(target=self._run, name=f"watcher-{name}", daemon=True)

    # -- life ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the thread; the hypervisor need not be there yet."""
        run_event_loop()
        self._thread.start()

    def stop(self) -> None:
        """Has the thread end soon."""
        self._stop.set()
        self._agenda.put(Stop())

    def close(self, within_s: float = CLOSE_S) -> None:
        """Ends the thread and the connection, or leaves them behind."""
        self.stop()
        self._thread.join(within_s)

    @property
    def status(self) -> HypervisorStatus:
        """How things stand."""
        return self._status

    def ask_again(self, uuid: str, at: float) -> None:
        """Has a domain looked at again at a moment (monotonic), once all is handled that was said before."""
        self._agenda.put(Look(uuid, at=at))

    def look(self, uuid: str) -> Domain | None:
        """Asks libvirt now for the domain. For other threads.

        Raises:
            HypervisorUnavailable: It cannot be asked, or has no time.
        """
        question = Question(uuid)
        if self._status.connected:
            self._agenda.put(question)
            try:
                return question.answer.result(_LOOK_S)
            except (TimeoutError, CancelledError):
                question.answer.cancel()
        raise HypervisorUnavailable(f"The hypervisor '{self.name}' ({self.uri}) is not connected.")

    def _run(self) -> None:
        retrying = tenacity.Retrying(
            wait=_BACKOFF,
            stop=tenacity.stop_when_event_set(self._stop),
            sleep=tenacity.sleep_using_event(self._stop),
            retry=tenacity.retry_if_exception_type(PeerError),
        )
        try:
            while not self._stop.is_set():
                retrying(self._session_until_broken)
        except tenacity.RetryError:
            pass  # asked to stop while waiting for the next try
        except BaseException as error:  # noqa: BLE001  # a defect: loud, and the end of this watcher
            if self._stop.is_set():
                return  # it was left behind, and what it reports to is closed
            _log.critical("watcher stopped", hypervisor=self.name, exc_info=error)
            self._enter(connected=False, problem=f"The watcher stopped because of a defect: {error}")
            self._on_defect(error)
        finally:
            self._session.end()
            self.tried.set()

    def _enter(self, *, connected: bool, problem: str = "") -> None:
        before = self._status
        if (before.connected, before.problem) == (connected, problem):
            return
        self._status = replace(before, connected=connected, problem=problem, since=datetime.now(UTC))
        log = _log.warning if problem else _log.info
        log(
            "hypervisor",
            hypervisor=self.name,
            connected=connected,
            **({"problem": problem} if problem else {}),
        )

    # -- one connection --------------------------------------------------------------------------------

    def _session_until_broken(self) -> None:
        """Connects, scans, follows events. Returns when asked to stop, or when a session that ran broke.

        Raises:
            PeerError: It did not get as far as the first scan.
        """
        scanned = False
        # A new agenda for each connection: what an old one still has to say is of no interest.
        self._agenda = Agenda()
        if self._stop.is_set():
            self._agenda.put(Stop())
        try:
            self._session.open(self._agenda)
            self._tell(lambda: self._observer.connected(self.name))
            while self._left:
                self._look_again(self._left[0])
                del self._left[0]
            while not self._stop.is_set() and self._scan():
                scanned = True
                if not self._follow(time.monotonic() + self._resync_s):
                    return
        except PeerError as error:
            if self._stop.is_set():
                return
            self._enter(connected=False, problem=str(error))
            if not scanned:
                raise
        finally:
            self.tried.set()
            unhandled, self._handling = ([] if self._handling is None else [self._handling]), None
            self._left = left_over([*self._left, *unhandled, *self._agenda.clear()])
            self._session.close()

    def _follow(self, until: float) -> bool:
        """Handles what comes until then; False if asked to stop."""
        while (item := self._agenda.next(until)) is not None:
            match item:
                case Stop():
                    return False
                case Closed():
                    raise HypervisorUnavailable(
                        f"The hypervisor '{self.name}' ({self.uri}) closed the connection.",
                        hint="Check that libvirtd runs; running machines and their addresses are not touched.",
                    )
                case Question():
                    self._answer(item)
                case Look():
                    self._handling = item
                    self._look_again(item)
                    self._handling = None
        return not self._stop.is_set()

    def _answer(self, question: Question) -> None:
        if question.answer.set_running_or_notify_cancel():
            try:
                question.answer.set_result(self._session.look_up(question.uuid))
            except PeerError as error:
                question.answer.set_exception(error)
                raise

    def _look_again(self, item: Look) -> None:
        domain = self._session.look_up(item.uuid)
        if domain is not None and domain.is_slow:
            # What the event says is for when it can be read.
            self._agenda.put(replace(item, at=time.monotonic() + _SLOW_S))
            self._tell(partial(self._observer.changed, self.name, item.uuid, domain, NOTHING_SAID))
        else:
            self._tell(partial(self._observer.changed, self.name, item.uuid, domain, item.event))

    def _scan(self) -> bool:
        """Lists all domains; False if asked to stop. What libvirt says meanwhile is handled first."""
        began_at = time.monotonic()
        domains = {}
        for handle in self._session.handles():
            if not self._follow(0.0):
                return False
            domain = self._session.describe(handle)
            if domain is not None:
                domains[domain.uuid] = domain
        self._tell(partial(self._observer.scanned, self.name, domains, began_at))
        self._enter(connected=True)
        self.tried.set()
        return True

    def _tell(self, report: Callable[[], None]) -> None:
        """Reports; a registry that is away for a moment is no reason to drop the hypervisor."""
        for attempt in tenacity.Retrying(
            wait=_BACKOFF,
            stop=tenacity.stop_when_event_set(self._stop),
            sleep=tenacity.sleep_using_event(self._stop),
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, PeerError) and not isinstance(error, HypervisorUnavailable)
            ),
            reraise=True,
        ):
            with attempt:
                report()
