"""Controllers that share a registry: who is there, and which DHCP servers each of them leads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from macbind.core.findings import ControllerStatus, Lead


@dataclass(frozen=True, slots=True)
class Said:
    """What a controller says of itself.

    Attributes:
        leads: The DHCP servers that it writes to.
        wants: DHCP servers that it reaches, and would write to together with those that it leads already.
    """

    leads: tuple[Lead, ...] = ()
    wants: tuple[str, ...] = ()


def leader_of(controllers: Sequence[ControllerStatus], dhcpd: str) -> ControllerStatus | None:
    """Who writes to a DHCP server, as far as the controllers say; the one that gets on with it if two say so."""
    leaders = [(lead, one) for one in controllers if (lead := one.lead(dhcpd)) is not None]
    return next((one for lead, one in sorted(leaders, key=lambda pair: not pair[0].state.is_good)), None)


def claimant(controllers: Sequence[ControllerStatus], dhcpd: str, me: ControllerStatus) -> bool:
    """Whether another controller wants to lead a DHCP server that I lead, and comes before me."""
    return any(dhcpd in one.wants and one.rank < me.rank for one in controllers if one.id != me.id)


def may_claim(controllers: Sequence[ControllerStatus], dhcpd: str, me: ControllerStatus) -> bool:
    """Whether I lead others already, and come before the controller that leads this DHCP server."""
    leader = leader_of(controllers, dhcpd)
    return bool(me.leads) and leader is not None and leader.id != me.id and me.rank < leader.rank
