"""One connection to a hypervisor that is watched: read only, with events, and no call without an end.

A hypervisor is lost when it does not answer in time. A domain for which libvirt does not answer, while it answers
otherwise, is not: that domain cannot be read, and all others go on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import libvirt

from macbind.core.domain import Domain
from macbind.core.errors import HypervisorUnavailable
from macbind.virt.agenda import Agenda, Closed, Look
from macbind.virt.describing import UNSUPPORTED, describe, said_by, unread
from macbind.virt.next_step import next_step
from macbind.virt.patience import Patience, Silent

OPEN_S = 15.0
"""How long a hypervisor may take to accept a connection: the finding comes within 20 s."""
_ANSWER_S = 8.0
_DOMAIN_S = 5.0
"""How long it may take to describe one domain. All others wait so long."""
_CLOSE_S = 1.0
_KEEPALIVE_S, _KEEPALIVE_COUNT = 4, 3
"""An idle connection is lost after 16 s without a sign."""
_LOST = frozenset({libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN})


class Session:
    """The connection. To be used by one thread; libvirt's events go to the agenda.

    Args:
        name: The hypervisor's name in the configuration.
        uri: Its libvirt URI.
        stop: When it is set, no answer is waited for any more.
    """

    def __init__(self, name: str, uri: str, stop: threading.Event) -> None:
        self._name, self._uri = name, uri
        self._asking, self._reading = Patience(f"libvirt-{name}", stop), Patience(f"domains-{name}", stop)
        self._connection: Any = None

    def open(self, agenda: Agenda) -> None:
        """Connects, and has events put into the agenda.

        Raises:
            HypervisorUnavailable: It does not answer, or refuses us.
        """
        connect = partial(_connect, self._uri, agenda)
        self._connection = self._ask(connect, OPEN_S, too_late=_close)

    def close(self) -> None:
        """Ends the connection, whether or not the hypervisor takes notice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                self._asking.call(partial(_close, connection), _CLOSE_S, always=True)
            except Silent:
                return  # it ends when the hypervisor answers, or its network does

    def end(self) -> None:
        """Ends the threads of its calls. It cannot be used any more."""
        self._asking.close()
        self._reading.close()

    def handles(self) -> Sequence[Any]:
        """libvirt's handles of all domains.

        Raises:
            HypervisorUnavailable: It does not answer.
        """
        found: Sequence[Any] = self._ask(self._connection.listAllDomains, _ANSWER_S)
        return found

    def describe(self, handle: Any) -> Domain | None:
        """The domain as it is now, also if it cannot be read; None if it vanished meanwhile.

        Raises:
            HypervisorUnavailable: The hypervisor does not answer.
        """
        return self._read(handle.UUIDString(), handle.name(), lambda: handle)

    def look_up(self, uuid: str) -> Domain | None:
        """The domain as it is now, also if it cannot be read; None if there is none.

        Raises:
            HypervisorUnavailable: The hypervisor does not answer.
        """
        return self._read(uuid, "", partial(self._connection.lookupByUUIDString, uuid))

    def _read(self, uuid: str, name: str, find: Callable[[], Any]) -> Domain | None:
        is_slow = False
        try:
            return self._reading.call(lambda: describe(find(), self._name), _DOMAIN_S, about=uuid)
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            problem = str(error)
            if error.get_error_code() in _LOST:
                raise self._unavailable(problem) from error
        except Silent as silence:
            problem, is_slow = f"libvirt does not describe it: {silence}", True
        self._ask(self._connection.getLibVersion, _ANSWER_S)
        return unread(uuid, name, self._name, problem, is_slow=is_slow)

    def _ask(
        self, call: Callable[[], Any], within_s: float, too_late: Callable[[Any], Any] = lambda _: None
    ) -> Any:
        try:
            return self._asking.call(call, within_s, too_late=too_late)
        except (libvirt.libvirtError, Silent) as error:
            raise self._unavailable(str(error)) from error

    def _unavailable(self, problem: str) -> HypervisorUnavailable:
        return HypervisorUnavailable(
            f"The hypervisor '{self._name}' ({self._uri}) does not answer: {problem}.",
            hint=next_step(self._uri, problem)
            or "Check that libvirtd runs and that macbind's user may connect; no address is released meanwhile.",
            hypervisor=self._name,
        )


def _connect(uri: str, agenda: Agenda) -> Any:
    connection = libvirt.openReadOnly(uri)
    connection.registerCloseCallback(lambda *_: agenda.put(Closed()), None)
    _optional(lambda: connection.setKeepAlive(_KEEPALIVE_S, _KEEPALIVE_COUNT))
    register = connection.domainEventRegisterAny
    register(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, _on_lifecycle, agenda)
    _optional(partial(register, None, libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, _on_device, agenda))
    _optional(partial(register, None, libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, _on_device, agenda))
    # Xen's driver tells of no devices; whoever exchanges a NIC notes it in the metadata.
    _optional(partial(register, None, libvirt.VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, _on_metadata, agenda))
    return connection


def _optional(call: Callable[[], object]) -> None:
    """Makes a call that not every driver supports; the periodic scan covers what is missing."""
    try:
        call()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in UNSUPPORTED:
            raise


def _close(connection: Any) -> None:
    try:
        connection.unregisterCloseCallback()
        connection.close()
    except libvirt.libvirtError:
        return  # it was broken already


def _on_lifecycle(_: Any, domain: Any, event: int, detail: int, agenda: Agenda) -> None:
    said = said_by(event, detail, domain.ID())
    if said is not None:
        agenda.put(Look(domain.UUIDString(), said))


def _on_device(_: Any, domain: Any, _alias: str, agenda: Agenda) -> None:
    agenda.put(Look(domain.UUIDString()))


def _on_metadata(_: Any, domain: Any, _kind: int, _namespace: str | None, agenda: Agenda) -> None:
    agenda.put(Look(domain.UUIDString()))
