"""What libvirt says of a domain, as a value: the domain as it is now, and what an event says of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import libvirt

from macbind.core.domain import NO_RUN, Domain, DomainEvent, DomainState, StopCause
from macbind.core.errors import InvalidRequest
from macbind.virt.domain_reader import read_domain
from macbind.virt.nic_xml import macs_on_record

UNSUPPORTED = frozenset(
    {
        libvirt.VIR_ERR_NO_SUPPORT,
        libvirt.VIR_ERR_INVALID_ARG,
        libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
    }
)
"""What libvirt says to a question that a driver cannot answer."""
_CAUSES = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED: StopCause.MIGRATED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: StopCause.SAVED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT: StopCause.REVERTED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: StopCause.BY_ITSELF,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: StopCause.BY_ITSELF,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: StopCause.BY_ITSELF,
}
_HELD_REASONS = {libvirt.VIR_DOMAIN_SHUTOFF_SAVED, libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT}


def describe(handle: Any, hypervisor: str) -> Domain | None:
    """The domain as it is now; None if it vanished meanwhile.

    Args:
        handle: libvirt's handle of it.
        hypervisor: The configured name of the hypervisor it is on.

    Raises:
        libvirtError: libvirt does not describe it.
    """
    try:
        uuid, name = handle.UUIDString(), handle.name()
        xml = read_domain(handle.XMLDesc(0))
        macs = live = xml.macs
        active, persistent = bool(handle.isActive()), bool(handle.isPersistent())
        if active and persistent:
            macs |= read_domain(handle.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)).macs
        state = DomainState.ACTIVE if active else _inactive_state(handle, persistent=persistent)
        run = handle.ID() if active else NO_RUN
        autostart = state is DomainState.OFF and _supported(handle.autostart)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise
    except InvalidRequest as error:
        return unread(uuid, name, hypervisor, error.message)
    return Domain(
        uuid,
        name,
        hypervisor,
        state,
        macs,
        live,
        macs_on_record(xml),
        run,
        is_persistent=persistent,
        autostart=autostart,
    )


def unread(uuid: str, name: str, hypervisor: str, problem: str, *, is_slow: bool = False) -> Domain:
    """A domain that is there, and of which nothing else is known."""
    return Domain(
        uuid,
        name or uuid,
        hypervisor,
        DomainState.UNREAD,
        frozenset(),
        frozenset(),
        problem=problem,
        is_slow=is_slow,
    )


def _inactive_state(handle: Any, *, persistent: bool) -> DomainState:
    _, reason = handle.state()
    if reason == libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED:
        return DomainState.MIGRATED
    if reason in _HELD_REASONS:
        return DomainState.HELD
    if not persistent:
        return DomainState.BETWEEN
    return DomainState.HELD if _supported(handle.hasManagedSaveImage) else DomainState.OFF


def _supported(question: Callable[[], int]) -> bool:
    """The answer to a question; no, if the driver cannot say."""
    try:
        return bool(question())
    except libvirt.libvirtError as error:
        if error.get_error_code() not in UNSUPPORTED:
            raise
        return False


def said_by(event: int, detail: int, run: int) -> DomainEvent | None:
    """What a lifecycle event says of a domain; None if another event is yet to say it."""
    if event == libvirt.VIR_DOMAIN_EVENT_SHUTDOWN:
        return None  # a domain that is about to stop: the event that says how is the next one
    cause = None
    if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
        cause = _CAUSES.get(detail, StopCause.ENDED)
    elif event == libvirt.VIR_DOMAIN_EVENT_UNDEFINED:
        cause = StopCause.UNDEFINED
    started = event == libvirt.VIR_DOMAIN_EVENT_STARTED
    return DomainEvent(cause, started=started, run=run, said_at=time.monotonic())
