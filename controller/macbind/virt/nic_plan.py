"""What to do next so that a running machine has one NIC in the place of another. Pure.

:func:`decide` looks only at what libvirt shows now and at what this process has asked for. So it may be asked again
at any moment: after a broken connection, after a crash, by another process, and to go back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from macbind.virt.domain_xml import macs_in
from macbind.virt.nic_xml import NicAddress, nic_in


class Recorded(Enum):
    """Which NIC is on record."""

    NONE = auto()
    """There is no record."""
    OLD = auto()
    NEW = auto()
    """The one to plug in: an earlier attempt, in the other direction, has asked the machine to let go of it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A running machine, as just seen.

    Attributes:
        old: Whether it has the NIC that must go.
        new: Whether it has the NIC that must come.
        recorded: Which of them its metadata describes.
        asked: Whether this process has asked it to let go of the old NIC.
        plugged: Whether this process has plugged the new NIC in.
    """

    old: bool
    new: bool
    recorded: Recorded
    asked: bool = False
    plugged: bool = False


class NicStep(Enum):
    """The next thing to do."""

    UNPLUG = auto()
    """Record the old NIC, then ask the machine to let go of it."""
    WAIT = auto()
    """The machine has been asked; look again."""
    PLUG_IN = auto()
    """Plug in what the record describes, with the new address."""
    CLEAN_UP = auto()
    """The new NIC is there to stay; remove the record."""
    DONE = auto()
    """Nothing is left to do."""
    LOST = auto()
    """The machine has neither NIC, and no record says how one looked."""


def see(xml: str, nic: str | None, old: NicAddress, new: NicAddress, *, asked: bool, plugged: bool) -> Seen:
    """Reads from a running machine's XML what :func:`decide` needs; ``nic`` is the NIC on record."""
    macs = macs_in(xml)
    record = Recorded.NONE
    if nic is not None:
        # It describes whichever NIC was unplugged last.
        record = (
            Recorded.OLD if nic_in(f"<domain><devices>{nic}</devices></domain>", old.mac) else Recorded.NEW
        )
    return Seen(old.mac in macs, new.mac in macs, record, asked, plugged)


def decide(seen: Seen) -> NicStep:
    """Says what to do next."""
    if seen.old:
        return NicStep.WAIT if seen.asked else NicStep.UNPLUG
    if not seen.new:
        return NicStep.LOST if seen.recorded is Recorded.NONE else NicStep.PLUG_IN
    if seen.recorded is Recorded.NONE:
        return NicStep.DONE
    # The record of a NIC that is there tells of an unplugging that may be carried out yet: it stays.
    is_pending = seen.recorded is Recorded.NEW and not seen.plugged
    return NicStep.DONE if is_pending else NicStep.CLEAN_UP
