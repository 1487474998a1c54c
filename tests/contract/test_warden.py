"""Releases with proof, on libvirt's own `test://` driver: real events, no daemon.

What only QEMU can show is in tests/lab/test_lifecycle.py.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from uuid import uuid4

import pytest
from typing_extensions import override

from contract.domain_site import DEADLINE_S, OVER_S, TRANSITION_S, URI, Bench
from labkit.wait import until
from macbind.config.tables import HypervisorSettings
from macbind.core.allocation import Renumbering
from macbind.core.domain import NO_RUN, NOTHING_SAID, Domain, DomainEvent, DomainState, Phase, StopCause
from macbind.core.findings import Finding
from macbind.core.pool import ReleasePolicy
from macbind.core.settlement import Settlement
from macbind.engine.domain_tracker import DomainTracker
from macbind.engine.domains.settling import end_renumbering
from macbind.registry import claims
from macbind.registry.queries import find
from macbind.registry.reserve import reserve
from macbind.virt.agenda import Look, left_over


def test_destroying_a_transient_domain_releases(bench: Bench) -> None:
    """Right after destroy the name holds nothing, and the reason is on record."""
    vm = bench.allocate("vm")
    domain = bench.driver.createXML(bench.xml("vm", vm.mac), 0)
    bench.until_used("vm")
    domain.destroy()
    assert bench.until_free("vm") == "its domain is gone"


def test_a_burst_of_events_is_one_look_for_findings(bench: Bench) -> None:
    """All domains are looked at for it, so it rests then; what the last event has shown is looked for later."""
    time_s, looks = [0.0], [0.0]

    class Counting(DomainTracker):
        @override
        def findings(self) -> list[Finding]:
            looks.append(time_s[0])
            time_s[0] += 1.0  # so long does it take
            return super().findings()

    here = HypervisorSettings.model_construct(uri=URI, transition_s=TRANSITION_S, grace_s=30.0)
    tracker = Counting(bench.registry, bench.committer, {"test": here}, clock=lambda: time_s[0])
    looks.clear()
    for number in range(20):
        tracker.changed("test", f"uuid-{number}", None)
    assert looks == [0.0]
    for after_s in (19.0, 1.5, 30.0):
        time_s[0] += after_s
        tracker.release_abandoned()
    assert looks == [0.0, 21.5]


def test_a_domain_with_several_interfaces_releases_all_of_them(bench: Bench) -> None:
    """Every allocation whose MAC a domain had is released with it."""
    first, second = bench.allocate("first"), bench.allocate("second")
    domain = bench.driver.createXML(bench.xml("vm", first.mac, second.mac), 0)
    bench.until_used("first")
    bench.until_used("second")
    domain.destroy()
    bench.until_free("first")
    bench.until_free("second")


def test_a_persistent_domain_that_is_off_releases_under_destroy(bench: Bench) -> None:
    """Defined, it keeps; started and destroyed, it releases though it is still defined."""
    vm = bench.allocate("vm")
    domain = bench.driver.defineXML(bench.xml("vm", vm.mac))
    bench.until_used("vm")
    bench.settled()
    assert bench.is_held("vm")
    domain.create()
    bench.settled()
    assert bench.is_held("vm")
    domain.destroy()
    assert bench.until_free("vm") == "domain 'vm' is off"


def test_a_persistent_domain_releases_when_undefined(lasting: Bench) -> None:
    """Under undefine, stopping and starting keep the address; undefining releases it."""
    vm = lasting.allocate("vm")
    domain = lasting.driver.defineXML(lasting.xml("vm", vm.mac))
    for _ in range(2):
        domain.create()
        lasting.until_used("vm")
        domain.destroy()
    domain.create()
    domain.destroy()
    assert lasting.is_held("vm")
    domain.undefine()
    lasting.until_free("vm")


def test_reboot_reset_and_pause_release_nothing(bench: Bench) -> None:
    """A domain that goes on running keeps its address through reboot, suspend and resume."""
    vm = bench.allocate("vm")
    domain = bench.driver.createXML(bench.xml("vm", vm.mac), 0)
    bench.until_used("vm")
    domain.suspend()
    bench.settled()
    domain.resume()
    bench.settled()
    domain.reboot()
    bench.settled()
    assert bench.is_held("vm")


def test_saving_and_restoring_release_nothing(bench: Bench, tmp_path: Path) -> None:
    """A saved domain leaves no trace in libvirt if it is transient, and yet keeps its address until it ends."""
    vm = bench.allocate("vm")
    domain = bench.driver.createXML(bench.xml("vm", vm.mac), 0)
    bench.until_used("vm")
    image = tmp_path / "vm.save"
    domain.save(str(image))
    bench.settled()
    assert bench.is_held("vm")
    bench.restart_watching()
    bench.settled()
    assert bench.is_held("vm")
    bench.driver.restore(str(image))
    bench.settled()
    assert bench.is_held("vm")
    bench.driver.lookupByName("vm").destroy()
    bench.until_free("vm")


def test_a_managed_save_image_keeps_the_address(bench: Bench) -> None:
    """A persistent domain with a managed save image is not off."""
    vm = bench.allocate("vm")
    domain = bench.driver.defineXML(bench.xml("vm", vm.mac))
    domain.create()
    bench.until_used("vm")
    domain.managedSave()
    bench.settled()
    bench.restart_watching()
    bench.settled()
    assert bench.is_held("vm")


def test_reverting_to_a_snapshot_releases_nothing(bench: Bench) -> None:
    """A running domain that is reverted to a snapshot of when it was off will be started again."""
    vm = bench.allocate("vm")
    domain = bench.driver.defineXML(bench.xml("vm", vm.mac))
    snapshot = domain.snapshotCreateXML("<domainsnapshot><name>before</name></domainsnapshot>")
    domain.create()
    bench.until_used("vm")
    bench.settled()
    domain.revertToSnapshot(snapshot)
    bench.settled()
    bench.restart_watching()
    bench.settled()
    assert bench.is_held("vm")
    snapshot.delete()
    domain.create()
    bench.settled()
    domain.destroy()
    bench.until_free("vm")


def test_what_ended_unseen_is_released_after_a_restart(bench: Bench) -> None:
    """A domain destroyed while nobody watched is found missing by the first scan; a living one is kept."""
    gone, alive = bench.allocate("gone"), bench.allocate("alive")
    domain = bench.driver.createXML(bench.xml("gone", gone.mac), 0)
    bench.driver.createXML(bench.xml("alive", alive.mac), 0)
    bench.until_used("gone")
    bench.until_used("alive")
    bench.warden.close()
    bench.destroy_unheard(domain)
    assert bench.is_held("gone")
    bench.warden = bench._watch()
    bench.until_free("gone")
    assert bench.is_held("alive")


@pytest.mark.invariant(10)
def test_a_shutdown_that_is_said_before_the_save_frees_nothing(doubting: Bench, tmp_path: Path) -> None:
    """libvirt 11.3 says that a domain is shut down before it says that it was saved: the first look finds nothing."""
    for name, cause in (("saved", StopCause.SAVED), ("migrated", StopCause.MIGRATED)):
        vm, uuid = doubting.allocate(name), str(uuid4())
        domain = doubting.driver.createXML(doubting.xml(name, vm.mac, uuid=uuid), 0)
        doubting.until_used(name)
        doubting.settled()
        doubting.warden.close()  # what follows is said by hand, in the order of 11.3
        doubting.destroy_unheard(domain)
        doubting.warden.changed("test", uuid, None)
        assert doubting.is_held(name)
        doubting.warden.changed("test", uuid, None, DomainEvent(cause))
        doubting.restart_watching()
        doubting.settled()
        assert doubting.is_held(name)
        assert doubting.warden.findings() == []


@pytest.mark.parametrize("cause", [StopCause.SAVED, StopCause.MIGRATED, StopCause.ENDED])
def test_a_released_machine_whose_absence_has_no_cause_yet_is_waited_for(
    doubting: Bench, cause: StopCause
) -> None:
    """Its address is kept until libvirt has said why it is gone: for good only if it may come back."""
    vm, uuid = doubting.allocate("vm"), str(uuid4())
    domain = doubting.driver.createXML(doubting.xml("vm", vm.mac, uuid=uuid), 0)
    doubting.until_used("vm")
    doubting.release("vm")
    doubting.until_in_use(vm.mac)
    doubting.settled()
    doubting.warden.close()
    doubting.destroy_unheard(domain)
    doubting.warden.changed("test", uuid, None)
    assert doubting.allocate("next").mac != vm.mac
    doubting.warden.changed("test", uuid, None, DomainEvent(cause))
    assert (doubting.allocate("third").mac == vm.mac) is (cause is StopCause.ENDED)


def test_a_shutdown_that_is_said_before_the_end_frees_at_the_end(doubting: Bench) -> None:
    """The event with the cause is believed, whatever a look before it has made of the absence."""
    vm, uuid = doubting.allocate("vm"), str(uuid4())
    doubting.driver.createXML(doubting.xml("vm", vm.mac, uuid=uuid), 0)
    doubting.until_used("vm")
    doubting.settled()
    doubting.warden.changed("test", uuid, None)
    assert doubting.is_held("vm")
    doubting.warden.changed("test", uuid, None, DomainEvent(StopCause.ENDED))
    assert doubting.until_free("vm") == "its domain is gone"


@pytest.mark.invariant(10)
def test_a_doubt_is_said_and_outlives_the_service(doubting: Bench) -> None:
    """A domain that ended unseen is in doubt: the allocation and a finding say so, and the next service goes on."""
    vm = doubting.allocate("vm")
    domain = doubting.driver.createXML(doubting.xml("vm", vm.mac), 0)
    doubting.until_used("vm")
    doubting.warden.close()
    doubting.destroy_unheard(domain)
    doubting.warden = doubting._watch()

    def doubted_at() -> datetime | None:
        with doubting.registry.read() as view:
            return find(view, names=["vm"])[0].doubted_at

    first = until(doubted_at, DEADLINE_S, "the doubt")
    (finding,) = doubting.warden.findings()
    assert finding.code == "domain_missing"
    assert "'vm'" in finding.message
    assert f"since {first:%Y-%m-%d %H:%M:%S} UTC" in finding.message
    assert re.search(r"asked for again at \d\d:\d\d:\d\d UTC", finding.message)
    assert str(vm.address) in finding.hint
    doubting.restart_watching()
    doubting.settled()
    assert doubted_at() == first
    doubting.transition_s = TRANSITION_S
    doubting.restart_watching()
    assert doubting.until_free("vm") == "its domain is gone, though no event said so"
    assert doubting.warden.findings() == []


def test_a_doubt_ends_when_the_domain_is_seen(doubting: Bench) -> None:
    """A machine that reboots by a new domain is off for a while, and nobody knows why until it runs again."""
    vm, uuid = doubting.allocate("vm"), str(uuid4())
    doubting.driver.defineXML(doubting.xml("vm", vm.mac, uuid=uuid)).create()
    doubting.until_used("vm")
    doubting.settled()
    seen = doubting.look(uuid)
    off = replace(seen, state=DomainState.OFF, run=NO_RUN)
    for state in (off, None, replace(off, state=DomainState.BETWEEN)):
        doubting.warden.changed("test", uuid, state)
        assert doubting.is_held("vm")
    assert [one.code for one in doubting.warden.findings()] == ["domain_missing"]
    again = replace(seen, run=seen.run + 1)
    doubting.warden.changed("test", uuid, again, DomainEvent(started=True, run=again.run))
    doubting.warden.changed("test", uuid, again, DomainEvent(StopCause.ENDED, run=seen.run))
    assert doubting.is_held("vm")
    assert doubting.warden.findings() == []


def test_a_domain_with_the_mac_of_one_in_doubt_does_not_inherit(doubting: Bench) -> None:
    """A copy runs and ends while the machine reboots: the address is the machine's all the time."""
    vm, uuid = doubting.allocate("vm"), str(uuid4())
    doubting.driver.defineXML(doubting.xml("vm", vm.mac, uuid=uuid)).create()
    doubting.until_used("vm")
    doubting.settled()
    seen = doubting.look(uuid)
    doubting.warden.changed("test", uuid, replace(seen, state=DomainState.OFF, run=NO_RUN))
    copy = doubting.driver.createXML(doubting.xml("copy", vm.mac), 0)
    doubting.settled()
    copy.destroy()
    doubting.settled()
    assert doubting.is_held("vm")
    with doubting.registry.read() as view:
        assert find(view, names=["vm"])[0].domain_uuid == uuid


def test_nothing_is_said_of_domains_of_a_hypervisor_that_is_away(bench: Bench, tmp_path: Path) -> None:
    """Neither a release nor a doubt, for however long it is away, whatever other hypervisors say."""
    vm = bench.allocate("vm")
    there = Domain("u", "vm", "away", DomainState.ACTIVE, frozenset({vm.mac}), frozenset({vm.mac}))
    with bench.registry.write("test") as txn:
        (claim,) = claims.of_macs(txn, [vm.mac])
        assert claims.record(txn, claim, there, Phase.RUNNING)
    bench.renumber("vm", "10.77.0.9", OVER_S)
    both = {
        "away": HypervisorSettings.model_construct(
            uri=f"test://{tmp_path}/missing.xml", transition_s=TRANSITION_S
        ),
        "test": HypervisorSettings.model_construct(uri=URI, transition_s=TRANSITION_S),
    }
    warden = DomainTracker(bench.registry, bench.committer, both)
    warden.start()
    try:
        until(lambda: all(one.connected or one.problem for one in warden.status()), DEADLINE_S, "both")
        warden.changed("test", "u", None, DomainEvent(StopCause.ENDED))
        warden.release_abandoned()
        warden.settle_renumberings()
        bench.settled()
        assert len(bench.holds("vm")) == 2
        assert warden.findings() == []
    finally:
        warden.close()


def test_an_allocation_waits_until_its_hypervisors_were_watched_for_a_while(doubting: Bench) -> None:
    """That no domain has its MAC proves nothing while a machine may be on its way from one state to another."""
    doubting.allocate("vm")
    doubting.renumber("vm", "10.77.0.9", OVER_S)
    pool = doubting.registry.pools["farm"]
    doubting.registry.pools["farm"] = replace(pool, claim_timeout_s=1e-6)
    doubting.warden.release_abandoned()
    doubting.warden.settle_renumberings()
    assert len(doubting.holds("vm")) == 2


def test_a_missing_machine_on_its_way_keeps_both_addresses(doubting: Bench) -> None:
    """A move whose time is over is not given up because its domain is missing for a moment."""
    vm, uuid = doubting.allocate("vm"), str(uuid4())
    domain = doubting.driver.createXML(doubting.xml("vm", vm.mac, uuid=uuid), 0)
    doubting.until_used("vm")
    doubting.settled()
    doubting.renumber("vm", "10.77.0.9", OVER_S)
    doubting.warden.close()
    doubting.destroy_unheard(domain)
    doubting.warden = doubting._watch()
    doubting.settle()
    assert len(doubting.holds("vm")) == 2
    doubting.transition_s = TRANSITION_S
    doubting.restart_watching()
    until(lambda: not doubting.holds("vm"), DEADLINE_S, "both to be released")


def test_what_was_said_of_a_save_survives_the_connection() -> None:
    """Of what a broken connection has left, the last word on a domain is kept if it says that it goes on."""

    def said(cause: StopCause | None = None, *, started: bool = False) -> DomainEvent:
        return DomainEvent(cause, started=started)

    saved, moved, ended, started = (
        said(StopCause.SAVED),
        said(StopCause.MIGRATED),
        said(StopCause.ENDED),
        said(started=True),
    )
    heard = [
        *(Look("a", one) for one in (started, saved, NOTHING_SAID)),
        *(Look("b", one) for one in (saved, started)),
        *(Look("c", one) for one in (saved, started, ended)),
        Look("d", moved),
        Look("e"),
    ]
    assert left_over(heard) == [Look("a", saved), Look("d", moved)]
    assert left_over([]) == []


def test_a_successor_is_not_hurt_by_its_predecessors_end(bench: Bench) -> None:
    """Two domains in turn with one MAC: the address is released when the second ends, not the first."""
    vm = bench.allocate("vm")
    first = bench.driver.createXML(bench.xml("first", vm.mac), 0)
    bench.until_used("vm")
    second = bench.driver.createXML(bench.xml("second", vm.mac), 0)
    bench.settled()
    first.destroy()
    bench.settled()
    assert bench.is_held("vm")
    second.destroy()
    bench.until_free("vm")


def test_a_released_address_is_passed_over_while_its_machine_is_there(bench: Bench) -> None:
    """Released too early: nobody gets it while the old machine runs, is paused or saved; then it is free again."""
    vm = bench.allocate("old")
    domain = bench.driver.defineXML(bench.xml("old", vm.mac))
    domain.create()
    bench.until_used("old")
    bench.settled()
    bench.release("old")
    others = [bench.allocate("at-once")]
    domain.suspend()
    bench.restart_watching()
    bench.settled()
    others.append(bench.allocate("while-paused"))
    domain.managedSave()
    bench.settled()
    others.append(bench.allocate("while-saved"))
    assert vm.address not in [one.address for one in others]
    assert ["'old'" in one.message for one in bench.warden.findings()] == [True]
    domain.create()
    domain.destroy()
    bench.until_unused(vm.mac)
    again = bench.allocate("new")
    assert again.address == vm.address
    domain.undefine()
    bench.settled()
    assert bench.is_held("new")
    machine = bench.driver.createXML(bench.xml("new", again.mac), 0)
    bench.until_used("new")
    machine.destroy()
    bench.until_free("new")


def test_an_allocation_no_domain_uses_is_released_in_time(bench: Bench) -> None:
    """Without a domain an allocation lasts as long as the pool's claim timeout; a used one lasts."""
    bench.allocate("forgotten")
    used = bench.allocate("used")
    bench.driver.createXML(bench.xml("vm", used.mac), 0)
    bench.until_used("used")
    bench.warden.release_abandoned()
    assert bench.is_held("forgotten")
    pool = bench.registry.pools["farm"]
    bench.registry.pools["farm"] = replace(pool, claim_timeout_s=1e-6)
    assert bench.release_abandoned("forgotten") == "no domain with its MAC appeared in time"
    assert bench.is_held("used")


def test_a_hypervisor_that_cannot_be_reached_releases_nothing(bench: Bench, tmp_path: Path) -> None:
    """Neither a scan nor a timeout judges while a hypervisor is away, and its problem is told."""
    bench.allocate("waiting")
    away = DomainTracker(
        bench.registry, bench.committer, {"away": HypervisorSettings(uri=f"test://{tmp_path}/missing.xml")}
    )
    away.start()
    try:
        until(lambda: away.status()[0].problem, DEADLINE_S, "the problem to be told")
        pool = bench.registry.pools["farm"]
        bench.registry.pools["farm"] = replace(pool, claim_timeout_s=1e-6)
        away.release_abandoned()
        assert bench.is_held("waiting")
        assert "does not answer" in away.status()[0].problem
    finally:
        away.close()


def test_a_stranger_with_a_mac_of_ours_is_a_finding(bench: Bench) -> None:
    """A domain whose MAC is of a pool but not allocated is told by name, and no more once it is gone."""
    mac = bench.registry.pools["farm"].plan.scheme.encode(IPv4Address("10.77.9.9"))
    domain = bench.driver.createXML(bench.xml("stranger", mac), 0)
    until(lambda: any("'stranger'" in str(one) for one in bench.warden.findings()), DEADLINE_S, "the finding")
    assert any("10.77.9.9" in str(one) for one in bench.warden.findings())
    domain.destroy()
    until(lambda: not bench.warden.findings(), DEADLINE_S, "the finding to end")


def test_two_domains_with_one_mac_are_a_finding(bench: Bench) -> None:
    """A clone that kept its MAC is told with both names."""
    vm = bench.allocate("vm")
    bench.driver.createXML(bench.xml("original", vm.mac), 0)
    bench.driver.createXML(bench.xml("clone", vm.mac), 0)

    def told() -> bool:
        return any("'clone'" in str(one) and "'original'" in str(one) for one in bench.warden.findings())

    until(told, DEADLINE_S, "the finding")


def test_a_pinned_reservation_outlives_its_domain(bench: Bench) -> None:
    """A domain may use a reservation; its end does not release it."""
    address = IPv4Address("10.77.5.5")
    pinned = bench.committer.submit("test", lambda txn: reserve(txn, "server", address)).result()
    domain = bench.driver.createXML(bench.xml("server", pinned.mac), 0)
    bench.until_used("server")
    domain.destroy()
    bench.settled()
    assert bench.is_held("server")


# -- renumberings --------------------------------------------------------------------------------------------


def test_a_machine_on_its_way_keeps_both_addresses(lasting: Bench) -> None:
    """Whatever its definition has, nothing is released and nothing is a finding before the time is over."""
    vm = lasting.allocate("vm")
    uuid = str(uuid4())
    domain = lasting.driver.defineXML(lasting.xml("vm", vm.mac, uuid=uuid))
    domain.create()
    lasting.until_used("vm")
    begun = lasting.renumber("vm", "10.77.0.9")
    for macs in ([begun.new.mac], [], [begun.old.mac, begun.new.mac], [begun.new.mac]):
        lasting.driver.defineXML(lasting.xml("vm", *macs, uuid=uuid))
        lasting.settled()
        lasting.settle()
        assert lasting.holds("vm") == [str(vm.address), "10.77.0.9"]
        assert lasting.warden.findings() == []


@pytest.mark.parametrize("way", ["destroyed", "off", "undefined"])
def test_the_end_of_a_machine_on_its_way_frees_both_addresses(bench: Bench, way: str) -> None:
    """However it ends, and whichever MAC it had."""
    vm = bench.allocate("vm")
    uuid = str(uuid4())
    domain = bench.driver.defineXML(bench.xml("vm", vm.mac, uuid=uuid))
    domain.create()
    bench.until_used("vm")
    bench.settled()
    begun = bench.renumber("vm", "10.77.0.9")
    bench.driver.defineXML(bench.xml("vm", begun.new.mac, uuid=uuid))
    bench.settled()
    if way == "undefined":
        domain.undefine()
    domain.destroy()
    until(lambda: not bench.holds("vm"), DEADLINE_S, "both to be released")


def test_a_renumbering_nobody_finished_is_settled_by_what_the_machine_has(bench: Bench) -> None:
    """With the new MAC it has arrived, with the old one it has not, with both it is kept; no definition counts."""
    seen = {}
    for number, name in enumerate(("arrived", "stayed", "both", "redefined", "nowhere"), 10):
        one = bench.allocate(name)
        begun = seen[name] = bench.renumber(name, f"10.77.0.{number}", OVER_S)
        cards = {
            "arrived": [begun.new.mac],
            "stayed": [one.mac],
            "both": [one.mac, begun.new.mac],
        }
        if name == "redefined":
            uuid = str(uuid4())
            bench.driver.defineXML(bench.xml(name, one.mac, uuid=uuid)).create()
            bench.until_used(name)
            bench.driver.defineXML(bench.xml(name, begun.new.mac, uuid=uuid))
        elif name in cards:
            bench.driver.createXML(bench.xml(name, *cards[name]), 0)
            bench.until_used(name)
    bench.settled()
    old, new = ({name: str(getattr(one, of).address) for name, one in seen.items()} for of in ("old", "new"))
    outcome = {
        "arrived": [new["arrived"]],
        "stayed": [old["stayed"]],
        "both": [old["both"], new["both"]],
        "redefined": [old["redefined"]],
        "nowhere": [old["nowhere"]],
    }

    def all_settled() -> bool:
        bench.settle()
        return {name: bench.holds(name) for name in seen} == outcome

    # That there is nothing is known when the hypervisor has been watched for long enough.
    until(all_settled, DEADLINE_S, "the moves to be settled")


def test_a_renumbering_of_a_machine_that_need_not_be_seen_is_kept(tmp_path: Path) -> None:
    """Where nothing is ever released by itself, a machine may run that nobody watches, with either MAC."""
    bench = Bench(tmp_path, ReleasePolicy.NEVER)
    try:
        bench.allocate("vm")
        bench.renumber("vm", "10.77.0.9", OVER_S)
        bench.settle()
        assert len(bench.holds("vm")) == 2
    finally:
        bench.close()


def test_a_renumbering_somebody_goes_on_with_is_not_settled(bench: Bench) -> None:
    """While libvirt was being asked, its holder came back: what libvirt said is out of date by now."""
    bench.allocate("vm")
    due = bench.renumber("vm", "10.77.0.9", OVER_S)
    bench.renumber("vm", "10.77.0.9")

    def end(seen: Renumbering) -> bool:
        return bench.committer.submit(
            "test", lambda txn: end_renumbering(txn, seen, Settlement.ABORT)
        ).result()

    assert not end(due)
    assert len(bench.holds("vm")) == 2
    again = bench.renumber("vm", "10.77.0.9", OVER_S)
    assert end(again)
    assert len(bench.holds("vm")) == 1


def test_a_nic_a_renumbering_has_lost_is_told_and_its_address_kept(doubting: Bench) -> None:
    """The machine lets go of its NIC after its renumbering was aborted; without a record of that, it is a doubt."""
    vm = doubting.allocate("vm")
    uuid = str(uuid4())
    doubting.driver.createXML(doubting.xml("vm", vm.mac, uuid=uuid), 0)
    doubting.until_used("vm")
    doubting.settled()
    seen = doubting.look(uuid)
    lost = replace(seen, macs=frozenset(), live=frozenset(), unplugged=frozenset({vm.mac}))
    doubting.warden.changed("test", uuid, lost)
    assert doubting.is_held("vm")
    assert [one.code for one in doubting.warden.findings()] == ["nic_lost"]
    assert doubting.held("vm").doubted_at is None
    doubting.warden.changed("test", uuid, replace(lost, unplugged=frozenset()))
    assert doubting.held("vm").doubted_at is not None
