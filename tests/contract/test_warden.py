"""Releases with proof, on libvirt's own `test://` driver: real events, no daemon.

`test:///default` is one hypervisor shared by the whole process, so domains have names of their own and are
removed after each test. What only QEMU can show is in tests/lab/test_lifecycle.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from uuid import uuid4

import libvirt
import pytest

from labkit.wait import until
from macbind.addressing import AddressPlan, MacAddress
from macbind.committer import Committer
from macbind.lifecycle import Settlement
from macbind.model import Allocation, Move, Pool, ReleasePolicy, Subnet
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction, Wanted
from macbind.warden import Warden, end_move

URI = "test:///default"
NETWORK = IPv4Network("10.77.0.0/16")
DEADLINE_S = 10.0


class Bench:
    """A registry and a warden on the test driver; dhcpd plays no part, so releases stop at the registry."""

    def __init__(self, directory: Path, policy: ReleasePolicy = ReleasePolicy.DESTROY) -> None:
        plan = AddressPlan.build(NETWORK, "00:16:3e", gateways=[NETWORK[1]])
        pool = Pool("farm", plan, Subnet(NETWORK), ("main",), release=policy, claim_timeout_s=900)
        self.registry = Registry(f"sqlite:///{directory / 'registry.db'}", {"farm": pool}, ["main"])
        self.committer = Committer(self.registry, lambda: None)
        self.committer.start()
        self.driver: Any = libvirt.open(URI)
        self.warden = self._watch()

    def _watch(self) -> Warden:
        warden = Warden(self.registry, self.committer, {"test": URI})
        warden.start()
        until(lambda: warden.status()[0].connected, DEADLINE_S, "the hypervisor to be scanned")
        return warden

    def restart_watching(self) -> None:
        """Stops watching and starts again, as a restart of the daemon does."""
        self.warden.close()
        self.warden = self._watch()

    def close(self) -> None:
        """Removes every domain of this test and stops."""
        for domain in self.driver.listAllDomains():
            if domain.name() != "test":
                if domain.isActive():
                    domain.destroy()
                self._gone(domain)
        self.warden.close()
        self.committer.close()
        self.registry.close()
        self.driver.close()

    @staticmethod
    def _gone(domain: Any) -> None:
        try:
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise

    def allocate(self, name: str) -> Allocation:
        """Takes the first unoccupied address."""
        return self.committer.submit("test", lambda txn: txn.allocate(Wanted("farm", (name,)))[0]).result()

    def xml(self, name: str, *macs: MacAddress, uuid: str | None = None) -> str:
        """A domain with these interfaces."""
        interfaces = "".join(
            f"<interface type='network'><mac address='{mac}'/><source network='default'/></interface>"
            for mac in macs
        )
        return (
            f"<domain type='test'><name>{name}</name><uuid>{uuid or uuid4()}</uuid><memory>1024</memory>"
            f"<os><type>hvm</type></os><devices>{interfaces}</devices></domain>"
        )

    def is_held(self, name: str) -> bool:
        """Whether the name still holds its address."""
        with self.registry.read() as view:
            return bool(view.find(names=[name]))

    def until_used(self, name: str) -> None:
        """Waits until the domain of an allocation has been seen."""

        def used() -> bool:
            with self.registry.read() as view:
                return bool(view.find(names=[name])[0].domain)

        until(used, DEADLINE_S, f"a domain of {name} to be seen")

    def move(self, name: str, to: str, deadline_s: float = 3600) -> Move:
        """Begins a move; its time may be over already."""

        def work(txn: Transaction) -> Move:
            return txn.begin_move(name, IPv4Address(to), txn.now + timedelta(seconds=deadline_s))

        return self.committer.submit("test", work).result()

    def settle(self) -> None:
        """Has moves settled whose time is over."""
        self.warden.settle_moves()

    def holds(self, name: str) -> list[str]:
        """The addresses a name has, with that it is moving to."""
        with self.registry.read() as view:
            return [str(one.address) for one in view.find() if one.name == name]

    def until_free(self, name: str) -> str:
        """Waits until the name holds nothing; returns the recorded reason."""
        until(lambda: not self.is_held(name), DEADLINE_S, f"{name} to be released")
        with self.registry.read() as view:
            return str(view.history(name=name)[0].detail["reason"])

    def settled(self) -> None:
        """Waits until everything libvirt said so far has been handled: a later event has."""
        name = f"marker-{uuid4().hex[:8]}"
        self.allocate(name)
        with self.registry.read() as view:
            mac = view.find(names=[name])[0].mac
        domain = self.driver.createXML(self.xml(name, mac), 0)
        self.until_used(name)
        domain.destroy()
        self.until_free(name)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A warden whose pool releases on destroy."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[Bench]:
    """A warden whose pool releases on undefine."""
    bench = Bench(tmp_path, ReleasePolicy.UNDEFINE)
    yield bench
    bench.close()


def test_destroying_a_transient_domain_releases(bench: Bench) -> None:
    """Right after destroy the name holds nothing, and the reason is on record."""
    vm = bench.allocate("vm")
    domain = bench.driver.createXML(bench.xml("vm", vm.mac), 0)
    bench.until_used("vm")
    domain.destroy()
    assert bench.until_free("vm") == "its domain is gone"


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
    domain.destroy()
    assert bench.is_held("gone")
    bench.warden = bench._watch()
    bench.until_free("gone")
    assert bench.is_held("alive")


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


def test_a_released_and_taken_again_address_is_a_new_matter(bench: Bench) -> None:
    """Released too early and taken again: the old machine's end does not hurt the new holder."""
    vm = bench.allocate("old")
    domain = bench.driver.createXML(bench.xml("old", vm.mac), 0)
    bench.until_used("old")
    bench.committer.submit("test", lambda txn: txn.release(name="old")).result()
    with bench.registry.write("test") as txn:
        txn.confirm("main", txn.dirty("main", 10))
    again = bench.allocate("new")
    assert again.address == vm.address
    bench.restart_watching()
    domain.destroy()
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
    bench.warden.release_abandoned()
    assert bench.until_free("forgotten") == "no domain with its MAC appeared in time"
    assert bench.is_held("used")


def test_a_hypervisor_that_cannot_be_reached_releases_nothing(bench: Bench, tmp_path: Path) -> None:
    """Neither a scan nor a timeout judges while a hypervisor is away, and its problem is told."""
    bench.allocate("waiting")
    away = Warden(bench.registry, bench.committer, {"away": f"test://{tmp_path}/missing.xml"})
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
    """A domain may use a pinned reservation; its end does not release it."""
    address = IPv4Address("10.77.5.5")
    pinned = bench.committer.submit("test", lambda txn: txn.reserve("server", address)).result()
    domain = bench.driver.createXML(bench.xml("server", pinned.mac), 0)
    bench.until_used("server")
    domain.destroy()
    bench.settled()
    assert bench.is_held("server")


# -- moves ---------------------------------------------------------------------------------------------------


def test_a_machine_on_its_way_keeps_both_addresses(lasting: Bench) -> None:
    """Whatever its definition has, nothing is released and nothing is a finding before the time is over."""
    vm = lasting.allocate("vm")
    uuid = str(uuid4())
    domain = lasting.driver.defineXML(lasting.xml("vm", vm.mac, uuid=uuid))
    domain.create()
    lasting.until_used("vm")
    move = lasting.move("vm", "10.77.0.9")
    for macs in ([move.new.mac], [], [move.old.mac, move.new.mac], [move.new.mac]):
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
    move = bench.move("vm", "10.77.0.9")
    bench.driver.defineXML(bench.xml("vm", move.new.mac, uuid=uuid))
    bench.settled()
    if way == "undefined":
        domain.undefine()
    domain.destroy()
    until(lambda: not bench.holds("vm"), DEADLINE_S, "both to be released")


def test_a_move_nobody_finished_is_settled_by_what_the_machine_has(bench: Bench) -> None:
    """With the new MAC it has arrived, with the old one it has not, with both it is kept; no definition counts."""
    seen = {}
    for number, name in enumerate(("arrived", "stayed", "both", "redefined", "nowhere"), 10):
        one = bench.allocate(name)
        move = seen[name] = bench.move(name, f"10.77.0.{number}", -1)
        cards = {
            "arrived": [move.new.mac],
            "stayed": [one.mac],
            "both": [one.mac, move.new.mac],
        }
        if name == "redefined":
            uuid = str(uuid4())
            bench.driver.defineXML(bench.xml(name, one.mac, uuid=uuid)).create()
            bench.until_used(name)
            bench.driver.defineXML(bench.xml(name, move.new.mac, uuid=uuid))
        elif name in cards:
            bench.driver.createXML(bench.xml(name, *cards[name]), 0)
            bench.until_used(name)
    bench.settled()
    bench.settle()
    old, new = (
        {name: str(getattr(move, of).address) for name, move in seen.items()} for of in ("old", "new")
    )
    assert {name: bench.holds(name) for name in seen} == {
        "arrived": [new["arrived"]],
        "stayed": [old["stayed"]],
        "both": [old["both"], new["both"]],
        "redefined": [old["redefined"]],
        "nowhere": [old["nowhere"]],
    }


def test_a_move_of_a_machine_that_need_not_be_seen_is_kept(tmp_path: Path) -> None:
    """Where nothing is ever released by itself, a machine may run that nobody watches, with either MAC."""
    bench = Bench(tmp_path, ReleasePolicy.NEVER)
    try:
        bench.allocate("vm")
        bench.move("vm", "10.77.0.9", -1)
        bench.settle()
        assert len(bench.holds("vm")) == 2
    finally:
        bench.close()


def test_a_move_somebody_goes_on_with_is_not_settled(bench: Bench) -> None:
    """While libvirt was being asked, its mover came back: what libvirt said is out of date by now."""
    bench.allocate("vm")
    due = bench.move("vm", "10.77.0.9", -1)
    bench.move("vm", "10.77.0.9")

    def end(move: Move) -> bool:
        return bench.committer.submit("test", lambda txn: end_move(txn, move, Settlement.ABORT)).result()

    assert not end(due)
    assert len(bench.holds("vm")) == 2
    again = bench.move("vm", "10.77.0.9", -1)
    assert end(again)
    assert len(bench.holds("vm")) == 1


def test_a_card_a_move_has_lost_is_told_and_its_address_kept(bench: Bench) -> None:
    """The machine lets go of its card after its move was given up; without a record of that, it is its end."""
    vm = bench.allocate("vm")
    uuid = str(uuid4())
    bench.driver.createXML(bench.xml("vm", vm.mac, uuid=uuid), 0)
    bench.until_used("vm")
    bench.settled()
    seen = bench.warden.watchers["test"].look(uuid)
    assert seen is not None
    lost = replace(seen, macs=frozenset(), live=frozenset(), unplugged=frozenset({vm.mac}))
    bench.warden.changed("test", uuid, lost, None)
    assert bench.is_held("vm")
    assert [one.code for one in bench.warden.findings()] == ["card_lost"]
    bench.warden.changed("test", uuid, replace(lost, unplugged=frozenset()), None)
    assert not bench.is_held("vm")
