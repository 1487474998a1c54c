"""Starting and ending the domains of machines. They are transient: when they end, libvirt forgets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from macbind.core.errors import Conflict, InvalidRequest, MachineFailed, NotFound
from macbind.core.mac_address import MacAddress
from macbind.virt.connection import Hypervisor, is_missing, libvirt
from macbind.virt.domain_xml import Mark, domain_name, macs_in, mark_in, nvram_in

_EVERYTHING = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
_DEFINITION = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
_ENDED = {libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID}
_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_BLOCKED: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "shutting down",
    libvirt.VIR_DOMAIN_SHUTOFF: "off",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "suspended",
}


@dataclass(frozen=True, slots=True)
class ReadDomain:
    """A domain whose XML was read.

    Attributes:
        domain: libvirt's own.
        uuid: Its UUID.
        name: Its name.
        xml: Its XML.
        macs: Its MACs.
        mark: macbind's mark, if it is this domain's own: who may write metadata may have copied one.
    """

    domain: Any
    uuid: UUID
    name: str
    xml: str
    macs: frozenset[MacAddress]
    mark: Mark | None


def readable(hypervisor: Hypervisor) -> Iterator[ReadDomain]:
    """All domains whose XML can be read: one that cannot hides no other."""
    for domain, xml in hypervisor.described():
        try:
            mark, macs = mark_in(xml), macs_in(xml)
        except InvalidRequest:
            continue
        name = domain.name()
        own = mark if mark is not None and domain_name(mark.name) == name else None
        yield ReadDomain(domain, UUID(domain.UUIDString()), name, xml, macs, own)


def definition_of(hypervisor: Hypervisor, name: str) -> tuple[str, bool]:
    """The definition of an existing domain, as a template, and whether it runs.

    Raises:
        NotFound: There is no such domain.
    """
    domain = hypervisor.find(name)
    if domain is None:
        raise NotFound(
            f"There is no domain '{name}' at {hypervisor.uri}.",
            hint=f"`virsh -c '{hypervisor.uri}' list --all` shows those there are; a file is named './{name}'.",
            domain=name,
        )
    with hypervisor.doing(f"The domain '{name}' could not be read", step="template"):
        return str(domain.XMLDesc(_DEFINITION)), bool(domain.isActive())


def refuse_taken(hypervisor: Hypervisor, domain: str) -> None:
    """Checks that no domain has the name.

    Raises:
        Conflict: One has.
    """
    if hypervisor.find(domain) is not None:
        raise Conflict(
            f"There is a domain '{domain}' at {hypervisor.uri} already.",
            hint="Use another name; or, if it is a machine of macbind's, `macbind vm destroy` it first.",
            domain=domain,
        )


def start(
    hypervisor: Hypervisor, domain: str, xml: str, before_it_runs: Callable[[int], None] | None = None
) -> None:
    """Starts a transient domain.

    Args:
        hypervisor: Where.
        domain: Its name.
        xml: Its XML.
        before_it_runs: What must be done when it exists and before its first instruction; gets its id. If this
            fails the domain stays as it is, paused.

    Raises:
        Conflict: A domain has the name.
        InvalidRequest: libvirt cannot use the XML.
        MachineFailed: It did not start.
    """
    connection = hypervisor.connection
    try:
        with hypervisor.doing(f"The machine '{domain}' could not be started", step="start", domain=domain):
            flags = 0 if before_it_runs is None else libvirt.VIR_DOMAIN_START_PAUSED
            made = connection.createXML(xml, flags)
    except MachineFailed:
        refuse_taken(hypervisor, domain)
        raise
    if before_it_runs is not None:
        before_it_runs(made.ID())
        with hypervisor.doing(f"The machine '{domain}' could not be resumed", step="start", domain=domain):
            made.resume()


def lives(hypervisor: Hypervisor, uuid: UUID) -> bool | None:
    """Whether a domain runs; None if it is a transient one that is listed and does not: on Xen, it reboots."""
    domain = hypervisor.find_uuid(uuid)
    if domain is None:
        return False
    with hypervisor.doing(f"The domain {uuid} could not be looked at"):
        try:
            return True if domain.isActive() else False if domain.isPersistent() else None
        except libvirt.libvirtError as error:
            if is_missing(error):
                return False
            raise


def destroy(hypervisor: Hypervisor, uuid: UUID) -> bool:
    """Ends a domain as by pulling the plug, and whatever libvirt keeps of it; False if it is gone already."""
    domain = hypervisor.find_uuid(uuid)
    if domain is None:
        return False
    with hypervisor.doing(f"The domain {uuid} could not be destroyed", step="destroy", uuid=str(uuid)):
        try:
            persistent = domain.isPersistent()
            xml = domain.XMLDesc(_DEFINITION)
            if nvram_in(xml) and not persistent:
                # Only undefining a domain deletes the file of its UEFI variables, so it gets a definition.
                persistent = hypervisor.connection.defineXML(xml) is not None
        except libvirt.libvirtError as error:
            if is_missing(error):
                return False
            raise
        _tolerating_its_end(domain.destroy)
        if persistent:
            _tolerating_its_end(lambda: domain.undefineFlags(_EVERYTHING))
    return True


def _tolerating_its_end(call: Any) -> None:
    try:
        call()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in _ENDED:
            raise


def state_of(hypervisor: Hypervisor, domain: Any) -> str:
    """What a domain does, in a word."""
    with hypervisor.doing("A domain could not be looked at"):
        try:
            return _STATES.get(domain.state()[0], "unknown")
        except libvirt.libvirtError as error:
            if is_missing(error):
                return "gone"
            raise
