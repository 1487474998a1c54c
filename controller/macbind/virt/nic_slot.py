"""The place of a NIC in a domain, where one NIC is exchanged for another: in the running machine or its definition.

:mod:`macbind.virt.nic_plan` decides; this module looks, acts, and looks again until nothing is left to do. Before a
NIC is unplugged, a description of it is written into the domain's own metadata. So whichever process comes next can
plug it in, also after a crash. The process that unplugged it uses its own copy. Others may write metadata, too: what
is found there counts only in the domain that the registry knows, and only if it is a plain NIC. A broken connection
to libvirt leaves unknown what was done: the loop looks again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from macbind.core.errors import Conflict, HypervisorUnavailable, MachineFailed
from macbind.core.mac_address import MacAddress
from macbind.virt.connection import Hypervisor, is_missing, libvirt
from macbind.virt.domain_reader import RECORD_NAMESPACE
from macbind.virt.nic_plan import NicStep, Recorded, decide, see
from macbind.virt.nic_xml import (
    RECORD_PREFIX,
    NicAddress,
    distrust,
    exchanged,
    nic_in,
    record,
    recorded,
    redefined,
)
from macbind.virt.running import readable

_LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
_DEFINITION = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
_PAUSE_S, _TRANSITION_S = 0.1, 15.0


@dataclass(frozen=True, slots=True)
class DomainRef:
    """The domain of an allocation.

    Attributes:
        uuid: Its UUID.
        name: Its name.
        active: Whether it runs.
        saved: Whether it does not run but goes on from a saved state when it is started.
    """

    uuid: UUID
    name: str
    active: bool
    saved: bool = False


def find_user(
    hypervisor: Hypervisor, name: str, macs: frozenset[MacAddress], known: UUID | None
) -> DomainRef | None:
    """The domain that has one of these MACs, or is the known one between two NICs; one that runs if any does.

    Args:
        hypervisor: Where to look.
        name: Of the allocation.
        macs: Of the allocation.
        known: The domain that the registry knows as its user: a record in another one's metadata counts for nothing.

    Raises:
        Conflict: Several have, or one that is not the known one.
    """
    found = []
    for one in readable(hypervisor):
        between = known is not None and one.uuid == known and recorded(one.xml, name) is not None
        if between or macs & one.macs:
            with hypervisor.doing("A domain could not be looked at"):
                found.append(_ref(one.domain))
    running = [one for one in found if one.active]
    candidates = running or found
    if len(candidates) > 1:
        names = " and ".join(sorted(f"'{one.name}'" for one in candidates))
        raise Conflict(f"The domains {names} have one MAC.", hint="All but one must get another.")
    if candidates and known is not None and candidates[0].uuid != known:
        raise Conflict(
            f"The domain '{candidates[0].name}' has a MAC of '{name}', and macbind knows another one as its user: "
            f"{known}.",
            hint="Remove that MAC from whichever domain is wrong. macbind takes over a new domain once it runs.",
            domain=candidates[0].name,
            known=str(known),
        )
    return candidates[0] if candidates else None


def _ref(domain: Any) -> DomainRef:
    active = bool(domain.isActive())
    saved = not active and bool(domain.hasManagedSaveImage())
    return DomainRef(UUID(domain.UUIDString()), domain.name(), active, saved)


class NicSlot:
    """The place of a NIC in a domain, whichever of two MACs it has.

    Args:
        hypervisor: Where the domain is.
        name: Of the allocation that is renumbered.
        user: The domain.
        known: The domain that the registry knows as the allocation's user.
    """

    def __init__(self, hypervisor: Hypervisor, name: str, user: DomainRef, known: UUID | None) -> None:
        self._hypervisor, self._name, self.user = hypervisor, name, user
        self._trusts_record = known == user.uuid
        self._unplugged: str | None = None
        """The NIC that this process has unplugged, as it was."""

    # -- the running machine ---------------------------------------------------------------------------

    def now(self) -> DomainRef | None:
        """The domain as it is now; None if it is gone."""
        domain = self._hypervisor.find_uuid(self.user.uuid)
        if domain is None:
            return None
        with self._doing("looked at"):
            try:
                return _ref(domain)
            except libvirt.libvirtError as error:
                if is_missing(error):
                    return None
                raise

    def lives(self) -> bool | None:
        """Whether the domain runs; None if it is off and not saved: it may reboot."""
        found = self.now()
        if found is None or found.saved:
            return False
        return True if found.active else None

    def is_active(self) -> bool:
        """Whether the domain runs."""
        found = self.now()
        return found is not None and found.active

    def exchange(
        self,
        old: NicAddress,
        new: NicAddress,
        give_up_at: float,
        *,
        tell: Callable[[NicStep], object] = lambda _: None,
        check: Callable[[], object] = lambda: None,
    ) -> None:
        """Sees to it that the running machine has the NIC of ``new`` and not that of ``old``.

        Args:
            old: What is unplugged if it is there.
            new: What is plugged in if it is not.
            give_up_at: By when, of the monotonic clock.
            tell: Called when the old NIC is unplugged, and when the new one is plugged in.
            check: Called before the machine is touched; raises when it may not be touched any more.

        Raises:
            MachineFailed: The machine has ended or does not let go of its NIC, or libvirt cannot do it.
            HypervisorUnavailable: libvirt was away until the end.
        """
        asked = in_doubt = plugged = False
        off_since: float | None = None
        while True:
            try:
                domain, xml = self._look()
                if xml is None:
                    off_since = time.monotonic() if off_since is None else off_since
                    if time.monotonic() >= min(give_up_at, off_since + _TRANSITION_S):
                        raise self._stopped()
                    asked = plugged = False  # in its next life it has the NIC of its definition
                    time.sleep(_PAUSE_S)
                    continue
                off_since = None
                check()
                nic, doubt = self._on_record(domain, xml, frozenset({old.mac, new.mac}))
                seen = see(xml, nic, old, new, asked=asked, plugged=plugged)
                match decide(seen):
                    case NicStep.DONE:
                        return
                    case NicStep.CLEAN_UP:
                        self._forget_record(domain)
                        return
                    case NicStep.UNPLUG:
                        self._unplug(domain, xml, old, in_doubt=in_doubt)
                        asked = True
                    case NicStep.PLUG_IN:
                        if asked:
                            tell(NicStep.UNPLUG)
                            check()  # who is told may have taken its time
                        self._plug_in(domain, nic, old if seen.recorded is Recorded.OLD else new, new)
                        tell(NicStep.PLUG_IN)
                        plugged = True
                        continue
                    case NicStep.WAIT if time.monotonic() >= give_up_at:
                        raise self._held_on(old)
                    case NicStep.LOST:
                        raise self._lost(old, new, doubt)
            except HypervisorUnavailable:
                if time.monotonic() >= give_up_at:
                    raise
                asked, in_doubt = False, True
            time.sleep(_PAUSE_S)

    def restore(self, nic: NicAddress) -> bool:
        """Plugs a NIC in again that the machine has lost since its renumbering was aborted; False if none is lost."""
        domain, xml = self._look()
        if xml is None:
            raise self._stopped()
        kept, doubt = self._on_record(domain, xml, frozenset({nic.mac}))
        seen = see(xml, kept, nic, nic, asked=False, plugged=False)
        if doubt is not None and not seen.old:
            raise self._lost(nic, nic, doubt)
        if seen.old or seen.recorded is not Recorded.OLD:
            return False
        self._plug_in(domain, kept, nic, nic)
        self._forget_record(domain)
        return True

    def _look(self) -> tuple[Any, str | None]:
        """The domain and its XML; no XML while it may be between two lives.

        Raises:
            MachineFailed: It has ended.
        """
        domain = self._hypervisor.find_uuid(self.user.uuid)
        if domain is not None:
            with self._doing("read"):
                try:
                    if domain.isActive():
                        return domain, str(domain.XMLDesc(0))
                    if not domain.hasManagedSaveImage():
                        return domain, None
                except libvirt.libvirtError as error:
                    if not is_missing(error):
                        raise
        raise self._stopped()

    def _stopped(self) -> MachineFailed:
        return MachineFailed(
            f"The machine '{self.user.name}' stopped while its NIC was being exchanged.",
            hint="If it has ended, its address is released as that of any machine that ends.",
            step="exchange",
            domain=self.user.name,
        )

    def _on_record(self, domain: Any, xml: str, macs: frozenset[MacAddress]) -> tuple[str | None, str | None]:
        """The NIC to plug in, and why the one in the metadata may not be."""
        if self._unplugged is not None:
            return self._unplugged, None
        nic = recorded(xml, self._name)
        if nic is None:
            return None, None
        if not self._trusts_record:
            return None, "macbind does not know this domain as its user"
        with self._doing("read"):
            definition = str(domain.XMLDesc(_DEFINITION)) if domain.isPersistent() else None
        doubt = distrust(nic, macs, definition)
        return (nic, None) if doubt is None else (None, doubt)

    def _unplug(self, domain: Any, xml: str, old: NicAddress, *, in_doubt: bool) -> None:
        nic = self._unplugged = nic_in(xml, old.mac)
        assert nic is not None
        try:
            with self._doing("changed"):
                written = record(self._name, nic)
                domain.setMetadata(
                    libvirt.VIR_DOMAIN_METADATA_ELEMENT, written, RECORD_PREFIX, RECORD_NAMESPACE, _LIVE
                )
            with self._doing("deprived of its NIC"):
                # It returns when the guest has let go of it, or after 5 s in any case.
                domain.detachDeviceFlags(nic, _LIVE)
        except MachineFailed:
            if not in_doubt:  # else it may be that it was asked for already
                raise

    def _plug_in(self, domain: Any, nic: str | None, was: NicAddress, new: NicAddress) -> None:
        assert nic is not None
        with self._doing("given its NIC"):
            domain.attachDeviceFlags(exchanged(nic, was, new), _LIVE)

    def _forget_record(self, domain: Any) -> None:
        self._unplugged = None
        with self._doing("changed"):
            domain.setMetadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT, None, RECORD_PREFIX, RECORD_NAMESPACE, _LIVE
            )

    def _lost(self, old: NicAddress, new: NicAddress, doubt: str | None) -> MachineFailed:
        both = f"neither {old.mac} nor {new.mac}" if old != new else f"{old.mac} not"
        why = "" if doubt is None else f" The NIC in its metadata is not plugged in: {doubt}."
        return MachineFailed(
            f"The machine '{self.user.name}' has {both} any more.{why}",
            hint="Somebody else has changed its NICs; attach one with `virsh attach-interface`.",
            step="exchange",
            domain=self.user.name,
        )

    def _held_on(self, old: NicAddress) -> MachineFailed:
        return MachineFailed(
            f"The machine '{self.user.name}' does not let go of its NIC {old.mac}: its system takes no part in "
            "hot-plugging.",
            hint="libvirt cannot take its request back, and QEMU carries it out at the next reset: switch the "
            "machine off and on before it reboots, and renumber it while it is off. If it has lost its NIC, "
            f"`macbind renumber {self._name} --abort` plugs it in again.",
            step="unplug",
            domain=self.user.name,
        )

    # -- its definition --------------------------------------------------------------------------------

    def redefine(self, old: NicAddress, new: NicAddress) -> bool:
        """Exchanges the NIC in the stored definition; False if there is none, or it has been done."""
        domain = self._hypervisor.find_uuid(self.user.uuid)
        if domain is None:
            return False
        with self._doing("defined anew"):
            if not domain.isPersistent():
                return False
            xml = redefined(str(domain.XMLDesc(_DEFINITION)), old, new)
            if xml is None:
                return False
            self._hypervisor.connection.defineXML(xml)
        return True

    def _doing(self, what: str) -> AbstractContextManager[None]:
        return self._hypervisor.doing(
            f"The domain '{self.user.name}' could not be {what}", domain=self.user.name
        )
