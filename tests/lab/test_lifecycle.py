"""The whole life of a machine on real libvirt and QEMU, with a real dhcpd; and release right after destroy."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from labkit.farm import Farm
from labkit.guest import BOOT_DEADLINE_S, REBOOT_PORT, Guest, boot, greeting, reboot, wait_ping
from labkit.net import Lab
from labkit.virt import Console, Libvirtd
from labkit.wait import until
from macbind.client.client import Client
from macbind.config.tables import TRANSITION_S
from macbind.core.allocation import Allocation, State
from macbind.core.errors import AddressInUse

pytestmark = pytest.mark.timeout(600)

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
lease_time_s = 3600

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]

[pool.lasting]
subnet = "10.0.0.0/8"
ranges = ["10.1.2.3-10.1.2.250"]
release = "undefine"

[pool.brief]
subnet = "10.0.0.0/8"
ranges = ["10.1.3.3-10.1.3.250"]
claim_timeout_s = 1
"""
SOON_S = 60.0


@dataclass
class Site:
    """A farm whose macbind watches a libvirtd of the same lab."""

    lab: Lab
    libvirtd: Libvirtd
    farm: Farm
    client: Client
    guest: Guest

    def start(self, name: str, pool: str = "farm", *, persistent: bool = False) -> tuple[Allocation, Console]:
        """Allocates an address and boots a guest with its MAC, until it answers."""
        one = self.client.allocate(pool, name)
        return one, self.boot(name, one, persistent=persistent)

    def boot(self, name: str, one: Allocation, *, persistent: bool = False, client_id: str = "") -> Console:
        """Boots a guest with an allocation's MAC, until it answers a ping at the allocation's address."""
        xml = self.guest.template(name=name, mac=str(one.mac), client_id=client_id or None)
        console = boot(self.libvirtd, xml, persistent=persistent)
        wait_ping(self.lab, one.address, console=console)
        self.until_used(one.name)
        return console

    def until_used(self, name: str) -> None:
        """Waits until macbind has seen the domain of an allocation."""
        until(lambda: self.client.get(name).domain_uuid, SOON_S, f"the domain of {name} to be seen")

    def holds(self, name: str) -> bool:
        """Whether the name still has its address."""
        return any(one.name == name for one in self.client.list())

    def until_free(self, one: Allocation, within_s: float = SOON_S) -> str:
        """Waits until an address can be allocated again and dhcpd knows nothing of it; returns the reason."""

        def is_free() -> bool:
            return not list(self.client.list(address=one.address, released=True))

        until(is_free, within_s, f"{one.address} to be free")
        assert self.farm.dhcpd.omshell_host(str(one.mac)) is None
        return str(self.client.history(name=one.name)[0].detail["reason"])

    def settled(self) -> None:
        """Waits until macbind has handled all that libvirt said so far.

        A look that no cause was given for comes after all events: so the last that is waited for is such a look, at
        a later definition.
        """
        marker = self.client.allocate("farm", f"marker-{threading.get_ident()}")
        xml = self.guest.template(name=marker.name, mac=str(marker.mac))
        self.libvirtd.virsh("define", "/dev/stdin", stdin=xml)
        self.until_used(marker.name)
        self.libvirtd.virsh("undefine", marker.name)
        until(lambda: not self.client.get(marker.name).domain_uuid, SOON_S, f"{marker.name} to be unused")
        self.client.release(marker.name)


@pytest.fixture(scope="module")
def guest() -> Guest:
    """The guest all tests boot."""
    return Guest.build()


@pytest.fixture(scope="module")
def module_site(guest: Guest) -> Iterator[Site]:
    """One lab with dhcpd, libvirtd and macbind for the tests that share it."""
    with tempfile.TemporaryDirectory(prefix="mb-") as name, Lab() as lab:
        directory = Path(name)
        (directory / "virt").mkdir()
        (directory / "farm").mkdir()
        with Libvirtd(lab, directory / "virt") as libvirtd:
            # The grace of a machine that stops by itself must not be over before a slow test starts it again.
            watched = f'{POOLS}\n[hypervisor.local]\nuri = "{libvirtd.uri}"\ngrace_s = 600\n'
            with Farm(lab, directory / "farm", pools=watched) as farm, farm.client(30) as client:
                until(
                    lambda: client.status().hypervisors[0].connected,
                    SOON_S,
                    "macbind to watch the hypervisor",
                )
                yield Site(lab, libvirtd, farm, client, guest)
                assert farm.stop() == 0
                assert '"level": "critical"' not in farm.log()
                assert "Traceback" not in farm.log()


@pytest.fixture
def site(module_site: Site) -> Iterator[Site]:
    """The shared lab, without any guest or allocation of an earlier test."""
    yield module_site
    for name in module_site.libvirtd.virsh("list", "--all", "--name").split():
        if name in module_site.libvirtd.virsh("list", "--name").split():
            module_site.libvirtd.virsh("destroy", name)
        if name in module_site.libvirtd.virsh("list", "--all", "--name").split():
            module_site.libvirtd.virsh("undefine", name, "--managed-save")
    for one in module_site.client.list():
        module_site.client.release(one.name)
    module_site.settled()  # until the end of a machine is seen, its address is passed over


def test_the_story_of_a_farm(site: Site) -> None:
    """Allocate, start, DHCP, ping, TCP, virsh destroy; the address is free and the next machine has it."""
    first, _ = site.start("hub")
    assert str(first.address) in greeting(site.lab, first.address)
    site.libvirtd.virsh("destroy", "hub")
    assert site.until_free(first) == "its domain is gone"
    second, _ = site.start("next")
    assert (second.address, second.mac) == (first.address, first.mac)
    assert second.generation > first.generation
    assert str(second.address) in greeting(site.lab, second.address)


def test_ten_machines_at_once(site: Site) -> None:
    """Ten machines have the ten announced addresses; after their end the pool is as full as before."""
    free = site.client.pools()[1].free
    group = site.client.allocate_group("farm", "crowd", 10)
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda one: site.boot(one.name, one), group))
    for one in group:
        assert str(one.address) in greeting(site.lab, one.address)
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda one: site.libvirtd.virsh("destroy", one.name), group))
    for one in group:
        site.until_free(one)
    site.settled()
    assert site.client.pools()[1].free == free


def test_nothing_is_freed_while_the_machine_goes_on(site: Site) -> None:
    """Reboot from inside, reset, pause and resume leave the machine its address."""
    one, console = site.start("vm")
    reboot(site.lab, one.address, console)
    site.libvirtd.virsh("reset", "vm")
    wait_ping(site.lab, one.address, console=console)
    site.libvirtd.virsh("suspend", "vm")
    site.settled()
    site.libvirtd.virsh("resume", "vm")
    wait_ping(site.lab, one.address, console=console)
    site.settled()
    assert site.client.get("vm").address == one.address


def test_a_crash_that_restarts_frees_nothing(site: Site) -> None:
    """A machine whose kernel panics and starts anew has its address again, and never lost it."""
    one = site.client.allocate("farm", "vm")
    xml = site.guest.template(name="vm", mac=str(one.mac)).replace("panic=1", "panic=1 unknown_nmi_panic")
    console = boot(site.libvirtd, xml)
    wait_ping(site.lab, one.address, console=console)
    site.until_used("vm")
    boots = console.boots()
    site.libvirtd.virsh("inject-nmi", "vm")
    until(lambda: console.leases() > boots, BOOT_DEADLINE_S, "the machine to come back")
    assert "panic" in console.text()
    site.settled()
    assert site.client.get("vm").generation == one.generation
    wait_ping(site.lab, one.address, console=console)


def test_a_saved_machine_keeps_its_address(site: Site) -> None:
    """Saved to a file a transient domain is gone from libvirt; restored it goes on with its address."""
    one, console = site.start("vm")
    image = str(site.libvirtd.directory / "vm.save")
    site.libvirtd.virsh("save", "vm", image)
    site.settled()
    assert site.holds("vm")
    site.farm.stop()
    site.farm.start()
    site.farm.wait_serving()
    site.settled()
    assert site.holds("vm")
    site.libvirtd.virsh("restore", image)
    wait_ping(site.lab, one.address, console=console)
    site.settled()
    site.libvirtd.virsh("destroy", "vm")
    site.until_free(one)


def test_a_persistent_machine_can_be_stopped_and_started(site: Site) -> None:
    """In a pool that releases on undefine, destroy and start keep the address; undefine frees it."""
    one, _ = site.start("vm", "lasting", persistent=True)
    site.libvirtd.virsh("destroy", "vm")
    site.settled()
    assert site.holds("vm")
    site.libvirtd.virsh("start", "vm")
    wait_ping(site.lab, one.address)
    site.libvirtd.virsh("managedsave", "vm")
    site.settled()
    site.libvirtd.virsh("undefine", "vm", "--managed-save")
    assert site.until_free(one) == "its domain is gone"


def test_an_installation_that_ends_by_a_reboot_keeps_its_address(site: Site) -> None:
    """As virt-install makes them: the guest reboots, its domain ends, and somebody starts it again."""
    one = site.client.allocate("farm", "vm")
    xml = site.guest.template(name="vm", mac=str(one.mac))
    xml = xml.replace("<on_reboot>restart</on_reboot>", "<on_reboot>destroy</on_reboot>")
    console = boot(site.libvirtd, xml, persistent=True)
    wait_ping(site.lab, one.address, console=console)
    site.until_used("vm")
    site.lab.open_socket(str(one.address), REBOOT_PORT).close()
    until(lambda: "vm" not in site.libvirtd.virsh("list", "--name").split(), 60, "the domain to end")
    site.settled()
    assert site.holds("vm")
    assert "domain not seen since" in site.farm.macbind("show", "vm")
    assert site.client.status().findings == ()
    site.libvirtd.virsh("start", "vm")
    wait_ping(site.lab, one.address, console=console)
    site.settled()
    assert site.client.get("vm").generation == one.generation
    assert site.client.get("vm").doubted_at is None
    site.libvirtd.virsh("destroy", "vm")
    assert site.until_free(one) == "domain 'vm' is off"


def test_a_definition_that_a_tool_writes_anew_is_the_same_machine(site: Site) -> None:
    """Undefined and defined again, renamed, started with another UUID: address and generation stay."""
    one, _ = site.start("vm", "lasting", persistent=True)
    site.libvirtd.virsh("destroy", "vm")
    xml = site.guest.template(name="vm", mac=str(one.mac))
    # In one program, as a tool does it: a definition that is gone is waited for a few seconds only.
    site.libvirtd.virsh("undefine vm; define /dev/stdin", stdin=xml)
    site.settled()
    site.libvirtd.virsh("domrename", "vm", "renamed")
    until(lambda: site.client.get("vm").domain == "renamed", SOON_S, "the new name")
    site.libvirtd.virsh("start", "renamed")
    wait_ping(site.lab, one.address)
    site.settled()
    assert site.client.get("vm").generation == one.generation
    site.libvirtd.virsh("destroy", "renamed")
    site.libvirtd.virsh("undefine", "renamed")
    assert site.until_free(one) == "its domain is gone"


def test_an_address_is_not_given_away_while_its_old_machine_is_there(site: Site) -> None:
    """Released too early: also while the machine is paused and answers nobody; after its end the next one has it."""
    one, _ = site.start("old")
    site.libvirtd.virsh("suspend", "old")
    site.client.release("old")
    other = site.client.allocate("farm", "other")
    assert other.address != one.address
    with pytest.raises(AddressInUse) as refused:
        site.client.allocate("farm", "wanted", address=one.address)
    assert refused.value.details["holder"] == "old"
    found = until(lambda: site.client.status().findings, SOON_S, "the finding")
    assert [finding.code for finding in found] == ["unallocated_mac"]
    site.farm.stop()
    site.farm.start()
    site.farm.wait_serving()
    assert site.client.allocate("farm", "after-a-restart").address != one.address
    site.libvirtd.virsh("destroy", "old")
    until(lambda: not site.client.status().findings, SOON_S, "the finding to end")
    assert site.client.allocate("farm", "next").address == one.address


def test_odd_definitions_hold_nobody_up(site: Site) -> None:
    """Deeply nested, with prefixes bound to nothing, and thirty of two megabytes: a destroy frees as ever."""
    odd = {
        "deep": "<e:x xmlns:e='urn:odd'>" + "<e:x>" * 150 + "</e:x>" * 150 + "</e:x>",
        "unbound": "<e:x xmlns:e='urn:odd'><zz:y/></e:x>",
    }
    large = "<e:x xmlns:e='urn:odd'>" + "<e:y a='b'>text</e:y>" * 100_000 + "</e:x>"
    odd |= {f"large-{number}": large for number in range(30)}
    for number, (name, metadata) in enumerate(odd.items()):
        xml = site.guest.template(name=name, mac=f"52:54:00:00:00:{number:02x}")
        file = site.libvirtd.directory / "odd.xml"
        file.write_text(xml.replace("<memory", f"<metadata>{metadata}</metadata><memory", 1))
        site.libvirtd.virsh("define", str(file))
    site.farm.stop()
    site.farm.start()
    site.farm.wait_serving()
    one, _ = site.start("vm")
    site.libvirtd.virsh("destroy", "vm")
    site.until_free(one, 20)
    assert site.client.status().findings == ()
    assert site.client.status().hypervisors[0].domains == len(odd)


def test_a_managed_save_is_no_end(site: Site) -> None:
    """A persistent domain with a managed save image is off in name only, also for a pool that frees on destroy."""
    one, _ = site.start("vm", persistent=True)
    site.libvirtd.virsh("managedsave", "vm")
    site.settled()
    assert site.holds("vm")
    site.libvirtd.virsh("start", "vm")
    wait_ping(site.lab, one.address)
    site.libvirtd.virsh("destroy", "vm")
    assert site.until_free(one) == "domain 'vm' is off"


def test_a_machine_that_migrates_away_keeps_its_address(site: Site) -> None:
    """The source's stop frees nothing, though the target is no hypervisor that macbind watches."""
    one, _ = site.start("vm")
    elsewhere = site.libvirtd.directory.with_name("elsewhere")
    elsewhere.mkdir()
    with Libvirtd(site.lab, elsewhere) as target:
        way = f"unix://{elsewhere}/migration.sock"
        site.libvirtd.virsh("migrate", "--live", "vm", target.uri, "--migrateuri", way, deadline_s=300)
        assert "vm" not in site.libvirtd.virsh("list", "--all", "--name").split()
        site.settled()
        assert site.holds("vm")
        wait_ping(site.lab, one.address)
        site.farm.stop()
        site.farm.start()
        site.farm.wait_serving()
        site.settled()
        assert site.holds("vm")
        way = f"unix://{site.libvirtd.directory}/migration.sock"
        target.virsh("migrate", "--live", "vm", site.libvirtd.uri, "--migrateuri", way, deadline_s=300)
    site.settled()
    wait_ping(site.lab, one.address)
    site.libvirtd.virsh("destroy", "vm")
    site.until_free(one)


@pytest.mark.invariant(10)
def test_libvirtd_killed_frees_nothing(site: Site) -> None:
    """With libvirtd killed nothing is freed; when it is back, what is missing is doubted, then freed."""
    dead, _ = site.start("dead")
    alive, _ = site.start("alive")
    pid = site.libvirtd.guest_pid("dead")
    site.libvirtd.kill()
    until(lambda: not site.client.status().hypervisors[0].connected, SOON_S, "macbind to notice")
    assert site.holds("dead")
    assert site.holds("alive")
    until(lambda: site.client.status().findings, SOON_S, "the finding")
    os.kill(pid, signal.SIGKILL)
    site.libvirtd.start()
    until(lambda: site.client.status().hypervisors[0].connected, SOON_S, "macbind to be connected again")
    missing = until(
        lambda: [one for one in site.client.status().findings if one.code == "domain_missing"],
        SOON_S,
        "the doubt",
    )
    assert ["'dead'" in one.message for one in missing] == [True]
    assert site.client.get("dead").doubted_at is not None
    assert "domain not seen since" in site.farm.macbind("show", "dead")
    assert "not seen" not in site.farm.macbind("show", "alive")
    assert site.until_free(dead, TRANSITION_S + SOON_S) == "its domain is gone, though no event said so"
    assert site.client.status().findings == ()
    assert site.holds("alive")
    wait_ping(site.lab, alive.address)
    site.libvirtd.virsh("destroy", "alive")
    site.until_free(alive)


def test_a_registry_that_is_lost_is_recovered_from_what_there_is(site: Site) -> None:
    """dhcpd's bindings and the domains say which address is whose; a machine goes on, and its end frees it."""
    one, console = site.start("hub")
    bound = site.client.allocate("lasting", "bound")
    assert site.farm.stop() == 0
    for path in site.farm.directory.glob("registry.db*"):
        path.unlink()
    site.farm.start()
    site.farm.wait_serving()
    plan = {str(one.address): "hub", str(bound.address): f"host-{str(bound.address).replace('.', '-')}"}

    def planned() -> dict[str | None, str]:
        return {row.address: row.name for row in site.client.recover().rows}

    until(lambda: planned() == plan, SOON_S, "the machine and both bindings to be seen")
    assert list(site.client.list()) == []
    assert "hub" in site.farm.macbind("recover", status=1)
    assert "2 new. Done." in site.farm.run("recover", "--apply", "--reason", "lost").stderr
    assert "Nothing is seen that the registry does not know." in site.farm.run("recover").stderr
    found = {again.name: again for again in site.client.list()}
    assert {str(again.address): name for name, again in found.items()} == plan
    assert all(again.state is State.BOUND for again in found.values())
    assert min(again.generation for again in found.values()) > max(one.generation, bound.generation)
    reboot(site.lab, one.address, console)
    wait_ping(site.lab, one.address, console=console)
    site.until_used("hub")
    site.libvirtd.virsh("destroy", "hub")
    site.until_free(one)


def test_a_hot_unplugged_card_frees_its_address(site: Site) -> None:
    """A card plugged in while the machine runs is seen; put back it keeps its address, left out it frees it."""
    _, console = site.start("vm")
    second = site.client.allocate("farm", "second-card")
    card = site.libvirtd.directory / "card.xml"
    card.write_text(
        f"<interface type='bridge'><mac address='{second.mac}'/><source bridge='{site.lab.bridge}'/>"
        "<model type='virtio'/></interface>"
    )
    site.libvirtd.virsh("attach-device", "vm", str(card), "--live")
    site.until_used("second-card")
    wait_ping(site.lab, second.address, console=console)  # a guest lets go of a card only once it has seen it
    # In one program, as a tool does it: a card that is gone is waited for a few seconds only.
    site.libvirtd.virsh(f"detach-device vm {card} --live; attach-device vm {card} --live")
    wait_ping(site.lab, second.address, console=console)
    site.settled()
    assert site.client.get("second-card").generation == second.generation
    assert site.client.get("second-card").doubted_at is None
    site.libvirtd.virsh("detach-device", "vm", str(card), "--live")
    assert "no longer has an interface" in site.until_free(second)
    assert site.holds("vm")


def test_a_clone_that_kept_its_mac_is_reported(site: Site) -> None:
    """Two domains that run with one MAC are told with both names; the address stays until both are gone."""
    one, _ = site.start("original")
    boot(site.libvirtd, site.guest.template(name="copy", mac=str(one.mac)))

    def told() -> bool:
        return any("'copy'" in str(f) and "'original'" in str(f) for f in site.client.status().findings)

    until(told, SOON_S, "the finding")
    until(lambda: "'copy'" in site.farm.log(), SOON_S, "its line in the log")
    site.libvirtd.virsh("destroy", "original")
    site.settled()
    assert site.holds("original")
    site.libvirtd.virsh("destroy", "copy")
    site.until_free(one)


def test_a_stranger_of_our_scheme_is_reported(site: Site) -> None:
    """A domain with a MAC of a pool that nobody allocated is told by name."""
    boot(site.libvirtd, site.guest.template(name="stranger", mac="00:16:3e:01:01:77"))
    until(lambda: any("'stranger'" in str(f) for f in site.client.status().findings), SOON_S, "the finding")
    assert "10.1.1.119" in site.farm.macbind("status", status=1)


def test_clones_with_one_client_id_have_their_own_addresses(site: Site) -> None:
    """Two machines cloned from one image send one DHCP client identifier and get their own addresses."""
    group = site.client.allocate_group("farm", "twins", 2)
    for one in group:
        site.boot(one.name, one, client_id="00deadbeef00112233445566")
    for one in group:
        assert str(one.address) in greeting(site.lab, one.address)


def test_an_allocation_without_a_machine_ends(site: Site) -> None:
    """An allocation whose domain never appears is released after its pool's claim timeout."""
    one = site.client.allocate("brief", "nobody")
    assert site.until_free(one) == "no domain with its MAC appeared in time"
