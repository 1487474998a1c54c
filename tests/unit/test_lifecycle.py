"""What a domain's state means for the allocation it uses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from itertools import product
from pathlib import Path

import pytest

from macbind.config.tables import GRACE_S, TRANSITION_S
from macbind.core.domain import Claim, Domain, DomainEvent, DomainState, Phase, StopCause
from macbind.core.mac_address import MacAddress
from macbind.core.pool import ReleasePolicy
from macbind.core.release_policy import (
    REDEFINED_S,
    Doubt,
    Keep,
    LetGo,
    Note,
    Release,
    Rest,
    Verdict,
    judge,
    patience_s,
)
from macbind.core.settlement import Settlement, is_abandoned, settle

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


def event(cause: StopCause | None) -> DomainEvent:
    """An event with this cause."""
    return DomainEvent(cause)


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
    verdict = judge(replace(RUNNING, phase=phase), policy, domain(DomainState.ACTIVE), event(cause))
    assert verdict == (Keep() if phase is Phase.RUNNING else Note(Phase.RUNNING))


def test_a_destroyed_transient_domain_frees_its_address() -> None:
    """A domain that ran and is gone, by libvirt's own event, releases under destroy and undefine."""
    for policy in (DESTROY, UNDEFINE):
        verdict = judge(RUNNING, policy, None, event(StopCause.ENDED))
        assert verdict == Release("its domain is gone", certain=True)


GONE, OFF, LISTED = None, DomainState.OFF, DomainState.BETWEEN
ENDED, UNDEFINED, BY_ITSELF = StopCause.ENDED, StopCause.UNDEFINED, StopCause.BY_ITSELF
_GONE = "its domain is gone"
_OFF = "domain 'vm' is off"
_UNSAID = ", though no event said so"
_TABLE: list[tuple[Phase, DomainState | None, StopCause | None, bool, Verdict]] = [
    # Without an event that says why it is missing, it may be on its way.
    (Phase.RUNNING, GONE, None, False, Doubt(Phase.RUNNING, is_new=True)),
    (Phase.RUNNING, GONE, None, True, Release(_GONE + _UNSAID, certain=False)),
    (Phase.RUNNING, OFF, None, False, Doubt(Phase.RUNNING, is_new=True)),
    (Phase.RUNNING, OFF, None, True, Release(_OFF + _UNSAID, certain=False)),
    (Phase.RUNNING, LISTED, None, False, Keep()),
    (Phase.RUNNING, LISTED, None, True, Keep()),
    (Phase.DEFINED, GONE, None, False, Doubt(Phase.DEFINED, is_new=True)),
    (Phase.DEFINED, GONE, None, True, LetGo()),
    (Phase.ENDED, GONE, None, False, Doubt(Phase.ENDED, is_new=True)),
    # With one it has ended.
    (Phase.RUNNING, GONE, ENDED, False, Release(_GONE, certain=True)),
    (Phase.RUNNING, OFF, ENDED, False, Release(_OFF, certain=True)),
    (Phase.RUNNING, LISTED, ENDED, False, Release(_GONE, certain=True)),
    (Phase.DEFINED, GONE, ENDED, False, Release(_GONE, certain=True)),
    (Phase.DEFINED, LISTED, ENDED, False, Release(_GONE, certain=True)),
    # It failed to start, or was never started.
    (Phase.DEFINED, OFF, ENDED, False, Keep()),
    (Phase.DEFINED, OFF, None, True, Keep()),
    # What never ran proves nothing.
    (Phase.DEFINED, GONE, UNDEFINED, False, LetGo()),
    (Phase.EXPECTED, GONE, UNDEFINED, False, LetGo()),
    (Phase.EXPECTED, GONE, BY_ITSELF, False, LetGo()),
    (Phase.EXPECTED, OFF, BY_ITSELF, False, Keep()),
    # Without its definition, what did not run may be defined anew; of what did, another event says how it ended.
    (Phase.HELD, GONE, UNDEFINED, False, Rest(is_new=True)),
    (Phase.ENDED, GONE, UNDEFINED, False, Rest(is_new=True)),
    (Phase.STOPPED, GONE, UNDEFINED, False, Rest(is_new=True)),
    (Phase.STOPPED, GONE, UNDEFINED, True, Rest(is_new=True)),
    (Phase.STOPPED, GONE, None, False, Rest(is_new=False)),
    (Phase.STOPPED, GONE, None, True, Release(_GONE, certain=True)),
    (Phase.RUNNING, GONE, UNDEFINED, False, Doubt(Phase.RUNNING, is_new=True)),
    (Phase.MIGRATED, GONE, UNDEFINED, False, Keep()),
    # What stopped by itself may be started again; a transient domain cannot.
    (Phase.RUNNING, OFF, BY_ITSELF, False, Rest(is_new=True)),
    (Phase.STOPPED, OFF, None, False, Rest(is_new=False)),
    (Phase.STOPPED, OFF, None, True, Release(_OFF, certain=True)),
    (Phase.RUNNING, GONE, BY_ITSELF, False, Release(_GONE, certain=True)),
    # Nothing is known of what cannot be read.
    (Phase.RUNNING, DomainState.UNREAD, ENDED, True, Keep()),
    (Phase.DEFINED, DomainState.UNREAD, UNDEFINED, True, Keep()),
    # What comes back is never in doubt.
    (Phase.HELD, GONE, None, True, Keep()),
    (Phase.HELD, OFF, ENDED, True, Keep()),
    (Phase.MIGRATED, GONE, ENDED, True, Keep()),
    (Phase.ENDED, OFF, None, False, Release(_OFF, certain=True)),
]


@pytest.mark.parametrize(("phase", "state", "cause", "outlasted", "verdict"), _TABLE)
@pytest.mark.invariant(10)
def test_absence_is_an_end_only_with_a_cause_or_after_a_second_look(
    phase: Phase, state: DomainState | None, cause: StopCause | None, outlasted: bool, verdict: Verdict
) -> None:
    """The table of the module: what is recorded, seen, said, and whether the doubt is old enough."""
    present = None if state is None else domain(state)
    claim = replace(RUNNING, phase=phase)
    assert judge(claim, DESTROY, present, event(cause), outlasted=outlasted) == verdict


def test_a_doubt_is_recorded_once_and_ends_when_the_domain_is_seen() -> None:
    """The record keeps the moment of the first doubt; a domain that is seen again, or said to be saved, has none."""
    doubted = replace(RUNNING, doubted_at=NOW)
    assert judge(doubted, DESTROY, None) == Doubt(Phase.RUNNING, is_new=False)
    assert judge(doubted, DESTROY, domain(DomainState.ACTIVE)) == Note(Phase.RUNNING)
    assert judge(doubted, DESTROY, None, event(StopCause.SAVED)) == Note(Phase.HELD)
    assert judge(doubted, DESTROY, None, event(StopCause.MIGRATED)) == Note(Phase.MIGRATED)
    assert releases(judge(doubted, DESTROY, None, event(ENDED)))


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("state", [GONE, OFF])
def test_a_domain_that_was_started_may_be_in_transition_again(
    phase: Phase, state: DomainState | None
) -> None:
    """Said to have started, and missing by now: it ran since, whatever was recorded, so it is in doubt."""
    claim = replace(RUNNING, phase=phase, doubted_at=NOW)
    present = None if state is None else domain(state)
    verdict = judge(claim, DESTROY, present, DomainEvent(started=True), outlasted=True)
    assert verdict == Doubt(Phase.RUNNING, is_new=True)
    for kept in (replace(claim, pinned=True), claim):
        policy = DESTROY if kept.pinned else NEVER
        assert judge(kept, policy, domain(LISTED), DomainEvent(started=True)) == Note(Phase.RUNNING)


def test_what_is_kept_by_policy_is_recorded_as_ended() -> None:
    """Its doubt ends by the same rule, so that another domain may take its place."""
    for claim, policy, state in (
        (RUNNING, UNDEFINE, OFF),
        (RUNNING, NEVER, OFF),
        (RUNNING, NEVER, GONE),
        (replace(RUNNING, pinned=True), DESTROY, GONE),
    ):
        present = None if state is None else domain(state)
        assert judge(claim, policy, present, event(ENDED)) == Note(Phase.ENDED)
        assert judge(claim, policy, present) == Doubt(Phase.RUNNING, is_new=True)
        assert judge(claim, policy, present, outlasted=True) == Note(Phase.ENDED)
        assert judge(replace(claim, phase=Phase.ENDED), policy, present) == Keep()


def test_what_its_host_starts_by_itself_is_over_only_when_it_is_destroyed() -> None:
    """A host that is rebooted shuts its machines down, and starts those with autostart."""
    off = replace(domain(DomainState.OFF), autostart=True)
    assert judge(RUNNING, DESTROY, off, event(BY_ITSELF)) == Note(Phase.ENDED)
    assert judge(RUNNING, DESTROY, off) == Doubt(Phase.RUNNING, is_new=True)
    assert judge(RUNNING, DESTROY, off, outlasted=True) == Note(Phase.ENDED)
    assert judge(replace(RUNNING, phase=Phase.ENDED), DESTROY, off) == Keep()
    assert judge(RUNNING, DESTROY, off, event(ENDED)) == Release("domain 'vm' is off", certain=True)


def test_the_time_to_come_back_depends_on_what_is_left() -> None:
    """A definition can be started again by people; what has none is defined anew by a tool, or never."""
    stopped = replace(RUNNING, phase=Phase.STOPPED)
    assert patience_s(stopped, domain(DomainState.OFF), 15, 30) == 30
    assert patience_s(stopped, None, 15, 30) == 5
    assert patience_s(stopped, None, 15, 2) == 2
    assert patience_s(RUNNING, None, 15, 30) == 15


def test_a_definition_that_never_ran_frees_nothing_without_its_nic() -> None:
    """Written anew with another MAC, it is let go; one that ran has let go of the address itself."""
    other = domain(DomainState.OFF, OTHER_MAC)
    assert judge(replace(RUNNING, phase=Phase.DEFINED), DESTROY, other) == LetGo()
    ended = replace(RUNNING, phase=Phase.ENDED)
    assert judge(ended, UNDEFINE, other) == Doubt(Phase.ENDED, is_new=True)
    assert releases(judge(ended, UNDEFINE, other, outlasted=True))
    assert judge(replace(RUNNING, phase=Phase.STOPPED), DESTROY, other) == Rest(is_new=False)
    assert releases(judge(RUNNING, DESTROY, other, event(ENDED)))
    assert judge(RUNNING, UNDEFINE, other, event(ENDED)) == Note(Phase.ENDED)


def test_a_shut_off_domain_frees_its_address_by_policy() -> None:
    """A defined domain that ran and is off releases under destroy and keeps under undefine."""
    off = domain(DomainState.OFF)
    assert judge(RUNNING, DESTROY, off, event(StopCause.ENDED)) == Release("domain 'vm' is off", certain=True)
    assert judge(RUNNING, UNDEFINE, off, event(StopCause.ENDED)) == Note(Phase.ENDED)


@pytest.mark.parametrize("policy", ReleasePolicy)
@pytest.mark.parametrize("cause", COMES_BACK)
@pytest.mark.parametrize("seen", [None, DomainState.OFF])
def test_what_comes_back_is_held(policy: ReleasePolicy, cause: StopCause, seen: DomainState | None) -> None:
    """Saved, migrated and reverted domains release nothing, also when a transient one leaves no trace."""
    present = None if seen is None else domain(seen)
    phase = Phase.MIGRATED if cause is StopCause.MIGRATED else Phase.HELD
    assert judge(RUNNING, policy, present, event(cause)) == Note(phase)
    assert judge(replace(RUNNING, phase=phase), policy, present) == Keep()


def test_a_state_alone_tells_that_a_domain_comes_back() -> None:
    """Without an event, what libvirt says of a stopped domain decides."""
    assert judge(RUNNING, DESTROY, domain(DomainState.HELD)) == Note(Phase.HELD)
    assert judge(RUNNING, DESTROY, domain(DomainState.MIGRATED)) == Note(Phase.MIGRATED)


def test_undefining_ends_what_was_saved_but_not_what_migrated() -> None:
    """A managed save image goes with its definition; a migrated machine lives on without its old definition."""
    saved, moved = replace(RUNNING, phase=Phase.HELD), replace(RUNNING, phase=Phase.MIGRATED)
    assert judge(saved, DESTROY, None, event(StopCause.UNDEFINED)) == Rest(is_new=True)
    assert judge(moved, DESTROY, None, event(StopCause.UNDEFINED)) == Keep()


def test_renaming_ends_nothing_that_was_saved() -> None:
    """libvirt says of a rename that the domain was undefined; it is there, and its state is in a file."""
    saved = replace(RUNNING, phase=Phase.HELD)
    for policy in ReleasePolicy:
        assert judge(saved, policy, domain(DomainState.OFF), event(StopCause.UNDEFINED)) == Keep()


def test_a_domain_that_is_only_defined_keeps_its_address() -> None:
    """A definition that never ran waits to be started."""
    claim = replace(RUNNING, phase=Phase.DEFINED)
    assert judge(claim, DESTROY, domain(DomainState.OFF)) == Keep()


def test_an_unplugged_interface_frees_its_address() -> None:
    """When neither the running domain nor its definition has the MAC for a while, nobody uses the address."""
    without = domain(DomainState.ACTIVE, OTHER_MAC)
    for policy in (DESTROY, UNDEFINE):
        assert judge(RUNNING, policy, without) == Doubt(Phase.RUNNING, is_new=True)
        assert releases(judge(RUNNING, policy, without, outlasted=True))
    assert patience_s(RUNNING, without, 15, 30) == REDEFINED_S
    doubted = replace(RUNNING, doubted_at=NOW)
    assert judge(doubted, DESTROY, domain(DomainState.ACTIVE)) == Note(Phase.RUNNING)


@pytest.mark.parametrize(
    ("seen", "cause"), list(product([None, DomainState.OFF, DomainState.ACTIVE], [None, *StopCause]))
)
def test_never_and_pinned_are_never_released(seen: DomainState | None, cause: StopCause | None) -> None:
    """Neither policy never nor a pinned allocation is released by anything a domain does."""
    for present in (None if seen is None else domain(seen), domain(DomainState.ACTIVE, OTHER_MAC)):
        assert not releases(judge(RUNNING, NEVER, present, event(cause)))
        assert not releases(judge(replace(RUNNING, pinned=True), DESTROY, present, event(cause)))


PAGE = Path(__file__).parents[2] / "controller" / "docs" / "use" / "machines.md"
_AUTOSTART = replace(domain(DomainState.OFF), autostart=True)
_ROWS: dict[str, list[tuple[Phase, Domain | None, StopCause | None]]] = {
    "`virsh destroy`": [(Phase.RUNNING, domain(OFF), ENDED)],
    "it shuts down or crashes, QEMU fails, or it reboots with `<on_reboot>destroy`": [
        (Phase.RUNNING, domain(OFF), BY_ITSELF)
    ],
    "the same, with autostart": [(Phase.RUNNING, _AUTOSTART, BY_ITSELF)],
    "`virsh undefine` while it is off or saved": [
        (Phase.HELD, None, UNDEFINED),
        (Phase.ENDED, None, UNDEFINED),
    ],
    "`virsh undefine` before it ever ran": [(Phase.DEFINED, None, UNDEFINED)],
    "reboot, reset, pause, crash with restart": [(Phase.RUNNING, domain(DomainState.ACTIVE), None)],
    "save, restore, revert to a snapshot, rename": [
        (Phase.RUNNING, domain(DomainState.HELD), StopCause.SAVED),
        (Phase.RUNNING, domain(DomainState.ACTIVE), StopCause.REVERTED),
        (Phase.ENDED, domain(DomainState.ACTIVE), None),
    ],
    "live migration": [(Phase.RUNNING, domain(DomainState.MIGRATED), StopCause.MIGRATED)],
    "it is off, and libvirt has not said why": [(Phase.RUNNING, domain(OFF), None)],
    "it is gone, and libvirt has not said why": [(Phase.RUNNING, None, None)],
}
"""What judge() is asked for each row of the table: the recorded phase, what libvirt shows, and what it says."""
_GONE_AT_ONCE = {
    "`virsh destroy`",
    "it shuts down or crashes, QEMU fails, or it reboots with `<on_reboot>destroy`",
    "the same, with autostart",
}
"""Rows in which a transient domain is gone where a persistent one is off."""


def _in_words(
    phase: Phase, policy: ReleasePolicy, present: Domain | None, cause: StopCause | None, *, persistent: bool
) -> str:
    """What becomes of an allocation, in the words of the documentation."""
    claim = replace(RUNNING, phase=phase)
    match judge(claim, policy, present, event(cause), was_persistent=persistent):
        case Release():
            return "released at once"
        case Rest():
            stopped = replace(claim, phase=Phase.STOPPED)
            return f"released after {patience_s(stopped, present, TRANSITION_S, GRACE_S):g} s"
        case LetGo():
            return "kept, waits for a machine"
        case Doubt():
            later = judge(claim, policy, present, event(cause), outlasted=True)
            return "kept until a second look" if releases(later) else "kept until it is undefined"
        case _ if present is None or present.state is not OFF:
            return "kept"
    over = judge(claim, policy, present, event(ENDED))
    return "kept until it is destroyed or undefined" if releases(over) else "kept until it is undefined"


def test_what_is_documented_of_a_machines_end_is_what_is_judged() -> None:
    """Every cell of the table for users; what happens to a connection is no verdict."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    rows = {
        cells[0]: cells[1:] for line in lines if len(cells := [c.strip() for c in line[2:].split("|")]) > 3
    }
    assert set(_ROWS) == set(rows) - {
        "what happens",
        "---",
        "libvirtd ends, or its connection is lost",
    }
    for what, asked in _ROWS.items():
        transient, *persistent = rows[what][:3]
        for phase, present, cause in asked:
            for policy, expected in zip((DESTROY, UNDEFINE), persistent, strict=True):
                assert _in_words(phase, policy, present, cause, persistent=True) == expected, what
            gone = None if what in _GONE_AT_ONCE else present
            if transient:
                for policy in (DESTROY, UNDEFINE):
                    assert _in_words(phase, policy, gone, cause, persistent=False) == transient, what


def test_an_allocation_waits_for_its_domain_for_a_while() -> None:
    """Only an unpinned allocation no domain was seen to use is abandoned, and only after its timeout."""
    late = timedelta(seconds=901)
    assert is_abandoned(UNUSED, DESTROY, 900, late)
    assert not is_abandoned(UNUSED, DESTROY, 900, timedelta(seconds=899))
    assert not is_abandoned(UNUSED, DESTROY, 0, late)
    assert not is_abandoned(UNUSED, NEVER, 900, late)
    assert not is_abandoned(replace(UNUSED, pinned=True), DESTROY, 900, late)
    assert not is_abandoned(RUNNING, DESTROY, 900, late)


RENUMBERED = replace(RUNNING, renumbers_to=OTHER_MAC)
NO_MAC = MacAddress.parse("52:54:00:00:00:01")


@pytest.mark.parametrize("mac", [MAC, OTHER_MAC, NO_MAC])
@pytest.mark.parametrize("policy", ReleasePolicy)
def test_a_running_machine_that_is_renumbered_keeps_its_addresses(
    policy: ReleasePolicy, mac: MacAddress
) -> None:
    """Whichever NIC it has, and also between two; if it is not renumbered, one without its NIC has released it."""
    assert judge(RENUMBERED, policy, domain(DomainState.ACTIVE, mac)) == Keep()
    without = domain(DomainState.ACTIVE, NO_MAC)
    assert releases(judge(RUNNING, policy, without, outlasted=True)) == (policy is not NEVER)


def test_a_machine_that_is_renumbered_ends_like_any_other() -> None:
    """Off with either MAC, or gone: by its pool's policy."""
    for mac in (MAC, OTHER_MAC):
        assert releases(judge(RENUMBERED, DESTROY, domain(DomainState.OFF, mac), event(ENDED)))
        assert not releases(judge(RENUMBERED, UNDEFINE, domain(DomainState.OFF, mac), event(ENDED)))
    assert releases(judge(RENUMBERED, DESTROY, domain(DomainState.OFF, NO_MAC), event(ENDED)))
    assert not releases(judge(RENUMBERED, DESTROY, domain(DomainState.OFF, NO_MAC)))
    for policy in (DESTROY, UNDEFINE):
        assert releases(judge(RENUMBERED, policy, None, event(StopCause.ENDED)))


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
@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.ENDED])
@pytest.mark.parametrize("state", DomainState)
def test_a_renumbering_is_settled_by_the_nic_the_machine_has(
    macs: tuple[MacAddress, ...], outcome: Settlement, state: DomainState, phase: Phase
) -> None:
    """Exactly one of the two MACs decides, of a machine that runs or has ended; others may come back with either."""
    known = state is DomainState.ACTIVE or (state is DomainState.OFF and phase is Phase.ENDED)
    expected = outcome if known else Settlement.KEEP
    assert settle(replace(RENUMBERED, phase=phase), domain(state, *macs)) is expected


def test_a_definition_is_no_witness_of_what_runs() -> None:
    """What only the stored definition has does not count."""
    running = domain(DomainState.ACTIVE, MAC)
    assert settle(RENUMBERED, replace(running, macs=frozenset({MAC, OTHER_MAC}))) is Settlement.ABORT


@pytest.mark.parametrize("phase", [None, *Phase])
def test_a_renumbering_without_a_machine_is_aborted(phase: Phase | None) -> None:
    """If it has ended, or never was; a machine that is missing, saved or elsewhere may have either NIC."""
    expected = Settlement.ABORT if phase in (None, Phase.ENDED) else Settlement.KEEP
    assert settle(replace(RENUMBERED, phase=phase), None) is expected
