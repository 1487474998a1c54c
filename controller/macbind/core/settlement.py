"""What becomes of a renumbering that nobody ends, and of an allocation that no machine uses. Pure decisions."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum, auto

from macbind.core.domain import Claim, Domain, DomainState, Phase
from macbind.core.pool import ReleasePolicy


class Settlement(Enum):
    """What becomes of a renumbering that nobody has ended in time."""

    FINISH = auto()
    """The machine has the new MAC."""
    ABORT = auto()
    """The machine has the old MAC, or there is none: the name keeps its address."""
    KEEP = auto()
    """Nobody can say: both addresses are kept."""


def settle(claim: Claim, domain: Domain | None) -> Settlement:
    """Says what becomes of a renumbering that nobody has finished or aborted in time.

    Absence proves here what it proves for :func:`judge`. A machine that was saved or migrated has either MAC, and one
    that is missing and not known to have ended may come back; when its doubt is over the record says what it was.

    Args:
        claim: The allocation that is renumbered, and its record of the domain.
        domain: The domain as libvirt describes it now; None if libvirt says that there is none.
    """
    if domain is None:
        return Settlement.ABORT if claim.phase in (None, Phase.ENDED) else Settlement.KEEP
    if domain.state not in (DomainState.ACTIVE, DomainState.OFF):
        return Settlement.KEEP
    if domain.state is DomainState.OFF and claim.phase is Phase.RUNNING:
        return Settlement.KEEP
    match claim.mac in domain.live, claim.renumbers_to in domain.live:
        case False, True:
            return Settlement.FINISH
        case True, False:
            return Settlement.ABORT
    return Settlement.KEEP


def waits_for_ever(claim: Claim, policy: ReleasePolicy, claim_timeout_s: float) -> bool:
    """Whether a machine may use an allocation where nobody watches: no domain need ever be seen with it."""
    return claim.pinned or policy is ReleasePolicy.NEVER or not claim_timeout_s


def is_abandoned(claim: Claim, policy: ReleasePolicy, claim_timeout_s: float, waited: timedelta) -> bool:
    """Whether an allocation has waited too long for a domain to appear.

    Only to be asked when every hypervisor has been watched for longer than any transition and none has the MAC.
    """
    return (
        not waits_for_ever(claim, policy, claim_timeout_s)
        and claim.uuid is None
        and waited > timedelta(seconds=claim_timeout_s)
    )
