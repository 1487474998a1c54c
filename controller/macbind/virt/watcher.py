"""Watching a hypervisor: which domains exist, told again whenever something may have changed.

One thread per connection does all the talking. libvirt's callbacks run in its event loop's thread, where they
may only enqueue: a call back into libvirt from there would wait for itself. An event says which domain to look
at again; a full scan follows every (re)connection and every ``resync_s`` seconds, so a missed event costs time
and nothing else. A lost connection says nothing about any domain.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

import libvirt
import structlog
import tenacity

from macbind.errors import HypervisorUnavailable, MacbindError, PeerError
from macbind.model import Domain, DomainState, HypervisorStatus, StopCause
from macbind.virt.connection import KEEPALIVE_COUNT, KEEPALIVE_S, run_event_loop
from macbind.virt.domain import macs_in
from macbind.virt.interface import unplugged_macs

_log = structlog.get_logger()

_BACKOFF = tenacity.wait_exponential(multiplier=0.1, max=5.0) + tenacity.wait_random(0, 0.1)

_CAUSES = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED: StopCause.MIGRATED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: StopCause.SAVED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT: StopCause.REVERTED,
}
_HELD_REASONS = {libvirt.VIR_DOMAIN_SHUTOFF_SAVED, libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT}
_UNSUPPORTED = {
    libvirt.VIR_ERR_NO_SUPPORT,
    libvirt.VIR_ERR_INVALID_ARG,
    libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
}


class Observer(Protocol):
    """Who is told. Called by the watcher's own thread, one call at a time."""

    def scanned(self, hypervisor: str, domains: Mapping[str, Domain]) -> None:
        """All domains of a hypervisor by UUID, as just listed."""

    def changed(self, hypervisor: str, uuid: str, domain: Domain | None, cause: StopCause | None) -> None:
        """One domain as just looked up; None if libvirt says that there is none."""


@dataclass(frozen=True, slots=True)
class _Look:
    """Look at this domain again."""

    uuid: str
    cause: StopCause | None = None


class _Closed:
    """The connection ended."""


class _Stop:
    """The watcher is to end."""


class Watcher:
    """Keeps an observer informed about one hypervisor.

    Args:
        name: Its name in the configuration.
        uri: Its libvirt URI.
        observer: Who is told.
        resync_s: How often everything is listed even without a reason, in seconds.
        on_defect: Called with a defect of ours; the watcher has stopped.
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
        self._todo: queue.SimpleQueue[_Look | _Closed | _Stop] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._connection: Any = None
        self._status = HypervisorStatus(name, uri, connected=False, since=datetime.now(UTC))
        self._thread = threading.Thread(target=self._run, name=f"watcher-{name}", daemon=True)

    # -- life ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the thread; the hypervisor need not be there yet."""
        run_event_loop()
        self._thread.start()

    def close(self) -> None:
        """Ends the thread and the connection."""
        self._stop.set()
        self._todo.put(_Stop())
        self._thread.join()

    @property
    def status(self) -> HypervisorStatus:
        """How things stand."""
        return self._status

    def has(self, uuid: str) -> bool | None:
        """Asks libvirt now whether the domain exists and is not off; None if it cannot be asked."""
        try:
            domain = self.look(uuid)
        except PeerError:
            return None
        return domain is not None and domain.state is not DomainState.OFF

    def look(self, uuid: str) -> Domain | None:
        """Asks libvirt now for the domain.

        Raises:
            HypervisorUnavailable: It cannot be asked.
        """
        connection = self._connection
        if connection is None or not self._status.connected:
            raise HypervisorUnavailable(f"The hypervisor '{self.name}' ({self.uri}) is not connected.")
        return self._look_up(connection, uuid)

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
            _log.critical("watcher stopped", hypervisor=self.name, exc_info=error)
            self._enter(connected=False, problem=f"The watcher stopped because of a defect: {error}")
            self._on_defect(error)

    def _enter(self, *, connected: bool, problem: str = "", domains: int | None = None) -> None:
        before = self._status
        changed = (before.connected, before.problem) != (connected, problem)
        since = datetime.now(UTC) if changed else before.since
        count = before.domains if domains is None else domains
        self._status = HypervisorStatus(self.name, self.uri, connected, since, count, problem)
        if changed:
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
        connection = None
        try:
            connection = self._open()
            self._connection = connection
            while not self._stop.is_set():
                self._scan(connection)
                scanned = True
                if not self._follow(connection, time.monotonic() + self._resync_s):
                    return
        except PeerError as error:
            self._enter(connected=False, problem=str(error))
            if not scanned:
                raise
        finally:
            self._connection = None
            if connection is not None:
                self._discard(connection)

    def _open(self) -> Any:
        try:
            connection = libvirt.openReadOnly(self.uri)
            # A new queue for each connection: what an old one still has to say is of no interest.
            self._todo = queue.SimpleQueue()
            if self._stop.is_set():
                self._todo.put(_Stop())
            todo = self._todo
            connection.registerCloseCallback(lambda *_: todo.put(_Closed()), None)
            self._optional(lambda: connection.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT))
            connection.domainEventRegisterAny(
                None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, _on_lifecycle, todo
            )
            register = connection.domainEventRegisterAny
            for event in (
                libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED,
                libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
            ):
                self._optional(partial(register, None, event, _on_device, todo))
        except libvirt.libvirtError as error:
            raise self._unavailable(error) from error
        return connection

    @staticmethod
    def _optional(call: Callable[[], object]) -> None:
        """Makes a call that not every driver supports; the periodic scan covers what is missing."""
        try:
            call()
        except libvirt.libvirtError as error:
            if error.get_error_code() not in _UNSUPPORTED:
                raise

    @staticmethod
    def _discard(connection: Any) -> None:
        try:
            connection.unregisterCloseCallback()
            connection.close()
        except libvirt.libvirtError:
            return  # it was broken already

    def _follow(self, connection: Any, until: float) -> bool:
        """Handles what comes until the next scan is due; False if asked to stop."""
        while (left_s := until - time.monotonic()) > 0:
            try:
                item = self._todo.get(timeout=left_s)
            except queue.Empty:
                return True
            if isinstance(item, _Stop):
                return False
            if isinstance(item, _Closed):
                raise HypervisorUnavailable(
                    f"The hypervisor '{self.name}' ({self.uri}) closed the connection.",
                    hint="Check that libvirtd runs; running machines and their addresses are not touched.",
                )
            self._tell(partial(self._look_again, connection, item))
        return True

    def _look_again(self, connection: Any, item: _Look) -> None:
        self._observer.changed(self.name, item.uuid, self._look_up(connection, item.uuid), item.cause)

    def _scan(self, connection: Any) -> None:
        try:
            found = connection.listAllDomains()
        except libvirt.libvirtError as error:
            raise self._unavailable(error) from error
        domains = {}
        for handle in found:
            domain = self._describe(handle)
            if domain is not None:
                domains[domain.uuid] = domain
        self._enter(connected=True, domains=len(domains))
        self._tell(lambda: self._observer.scanned(self.name, domains))

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

    def _look_up(self, connection: Any, uuid: str) -> Domain | None:
        try:
            return self._describe(connection.lookupByUUIDString(uuid))
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise self._unavailable(error) from error

    def _describe(self, handle: Any) -> Domain | None:
        """The domain as it is now; None if it vanished meanwhile."""
        try:
            xml = handle.XMLDesc(0)
            macs = live = macs_in(xml)
            active = bool(handle.isActive())
            if active and handle.isPersistent():
                macs |= macs_in(handle.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
            state = DomainState.ACTIVE if active else self._inactive_state(handle)
            return Domain(
                handle.UUIDString(), handle.name(), self.name, state, macs, live, unplugged_macs(xml)
            )
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise self._unavailable(error) from error
        except MacbindError as error:
            raise HypervisorUnavailable(
                f"The hypervisor '{self.name}' described a domain in a way that cannot be read: {error.message}"
            ) from error

    def _inactive_state(self, handle: Any) -> DomainState:
        _, reason = handle.state()
        if reason == libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED:
            return DomainState.MOVED
        if reason in _HELD_REASONS:
            return DomainState.HELD
        try:
            saved = bool(handle.hasManagedSaveImage())
        except libvirt.libvirtError as error:
            if error.get_error_code() not in _UNSUPPORTED:
                raise
            saved = False
        return DomainState.HELD if saved else DomainState.OFF

    def _unavailable(self, error: libvirt.libvirtError) -> HypervisorUnavailable:
        return HypervisorUnavailable(
            f"The hypervisor '{self.name}' ({self.uri}) does not answer: {error}.",
            hint="Check that libvirtd runs and that macbind's user may connect; no address is released meanwhile.",
            hypervisor=self.name,
        )


def _on_lifecycle(_: Any, domain: Any, event: int, detail: int, todo: queue.SimpleQueue[Any]) -> None:
    cause = None
    if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
        cause = _CAUSES.get(detail, StopCause.ENDED)
    elif event == libvirt.VIR_DOMAIN_EVENT_UNDEFINED:
        cause = StopCause.UNDEFINED
    todo.put(_Look(domain.UUIDString(), cause))


def _on_device(_: Any, domain: Any, _alias: str, todo: queue.SimpleQueue[Any]) -> None:
    todo.put(_Look(domain.UUIDString()))
