"""What to do about one address, given what should be and what dhcpd says is.

Pure decisions; :mod:`macbind.dhcpd.server` carries them out, and asks again afterwards. A decision looks only
at its arguments, so it may be taken again after any crash: applying a part of what was decided and deciding
anew leads to the same end.

Two rules live here and nowhere else. *Only what is ours is changed*: a host reservation whose name we did not
make is never touched. *A late message cannot hurt a successor*: what belongs to a newer generation of the
address is left alone, whatever an older change wanted, and a removal leaves other addresses alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address

from macbind.addressing import MacAddress
from macbind.model import HostReservation


@dataclass(frozen=True, slots=True)
class Ensure:
    """dhcpd should hold exactly this host reservation for its MAC."""

    address: IPv4Address
    generation: int
    reservation: HostReservation

    @property
    def mac(self) -> MacAddress:
        """The MAC to look under."""
        return self.reservation.mac


@dataclass(frozen=True, slots=True)
class Remove:
    """dhcpd should hold no reservation of ours for this MAC, and no lease of MAC or address.

    Attributes:
        address: The address that is being released.
        generation: The last generation that held it; newer ones are not meant.
        mac: The MAC it was bound to.
        has_host: False where the reservation is part of the configuration file (static mode) and only leases
            are to be cleared.
    """

    address: IPv4Address
    generation: int
    mac: MacAddress
    has_host: bool = True


Change = Ensure | Remove


class Step(Enum):
    """The next thing to do for one change."""

    NOTHING = auto()
    """dhcpd is as it should be."""
    CREATE = auto()
    """Add the reservation."""
    DELETE = auto()
    """Delete the observed reservation, which is ours and out of date; then look again."""
    SUPERSEDED = auto()
    """The MAC has another holder by now: this change came too late and must not touch it."""
    FOREIGN = auto()
    """A reservation that is not ours holds the MAC."""


def decide(change: Change, observed: HostReservation | None) -> Step:
    """Says what to do next for ``change`` when dhcpd's reservation for its MAC is ``observed``."""
    if isinstance(change, Ensure):
        if observed is None:
            return Step.CREATE
        if observed.serves_as(change.reservation):
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
