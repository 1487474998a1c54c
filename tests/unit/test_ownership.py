"""Which domain counts for which allocation."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address
from uuid import UUID, uuid4, uuid5

import pytest

from macbind.core.domain import Claim, Domain, DomainState, Phase
from macbind.core.mac_address import MacAddress
from macbind.core.ownership import Standing, in_use, is_wanted, standing
from macbind.machines.launch import launch_token

MAC = MacAddress.parse("00:16:3e:01:01:03")
OTHER_MAC = MacAddress.parse("00:16:3e:01:01:04")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
USER, HEIR, STRANGER = Standing
ACTIVE, OFF, BETWEEN, HELD, MIGRATED, UNREAD = DomainState
FREE = Claim(IPv4Address("10.1.1.3"), MAC, 7, "farm", "vm", None, None, None, pinned=False, created_at=NOW)


def domain(state: DomainState, uuid: str = "a", hypervisor: str = "one", name: str = "vm") -> Domain:
    """A domain with the allocation's MAC."""
    return Domain(uuid, name, hypervisor, state, frozenset({MAC}), frozenset({MAC}))


def used(phase: Phase, uuid: str = "a") -> Claim:
    """The allocation, as used by a domain on the first hypervisor."""
    return replace(FREE, hypervisor="one", uuid=uuid, phase=phase, domain="vm")


def verdict(claim: Claim, seen: Domain, recorded: Domain | None = None, **how: bool) -> Standing:
    """What a domain is to an allocation; its hypervisor is known, and the domain newer."""
    return standing(claim, seen, recorded, **({"is_known": True, "is_newer": True} | how))


@pytest.mark.parametrize(
    ("state", "is_newer", "expected"),
    [
        (ACTIVE, False, HEIR),
        (BETWEEN, False, HEIR),
        (HELD, False, HEIR),
        (OFF, True, HEIR),
        (OFF, False, STRANGER),
        (MIGRATED, True, STRANGER),
        (UNREAD, True, STRANGER),
    ],
)
def test_an_unused_allocation_gets_the_first_domain_that_uses_its_mac(
    state: DomainState, is_newer: bool, expected: Standing
) -> None:
    """A definition counts if it is newer: one that was there before is what an earlier machine left."""
    assert verdict(FREE, domain(state), is_newer=is_newer) is expected
    elsewhere = replace(domain(state), macs=frozenset({OTHER_MAC}))
    assert verdict(FREE, elsewhere, is_newer=is_newer) is STRANGER


def test_an_allocation_for_a_domain_is_for_no_other() -> None:
    """The name counts where one was given; a launch is known by the UUID that it gives its machine."""
    assert verdict(replace(FREE, domain="d1"), domain(ACTIVE, name="d1")) is HEIR
    assert verdict(replace(FREE, domain="d1"), domain(ACTIVE, name="d2")) is STRANGER
    batch = uuid4()
    launched = replace(FREE, domain=launch_token(batch, "qemu:///system"))
    assert is_wanted(launched, domain(ACTIVE, str(uuid5(batch, "vm"))))
    assert not is_wanted(launched, domain(ACTIVE, str(uuid5(batch, "other"))))
    assert not is_wanted(launched, domain(ACTIVE, str(UUID(int=1))))
    assert is_wanted(replace(FREE, domain="look at me"), domain(ACTIVE, name="look at me"))


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("state", DomainState)
def test_the_first_right_one_keeps_it(phase: Phase, state: DomainState) -> None:
    """Whatever it does while it is there, and on whichever hypervisor another has its MAC."""
    claim = used(phase)
    recorded = domain(state)
    assert verdict(claim, recorded, recorded) is USER
    for hypervisor in ("one", "two"):
        for other in DomainState:
            assert verdict(claim, domain(other, "b", hypervisor), recorded) is STRANGER


@pytest.mark.parametrize("phase", Phase)
def test_one_that_is_gone_is_followed_only_when_it_has_ended(phase: Phase) -> None:
    """Missing is not gone: only a recorded end opens the allocation, to its own name while it may come back."""
    claim = used(phase)
    expected = HEIR if phase in (Phase.ENDED, Phase.STOPPED) else STRANGER
    assert verdict(claim, domain(ACTIVE, "b")) is expected
    assert verdict(claim, domain(ACTIVE, "b"), is_known=False) is STRANGER
    other_name = HEIR if phase is Phase.ENDED else STRANGER
    assert verdict(claim, domain(ACTIVE, "b", name="other")) is other_name


def test_a_definition_that_is_written_anew_is_the_same_machine() -> None:
    """With another UUID, and before it is started."""
    assert verdict(used(Phase.STOPPED), domain(OFF, "b")) is HEIR
    assert verdict(used(Phase.STOPPED), domain(OFF, "b"), is_newer=False) is STRANGER
    assert verdict(used(Phase.ENDED), domain(OFF, "b")) is STRANGER
    assert verdict(used(Phase.STOPPED), domain(ACTIVE, "b", "two")) is STRANGER


@pytest.mark.parametrize(
    ("there", "here", "expected"),
    [
        (None, ACTIVE, HEIR),
        (MIGRATED, ACTIVE, HEIR),
        (BETWEEN, ACTIVE, HEIR),
        (ACTIVE, ACTIVE, STRANGER),
        (HELD, ACTIVE, STRANGER),
        (OFF, ACTIVE, STRANGER),
        (None, BETWEEN, STRANGER),
        (None, OFF, STRANGER),
        (MIGRATED, HELD, STRANGER),
    ],
)
def test_a_machine_goes_to_another_hypervisor_only_as_a_whole(
    there: DomainState | None, here: DomainState, expected: Standing
) -> None:
    """The same UUID counts elsewhere once it runs there and has left its place; anybody can copy a UUID."""
    recorded = None if there is None else domain(there)
    for phase in (Phase.RUNNING, Phase.MIGRATED):
        assert verdict(used(phase), domain(here, hypervisor="two"), recorded) is expected
    other_mac = replace(domain(ACTIVE, hypervisor="two"), macs=frozenset({OTHER_MAC}))
    assert verdict(used(Phase.RUNNING), other_mac) is STRANGER


@pytest.mark.parametrize("state", DomainState)
def test_a_machine_that_is_saved_to_a_file_comes_back_where_it_was_saved(state: DomainState) -> None:
    """libvirt shows nothing of it; a copy of its UUID that runs elsewhere is no proof that it went there."""
    copy = domain(state, hypervisor="two")
    assert verdict(used(Phase.HELD), copy) is STRANGER
    assert verdict(used(Phase.HELD), domain(ACTIVE)) is USER


def test_a_copied_uuid_counts_for_nothing_while_its_hypervisor_was_not_seen() -> None:
    """The machine may well run there; it has left if it was seen to migrate, or its hypervisor is taken out."""
    copy = domain(ACTIVE, hypervisor="two")
    for phase in (Phase.RUNNING, Phase.HELD, Phase.STOPPED, Phase.ENDED):
        assert verdict(used(phase), copy, is_known=False) is STRANGER
        assert verdict(used(phase), copy, is_known=False, is_watched=False) is HEIR
    assert verdict(used(Phase.MIGRATED), copy, is_known=False) is HEIR


@pytest.mark.parametrize("keeps_off", [False, True])
@pytest.mark.parametrize("is_waiting", [False, True])
def test_a_domain_uses_its_mac_unless_its_end_is_seen(keeps_off: bool, is_waiting: bool) -> None:
    """One that is off does where the pool keeps such machines, or if it has yet to be started."""
    for state in (ACTIVE, BETWEEN, HELD):
        assert in_use(domain(state), keeps_off=keeps_off, is_waiting=is_waiting)
    assert in_use(domain(OFF), keeps_off=keeps_off, is_waiting=is_waiting) == (keeps_off or is_waiting)
    assert not in_use(domain(UNREAD), keeps_off=keeps_off, is_waiting=is_waiting)
    assert not in_use(domain(MIGRATED), keeps_off=keeps_off, is_waiting=is_waiting)
