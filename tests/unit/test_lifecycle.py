"""What a domain's state means for the allocation it uses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from itertools import product

import pytest

from macbind.addressing import MacAddress
from macbind.lifecycle import Keep, Note, Release, Settlement, Verdict, is_abandoned, judge, settle
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


MOVING = replace(RUNNING, moves_to=OTHER_MAC)
NO_MAC = MacAddress.parse("52:54:00:00:00:01")


@pytest.mark.parametrize("mac", [MAC, OTHER_MAC, NO_MAC])
@pytest.mark.parametrize("policy", ReleasePolicy)
def test_a_running_machine_that_moves_keeps_its_addresses(policy: ReleasePolicy, mac: MacAddress) -> None:
    """Whichever card it has, and also between two; without a move, one without its card has released it."""
    assert judge(MOVING, policy, domain(DomainState.ACTIVE, mac)) == Keep()
    assert releases(judge(RUNNING, policy, domain(DomainState.ACTIVE, NO_MAC))) == (policy is not NEVER)


def test_a_machine_that_moves_ends_like_any_other() -> None:
    """Off with either MAC, or gone: by its pool's policy."""
    for mac in (MAC, OTHER_MAC):
        assert releases(judge(MOVING, DESTROY, domain(DomainState.OFF, mac)))
        assert not releases(judge(MOVING, UNDEFINE, domain(DomainState.OFF, mac)))
    assert releases(judge(MOVING, DESTROY, domain(DomainState.OFF, NO_MAC)))
    for policy in (DESTROY, UNDEFINE):
        assert releases(judge(MOVING, policy, None, StopCause.ENDED))


@pytest.mark.parametrize(
    ("macs", "outcome"),
    [
        ((OTHER_MAC,), Settlement.FINISH),
        ((OTHER_MAC, NO_MAC), Settlement.FINISH),
        ((MAC,), Settlement.ABORT),
        ((MAC, OTHER_MAC), Settlement.KEEP),
        ((NO_MAC,), Settlement.KEEP),
    ],
)
@pytest.mark.parametrize("state", DomainState)
def test_a_move_is_settled_by_the_card_the_machine_has(
    macs: tuple[MacAddress, ...], outcome: Settlement, state: DomainState
) -> None:
    """Exactly one of the two MACs decides, of a machine that runs or is off; one that may come back has neither."""
    known = state in (DomainState.ACTIVE, DomainState.OFF)
    assert settle(MOVING, domain(state, *macs)) is (outcome if known else Settlement.KEEP)


def test_a_definition_is_no_witness_of_what_runs() -> None:
    """What only the stored definition has does not count."""
    running = domain(DomainState.ACTIVE, MAC)
    assert settle(MOVING, replace(running, macs=frozenset({MAC, OTHER_MAC}))) is Settlement.ABORT


@pytest.mark.parametrize("phase", [None, *Phase])
def test_a_move_without_a_machine_is_given_up(phase: Phase | None) -> None:
    """Unless it is saved or elsewhere: then it has either card."""
    comes_back = phase in (Phase.HELD, Phase.MOVED)
    assert settle(replace(MOVING, phase=phase), None) is (Settlement.KEEP if comes_back else Settlement.ABORT)
