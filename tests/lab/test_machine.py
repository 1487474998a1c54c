"""Machines on real libvirt, QEMU and dhcpd: launched as one thing, gone as one thing, whatever fails."""

import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, Unpack
from uuid import uuid4

import icmplib
import pytest
from typing_extensions import override

from labkit.farm import Farm
from labkit.guest import Guest, boot, create_disk, greeting
from labkit.net import Lab
from labkit.netns import run_command
from labkit.virt import Libvirtd
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.allocation import Allocation
from macbind.core.errors import (
    Conflict,
    DhcpdUnavailable,
    HypervisorUnavailable,
    InvalidRequest,
    MacbindError,
    MachineFailed,
    NotFound,
    PoolExhausted,
)
from macbind.machines import (
    How,
    Machine,
    Progress,
    Step,
    Wait,
    destroy,
    destroy_group,
    launch,
    launch_many,
    list_machines,
    machine,
    machines,
)
from macbind.machines.launch import launch_token
from macbind.virt.connection import Hypervisor, run_event_loop
from macbind.virt.domain_xml import macs_in
from macbind.virt.spoofing import check_bound

pytestmark = pytest.mark.timeout(600)

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
lease_time_s = 3600

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.8"]
"""
SOON_S = 60.0
HASTY_S = 8.0
"""Patience for what never comes: longer than a busy machine takes for what does."""
FILTERS = Path("/etc/libvirt/nwfilter")
T = TypeVar("T")


@dataclass
class Site:
    """A lab with dhcpd, macbind, libvirtd, and a storage pool `images` with a template's disk."""

    lab: Lab
    libvirtd: Libvirtd
    farm: Farm
    client: Client
    guest: Guest
    images: Path
    told: list[Progress] = field(default_factory=list)

    @property
    def disk(self) -> Path:
        """The template's disk."""
        return self.images / "web.qcow2"

    @property
    def diskless(self) -> str:
        """A template without disk, and with a MAC that must never be seen."""
        return self.guest.template(mac="52:54:00:0d:0d:0d")

    @property
    def template(self) -> str:
        """A template with a disk."""
        return self.guest.disk_template(self.disk, mac="52:54:00:0d:0d:0d")

    def inside(self, function: Callable[[], T]) -> T:
        """Runs code where the machines can be pinged from."""
        return self.lab.server.call(function)

    def launch(self, template: str | Path, name: str | None = None, **how: Unpack[How]) -> Machine:
        """Launches a machine at this site."""
        settings: How = {"uri": self.libvirtd.uri, "on_progress": self.told.append, **how}
        return self.inside(lambda: launch(self.client, template, "farm", name=name, **settings))

    def launch_many(self, template: str, group: str, count: int, **how: Unpack[How]) -> list[Machine]:
        """Launches several."""
        settings: How = {"uri": self.libvirtd.uri, "on_progress": self.told.append, **how}
        return self.inside(lambda: launch_many(self.client, template, "farm", group, count, **settings))

    def start_vm(self, *arguments: str) -> "subprocess.Popen[str]":
        """Starts `macbind vm` inside."""
        return subprocess.Popen(
            self.lab.server.argv([*self.farm.command, "vm", *arguments]),
            env={
                **os.environ,
                "MACBIND_SOCKET": str(self.farm.socket),
                "LIBVIRT_DEFAULT_URI": self.libvirtd.uri,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def vm(self, *arguments: str, status: int = 0) -> str:
        """Runs `macbind vm` inside; returns what it printed, or what it complained of."""
        process = self.start_vm(*arguments)
        out, err = process.communicate(timeout=120)
        assert process.returncode == status, out + err
        return err if status else out

    def domains(self) -> list[str]:
        """Names of all domains."""
        return self.libvirtd.virsh("list", "--all", "--name").split()

    def volumes(self) -> list[str]:
        """Names of the files and volumes in the pool beside the template's disk."""
        listed = {
            line.split()[0] for line in self.libvirtd.virsh("vol-list", "images").splitlines() if line.strip()
        }
        return sorted((listed | {one.name for one in self.images.iterdir()}) - {self.disk.name})

    def leftovers(self) -> dict[str, Any]:
        """Everything a machine may leave behind, except what is released and waits for dhcpd."""
        return {
            "domains": self.domains(),
            "volumes": self.volumes(),
            "allocations": [one.name for one in self.client.list()],
        }

    def nothing_left(self) -> bool:
        """Whether there is no domain, no clone, no allocation, and no host in dhcpd."""
        hosts = [
            address
            for number in range(3, 9)
            for address in [f"10.1.1.{number}"]
            if self.farm.dhcpd.omshell_host(f"00:16:3e:01:01:{number:02x}") is not None
        ]
        return not any((*self.leftovers().values(), hosts, list(self.client.list(released=True))))

    def until_free(self) -> None:
        """Waits until macbind has seen the end of all machines, too: until then their addresses are passed over."""
        until(
            lambda: not any(one.used_by_others for one in self.client.pools()),
            SOON_S,
            "every address to be unused",
        )

    def sweep(self) -> None:
        """Removes what a failed test has left."""
        for name in self.domains():
            self.lab.run(["virsh", "-c", self.libvirtd.uri, "destroy", name], check=False)
            self.lab.run(["virsh", "-c", self.libvirtd.uri, "undefine", name], check=False)
        for name in self.volumes():
            (self.images / name).unlink(missing_ok=True)
        for one in self.client.list():
            self.client.release(one.name)

    def fails(self, kind: type[MacbindError], template: str | Path, **how: Unpack[How]) -> MacbindError:
        """Launches a machine that must fail in this way and leave nothing; returns the error."""
        self.until_free()
        with pytest.raises(kind) as caught:
            self.launch(template, "doomed", **how)
        assert type(caught.value) is kind
        assert self.nothing_left()
        return caught.value


@pytest.fixture(scope="module")
def module_site() -> Iterator[Site]:
    """One lab for the tests that share it; its macbind watches the hypervisor."""
    run_event_loop()  # its thread must not be born inside, where it would outlive the lab
    with tempfile.TemporaryDirectory(prefix="mb-") as name, Lab() as lab:
        directory = Path(name)
        for part in ("virt", "farm", "images"):
            (directory / part).mkdir()
        with Libvirtd(lab, directory / "virt") as libvirtd:
            watched = f'{POOLS}\n[hypervisor.local]\nuri = "{libvirtd.uri}"\n'
            with Farm(lab, directory / "farm", pools=watched) as farm, farm.client(60) as client:
                site = Site(lab, libvirtd, farm, client, Guest.build(), directory / "images")
                create_disk(site.disk, size="8M")
                libvirtd.virsh("pool-define-as", "images", "dir", "--target", str(site.images))
                libvirtd.virsh("pool-start", "images")
                yield site
                assert farm.defects() == []


@pytest.fixture
def site(module_site: Site) -> Iterator[Site]:
    """The shared lab; the test must leave nothing in it. If it does, it fails, and the next one does not."""
    module_site.told.clear()
    yield module_site
    try:
        until(module_site.nothing_left, SOON_S, "nothing to be left")
        module_site.until_free()
    except TimeoutError:
        left = module_site.leftovers()
        module_site.sweep()
        pytest.fail(f"the test left {left}")


def fingerprint(path: Path) -> str:
    """What a file holds."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def foreign(site: Site, name: str, mac: str | None = None) -> Iterator[None]:
    """A domain that somebody else started."""
    boot(site.libvirtd, site.guest.template(name=name, mac=mac))
    yield
    assert name in site.domains()
    site.libvirtd.virsh("destroy", name)


# -- the way of a machine ------------------------------------------------------------------------------------


def test_a_machine_lives_as_long_as_its_block(site: Site) -> None:
    """It answers at its address by ping and TCP; when the block ends, nothing is left and the address is free."""

    def block() -> Machine:
        with machine(
            site.client,
            site.diskless,
            "farm",
            name="web",
            uri=site.libvirtd.uri,
            wait=Wait(tcp=22),
            on_progress=site.told.append,
        ) as vm:
            assert str(vm.address) in greeting(site.lab, vm.address)
            xml = site.libvirtd.virsh("dumpxml", "web")
            assert macs_in(xml) == {vm.mac}
            assert str(vm.uuid) in xml
            assert site.client.get("web").address == vm.address
            assert site.farm.dhcpd.omshell_host(str(vm.mac)) is not None
        return vm

    first = site.inside(block)
    assert site.nothing_left()
    ways = [Step.ALLOCATED, Step.STARTED, Step.CONNECTED, Step.DESTROYED]
    assert [one.step for one in site.told][:4] == ways
    assert all(one.machine == "web" and one.seconds >= 0 for one in site.told)
    site.until_free()
    second = site.launch(site.diskless, "next", wait=Wait(ping=False))
    assert (second.address, second.mac) == (first.address, first.mac)
    destroy(site.client, second)


def test_the_blocks_own_error_counts(site: Site) -> None:
    """What goes wrong inside the block is raised, and the machine is gone."""

    def block() -> None:
        with machine(site.client, site.diskless, "farm", uri=site.libvirtd.uri, wait=Wait(ping=False)) as vm:
            assert vm.domain in site.domains()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        site.inside(block)
    assert site.nothing_left()


def test_a_linked_clone(site: Site) -> None:
    """The disk is an overlay over the original in its pool, deleted in the end; the original does not change."""
    before = fingerprint(site.disk)
    vm = site.launch(site.template, "web")
    [clone] = vm.clones
    assert site.volumes() == ["macbind-web-vdb"]
    info = json.loads(run_command(["qemu-img", "info", "-U", "--output=json", clone.path]).stdout)
    assert (info["format"], info["backing-filename"], info["backing-filename-format"]) == (
        "qcow2",
        str(site.disk),
        "qcow2",
    )
    xml = site.libvirtd.virsh("domblklist", "web")
    assert clone.path in xml
    assert str(site.disk) not in xml
    done = destroy(site.client, vm)
    assert (done.domain, done.clones, done.already_gone) == (True, (clone.path,), False)
    assert site.nothing_left()
    assert fingerprint(site.disk) == before
    again = destroy(site.client, vm)
    assert again.already_gone


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_a_full_copy(site: Site, kind: str) -> None:
    """It has the original's format and content and depends on nothing; the original may be a new file."""
    original = site.images / f"original.{kind}"
    create_disk(original, image_format=kind, size="1M")
    run_command(["qemu-io", "-f", kind, "-c", "write -P 0x5a 0 64k", str(original)])
    template = site.guest.disk_template(original, image_format=kind)
    vm = site.launch(template, "web", clone="full", wait=Wait(ping=False))
    [clone] = vm.clones
    info = json.loads(run_command(["qemu-img", "info", "-U", "--output=json", clone.path]).stdout)
    assert info["format"] == kind
    assert "backing-filename" not in info
    run_command(["qemu-img", "compare", "-U", "-f", kind, "-F", kind, str(original), clone.path])
    destroy(site.client, vm)
    site.libvirtd.virsh("vol-delete", original.name, "images")


def test_an_existing_domain_is_a_template(site: Site) -> None:
    """A domain that is off gives its definition and stays as it is; one that runs cannot be copied."""
    site.libvirtd.virsh("define", "/dev/stdin", stdin=site.template.replace("<name>template", "<name>golden"))
    before = site.libvirtd.virsh("dumpxml", "golden")
    vm = site.launch("golden", "web")
    assert site.libvirtd.virsh("dumpxml", "golden") == before
    assert macs_in(site.libvirtd.virsh("dumpxml", "web")) == {vm.mac}
    destroy(site.client, vm)
    site.libvirtd.virsh("start", "golden")
    with pytest.raises(Conflict, match="'golden' runs"):
        site.launch("golden", "web")
    site.libvirtd.virsh("destroy", "golden")
    site.libvirtd.virsh("undefine", "golden")


def test_a_volume_disk_and_a_second_card(site: Site) -> None:
    """A disk given as a volume is cloned; the card on the chosen network gets the address, others new MACs."""
    tap = "<interface type='ethernet'><mac address='52:54:00:0d:0d:0e'/><target dev='tap-template'/></interface>"
    template = (
        site.template.replace("<disk type='file'", "<disk type='volume'")
        .replace(f"file='{site.disk}'", f"pool='images' volume='{site.disk.name}'")
        .replace("<interface type='bridge'>", f"{tap}<interface type='bridge'>")
    )
    vm = site.launch(template, "web", network=site.lab.bridge)
    xml = site.libvirtd.virsh("dumpxml", "web")
    assert "macbind-web-vdb" in xml
    assert "52:54:00:0d:0d" not in xml
    assert vm.mac in macs_in(xml)
    assert len(macs_in(xml)) == 2
    destroy(site.client, vm)


def test_several_at_once(site: Site) -> None:
    """All run at the same time with their own addresses and disks; the block's end takes all of them.

    dhcpd gives no machine its address before all have been started.
    """

    def tell(progress: Progress) -> None:
        site.told.append(progress)
        steps = [one.step for one in site.told]
        if progress.step is Step.ALLOCATED:
            site.farm.dhcpd.freeze()
        elif steps.count(Step.STARTED) == 3 and progress.step is Step.STARTED:
            site.farm.dhcpd.thaw()

    def block() -> None:
        with machines(
            site.client,
            site.template,
            "farm",
            "speck",
            3,
            uri=site.libvirtd.uri,
            on_progress=tell,
        ) as vms:
            assert [vm.name for vm in vms] == ["speck-1", "speck-2", "speck-3"]
            assert len({vm.address for vm in vms}) == 3
            assert len({vm.uuid for vm in vms}) == 3
            for vm in vms:
                assert str(vm.address) in greeting(site.lab, vm.address)
            assert site.volumes() == ["macbind-speck-1-vdb", "macbind-speck-2-vdb", "macbind-speck-3-vdb"]

    try:
        site.inside(block)
    finally:
        site.farm.dhcpd.thaw()
    assert site.nothing_left()
    steps = [one.step for one in site.told]
    started = [index for index, step in enumerate(steps) if step is Step.STARTED]
    assert max(started) < steps.index(Step.PINGED), "they were launched one after the other"


def answers_ipv6(site: Site, vm: Machine) -> bool:
    """Whether a machine answers a ping at its link-local address."""
    site.lab.run(["sysctl", "-q", "-w", "net.ipv6.conf.br0.disable_ipv6=0"])
    target = f"{vm.allocation.link_local}%br0"
    return bool(site.inside(lambda: icmplib.ping(target, count=1, timeout=1, privileged=True)).is_alive)


def test_anti_spoofing(site: Site) -> None:
    """With libvirt's filters the machine boots, answers, and is bound to its address by the hypervisor."""
    assert "clean-traffic" in site.fails(InvalidRequest, site.diskless, anti_spoofing=True).message
    defined: list[str] = []

    def define(name: str) -> None:
        for used in re.findall(r"filterref filter='([^']+)'", (FILTERS / f"{name}.xml").read_text()):
            if used not in defined:
                define(used)
        site.libvirtd.virsh("nwfilter-define", str(FILTERS / f"{name}.xml"))
        defined.append(name)

    define("clean-traffic")
    vm = site.launch(site.diskless, "web", anti_spoofing=True)
    assert f"<parameter name='IP' value='{vm.address}'/>" in site.libvirtd.virsh("dumpxml", "web")
    assert "macbind-clean-traffic" in site.libvirtd.virsh("nwfilter-binding-list")
    until(lambda: answers_ipv6(site, vm), SOON_S, "the machine to answer at its link-local address")
    destroy(site.client, vm)
    bridge, standard_filter = "<interface type='bridge'>", "<filterref filter='clean-traffic'/>"
    standard = site.diskless.replace(bridge, bridge + standard_filter)
    vm = site.launch(standard, "web")
    assert not any(answers_ipv6(site, vm) for _ in range(5)), (
        "the standard filter lets IPv6 through: macbind's is not needed"
    )
    destroy(site.client, vm)
    macvtap = site.diskless.replace("<interface type='bridge'>", "<interface type='direct'>").replace(
        "<source bridge='br0'/>", "<source dev='br0' mode='bridge'/>"
    )
    error = site.fails(InvalidRequest, macvtap, anti_spoofing=True)
    assert "no tap device to filter" in error.message
    forward = "<network><name>lan</name><forward mode='bridge'><interface dev='br0'/></forward></network>"
    site.libvirtd.virsh("net-create", "/dev/stdin", stdin=forward)
    hidden = macvtap.replace("type='direct'", "type='network'").replace(
        "dev='br0' mode='bridge'", "network='lan'"
    )
    assert "filterref is not supported" in site.fails(InvalidRequest, hidden, anti_spoofing=True).message
    site.libvirtd.virsh("net-destroy", "lan")
    vm = site.launch(site.diskless, "web", wait=Wait(ping=False))
    with Hypervisor(site.libvirtd.uri) as hypervisor, pytest.raises(MachineFailed, match="is not filtered"):
        check_bound(hypervisor, "web", vm.mac)
    destroy(site.client, vm)
    for name in ("macbind-clean-traffic", "macbind-no-ipv6-spoofing"):
        site.libvirtd.virsh("nwfilter-undefine", name)
    for name in reversed(defined):
        site.libvirtd.virsh("nwfilter-undefine", name)


# -- what goes wrong -----------------------------------------------------------------------------------------


def test_a_bridge_that_does_not_exist(site: Site) -> None:
    """libvirt's own words, and nothing left."""
    error = site.fails(MachineFailed, site.guest.disk_template(site.disk, "nobr0"))
    assert "nobr0" in error.message
    assert error.details["step"] == "start"


def test_a_machine_that_stays_silent(site: Site) -> None:
    """A port that never opens, and a boot that takes too long, end at the deadline."""
    error = site.fails(MachineFailed, site.template, wait=Wait(ping=True, tcp=99, timeout_s=40))
    assert "take connections at 10.1.1.3:99 within 40 s: it has its address" in error.message
    assert error.details["cause"] == "silent"
    assert Step.PINGED in [one.step for one in site.told]
    error = site.fails(MachineFailed, site.template, wait=Wait(timeout_s=0.2))
    assert "answer a ping at 10.1.1.3 within 0.2 s" in error.message
    assert error.details["log"] == "/var/log/libvirt/qemu/doomed.log"
    assert error.details["address"] == "10.1.1.3"
    assert "doomed.log" in error.hint


def test_a_machine_that_ends_by_itself(site: Site) -> None:
    """Nobody waits for one that has switched itself off."""
    panics = site.diskless.replace("panic=1", "panic=-1 rdinit=/nothing").replace(
        "<on_reboot>restart", "<on_reboot>destroy"
    )
    error = site.fails(MachineFailed, panics, wait=Wait(timeout_s=200))
    assert "stopped by itself" in error.message
    assert "<on_reboot>destroy</on_reboot>" in error.hint


def test_a_machine_that_drops_pings(site: Site) -> None:
    """A port alone is enough when it is asked for; one that is asked for pings as well is told to be silent."""
    drops = site.guest.template(cmdline="sysctl.net.ipv4.icmp_echo_ignore_all=1")
    vm = site.launch(drops, "web", wait=Wait(tcp=22))
    assert str(vm.address) in greeting(site.lab, vm.address)
    assert not site.lab.ping(str(vm.address), 1)
    destroy(site.client, vm)
    error = site.fails(MachineFailed, drops, wait=Wait(timeout_s=40))
    assert "answer a ping at 10.1.1.3 within 40 s: it has its address" in error.message
    assert "--tcp" in error.hint


def test_a_machine_that_never_asks(site: Site) -> None:
    """A system that does not come up has sent nothing, and the error says so."""
    error = site.fails(
        MachineFailed, site.diskless.replace("panic=1", "panic=0 rdinit=/nothing"), wait=Wait(timeout_s=8)
    )
    assert "it never asked for its address by DHCP" in error.message
    assert error.details["cause"] == "never_asked"


def test_a_machine_that_another_server_answered(site: Site) -> None:
    """With another DHCP server on the network the error names the address the machine has got there."""
    other = ["--bind-interfaces", "--dhcp-range=10.0.0.77,10.0.0.77,1h", "--dhcp-authoritative", "--port=0"]
    here = [
        "--interface=br0",
        "--dhcp-leasefile=/dev/null",
        "--keep-in-foreground",
        "--pid-file",
        "--user=root",
    ]
    log = site.images.parent / "dnsmasq.log"
    server = site.lab.popen(["dnsmasq", "--conf-file=/dev/null", *other, *here], output=log)

    def tell(progress: Progress) -> None:
        if progress.step is Step.ALLOCATED:
            site.farm.dhcpd.freeze()

    try:
        with pytest.raises(MachineFailed) as caught:
            site.launch(site.diskless, "web", wait=Wait(timeout_s=40), on_progress=tell)
    finally:
        server.kill_now()
        site.farm.dhcpd.thaw()
    assert "it has 10.0.0.77, so another DHCP server answered it" in caught.value.message
    assert caught.value.details["cause"] == "other_server"


def test_a_machine_that_reboots_is_waited_for(site: Site) -> None:
    """A reboot before the first answer, as at a first boot, does not end the launch."""
    rebooted = threading.Event()

    def tell(progress: Progress) -> None:
        if progress.step is Step.STARTED:
            site.libvirtd.virsh("reset", "web")
            rebooted.set()

    vm = site.launch(site.diskless, "web", on_progress=tell)
    assert rebooted.is_set()
    assert str(vm.address) in greeting(site.lab, vm.address)
    destroy(site.client, vm)


def test_a_machine_is_kept_to_be_looked_at(site: Site) -> None:
    """With --keep one that does not answer stays with disk and address; the hint says how to end it."""
    with pytest.raises(MachineFailed) as caught:
        site.launch(site.template, "web", wait=Wait(tcp=99, timeout_s=2), keep=True)
    assert caught.value.details["kept"] == ["web"]
    assert "`macbind vm destroy web`" in caught.value.hint
    assert site.leftovers() == {"domains": ["web"], "volumes": ["macbind-web-vdb"], "allocations": ["web"]}
    assert destroy(site.client, "web", uri=site.libvirtd.uri).domain


def test_nics_on_several_networks_are_not_guessed(site: Site) -> None:
    """Which NIC gets the address must be said; nothing is allocated before."""
    nat = "<interface type='network'><source network='default'/></interface><interface type='bridge'>"
    template = site.diskless.replace("<interface type='bridge'>", nat)
    error = site.fails(InvalidRequest, template)
    assert "2 NICs on different networks" in error.message
    assert "--network" in error.hint
    assert site.told == []


@pytest.mark.parametrize(
    ("kind", "said", "change"),
    [
        (InvalidRequest, "not domain XML", lambda xml: xml.replace("</domain>", "")),
        (InvalidRequest, "machine", lambda xml: xml.replace("machine='q35'", "machine='nonsense'")),
        (InvalidRequest, "domain type", lambda xml: xml.replace("type='qemu'", "type='nonsense'")),
        (
            InvalidRequest,
            "no network interface",
            lambda xml: re.sub(r"<interface.*</interface>", "", xml, flags=re.DOTALL),
        ),
        (InvalidRequest, "neither a file nor a volume", lambda xml: xml.replace("file='/", "dir='/")),
        (
            InvalidRequest,
            "does not exist, or is in no active",
            lambda xml: xml.replace("web.qcow2", "wep.qcow2"),
        ),
        (NotFound, "no domain 'nothing'", lambda _: "nothing"),
        (InvalidRequest, "cannot be read", lambda _: Path("/nowhere/x.xml")),
    ],
)
def test_a_bad_template(
    site: Site, kind: type[MacbindError], said: str, change: Callable[[str], str | Path]
) -> None:
    """Is the caller's fault, whoever notices, and nothing is left."""
    error = site.fails(kind, change(site.template))
    assert said in error.message
    assert error.hint


def test_a_bad_request(site: Site) -> None:
    """Is refused before anything is made."""
    site.fails(InvalidRequest, site.diskless, clone="half")
    for uri in ("no uri", "qemu", "qemu+pigeon:///system"):
        site.fails(InvalidRequest, site.diskless, uri=uri)
    site.fails(InvalidRequest, site.diskless, network="br9")
    with pytest.raises(InvalidRequest):
        site.launch(site.diskless, "not a name")
    with pytest.raises(InvalidRequest):
        site.launch_many(site.diskless, "speck", 0)
    with pytest.raises(InvalidRequest):
        Wait(tcp=65_536)
    with pytest.raises(InvalidRequest):
        Wait(timeout_s=float("nan"))
    with pytest.raises(PoolExhausted):
        site.launch_many(site.diskless, "speck", 7)
    with pytest.raises(NotFound):
        site.inside(lambda: launch(site.client, site.diskless, "no-such-pool", uri=site.libvirtd.uri))


def test_a_disk_outside_of_all_pools(site: Site) -> None:
    """The hint is a command that mends it."""
    with tempfile.TemporaryDirectory(prefix="mb-") as name:
        disk = create_disk(Path(name) / "web.qcow2")
        error = site.fails(InvalidRequest, site.guest.disk_template(disk))
        assert str(disk) in error.message
        command = error.hint.split("`")[1]
        run_command(shlex.split(command))
        vm = site.launch(site.guest.disk_template(disk), "web", wait=Wait(ping=False))
        assert vm.clones[0].path == f"{name}/macbind-web-vdb"
        destroy(site.client, vm)
        assert [one.name for one in Path(name).iterdir()] == ["web.qcow2"]
        pool = shlex.split(command)[shlex.split(command).index("pool-create-as") + 1]
        site.libvirtd.virsh("pool-destroy", pool)


def test_one_that_fails_takes_the_others_with_it(site: Site) -> None:
    """All or none: a clone's name that is taken ends the launch of all; what took it is not touched."""
    site.libvirtd.virsh("vol-create-as", "images", "macbind-speck-2-vdb", "1M")
    with pytest.raises(Conflict, match="macbind-speck-2-vdb"):
        site.launch_many(site.template, "speck", 3)
    assert site.leftovers() == {"domains": [], "volumes": ["macbind-speck-2-vdb"], "allocations": []}
    done = destroy(site.client, "speck-2", uri=site.libvirtd.uri)
    assert done.clones == (str(site.images / "macbind-speck-2-vdb"),)


def test_dhcpd_down(site: Site) -> None:
    """Nothing is started; the address is released as soon as dhcpd is back."""
    site.farm.dhcpd.stop()
    with site.farm.client(HASTY_S) as hasty, pytest.raises(DhcpdUnavailable) as caught:
        site.inside(lambda: launch(hasty, site.template, "farm", name="web", uri=site.libvirtd.uri))
    assert caught.value.hint == "Launch again when dhcpd is back."
    assert site.leftovers() == {"domains": [], "volumes": [], "allocations": []}
    site.farm.dhcpd.start()
    site.farm.dhcpd.wait_ready()
    site.farm.wait_serving()
    until(site.nothing_left, SOON_S, "the address to be free")


def test_what_could_not_be_undone_is_told(site: Site) -> None:
    """With dhcpd gone in the middle of a launch, the error says that the address is not free yet."""
    waits = threading.Event()

    def tell(progress: Progress) -> None:
        if progress.step is Step.STARTED:
            site.farm.dhcpd.stop()
            waits.set()

    with site.farm.client(HASTY_S) as hasty, pytest.raises(MachineFailed) as caught:
        site.inside(
            lambda: launch(
                hasty,
                site.template,
                "farm",
                name="web",
                uri=site.libvirtd.uri,
                wait=Wait(timeout_s=0.5),
                on_progress=tell,
            )
        )
    assert waits.is_set()
    assert "10.1.1.3 is not released yet" in caught.value.details["undo"][0]
    assert any("10.1.1.3 is not released yet" in note for note in caught.value.__notes__)
    assert site.leftovers() == {"domains": [], "volumes": [], "allocations": []}
    site.farm.dhcpd.start()
    site.farm.dhcpd.wait_ready()
    site.farm.wait_serving()


def test_an_observer_that_fails(site: Site) -> None:
    """Its error is raised, and everything is undone."""

    def tell(progress: Progress) -> None:
        if progress.step is Step.STARTED:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        site.launch(site.template, "web", on_progress=tell)
    assert site.nothing_left()


def test_libvirtd_down_or_frozen(site: Site) -> None:
    """Is a peer's fault, told within a deadline; nothing was allocated. Destroying then releases nothing."""
    vm = site.launch(site.template, "web", wait=Wait(ping=False))
    site.libvirtd.freeze()
    with pytest.raises(HypervisorUnavailable, match="does not answer within"):
        site.launch(site.diskless, "other")
    site.libvirtd.thaw()
    site.libvirtd.stop()
    with pytest.raises(HypervisorUnavailable):
        site.launch(site.diskless, "other")
    for one in (vm, "web"):
        with pytest.raises(HypervisorUnavailable):
            destroy(site.client, one, uri=site.libvirtd.uri)
    assert [one.name for one in site.client.list()] == ["web"]
    site.libvirtd.start()
    assert "web" in site.domains()
    assert destroy(site.client, "web", uri=site.libvirtd.uri).domain


# -- names, crashes, and others ------------------------------------------------------------------------------


KILLED_AT = """
import os, signal, sys
from macbind import Client
from macbind.machines import launch
with Client() as client:
    launch(client, sys.argv[1], "farm", name="web/1", uri=os.environ["LIBVIRT_DEFAULT_URI"], channels=["nocloud"],
        on_progress=lambda it: it.step == sys.argv[2] and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.parametrize("step", [Step.ALLOCATED, Step.CLONED, Step.SEEDED, Step.STARTED, Step.PINGED])
def test_a_launch_killed_at_any_step_leaves_a_trace(site: Site, step: Step) -> None:
    """No domain without its allocation, no allocation that a destroy by name does not find, with every disk."""
    done = subprocess.run(
        site.lab.server.argv([sys.executable, "-c", KILLED_AT, site.template, step]),
        env={**os.environ, "MACBIND_SOCKET": str(site.farm.socket), "LIBVIRT_DEFAULT_URI": site.libvirtd.uri},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = site.leftovers()
    assert left["allocations"] == ["web/1"]
    assert bool(left["domains"]) == (step in (Step.STARTED, Step.PINGED))
    ended = destroy(site.client, "web/1", uri=site.libvirtd.uri)
    assert len(ended.clones) == len(left["volumes"])
    assert site.nothing_left()


def test_a_machine_is_not_started_without_its_allocation(site: Site) -> None:
    """Its address was released while its disks were copied, and is another's: nothing starts."""

    def tell(progress: Progress) -> None:
        if progress.step is Step.CLONED:
            site.client.release("web")
            site.client.allocate("farm", "other", address="10.1.1.3")

    with pytest.raises(NotFound):
        site.launch(site.template, "web", on_progress=tell)
    assert site.leftovers() == {"domains": [], "volumes": [], "allocations": ["other"]}
    site.client.release("other")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_launch_leaves_nothing(site: Site, number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C and a supervisor's SIGTERM undo what was begun before the command ends."""
    file = tmp_path / "web.xml"
    file.write_text(site.template)
    process = site.start_vm("launch", str(file), "farm", "web", "--tcp", "99")
    until(lambda: "web" in site.domains(), SOON_S, "the machine to be started")
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode not in (0, None)
    assert site.nothing_left()


def test_a_crashed_launch_is_cleared_by_name(site: Site, tmp_path: Path) -> None:
    """After a SIGKILL another process finds domain, clone and address by the name alone."""
    file = tmp_path / "web.xml"
    file.write_text(site.template)
    process = site.start_vm("launch", str(file), "farm", "web/1", "--tcp", "99")
    until(site.domains, SOON_S, "the machine to be started")
    process.kill()
    process.communicate(timeout=120)
    with pytest.raises(Conflict, match="already"):
        site.launch(site.diskless, "web/1")
    done = destroy(site.client, "web/1", uri=site.libvirtd.uri)
    assert done.domain
    assert len(done.clones) == 1
    assert site.nothing_left()
    assert destroy(site.client, "web/1", uri=site.libvirtd.uri).already_gone


def test_clones_are_found_when_the_domain_is_gone(site: Site) -> None:
    """A machine that ended by itself is cleared by its name: its disk, and its address if it has one still."""
    vm = site.launch(site.template, "web", wait=Wait(ping=False))
    site.libvirtd.virsh("destroy", "web")
    done = destroy(site.client, "web", uri=site.libvirtd.uri)
    assert not done.domain
    assert done.clones == (vm.clones[0].path,)


def test_two_launches_of_one_name(site: Site) -> None:
    """Exactly one wins; the other is refused and takes nothing from it."""

    def attempt(_: int) -> Machine | MacbindError:
        try:
            return site.launch(site.template, "web")
        except MacbindError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(attempt, range(4)))
    [vm] = [one for one in results if isinstance(one, Machine)]
    assert {type(one) for one in results} == {Machine, Conflict}
    assert str(vm.address) in greeting(site.lab, vm.address)
    assert site.leftovers() == {"domains": ["web"], "volumes": ["macbind-web-vdb"], "allocations": ["web"]}
    destroy(site.client, vm)


def test_a_late_destroy_cannot_hurt_a_successor(site: Site) -> None:
    """A machine that was destroyed is destroyed again: the next one of its name goes on with disk and address."""
    first = site.launch(site.template, "web", wait=Wait(ping=False))
    destroy(site.client, first)
    site.until_free()
    second = site.launch(site.template, "web")
    assert second.address == first.address
    assert destroy(site.client, first).already_gone
    assert str(second.address) in greeting(site.lab, second.address)
    assert site.leftovers() == {"domains": ["web"], "volumes": ["macbind-web-vdb"], "allocations": ["web"]}
    destroy(site.client, second)


class Overtaken(Client):
    """A client that something overtakes: it happens right after one of the client's first looks.

    Args:
        site: Where.
        look: After which.
        meanwhile: What happens.
    """

    def __init__(self, site: Site, look: str, meanwhile: Callable[[], object]) -> None:
        super().__init__(site.farm.socket)
        self._look, self._meanwhile = look, [meanwhile]

    def _overtake(self, look: str) -> None:
        if look == self._look and self._meanwhile:
            self._meanwhile.pop()()

    @override
    def get(self, name: str) -> Allocation:
        try:
            return super().get(name)
        finally:
            self._overtake("get")

    @override
    def list(self, **how: Any) -> Iterator[Allocation]:
        yield from super().list(**how)
        self._overtake("list")


def test_a_destroy_by_name_cannot_hurt_a_successor(site: Site) -> None:
    """The name is released and allocated anew between the look and the destroy: the next machine goes on."""
    first = site.launch(site.template, "web", wait=Wait(ping=False))
    following: list[Machine] = []

    def succeed() -> None:
        destroy(site.client, first)
        following.append(site.launch(site.template, "web"))

    with (
        Overtaken(site, "get", succeed) as client,
        pytest.raises(Conflict, match="'web' was released and allocated anew meanwhile"),
    ):
        destroy(client, "web", uri=site.libvirtd.uri)
    (second,) = following
    assert str(second.address) in greeting(site.lab, second.address)
    assert site.leftovers() == {"domains": ["web"], "volumes": ["macbind-web-vdb"], "allocations": ["web"]}
    destroy(site.client, second)


def test_a_destroy_of_nothing_releases_no_successor(site: Site) -> None:
    """A name that nobody had at the look, and somebody has by the release, keeps its allocation."""
    made: list[Allocation] = []
    with (
        Overtaken(site, "get", lambda: made.append(site.client.allocate("farm", "web"))) as client,
        pytest.raises(Conflict, match="allocated anew"),
    ):
        destroy(client, "web", uri=site.libvirtd.uri)
    assert site.client.get("web") == made[0]
    site.client.release("web")


def test_a_destroy_of_a_group_cannot_hurt_who_left_it(site: Site) -> None:
    """A member's name is allocated anew elsewhere after the group was listed: only the others are destroyed."""
    leaver, member = site.launch_many(site.diskless, "speck", 2, wait=Wait(ping=False))
    following: list[Machine] = []

    def leave() -> None:
        destroy(site.client, leaver)
        following.append(site.launch(site.diskless, leaver.name))

    with (
        Overtaken(site, "list", leave) as client,
        pytest.raises(Conflict, match=f"'{leaver.name}' was released and allocated anew"),
    ):
        destroy_group(client, "speck", uri=site.libvirtd.uri)
    assert [one.name for one in site.client.list()] == [leaver.name]
    assert [one.name for one in list_machines(site.client, uri=site.libvirtd.uri)] == [leaver.name]
    assert member.name != leaver.name
    destroy(site.client, following[0])


def test_foreign_domains_are_left_alone(site: Site) -> None:
    """A domain somebody else started keeps its name, its life, and the address it uses."""
    one = site.client.allocate("farm", "theirs")
    with foreign(site, "theirs", str(one.mac)), foreign(site, "other"):
        with pytest.raises(Conflict, match="'other' at"):
            site.launch(site.diskless, "other")
        for name in ("theirs", "other"):
            with pytest.raises(Conflict, match="not one that macbind launched"):
                destroy(site.client, name, uri=site.libvirtd.uri)
        [listed] = list_machines(site.client, uri=site.libvirtd.uri)
        assert (listed.name, listed.address, listed.uptime_s) == ("theirs", one.address, None)
        assert site.client.get("theirs").address == one.address
    renamed = site.client.allocate("farm", "key")
    with (
        foreign(site, "their-name-for-it", str(renamed.mac)),
        pytest.raises(Conflict, match="'their-name-for-it' is not one"),
    ):
        destroy(site.client, "key", uri=site.libvirtd.uri)
    site.client.release("key")


def test_an_allocation_is_no_machine(site: Site) -> None:
    """`macbind vm` neither takes over nor releases what `macbind allocate` made."""
    one = site.client.allocate("farm", "plain")
    with pytest.raises(Conflict, match="'plain' is taken"):
        site.launch(site.diskless, "plain")
    with pytest.raises(Conflict, match="is an allocation, not a machine"):
        destroy(site.client, "plain", uri=site.libvirtd.uri)
    assert site.client.get("plain") == one
    site.client.release("plain")


def test_a_machine_of_another_hypervisor(site: Site) -> None:
    """Not finding its domain here is no proof that it is gone: the hint says where to look."""
    vm = site.launch(site.diskless, "web", wait=Wait(ping=False))
    until(lambda: site.client.get("web").domain_uuid, SOON_S, "macbind to see the domain")
    with pytest.raises(Conflict) as caught:
        destroy(site.client, "web", uri="test:///default")
    assert site.libvirtd.uri in caught.value.hint
    assert site.client.get("web").address == vm.address
    destroy(site.client, vm)


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        (launch_token(uuid4(), "qemu+ssh://far/system"), "was launched at qemu+ssh://far/system"),
        ("web at home", "is an allocation"),
    ],
    ids=["launched-elsewhere", "not-launched"],
)
def test_an_allocation_nobody_has_seen_a_domain_of(site: Site, domain: str, said: str) -> None:
    """Its own record says whether it is a machine's, and where it was being launched."""
    one = site.client.allocate("farm", "web", domain=domain)
    with pytest.raises(Conflict, match=re.escape(said)):
        destroy(site.client, "web", uri=site.libvirtd.uri)
    assert site.client.get("web") == one
    site.client.release("web")


def test_libvirtd_killed_during_a_launch(site: Site) -> None:
    """The machine may run, so address and disk are kept; the error says so, and a later destroy clears all."""

    def tell(progress: Progress) -> None:
        if progress.step is Step.STARTED:
            site.libvirtd.kill()

    with pytest.raises(MachineFailed) as caught:
        site.launch(site.template, "web", wait=Wait(tcp=99, timeout_s=1), on_progress=tell)
    [kept] = caught.value.details["undo"]
    assert "`macbind vm destroy web`" in kept
    assert [one.name for one in site.client.list()] == ["web"]
    site.libvirtd.start()
    assert site.leftovers() == {"domains": ["web"], "volumes": ["macbind-web-vdb"], "allocations": ["web"]}
    assert destroy(site.client, "web", uri=site.libvirtd.uri).domain


# -- the command line ----------------------------------------------------------------------------------------


def test_the_command_line(site: Site, tmp_path: Path) -> None:
    """Launch, list and destroy, for people and for programs; progress goes to stderr."""
    file = tmp_path / "web.xml"
    file.write_text(site.template)
    process = site.start_vm("launch", str(file), "farm", "web", "--tcp", "22")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.splitlines()[1].split() == ["web", "10.1.1.3", "00:16:3e:01:01:03", "web"]
    assert re.search(r"^ *\d+\.\d s  web: takes connections$", err, re.MULTILINE)
    listed = site.vm("list").splitlines()[1].split()
    assert (listed[:4], listed[5]) == (["web", "10.1.1.3", "00:16:3e:01:01:03", "running"], "web")
    [entry] = json.loads(site.vm("list", "--json"))
    assert (entry["name"], entry["address"], entry["pool"]) == ("web", "10.1.1.3", "farm")
    assert "already" in site.vm("launch", str(file), "farm", "web", status=4)
    gone = site.vm("destroy", "web", "never")
    assert "web: domain destroyed" in gone
    assert "never: nothing to destroy, it is gone already" in gone
    assert site.vm("list") == ""


def test_the_command_line_in_groups(site: Site, tmp_path: Path) -> None:
    """Several are launched, printed as JSON, and destroyed as one; errors have their exit codes."""
    file = tmp_path / "web.xml"
    file.write_text(site.template)
    how = ["-g", "speck", "-n", "2", "--no-ping", "--label", "job=4711", "--reason", "job 4711", "--json"]
    made = json.loads(site.vm("launch", str(file), "farm", *how))
    assert [one["allocation"]["labels"] for one in made] == [{"job": "4711"}] * 2
    assert [one.name for one in site.client.list(labels={"job": "4711"})] == ["speck-1", "speck-2"]
    assert {one.detail["reason"] for one in site.client.history(action="allocate", limit=2)} == {"job 4711"}
    assert [one["name"] for one in made] == ["speck-1", "speck-2"]
    assert made[0]["clones"][0]["path"] == str(site.images / "macbind-speck-1-vdb")
    done = json.loads(site.vm("destroy", "--group", "speck", "--reason", "job is over", "--json"))
    assert {one.detail["reason"] for one in site.client.history(action="remark", limit=2)} == {"job is over"}
    assert [(one["name"], one["domain"], one["already_gone"]) for one in done] == [
        ("speck-1", True, False),
        ("speck-2", True, False),
    ]
    assert "--group" in site.vm("launch", str(file), "farm", "--count", "2", status=4)
    assert "NAME" in site.vm("destroy", status=4)
    assert "no domain 'nothing'" in site.vm("launch", "nothing", "farm", status=4)
    assert "within 0.1 s" in site.vm("launch", str(file), "farm", "--timeout", "0.1", status=5)
    assert "linked" in site.vm("launch", str(file), "farm", "--clone", "half", status=4)


def test_a_group_is_found_by_its_marks(site: Site) -> None:
    """Machines whose allocation is gone belong to their group still."""
    vms = site.launch_many(site.diskless, "speck", 2, wait=Wait(ping=False))
    site.client.release_group("speck")
    [listed, _] = list_machines(site.client, uri=site.libvirtd.uri)
    assert (listed.name, listed.group, listed.address) == ("speck-1", "speck", None)
    done = destroy_group(site.client, "speck", uri=site.libvirtd.uri)
    assert [one.domain for one in done] == [True, True]
    assert len(vms) == 2


def test_forged_mark_ends_no_other_machine(site: Site) -> None:
    """A mark counts for the domain that bears it, and what an allocation says of its group counts more."""
    vm = site.launch(site.diskless, "db-3", wait=Wait(ping=False))
    mark = (
        "<metadata><m:machine xmlns:m='urn:macbind:machine:1' name='{}' pool='farm' group='speck-7' "
        "launched='2026-01-01T00:00:00+00:00'/></metadata><devices>"
    )
    forged = site.guest.template(name="forger").replace("<devices>", mark.format("db-3"), 1)
    site.libvirtd.virsh("define", "/dev/stdin", stdin=forged)
    assert destroy_group(site.client, "speck-7", uri=site.libvirtd.uri) == []
    site.libvirtd.virsh("metadata", "db-3", "urn:macbind:machine:1", "--live", "--remove")
    own = (
        mark.format("db-3")
        .partition("<metadata>")[2]
        .partition("</metadata>")[0]
        .replace("m:machine xmlns:m=", "machine xmlns=")
    )
    site.libvirtd.virsh(
        "metadata",
        "db-3",
        "urn:macbind:machine:1",
        "--key",
        "macbind",
        "--live",
        "--set",
        own.replace(" xmlns='urn:macbind:machine:1'", ""),
    )
    assert destroy_group(site.client, "speck-7", uri=site.libvirtd.uri) == []
    assert site.domains() == ["db-3", "forger"]
    assert site.client.get("db-3").address == vm.address
    listed = [one.domain for one in list_machines(site.client, uri=site.libvirtd.uri)]
    assert listed == ["db-3"]
    site.libvirtd.virsh("undefine", "forger")
    destroy(site.client, vm)


@pytest.mark.parametrize("missing", ["libvirt", "icmplib"])
def test_without_libvirt(missing: str) -> None:
    """The client works; the import of machines says what to install, each time."""
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from macbind import Client, ConfigError\nClient('/nowhere').close()\n"
        "for _ in range(2):\n"
        "    try:\n        from macbind.machines import machine\n"
        "    except ConfigError as error:\n        print(error)\n"
    )
    said = run_command([sys.executable, "-c", code]).stdout.splitlines()
    assert len(said) == 2
    assert all(missing in one and "macbind[libvirt]" in one for one in said)
