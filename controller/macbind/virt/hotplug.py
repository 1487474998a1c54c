"""Exchanging the network interface of a machine for another, while it runs or in its definition.

Everything looks first and does what is left to do, so it can be repeated by any process at any moment: after a
broken connection, after a crash, and to go back. Before an interface is unplugged, how to plug it in again is
written into the domain's own metadata, from where the next one takes it up.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from macbind.addressing import MacAddress
from macbind.errors import Conflict, HypervisorUnavailable, MachineFailed
from macbind.virt.connection import Hypervisor, is_missing, libvirt
from macbind.virt.domain import RECORD_NAMESPACE, macs_in
from macbind.virt.interface import (
    RECORD_PREFIX,
    Place,
    card_in,
    exchanged,
    record,
    recorded,
    redefined,
)

_LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
_DEFINITION = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class Found:
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


def find_user(hypervisor: Hypervisor, name: str, macs: frozenset[MacAddress]) -> Found | None:
    """The domain that has one of these MACs, or had one and is between two interfaces; one that runs if any does.

    Raises:
        Conflict: Several have.
    """
    found = []
    for domain, xml in hypervisor.described():
        if not (macs & macs_in(xml) or recorded(xml, name)):
            continue
        with hypervisor.doing("A domain could not be looked at"):
            found.append(_found(domain))
    running = [one for one in found if one.active]
    candidates = running or found
    if len(candidates) > 1:
        names = " and ".join(sorted(f"'{one.name}'" for one in candidates))
        raise Conflict(f"The domains {names} have one MAC.", hint="All but one must get another.")
    return candidates[0] if candidates else None


def _found(domain: Any) -> Found:
    active = bool(domain.isActive())
    saved = not active and bool(domain.hasManagedSaveImage())
    return Found(UUID(domain.UUIDString()), domain.name(), active, saved)


class Slot:
    """The place of an interface in a domain, whichever of two MACs it has.

    Args:
        hypervisor: Where the domain is.
        name: Of the allocation that moves.
        user: The domain.
    """

    def __init__(self, hypervisor: Hypervisor, name: str, user: Found) -> None:
        self._hypervisor, self._name, self.user = hypervisor, name, user

    # -- the running machine ---------------------------------------------------------------------------

    def now(self) -> Found | None:
        """The domain as it is now; None if it is gone."""
        domain = self._hypervisor.find_uuid(self.user.uuid)
        if domain is None:
            return None
        with self._doing("looked at"):
            try:
                return _found(domain)
            except libvirt.libvirtError as error:
                if is_missing(error):
                    return None
                raise

    def is_active(self) -> bool:
        """Whether the domain runs."""
        found = self.now()
        return found is not None and found.active

    def exchange(
        self,
        old: Place,
        new: Place,
        give_up_at: float,
        told: Callable[[str], object] = lambda _: None,
        *,
        ends_at: float = math.inf,
    ) -> None:
        """Sees to it that the running machine has the interface of ``new`` and not that of ``old``.

        Args:
            old: What is unplugged if it is there.
            new: What is plugged in if it is not.
            give_up_at: By when, of the monotonic clock.
            told: Called with ``unplugged`` and ``plugged in``, when that was done.
            ends_at: From when on the machine may be somebody else's to exchange, and is not touched any more.

        Raises:
            MachineFailed: The machine has ended or does not let go of its interface, or libvirt cannot do it.
            HypervisorUnavailable: libvirt was away until the end.
        """
        asked = in_doubt = plugged = False
        while True:
            try:
                domain, xml = self._look()
                there = macs_in(xml)
                if time.monotonic() >= ends_at:
                    raise self._too_late()
                if old.mac in there:
                    if not asked:
                        try:
                            self._unplug(domain, xml, old)
                        except MachineFailed:
                            if not in_doubt:  # else it may be that it was asked for already
                                raise
                        asked = True
                    elif time.monotonic() >= give_up_at:
                        raise self._held_on(old)
                elif new.mac in there:
                    # The record of a card that is there tells of an unplugging that may be carried out yet.
                    if plugged or not self._may_vanish(xml, new):
                        self._forget_record(domain, xml)
                    return
                else:
                    if asked:
                        told("unplugged")
                    self._plug_in(domain, xml, old, new)
                    told("plugged in")
                    plugged = True
                    continue  # and look whether it is there
            except HypervisorUnavailable:
                if time.monotonic() >= give_up_at:
                    raise
                asked, in_doubt = False, True
            time.sleep(_PAUSE_S)

    def restore(self, place: Place) -> bool:
        """Plugs in again what the running machine lost after a move was given up; False if it has lost nothing."""
        domain, xml = self._look()
        if place.mac in macs_in(xml) or not self._may_vanish(xml, place):
            return False
        self._plug_in(domain, xml, place, place)
        self._forget_record(domain, xml)
        return True

    def _look(self) -> tuple[Any, str]:
        domain = self._hypervisor.find_uuid(self.user.uuid)
        if domain is not None:
            with self._doing("read"):
                try:
                    if domain.isActive():
                        return domain, str(domain.XMLDesc(0))
                except libvirt.libvirtError as error:
                    if not is_missing(error):
                        raise
        raise MachineFailed(
            f"The machine '{self.user.name}' stopped while its interface was being exchanged.",
            hint="If it has ended, its address is released as that of any machine that ends.",
            step="exchange",
            domain=self.user.name,
        )

    def _unplug(self, domain: Any, xml: str, old: Place) -> None:
        card = card_in(xml, old.mac)
        assert card is not None
        with self._doing("changed"):
            written = record(self._name, card)
            domain.setMetadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT, written, RECORD_PREFIX, RECORD_NAMESPACE, _LIVE
            )
        with self._doing("deprived of its network interface"):
            # It returns when the guest has let go of it, or after 5 s in any case.
            domain.detachDeviceFlags(card, _LIVE)

    def _plug_in(self, domain: Any, xml: str, old: Place, new: Place) -> None:
        card = recorded(xml, self._name)
        if card is None:
            raise MachineFailed(
                f"The machine '{self.user.name}' has neither {old.mac} nor {new.mac} any more.",
                hint="Somebody else has changed its interfaces; attach one with `virsh attach-interface`.",
                step="exchange",
                domain=self.user.name,
            )
        # The record has whichever interface was unplugged last.
        was = old if card_in(_as_domain(card), old.mac) else new
        with self._doing("given its network interface"):
            domain.attachDeviceFlags(exchanged(card, was, new), _LIVE)

    def _may_vanish(self, xml: str, place: Place) -> bool:
        card = recorded(xml, self._name)
        return card is not None and card_in(_as_domain(card), place.mac) is not None

    def _forget_record(self, domain: Any, xml: str) -> None:
        if recorded(xml, self._name) is not None:
            with self._doing("changed"):
                domain.setMetadata(
                    libvirt.VIR_DOMAIN_METADATA_ELEMENT, None, RECORD_PREFIX, RECORD_NAMESPACE, _LIVE
                )

    def _too_late(self) -> MachineFailed:
        return MachineFailed(
            f"The time to exchange the interface of the machine '{self.user.name}' is over.",
            hint="libvirt was slow, or macbind away. Ask again.",
            step="exchange",
            domain=self.user.name,
        )

    def _held_on(self, old: Place) -> MachineFailed:
        return MachineFailed(
            f"The machine '{self.user.name}' does not let go of its network interface {old.mac}: its system takes no "
            "part in hot-plugging.",
            hint="libvirt cannot take its request back, and QEMU carries it out at the next reset: switch the "
            "machine off and on before it reboots, and renumber it while it is off. If it has lost its interface, "
            f"`macbind renumber {self._name} --abort` plugs it in again.",
            step="unplug",
            domain=self.user.name,
        )

    # -- its definition --------------------------------------------------------------------------------

    def redefine(self, old: Place, new: Place) -> bool:
        """Exchanges the interface in the stored definition; False if there is none, or it has been done."""
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


def _as_domain(card: str) -> str:
    return f"<domain><devices>{card}</devices></domain>"
