"""What a domain's state means for the allocation it uses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from itertools import product

import pytest

from macbind.addressing import MacAddress
from macbind.lifecycle import Keep, Note, Release, Verdict, is_abandoned, judge
from macbind.model import Claim, Domain, DomainState, Phase, ReleasePolicy, StopCause

MAC = MacAddress.parse("00:16:3e:01:01:03")
OTHER_MAC = MacAddress.parse("00:16:3e:01:01:04")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DESTROY, UNDEFINE, NEVER = ReleasePolicy.DESTROY, ReleasePolicy.UNDEFINE, ReleasePolicy.NEVER
COMES_BACK = (StopCause.SAVED, StopCause.MIGRATED, StopCause.REVERTED)
UNUSED = Claim(IPv4Address("10.1.1.3"), MAC, 7, "farm", "vm", None, None, None, pinned=False, created_at=NOW)
RUNNING = replace(UNUSED, hypervisor="one", uuid="u", phase=Phase.RUNNING)


def domain(state: DomainState, *macs: MacAddress) -> Domain:
    """A domain as a hypervisor describes it."""
    found = frozenset(macs or (MAC,))
    return Domain("u", "vm", "one", state, found, found)


def releases(verdict: Verdict) -> bool:
    """Whether the verdict is a release."""
    return isinstance(verdict, Release)


@pytest.mark.parametrize("policy", ReleasePolicy)
@pytest.mark.parametrize("cause", [None, *StopCause])
@pytest.mark.parametrize("phase", Phase)
def test_an_active_domain_keeps_its_address(
    policy: ReleasePolicy, cause: StopCause | None, phase: Phase
) -> None:
    """Whatever an event said, an address that a running domain uses is not released."""
    verdict = judge(replace(RUNNING, phase=phase), policy, domain(DomainState.ACTIVE), cause)
    assert verdict == (Keep() if phase is Phase.RUNNING else Note(Phase.RUNNING))


def test_a_destroyed_transient_domain_frees_its_address() -> None:
    """A domain that ran and is gone, by libvirt's own event, releases under destroy and undefine."""
    for policy in (DESTROY, UNDEFINE):
        verdict = judge(RUNNING, policy, None, StopCause.ENDED)
        assert verdict == Release("its domain is gone", certain=True)


def test_a_vanished_domain_is_not_certain_to_have_ended() -> None:
    """Without an event a missing domain may have moved, so its release needs the other hypervisors' word."""
    assert judge(RUNNING, DESTROY, None) == Release("its domain is gone", certain=False)


def test_a_shut_off_domain_frees_its_address_by_policy() -> None:
    """A defined domain that ran and is off releases under destroy and keeps under undefine."""
    off = domain(DomainState.OFF)
    assert judge(RUNNING, DESTROY, off, StopCause.ENDED) == Release("domain 'vm' is off", certain=True)
    assert judge(RUNNING, UNDEFINE, off, StopCause.ENDED) == Keep()


@pytest.mark.parametrize("policy", ReleasePolicy)
@pytest.mark.parametrize("cause", COMES_BACK)
@pytest.mark.parametrize("seen", [None, DomainState.OFF])
def test_what_comes_back_is_held(policy: ReleasePolicy, cause: StopCause, seen: DomainState | None) -> None:
    """Saved, migrated and reverted domains release nothing, also when a transient one leaves no trace."""
    present = None if seen is None else domain(seen)
    phase = Phase.MOVED if cause is StopCause.MIGRATED else Phase.HELD
    assert judge(RUNNING, policy, present, cause) == Note(phase)
    assert judge(replace(RUNNING, phase=phase), policy, present) == Keep()


def test_a_state_alone_tells_that_a_domain_comes_back() -> None:
    """Without an event, what libvirt says of a stopped domain decides."""
    assert judge(RUNNING, DESTROY, domain(DomainState.HELD)) == Note(Phase.HELD)
    assert judge(RUNNING, DESTROY, domain(DomainState.MOVED)) == Note(Phase.MOVED)


def test_undefining_ends_what_was_saved_but_not_what_moved() -> None:
    """A managed save image goes with its definition; a migrated machine lives on without its old definition."""
    saved, moved = replace(RUNNING, phase=Phase.HELD), replace(RUNNING, phase=Phase.MOVED)
    assert releases(judge(saved, DESTROY, None, StopCause.UNDEFINED))
    assert judge(moved, DESTROY, None, StopCause.UNDEFINED) == Keep()


def test_a_domain_that_is_only_defined_keeps_its_address() -> None:
    """A definition that never ran waits to be started."""
    claim = replace(RUNNING, phase=Phase.DEFINED)
    assert judge(claim, DESTROY, domain(DomainState.OFF)) == Keep()


def test_an_unplugged_interface_frees_its_address() -> None:
    """When neither the running domain nor its definition has the MAC any more, nobody uses the address."""
    for policy in (DESTROY, UNDEFINE):
        verdict = judge(RUNNING, policy, domain(DomainState.ACTIVE, OTHER_MAC))
        assert releases(verdict)


@pytest.mark.parametrize(
    ("seen", "cause"), list(product([None, DomainState.OFF, DomainState.ACTIVE], [None, *StopCause]))
)
def test_never_and_pinned_are_never_released(seen: DomainState | None, cause: StopCause | None) -> None:
    """Neither policy never nor a pinned allocation is released by anything a domain does."""
    for present in (None if seen is None else domain(seen), domain(DomainState.ACTIVE, OTHER_MAC)):
        assert not releases(judge(RUNNING, NEVER, present, cause))
        assert not releases(judge(replace(RUNNING, pinned=True), DESTROY, present, cause))


def test_an_allocation_waits_for_its_domain_for_a_while() -> None:
    """Only an unpinned allocation no domain was seen to use is abandoned, and only after its timeout."""
    late = NOW + timedelta(seconds=901)
    assert is_abandoned(UNUSED, DESTROY, 900, late)
    assert not is_abandoned(UNUSED, DESTROY, 900, NOW + timedelta(seconds=899))
    assert not is_abandoned(UNUSED, DESTROY, 0, late)
    assert not is_abandoned(UNUSED, NEVER, 900, late)
    assert not is_abandoned(replace(UNUSED, pinned=True), DESTROY, 900, late)
    assert not is_abandoned(RUNNING, DESTROY, 900, late)
