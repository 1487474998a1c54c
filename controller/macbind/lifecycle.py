"""What a domain's state means for the allocation it uses. Pure decisions.

An event never frees an address; it only makes somebody look. What is decided here is decided on what libvirt
says *now*, together with what the allocation's own record says of the domain. In doubt an address is kept: a
leak costs an address until its timeout, a wrong release costs two machines.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto

from macbind.model import Claim, Domain, DomainState, Phase, ReleasePolicy, StopCause


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing changes."""


@dataclass(frozen=True, slots=True)
class Note:
    """The allocation's record of its domain is to be brought up to date."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class Release:
    """The allocation is to be released.

    Attributes:
        reason: Why, for the audit log.
        certain: Whether libvirt itself told us that the domain ended. If not, the domain may have moved to a
            hypervisor that cannot be asked.
    """

    reason: str
    certain: bool


Verdict = Keep | Note | Release

_ENDS = frozenset({StopCause.ENDED, StopCause.UNDEFINED})


def judge(
    claim: Claim, policy: ReleasePolicy, domain: Domain | None, cause: StopCause | None = None
) -> Verdict:
    """Says what becomes of a claimed allocation.

    Args:
        claim: The allocation and its record of the domain.
        policy: Its pool's release policy.
        domain: The domain as libvirt describes it now; None if libvirt says that there is none.
        cause: Why it stopped, if an event has just said so.
    """
    if domain is not None and (claim.macs & domain.macs or _is_between(claim, domain)):
        return _judge_present(claim, policy, domain, cause)
    if domain is None and (held := _stopped_short(claim, None, cause)):
        return _note(claim, held)  # a transient domain that was saved or migrated is gone and yet not dead
    if policy is ReleasePolicy.NEVER or claim.pinned:
        return Keep()
    if domain is not None:
        return Release(f"domain '{domain.name}' no longer has an interface {claim.mac}", certain=True)
    return Release("its domain is gone", certain=cause in _ENDS)


def _is_between(claim: Claim, domain: Domain) -> bool:
    """Whether a running domain is having its interface exchanged, or has lost it since: it has neither MAC."""
    is_ours = claim.moves_to is not None or bool(claim.macs & domain.unplugged)
    return is_ours and domain.state is DomainState.ACTIVE


def _judge_present(claim: Claim, policy: ReleasePolicy, domain: Domain, cause: StopCause | None) -> Verdict:
    if domain.state is DomainState.ACTIVE:
        return _note(claim, Phase.RUNNING)
    if held := _stopped_short(claim, domain.state, cause):
        return _note(claim, held)
    if claim.phase is not Phase.RUNNING:
        return _note(claim, Phase.DEFINED)  # defined to be started soon
    if policy is ReleasePolicy.DESTROY and not claim.pinned:
        return Release(f"domain '{domain.name}' is off", certain=True)
    return Keep()


def _stopped_short(claim: Claim, state: DomainState | None, cause: StopCause | None) -> Phase | None:
    """The phase of a domain that does not run and yet has not ended; None if it may have ended."""
    if DomainState.MOVED is state or cause is StopCause.MIGRATED or claim.phase is Phase.MOVED:
        return Phase.MOVED
    if DomainState.HELD is state or cause in (StopCause.SAVED, StopCause.REVERTED):
        return Phase.HELD
    was_held = claim.phase is Phase.HELD
    return Phase.HELD if was_held and cause is not StopCause.UNDEFINED else None


def _note(claim: Claim, phase: Phase) -> Verdict:
    return Keep() if claim.phase is phase else Note(phase)


class Settlement(Enum):
    """What becomes of a move whose time is over."""

    FINISH = auto()
    """The machine has the new MAC: it has arrived."""
    ABORT = auto()
    """The machine has the old MAC, or there is none: the name keeps its address."""
    KEEP = auto()
    """Nobody can say: both addresses are kept."""


def settle(claim: Claim, domain: Domain | None) -> Settlement:
    """Says what becomes of a move that nobody has finished or aborted in time.

    Args:
        claim: The allocation that moves, and its record of the domain.
        domain: The domain as libvirt describes it now; None if libvirt says that there is none.
    """
    if domain is None:
        # A transient domain that was saved or migrated is gone and yet not dead, with either MAC.
        return Settlement.KEEP if claim.phase in (Phase.HELD, Phase.MOVED) else Settlement.ABORT
    if domain.state not in (DomainState.ACTIVE, DomainState.OFF):
        return Settlement.KEEP
    match claim.mac in domain.live, claim.moves_to in domain.live:
        case False, True:
            return Settlement.FINISH
        case True, False:
            return Settlement.ABORT
    return Settlement.KEEP


def waits_for_ever(claim: Claim, policy: ReleasePolicy, claim_timeout_s: float) -> bool:
    """Whether a machine may use an allocation where nobody watches: no domain need ever be seen with it."""
    return claim.pinned or policy is ReleasePolicy.NEVER or not claim_timeout_s


def is_abandoned(claim: Claim, policy: ReleasePolicy, claim_timeout_s: float, now: datetime) -> bool:
    """Whether an allocation has waited too long for a domain to appear.

    Only to be asked when every hypervisor has been looked at and none has the MAC.
    """
    return (
        not waits_for_ever(claim, policy, claim_timeout_s)
        and claim.uuid is None
        and now - claim.created_at > timedelta(seconds=claim_timeout_s)
    )
