"""What to do so that a DHCP server holds what it should, given what it was seen to hold.

Pure decisions. :func:`plan` compares whole states, or any slice of them by address; :func:`decide` says what one
change takes. The engines behind :mod:`macbind.dhcp.port` carry changes out, and ask again afterwards. A decision
looks only at its arguments, so it may be taken again after any crash: carrying out a part of a plan and planning
anew leads to the same end.

Two rules live here and nowhere else. *Only what is ours is changed*: a binding whose name we did not make is never
touched. *A late message cannot hurt a successor*: what belongs to a newer generation of the address is left alone,
whatever an older change wanted, and a removal leaves other addresses alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address

from macbind.core.binding import Binding
from macbind.core.mac_address import MacAddress


@dataclass(frozen=True, slots=True)
class Ensure:
    """The server should hold exactly this binding for its MAC."""

    address: IPv4Address
    generation: int
    binding: Binding

    @property
    def mac(self) -> MacAddress:
        """The MAC to look under."""
        return self.binding.mac


@dataclass(frozen=True, slots=True)
class Remove:
    """The server should hold no binding of ours for this MAC, and no lease of MAC or address.

    Attributes:
        address: The address that is being released.
        generation: The last generation that held it; newer ones are not meant.
        mac: The MAC it was bound to.
        has_binding: False where the binding is part of the server's configuration (static mode) and only leases
            are to be cleared.
    """

    address: IPv4Address
    generation: int
    mac: MacAddress
    has_binding: bool = True


Change = Ensure | Remove


@dataclass(frozen=True, slots=True)
class Observed:
    """What a server was seen to hold, of some addresses.

    Attributes:
        answered: Its binding for each MAC that should have one, or has one on disk; None where it has none.
        on_disk: The bindings of ours that it has on disk for these addresses, seen before what should be was read.
            Empty where macbind may not look.
    """

    answered: Mapping[MacAddress, Binding | None]
    on_disk: Sequence[Binding] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What brings a server from what it holds to what it should hold; empty if it is there.

    Attributes:
        mend: Bindings that are missing, or differ.
        clear: Bindings of ours that no allocation accounts for. They appear when the server lost a deletion: a
            full disk, a restored backup, a power failure. What only its disk still has is not among them: nothing
            can be done about it before the server starts again and reads it.
    """

    mend: tuple[Ensure, ...] = ()
    clear: tuple[Remove, ...] = ()


def plan(desired: Sequence[Ensure], observed: Observed) -> Plan:
    """Compares what a server should hold with what it was seen to hold.

    Args:
        desired: Every binding it should hold, of the addresses that were observed.
        observed: What was seen. An address that is allocated accounts only for the MAC it has now: with another
            one, of an earlier reservation, two machines would be given that address.
    """
    mend = []
    for one in desired:
        seen = observed.answered.get(one.mac)
        if seen is None or not seen.serves_as(one.binding):
            mend.append(one)
    accounted = {(one.address, one.mac) for one in desired}
    clear = []
    for binding in observed.on_disk:
        owner, seen = binding.owner, observed.answered.get(binding.mac)
        if owner is None or (owner[0], binding.mac) in accounted:
            continue
        if seen is not None and seen.owner is not None and seen.owner[0] == owner[0]:
            clear.append(Remove(*owner, binding.mac))
    return Plan(tuple(mend), tuple(clear))


class Step(Enum):
    """The next thing to do for one change."""

    NOTHING = auto()
    """The server is as it should be."""
    CREATE = auto()
    """Add the binding."""
    DELETE = auto()
    """Delete the observed binding, which is ours and out of date; then look again."""
    SUPERSEDED = auto()
    """The MAC has another holder by now: this change came too late and must not touch it."""
    FOREIGN = auto()
    """A binding that is not ours holds the MAC."""


def decide(change: Change, observed: Binding | None) -> Step:
    """Says what to do next for ``change`` when the server's binding for its MAC is ``observed``."""
    if isinstance(change, Ensure):
        if observed is None:
            return Step.CREATE
        if observed.serves_as(change.binding):
            return Step.NOTHING
    elif observed is None:
        return Step.NOTHING
    owner = observed.owner
    if owner is None:
        return Step.FOREIGN
    address, generation = owner
    if address == change.address:
        return Step.SUPERSEDED if generation > change.generation else Step.DELETE
    # A MAC that was pinned to one address and then to another: whoever ensures the one may clear the other,
    # but a removal concerns its own address only.
    return Step.DELETE if isinstance(change, Ensure) else Step.SUPERSEDED
