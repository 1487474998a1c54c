"""Whose machine it is, on libvirt's `test://` driver: others with its MAC, its second life, its pauses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import update

from contract.domain_site import DEADLINE_S, Bench
from labkit.wait import until
from macbind.core import release_policy
from macbind.core.domain import NO_RUN, Domain, DomainEvent, DomainState, Phase, StopCause
from macbind.core.evidence import Evidence, Source
from macbind.core.pool import ReleasePolicy
from macbind.engine.life_signs import LifeSign
from macbind.registry import claims, evidence
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.queries import find
from macbind.registry.release import expire
from macbind.registry.tables import allocation


@pytest.fixture
def patient() -> Iterator[pytest.MonkeyPatch]:
    """Until it is undone, a tool may take an hour to write anew what it has removed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release_policy, "REDEFINED_S", 3600.0)
        yield patch


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Bench]:
    """A warden that gives machines that stop by themselves hardly any time."""
    bench = Bench(tmp_path, grace_s=2)
    yield bench
    bench.close()


def codes(bench: Bench) -> list[str]:
    """The codes of the findings there are."""
    return [one.code for one in bench.warden.findings()]


def generation(bench: Bench, name: str) -> int:
    """The generation of an allocation."""
    with bench.registry.read() as view:
        return find(view, names=[name])[0].generation


def until_user(bench: Bench, name: str, uuid: str) -> None:
    """Waits until a domain is the recorded user of an allocation."""
    until(lambda: bench.user(name) == uuid, DEADLINE_S, f"{uuid} to be the user of {name}")


# -- others with its MAC -------------------------------------------------------------------------------------


def test_a_domain_that_was_not_asked_for_is_told_and_never_the_user(bench: Bench) -> None:
    """The allocation is for a domain of a name: another with its MAC comes and goes, and changes nothing."""
    vm = bench.allocate("build-7", domain="d1")
    other = bench.driver.createXML(bench.xml("d2", vm.mac), 0)
    bench.settled()
    assert bench.user("build-7") is None
    (finding,) = bench.warden.findings()
    assert finding.code == "unallocated_mac"
    assert "'d2' (test)" in finding.message
    assert "'build-7', for the domain 'd1'" in finding.message
    uuid = str(uuid4())
    mine = bench.driver.createXML(bench.xml("d1", vm.mac, uuid=uuid), 0)
    bench.settled()
    assert bench.user("build-7") == uuid
    assert "shared_mac" in codes(bench)
    other.destroy()
    bench.settled()
    assert bench.is_held("build-7")
    assert bench.warden.findings() == []
    mine.destroy()
    bench.until_free("build-7")


def test_an_address_released_between_two_words_of_its_machine_s_end_is_used_no_more(doubting: Bench) -> None:
    """libvirt says twice that it is gone; a release between them takes it for a machine that may still run."""
    vm, uuid = doubting.allocate("vm"), str(uuid4())
    doubting.driver.createXML(doubting.xml("vm", vm.mac, uuid=uuid), 0)
    doubting.until_used("vm")
    doubting.settled()
    doubting.warden.changed("test", uuid, None)
    doubting.release("vm")
    doubting.until_in_use(vm.mac)
    doubting.warden.changed("test", uuid, None, DomainEvent(StopCause.ENDED))
    doubting.until_unused(vm.mac)


def test_a_definition_that_comes_and_goes_frees_nothing(bench: Bench) -> None:
    """It never ran: the allocation waits for its machine again, and for the one it was asked for."""
    for name, wanted in (("free", None), ("asked", "d1")):
        vm = bench.allocate(name, domain=wanted)
        defined = bench.driver.defineXML(bench.xml(wanted or "any", vm.mac))
        bench.until_used(name)
        until(partial(bench.user, name), DEADLINE_S, "the definition to be seen")
        defined.undefine()
        bench.settled()
        assert bench.is_held(name)
        assert bench.user(name) is None
    with bench.registry.read() as view:
        assert [one.domain for one in find(view, names=["free", "asked"])] == [None, "d1"]


def test_a_definition_that_went_is_waited_for_as_long_as_a_new_one(bench: Bench) -> None:
    """From then on, also by a service that has started since, and however old the allocation is."""
    vm = bench.allocate("vm")
    with bench.registry.write("test") as txn:
        txn.db.execute(update(allocation).values(created_at=allocation.c.created_at - 1000))
    defined = bench.driver.defineXML(bench.xml("vm", vm.mac))
    until(partial(bench.user, "vm"), DEADLINE_S, "the definition to be seen")
    defined.undefine()
    until(lambda: bench.user("vm") is None, DEADLINE_S, "it to be gone")
    bench.restart_watching()
    until(bench.warden._has_watched_all, DEADLINE_S, "a transition to be over")
    bench.warden.release_abandoned()
    assert bench.is_held("vm")
    assert bench.warden.findings() == []
    abandon(bench)
    bench.release_abandoned("vm")


def test_a_copy_changes_nothing_for_a_machine_that_is_off(lasting: Bench) -> None:
    """Where a pool keeps machines that are off, a copy that runs and ends meanwhile is a stranger."""
    vm, uuid = lasting.allocate("vm"), str(uuid4())
    domain = lasting.driver.defineXML(lasting.xml("vm", vm.mac, uuid=uuid))
    domain.create()
    lasting.until_used("vm")
    domain.destroy()
    lasting.settled()
    copy = lasting.driver.createXML(lasting.xml("copy", vm.mac), 0)
    lasting.settled()
    assert lasting.user("vm") == uuid
    assert codes(lasting) == ["shared_mac"]
    copy.destroy()
    lasting.settled()
    assert lasting.is_held("vm")
    assert lasting.warden.findings() == []


def test_a_copy_changes_nothing_for_a_machine_that_is_saved(bench: Bench, tmp_path: Path) -> None:
    """Nor when the machine is saved to a file, so that libvirt shows nothing of it."""
    vm, uuid = bench.allocate("vm"), str(uuid4())
    domain = bench.driver.createXML(bench.xml("vm", vm.mac, uuid=uuid), 0)
    bench.until_used("vm")
    image = tmp_path / "vm.save"
    domain.save(str(image))
    bench.settled()
    copy = bench.driver.createXML(bench.xml("copy", vm.mac), 0)
    bench.settled()
    copy.destroy()
    bench.settled()
    assert bench.user("vm") == uuid
    bench.driver.restore(str(image))
    bench.settled()
    assert bench.user("vm") == uuid
    assert bench.warden.findings() == []


def test_the_uuid_of_another_hypervisor_proves_nothing_without_the_mac(bench: Bench) -> None:
    """Everybody can read a UUID and use it elsewhere; the end of the machine frees its address nevertheless."""
    vm, uuid = bench.allocate("vm"), str(uuid4())
    domain = bench.driver.createXML(bench.xml("vm", vm.mac, uuid=uuid), 0)
    bench.until_used("vm")
    other = bench.registry.pools["farm"].plan.scheme.encode(vm.address + 100)
    thief = Domain(uuid, "thief", "away", DomainState.ACTIVE, frozenset({other}), frozenset({other}))
    bench.warden._sightings.of["away"] = type(bench.warden._sightings.of["test"])({uuid: thief}, since=0.0)
    domain.destroy()
    bench.until_free("vm")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_released_machine_that_is_saved_to_a_file_keeps_its_address(
    bench: Bench, tmp_path: Path, when: str
) -> None:
    """Released before or after the save: nothing shows it, and it may come back. Its later end is seen."""
    vm, image = bench.allocate("vm"), tmp_path / "vm.save"
    domain = bench.driver.createXML(bench.xml("vm", vm.mac), 0)
    bench.until_used("vm")
    if when == "before":
        bench.release("vm")
    domain.save(str(image))
    bench.settled()
    if when == "after":
        bench.release("vm")
    bench.restart_watching()
    assert bench.allocate("next").mac != vm.mac
    bench.driver.restore(str(image))
    bench.settled()
    assert bench.allocate("third").mac != vm.mac
    bench.driver.lookupByName("vm").destroy()
    bench.until_unused(vm.mac)
    assert bench.allocate("fourth").mac == vm.mac


# -- addresses in use ----------------------------------------------------------------------------------------


def test_a_domain_that_runs_unallocated_keeps_its_address_from_others(bench: Bench) -> None:
    """In any state, also after somebody else was given it; and the finding stays as long."""
    mac = bench.allocate("first").mac
    bench.release("first")
    stranger = bench.driver.createXML(bench.xml("stranger", mac), 0)
    bench.until_in_use(mac)
    assert bench.allocate("second").mac != mac
    stranger.suspend()
    bench.settled()
    assert bench.allocate("third").mac != mac
    assert codes(bench) == ["unallocated_mac"]
    stranger.destroy()
    bench.until_unused(mac)
    assert bench.allocate("fourth").mac == mac


def test_a_list_that_lacks_a_domain_frees_nothing(bench: Bench) -> None:
    """A domain that a list lacks without a reason is looked for later: only that look ends what it has in use."""
    mac = bench.allocate("first").mac
    bench.release("first")
    stranger = bench.driver.createXML(bench.xml("stranger", mac), 0)
    bench.until_in_use(mac)
    bench.warden.scanned("test", {}, time.monotonic())
    assert bench.is_in_use(mac)
    assert bench.allocate("second").mac != mac
    until(bench.warden.findings, DEADLINE_S, "the look that finds it again")
    assert bench.is_in_use(mac)
    stranger.destroy()
    bench.until_unused(mac)


def test_an_address_that_expires_is_passed_over_while_its_machine_runs(bench: Bench) -> None:
    """The time is the caller's word; the machine is told of, and the next one gets another address."""
    wanted = Wanted("farm", ("vm",), expires_at=datetime.now(UTC))
    vm = bench.committer.submit("test", lambda txn: allocate(txn, wanted)[0]).result()
    domain = bench.driver.createXML(bench.xml("vm", vm.mac), 0)
    bench.until_used("vm")
    bench.committer.submit("test", expire).result()
    assert not bench.is_held("vm")
    assert codes(bench) == ["unallocated_mac"]
    assert bench.allocate("next").address != vm.address
    domain.destroy()
    bench.until_unused(vm.mac)


def test_a_definition_keeps_its_address_until_it_has_run(bench: Bench) -> None:
    """It waits to be started, also for the service after a restart; what ran and is off is over."""
    vm = bench.allocate("vm")
    domain = bench.driver.defineXML(bench.xml("vm", vm.mac))
    bench.until_used("vm")
    bench.settled()
    bench.release("vm")
    bench.restart_watching()
    bench.settled()
    assert bench.allocate("second").address != vm.address
    domain.create()
    domain.destroy()
    bench.until_unused(vm.mac)
    third = bench.allocate("third")
    assert third.address == vm.address
    bench.settled()
    assert bench.user("third") is None, "what an earlier machine has left is not the user"


def test_a_machine_that_is_off_keeps_its_address_where_the_pool_says_so(lasting: Bench) -> None:
    """It may be started at any time, whatever was released."""
    vm = lasting.allocate("vm")
    domain = lasting.driver.defineXML(lasting.xml("vm", vm.mac))
    domain.create()
    lasting.until_used("vm")
    domain.destroy()
    lasting.settled()
    lasting.release("vm")
    lasting.restart_watching()
    assert lasting.allocate("second").address != vm.address
    domain.undefine()
    lasting.until_unused(vm.mac)
    assert lasting.allocate("third").address == vm.address


# -- a second life -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("same_uuid", [True, False])
def test_a_second_life_is_a_life(bench: Bench, tmp_path: Path, same_uuid: bool) -> None:
    """A name is allocated again, and its machine started again: saved it is kept, destroyed it is freed."""
    uuid = str(uuid4())
    for life in range(2):
        vm = bench.allocate("vm")
        uuid = uuid if same_uuid else str(uuid4())
        domain = bench.driver.createXML(bench.xml("vm", vm.mac, uuid=uuid), 0)
        until_user(bench, "vm", uuid)
        if life:
            image = tmp_path / "vm.save"
            domain.save(str(image))
            pool = bench.registry.pools["farm"]
            bench.registry.pools["farm"] = replace(pool, claim_timeout_s=1e-6)
            bench.settled()
            bench.warden.release_abandoned()
            assert bench.is_held("vm")
            bench.registry.pools["farm"] = pool
            bench.driver.restore(str(image))
            bench.settled()
        domain = bench.driver.lookupByName("vm")
        domain.destroy()
        bench.until_free("vm")
        bench.release("vm")


# -- what stops by itself ------------------------------------------------------------------------------------


def test_a_machine_that_shuts_down_and_starts_again_keeps_address_and_generation(bench: Bench) -> None:
    """As every installation does; destroyed, it is free at once."""
    vm = bench.allocate("vm")
    domain = bench.driver.defineXML(bench.xml("vm", vm.mac))
    domain.create()
    bench.until_used("vm")
    for restart in (False, True):
        domain.shutdown()
        bench.settled()
        assert bench.is_held("vm")
        if restart:
            bench.restart_watching()
        with bench.registry.read() as view:
            assert find(view, names=["vm"])[0].doubted_at is not None
        assert bench.warden.findings() == []
        domain.create()
        bench.settled()
        with bench.registry.read() as view:
            assert find(view, names=["vm"])[0].doubted_at is None
    assert generation(bench, "vm") == vm.generation
    domain.destroy()
    assert bench.until_free("vm") == "domain 'vm' is off"  # long before its grace would be over


def test_a_machine_that_shuts_down_for_good_is_freed_after_a_short_grace(hasty: Bench) -> None:
    """Its address is used again; a transient one cannot come back, and is freed at once."""
    vm = hasty.allocate("vm")
    domain = hasty.driver.defineXML(hasty.xml("vm", vm.mac))
    domain.create()
    hasty.until_used("vm")
    domain.shutdown()
    assert hasty.until_free("vm") == "domain 'vm' is off"
    brief = hasty.allocate("brief")
    transient = hasty.driver.createXML(hasty.xml("brief", brief.mac), 0)
    hasty.until_used("brief")
    transient.shutdown()
    assert hasty.until_free("brief") == "its domain is gone"


def test_the_grace_is_cut_where_the_pool_has_no_other_address(bench: Bench) -> None:
    """Of those that have stopped the first has to go; one that runs never."""
    pool = bench.registry.pools["farm"]
    names = []
    for number in range(2):
        names.append(f"vm-{number}")
        vm = bench.allocate(names[-1])
        domain = bench.driver.defineXML(bench.xml(names[-1], vm.mac))
        domain.create()
        bench.until_used(names[-1])
        domain.shutdown()
        bench.settled()
    bench.warden.release_abandoned()
    assert all(bench.is_held(name) for name in names)
    unseen = bench.tracker()  # the hypervisor is not connected: nobody knows whether they run again
    with bench.registry.write("test") as txn:
        now = datetime.now(UTC)
        rest = [
            Evidence(Source.RANGE, "main", address, None, "others", now, now)
            for one in pool.plan.assignable
            for address in map(IPv4Address, range(int(one.lo), int(one.hi) + 1))
        ]
        evidence.add(txn, rest)
    unseen.release_abandoned()
    assert all(bench.is_held(name) for name in names)
    bench.warden.release_abandoned()
    assert [bench.is_held(name) for name in names] == [False, True]


def test_a_definition_that_is_written_anew_keeps_address_and_generation(
    lasting: Bench, patient: pytest.MonkeyPatch
) -> None:
    """Removed and defined again by a tool, with the same UUID or another one; and renamed."""
    vm, uuid = lasting.allocate("vm"), str(uuid4())
    domain = lasting.driver.defineXML(lasting.xml("vm", vm.mac, uuid=uuid))
    domain.create()
    lasting.until_used("vm")
    domain.destroy()
    for again in (uuid, str(uuid4())):
        domain.undefine()
        lasting.settled()
        domain = lasting.driver.defineXML(lasting.xml("vm", vm.mac, uuid=again))
        lasting.settled()
        assert lasting.user("vm") == again
        domain.create()
        domain.destroy()
    lasting.settled()
    assert generation(lasting, "vm") == vm.generation
    patient.undo()
    domain.undefine()
    lasting.until_free("vm")


def test_a_nic_that_is_taken_out_and_put_back_keeps_its_address(
    lasting: Bench, patient: pytest.MonkeyPatch
) -> None:
    """By a tool that writes it anew, while the machine runs or is off; one that stays out frees it."""
    vm, uuid = lasting.allocate("vm"), str(uuid4())
    other = lasting.allocate("other")
    with_nic = lasting.xml("vm", vm.mac, other.mac, uuid=uuid)
    without = lasting.xml("vm", other.mac, uuid=uuid)
    domain = lasting.driver.defineXML(with_nic)
    domain.create()
    for name in ("vm", "other"):
        lasting.until_used(name)
    domain.destroy()
    for xml in (without, with_nic):
        lasting.driver.defineXML(xml)
        lasting.settled()
        assert bool(lasting.held("vm").doubted_at) == (xml is without)
    assert generation(lasting, "vm") == vm.generation
    patient.undo()
    lasting.driver.defineXML(without)
    assert lasting.until_free("vm") == f"domain 'vm' no longer has an interface {vm.mac}"
    assert lasting.is_held("other")
    domain.undefine()


def test_a_nic_that_only_the_definition_has_is_yet_to_run(bench: Bench) -> None:
    """A running machine gets another MAC for its next start: its end frees the address that it used, no other."""
    old, uuid = bench.allocate("old"), str(uuid4())
    domain = bench.driver.defineXML(bench.xml("vm", old.mac, uuid=uuid))
    domain.create()
    bench.until_used("old")
    bench.settled()
    new = bench.allocate("new")
    seen = bench.look(uuid)
    bench.warden.changed("test", uuid, replace(seen, macs=frozenset({old.mac, new.mac})))
    assert bench.user("new") == uuid
    off = replace(
        seen, macs=frozenset({new.mac}), live=frozenset({new.mac}), state=DomainState.OFF, run=NO_RUN
    )
    bench.warden.changed("test", uuid, off, DomainEvent(StopCause.ENDED))
    assert not bench.is_held("old")
    assert bench.is_held("new")
    runs = replace(off, state=DomainState.ACTIVE, run=seen.run + 1)
    bench.warden.changed("test", uuid, runs, DomainEvent(started=True))
    bench.warden.changed("test", uuid, off, DomainEvent(StopCause.ENDED))
    assert not bench.is_held("new")


def test_a_renamed_domain_is_the_same_machine(lasting: Bench) -> None:
    """Its new name is shown."""
    vm, uuid = lasting.allocate("vm"), str(uuid4())
    domain = lasting.driver.defineXML(lasting.xml("vm", vm.mac, uuid=uuid))
    lasting.until_used("vm")
    lasting.settled()
    seen = lasting.look(uuid)
    lasting.warden.changed("test", uuid, replace(seen, name="renamed"))
    with lasting.registry.read() as view:
        (one,) = find(view, names=["vm"])
    assert (one.domain, one.domain_uuid, one.generation) == ("renamed", uuid, vm.generation)
    domain.undefine()


# -- signs of life -------------------------------------------------------------------------------------------


def abandon(bench: Bench) -> None:
    """Has every allocation that no domain uses wait for too long."""
    bench.registry.pools["farm"] = replace(bench.registry.pools["farm"], claim_timeout_s=1e-6)
    bench.warden.release_abandoned()


def test_a_machine_that_asks_by_dhcp_is_kept_though_no_domain_is_seen(bench: Bench) -> None:
    """A container, or a bare machine: it is told of; one that is silent is released."""
    alive = bench.allocate("alive")
    bench.allocate("silent")
    bench.signs.note(LifeSign(alive.mac, alive.address, datetime.now(UTC), "DHCPREQUEST"))
    pool = bench.registry.pools["farm"]
    abandon(bench)
    bench.release_abandoned("silent")
    assert bench.is_held("alive")
    (finding,) = bench.warden.findings()
    assert finding.code == "machine_unseen"
    assert "'alive'" in finding.message
    assert "DHCPREQUEST at " in finding.message
    bench.registry.pools["farm"] = pool
    domain = bench.driver.createXML(bench.xml("alive", alive.mac), 0)
    bench.until_used("alive")
    bench.warden.release_abandoned()
    assert bench.warden.findings() == []
    domain.destroy()
    bench.until_free("alive")


def test_a_machine_that_is_heard_of_after_it_stopped_is_kept(hasty: Bench) -> None:
    """It was started where nobody watches. A sign from before it stopped keeps nothing."""
    domains = {}
    for name in ("alive", "silent"):
        vm = hasty.allocate(name)
        hasty.signs.note(LifeSign(vm.mac, vm.address, datetime.now(UTC), "DHCPREQUEST"))
        domains[name] = hasty.driver.defineXML(hasty.xml(name, vm.mac))
        domains[name].create()
        hasty.until_used(name)
    alive = hasty.held("alive")
    # It is noted before, so that it is there however late this thread goes on; its time is after the stop.
    later = datetime.now(UTC) + timedelta(hours=1)
    hasty.signs.note(LifeSign(alive.mac, alive.address, later, "DHCPREQUEST"))
    domains["alive"].shutdown()
    until(lambda: hasty.held("alive").doubted_at, DEADLINE_S, "the grace to begin")
    domains["silent"].shutdown()
    hasty.until_free("silent")
    until(lambda: codes(hasty) == ["domain_missing"], DEADLINE_S, "the finding")
    assert hasty.is_held("alive")
    domains["alive"].undefine()


def test_the_grace_of_a_machine_that_lives_is_not_cut(bench: Bench) -> None:
    """Neither if it was heard of since, nor if another controller has seen it start at that moment."""
    for name in ("heard", "started"):
        vm = bench.allocate(name)
        domain = bench.driver.defineXML(bench.xml(name, vm.mac))
        domain.create()
        bench.until_used(name)
        domain.shutdown()
        bench.settled()
    with bench.registry.read() as view:
        due = {one.name: one for one in claims.doubted(view)}
    heard = due["heard"]
    bench.signs.note(LifeSign(heard.mac, heard.address, datetime.now(UTC), "DHCPREQUEST"))
    with bench.registry.write("test") as txn:
        claims.note(txn, due["started"], Phase.RUNNING)
    bench.warden._verdicts.cut_graces(list(due.values()), "full")
    assert bench.is_held("heard")
    assert bench.is_held("started")
    assert codes(bench) == ["domain_missing"]


def test_an_old_sign_of_life_keeps_nothing(bench: Bench) -> None:
    """A machine that lives renews its lease."""
    vm = bench.allocate("vm")
    lease_s = bench.registry.pools["farm"].subnet.lease_time_s
    at = datetime.now(UTC) - timedelta(seconds=lease_s + 1)
    bench.signs.note(LifeSign(vm.mac, vm.address, at, "DHCPREQUEST"))
    abandon(bench)
    bench.release_abandoned("vm")


def test_a_lease_of_its_mac_keeps_an_allocation(bench: Bench) -> None:
    """Evidence from anywhere that its own MAC uses the address."""
    vm = bench.allocate("vm")
    now = datetime.now(UTC)
    with bench.registry.write("test") as txn:
        evidence.add(txn, [Evidence(Source.LEASE, "main", vm.address, vm.mac, "box", now, now)])

    def is_told() -> bool:
        abandon(bench)
        return codes(bench) == ["machine_unseen"]

    until(is_told, DEADLINE_S, "the finding")
    bench.warden.release_abandoned()
    assert bench.is_held("vm")


def test_a_machine_that_libvirt_has_lost_is_kept_while_it_lives(bench: Bench) -> None:
    """Missing without an event that says why, and yet heard: libvirt can be wrong."""
    vm, uuid = bench.allocate("vm"), str(uuid4())
    domain: Any = bench.driver.createXML(bench.xml("vm", vm.mac, uuid=uuid), 0)
    bench.until_used("vm")
    bench.warden.close()
    bench.destroy_unheard(domain)
    bench.signs.note(LifeSign(vm.mac, vm.address, datetime.now(UTC), "DHCPREQUEST"))
    bench.warden = bench._watch()
    bench.settled()
    until(lambda: codes(bench) == ["domain_missing"], DEADLINE_S, "the doubt")
    seen = bench.warden._sightings.of["test"]
    until(lambda: time.monotonic() - seen.missing_since[uuid] > 1, DEADLINE_S, "it to be asked again")
    assert bench.is_held("vm")
    long_ago = datetime.now(UTC) - timedelta(days=1)
    bench.signs = type(bench.signs)()
    bench.signs.note(LifeSign(vm.mac, vm.address, long_ago, "DHCPREQUEST"))
    bench.restart_watching()
    bench.until_free("vm")


@pytest.mark.parametrize("policy", [ReleasePolicy.DESTROY, ReleasePolicy.UNDEFINE])
def test_an_unreadable_domain_keeps_what_it_is_recorded_for(tmp_path: Path, policy: ReleasePolicy) -> None:
    """Whatever libvirt says of it meanwhile."""
    bench = Bench(tmp_path, policy)
    try:
        vm, uuid = bench.allocate("vm"), str(uuid4())
        bench.driver.createXML(bench.xml("vm", vm.mac, uuid=uuid), 0)
        bench.until_used("vm")
        bench.settled()
        unread = Domain(uuid, "vm", "test", DomainState.UNREAD, frozenset(), frozenset(), problem="it is odd")
        bench.warden.changed("test", uuid, unread)
        assert bench.is_held("vm")
        assert codes(bench) == ["domain_unreadable"]
        assert bench.allocate("other").address != vm.address
    finally:
        bench.close()
