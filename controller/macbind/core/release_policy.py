"""What a domain's state means for the allocation it uses. Pure decisions.

An event never frees an address; it only makes somebody look. What is decided here is decided on what libvirt
says *now*, together with what the allocation's own record says of the domain. In doubt an address is kept: a
leak costs an address until its timeout, a wrong release costs two machines.

A domain that is missing, or off, has ended only if an event says so. Without such an event it may be on its way: it
is being saved or migrated and the event is yet to come, or it reboots, for which Xen ends it and makes a new one.
That is a *doubt*. It is over when the domain is seen again, when the event comes, or when the domain is still
missing after longer than any such transition takes (the doubt is *outlasted*).

A persistent machine that shut down, crashed or failed has *stopped by itself*. Tools and people start it again within
seconds: after an installation, an update, a power button. So it keeps its address for a short *grace*, and so does a
machine whose definition is removed, because tools remove a definition to write it anew. `virsh destroy` says that the
machine is over. A machine that its host starts by itself (autostart) is over only then, too.

A domain that has never been seen to run proves nothing: when it goes, the allocation waits for a domain again.

What :func:`judge` says of a domain that does not run, in a pool with the policy ``destroy``. *New* is a recorded
domain that was defined, or expected, and has not run:

=====================  ===================  ================  ==========  ====================================
recorded phase         libvirt shows        the event says    outlasted   verdict
=====================  ===================  ================  ==========  ====================================
any                    unreadable           anything          -           keep
any                    migrated             anything          -           migrated
any                    held                 anything          -           held
any                    anything else        migrated          -           migrated
any                    anything else        saved, reverted   -           held
migrated               anything else        anything          -           keep
held                   anything else        anything          -           keep
held                   nothing              all but undefined -           keep
any                    transient, listed    nothing           -           keep: it is between two states
new                    off                  anything          -           keep: it waits to be started
new                    nothing              destroyed         -           release: so it ran
new                    nothing              anything else     -           let go
new                    nothing              nothing           no          doubt
new                    nothing              nothing           yes         let go
running                nothing              destroyed         -           release
running                nothing              by itself         -           release; stopped, if it was defined
running                nothing              undefined         no          doubt: how it ended is yet to be said
running                nothing              nothing           no          doubt
running                nothing              nothing           yes         release, if it is nowhere else
held, ended, stopped   nothing              undefined         -           stopped
stopped                nothing, off         nothing           no          stopped
stopped                nothing, off         nothing           yes         release
ended                  nothing              nothing           no          doubt
ended                  nothing              nothing           yes         release, if it is nowhere else
running                off                  destroyed         -           release
running                off, autostart       by itself         -           ended: its host starts it again
running                off                  by itself         -           stopped
running                off                  nothing           no          doubt
running                off                  nothing           yes         release, if it is nowhere else
running                off, autostart       nothing           yes         ended: its host starts it again
ended                  off                  anything          -           release
ended                  off, autostart       anything          -           keep
=====================  ===================  ================  ==========  ====================================

The first row that fits counts, and nothing is not anything else. A domain that runs keeps its address with any
cause. One that exists without the NIC of the allocation has let go of it if the NIC does not come back within
seconds. An event that says that it has started makes the recorded phase *running* and any doubt a new one, whatever
is seen by now. With ``undefine`` nothing is released for a domain that is off, with ``never`` and for a pin nothing
at all: what would be a release is recorded as *ended*.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from macbind.core.domain import (
    NOT_RUN_YET,
    NOTHING_SAID,
    Claim,
    Domain,
    DomainEvent,
    DomainState,
    Phase,
    StopCause,
)
from macbind.core.pool import ReleasePolicy
from macbind.core.release_cause import ReleaseCause

REDEFINED_S = 5.0
"""Within so many seconds a tool that removes a definition, or a NIC, has written it anew."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing changes."""


@dataclass(frozen=True, slots=True)
class Note:
    """The allocation's record of its domain is to be brought up to date."""

    phase: Phase


@dataclass(frozen=True, slots=True)
class Doubt:
    """The domain is missing and nothing says why: it is to be looked for again, and the record to say so.

    Attributes:
        phase: How far it has come.
        is_new: Whether the record does not say so yet.
    """

    phase: Phase | None
    is_new: bool


@dataclass(frozen=True, slots=True)
class Rest:
    """The domain has stopped and may come back: it is to be looked for again when its grace is over.

    Attributes:
        is_new: Whether the grace begins now.
    """

    is_new: bool


@dataclass(frozen=True, slots=True)
class LetGo:
    """The domain is gone and was never seen to run: the allocation waits for a domain again."""


@dataclass(frozen=True, slots=True)
class Release:
    """The allocation is to be released.

    Attributes:
        reason: Why, for the audit log.
        certain: Whether libvirt itself told us that the domain ended. If not, the domain may have migrated to a
            hypervisor that cannot be asked.
        cause: Why, for numbers.
    """

    reason: str
    certain: bool
    cause: ReleaseCause = ReleaseCause.ENDED


Verdict = Keep | Note | Doubt | Rest | LetGo | Release


def judge(
    claim: Claim,
    policy: ReleasePolicy,
    domain: Domain | None,
    event: DomainEvent = NOTHING_SAID,
    *,
    outlasted: bool = False,
    was_persistent: bool = False,
) -> Verdict:
    """Says what becomes of a claimed allocation.

    Args:
        claim: The allocation and its record of the domain.
        policy: Its pool's release policy.
        domain: The domain as libvirt describes it now; None if libvirt says that there is none.
        event: What an event has just said of it, if one did.
        outlasted: Whether it has been missing or off for longer than its :func:`patience_s`, watched all the time.
        was_persistent: Whether it had a stored definition when it was last seen.
    """
    is_new_nic = domain is not None and domain.state is DomainState.ACTIVE and is_yet_to_run(claim, domain)
    if (
        event.started
        and not is_new_nic
        and (claim.phase is not Phase.RUNNING or claim.doubted_at is not None)
    ):
        runs = replace(claim, phase=Phase.RUNNING, doubted_at=None)
        verdict = judge(runs, policy, domain, replace(event, started=False), was_persistent=was_persistent)
        return Note(Phase.RUNNING) if isinstance(verdict, Keep) else verdict
    if domain is not None and domain.state is DomainState.UNREAD:
        return Keep()
    has_card = domain is not None and has_nic(claim, domain)
    if domain is not None and domain.state is DomainState.ACTIVE:
        if has_card:
            return Keep() if is_new_nic else _note(claim, Phase.RUNNING)
        return _without_card(claim, policy, domain, is_over=outlasted)
    if held := _stopped_short(claim, domain, event.cause):
        return _note(claim, held)
    if domain is not None and domain.state is DomainState.BETWEEN and event.cause not in _ENDS:
        return Keep()
    if domain is None or domain.state is DomainState.BETWEEN:
        if was_persistent and _may_be_rewritten(policy, event.cause):
            claim, event = replace(claim, phase=Phase.ENDED), DomainEvent(StopCause.UNDEFINED)
        return _gone(claim, policy, event.cause, outlasted=outlasted)
    is_over = event.cause is StopCause.ENDED and policy is ReleasePolicy.DESTROY
    if not has_card and (is_over or claim.phase not in (Phase.RUNNING, Phase.STOPPED)):
        return _without_card(claim, policy, domain, is_over=is_over or outlasted)
    return _off(claim, policy, domain, event.cause, outlasted=outlasted)


def is_yet_to_run(claim: Claim, domain: Domain) -> bool:
    """Whether only the definition of a running domain has the NIC: its next start will bring it."""
    has_run = claim.phase is not None and claim.phase not in NOT_RUN_YET
    return not has_run and bool(claim.macs & domain.macs) and not claim.macs & domain.live


def has_nic(claim: Claim, domain: Domain) -> bool:
    """Whether a domain has the NIC of an allocation, or is having it exchanged."""
    return bool(claim.macs & domain.macs) or _is_between(claim, domain)


def _is_between(claim: Claim, domain: Domain) -> bool:
    """Whether a running domain is having its NIC exchanged, or has lost it since: it has neither MAC."""
    is_ours = claim.renumbers_to is not None or bool(claim.macs & domain.unplugged)
    return is_ours and domain.state is DomainState.ACTIVE


def _stopped_short(claim: Claim, domain: Domain | None, cause: StopCause | None) -> Phase | None:
    """The phase of a domain that does not run and yet has not ended; None if it may have ended."""
    state = None if domain is None else domain.state
    if DomainState.MIGRATED is state or cause is StopCause.MIGRATED or claim.phase is Phase.MIGRATED:
        return Phase.MIGRATED
    if DomainState.HELD is state or cause in (StopCause.SAVED, StopCause.REVERTED):
        return Phase.HELD
    was_held = claim.phase is Phase.HELD
    return Phase.HELD if was_held and (domain or cause is not StopCause.UNDEFINED) else None


def _may_be_rewritten(policy: ReleasePolicy, cause: StopCause | None) -> bool:
    """Whether a stored definition that is gone by the time its end is heard of may be written anew."""
    return cause is StopCause.BY_ITSELF or (cause is StopCause.ENDED and policy is ReleasePolicy.UNDEFINE)


_ENDS = (StopCause.ENDED, StopCause.BY_ITSELF)


def _gone(claim: Claim, policy: ReleasePolicy, cause: StopCause | None, *, outlasted: bool) -> Verdict:
    """Of a domain that libvirt does not show any more."""
    said_so = cause is not None or claim.phase is Phase.STOPPED
    has_run = claim.phase not in NOT_RUN_YET or cause is StopCause.ENDED
    if not has_run and (said_so or outlasted):
        return LetGo()
    if claim.phase is Phase.RUNNING and cause is StopCause.UNDEFINED:
        said_so = False  # another event says how it ended
    is_kept = policy is ReleasePolicy.NEVER or claim.pinned
    if is_kept and claim.phase is Phase.ENDED:
        return _note(claim, Phase.ENDED)
    if not said_so and not outlasted:
        return Doubt(claim.phase, is_new=claim.doubted_at is None)
    if is_kept:
        return _note(claim, Phase.ENDED)
    if said_so and cause not in _ENDS and not (outlasted and cause is None):
        return Rest(is_new=claim.phase is not Phase.STOPPED or cause is StopCause.UNDEFINED)
    return Release(
        "its domain is gone" if said_so else "its domain is gone, though no event said so", said_so
    )


def _off(
    claim: Claim, policy: ReleasePolicy, domain: Domain, cause: StopCause | None, *, outlasted: bool
) -> Verdict:
    """Of a domain that is defined and does not run."""
    if claim.phase in NOT_RUN_YET or claim.phase is None:
        return _note(claim, claim.phase or Phase.DEFINED)  # it may have failed to start, too
    is_over = claim.phase is Phase.ENDED or cause is StopCause.ENDED
    said_so = is_over or cause is StopCause.BY_ITSELF or claim.phase is Phase.STOPPED
    if not said_so and not outlasted:
        return Doubt(claim.phase, is_new=claim.doubted_at is None)
    comes_back = domain.autostart and cause is not StopCause.ENDED
    if policy is not ReleasePolicy.DESTROY or claim.pinned or comes_back:
        return _note(claim, Phase.ENDED)
    if said_so and not is_over and not (claim.phase is Phase.STOPPED and outlasted):
        return Rest(is_new=claim.phase is not Phase.STOPPED)
    reason = f"domain '{domain.name}' is off"
    return Release(reason if said_so else f"{reason}, though no event said so", said_so)


def patience_s(claim: Claim, domain: Domain | None, transition_s: float, grace_s: float) -> float:
    """How long a domain that is missing or off is waited for.

    Args:
        claim: The allocation's record of it.
        domain: What is left of it.
        transition_s: Longer than any transition from one state to another takes.
        grace_s: How long a machine that has stopped by itself keeps its address.
    """
    if domain is not None and not has_nic(claim, domain):
        return REDEFINED_S
    if claim.phase is not Phase.STOPPED:
        return transition_s
    return grace_s if domain is not None else min(grace_s, REDEFINED_S)


def _without_card(claim: Claim, policy: ReleasePolicy, domain: Domain, *, is_over: bool) -> Verdict:
    """Of a domain without the NIC: tools unplug one to plug it in anew."""
    if claim.phase in NOT_RUN_YET:
        return LetGo()
    if policy is ReleasePolicy.NEVER or claim.pinned:
        return Keep()
    if not is_over:
        return Doubt(claim.phase, is_new=claim.doubted_at is None)
    return Release(f"domain '{domain.name}' no longer has an interface {claim.mac}", certain=True)


def _note(claim: Claim, phase: Phase) -> Verdict:
    return Keep() if claim.phase is phase and claim.doubted_at is None else Note(phase)
