"""Channels beside the MAC on real libvirt and QEMU: what a machine is told, by whom, and that none of it remains."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TypeVar, Unpack
from uuid import uuid4

import pytest
from pycdlib import PyCdlib

from labkit.farm import Farm
from labkit.guest import Guest, create_disk, shown
from labkit.net import Lab
from labkit.virt import Libvirtd
from labkit.wait import until
from labkit.xenstored import Xenstored
from macbind.client.client import Client
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import (
    ConfigError,
    Conflict,
    HypervisorUnavailable,
    InvalidRequest,
    MacbindError,
    MachineFailed,
    NotFound,
)
from macbind.machines import Channel, How, Machine, Step, Wait, destroy, destroy_group, launch, launch_many
from macbind.machines.guest_data import GuestData
from macbind.machines.launch_one import Launch, LaunchPlan
from macbind.machines.progress import Reporter
from macbind.virt import running
from macbind.virt.channel_xml import FW_CFG_NAME, OEM_PREFIX
from macbind.virt.channels import Choice
from macbind.virt.clones import Copying
from macbind.virt.connection import Hypervisor, run_event_loop
from macbind.virt.domain_xml import parse_domain
from macbind.virt.template import Template

pytestmark = pytest.mark.timeout(600)

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
domain_name_servers = ["10.0.0.2", "10.0.0.3"]
domain_name = "farm.example"
lease_time_s = 3600

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.8"]
"""
FW_CFG_FILE = f"/sys/firmware/qemu_fw_cfg/by_name/{FW_CFG_NAME}/raw"
OEM_FILE = "/sys/firmware/dmi/entries/11-0/raw"
USER_DATA = "#cloud-config\nruncmd:\n  - [echo, hello]\n"
AWKWARD = """a,b=c "d" 'e' <f> & \\g $h %i"""
SOON_S = 60.0
OWN = (
    "<sysinfo type='smbios'><system><entry name='serial'>17</entry>"
    "<entry name='uuid'>11111111-2222-4333-8444-555555555555</entry></system>"
    "<oemStrings><entry>theirs, too</entry></oemStrings></sysinfo>"
)
"""What a template may say in SMBIOS by itself."""
NOW = Wait(ping=False)
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

    @property
    def disk(self) -> Path:
        """The template's disk."""
        return self.images / "web.qcow2"

    @property
    def template(self) -> str:
        """A template with a disk on virtio."""
        return self.guest.disk_template(self.disk)

    def inside(self, function: Callable[[], T]) -> T:
        """Runs code where the machines can be pinged from."""
        return self.lab.server.call(function)

    def launch(self, template: str, name: str, **how: Unpack[How]) -> Machine:
        """Launches a machine at this site."""
        settings: How = {"uri": self.libvirtd.uri, **how}
        return self.inside(lambda: launch(self.client, template, "farm", name=name, **settings))

    def fails(self, kind: type[MacbindError], template: str, **how: Unpack[How]) -> MacbindError:
        """Launches a machine that must fail in this way and leave nothing; returns the error."""
        with pytest.raises(kind) as caught:
            self.launch(template, "doomed", **how)
        assert type(caught.value) is kind
        assert self.left() == []
        return caught.value

    def vm(self, *arguments: str, status: int = 0) -> str:
        """Runs `macbind vm` inside; returns what it printed, or what it complained of."""
        done = subprocess.run(
            self.lab.server.argv([*self.farm.command, "vm", *arguments]),
            env={
                **os.environ,
                "MACBIND_SOCKET": str(self.farm.socket),
                "LIBVIRT_DEFAULT_URI": self.libvirtd.uri,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stderr if status else done.stdout

    def xml(self, domain: str) -> str:
        """A domain's XML as libvirt has it."""
        return self.libvirtd.virsh("dumpxml", domain)

    def left(self) -> list[str]:
        """Domains, files beside the template's disk, and allocations."""
        files = {one.name for one in self.images.iterdir()} - {self.disk.name}
        domains = self.libvirtd.virsh("list", "--all", "--name").split()
        return [*domains, *sorted(files), *(one.name for one in self.client.list(released=True))]

    def sweep(self) -> None:
        """Removes what a failed test has left."""
        for name in self.libvirtd.virsh("list", "--all", "--name").split():
            self.libvirtd.virsh("destroy", name)
        for path in self.images.iterdir():
            if path != self.disk:
                path.unlink()
        for one in self.client.list():
            self.client.release(one.name)


@pytest.fixture(scope="module")
def module_site() -> Iterator[Site]:
    """One lab for all of these tests."""
    run_event_loop()  # its thread must not be born inside, where it would outlive the lab
    with tempfile.TemporaryDirectory(prefix="mb-") as name, Lab() as lab:
        directory = Path(name)
        for part in ("virt", "farm", "images"):
            (directory / part).mkdir()
        with (
            Libvirtd(lab, directory / "virt") as libvirtd,
            Farm(lab, directory / "farm", pools=POOLS) as farm,
            farm.client(60) as client,
        ):
            site = Site(lab, libvirtd, farm, client, Guest.build(), directory / "images")
            create_disk(site.disk, size="1M")
            libvirtd.virsh("pool-define-as", "images", "dir", "--target", str(site.images))
            libvirtd.virsh("pool-start", "images")
            yield site
            assert farm.defects() == []


@pytest.fixture
def site(module_site: Site) -> Iterator[Site]:
    """The shared lab; a test must leave nothing in it. If it does, it fails, and the next one does not."""
    yield module_site
    try:
        until(lambda: module_site.left() == [], SOON_S, "nothing to be left")
    except TimeoutError:
        left = module_site.left()
        module_site.sweep()
        pytest.fail(f"the test left {left}")


def oem_strings(raw: bytes) -> list[str]:
    """The strings of an SMBIOS structure: behind its formatted part, each ends with a NUL, all with another."""
    return [text.decode() for text in raw[raw[1] :].split(b"\0") if text]


def seed_of(path: str | Path) -> Mapping[str, bytes]:
    """The files on a seed disk."""
    iso = PyCdlib()
    iso.open(str(path))
    assert iso.pvd.volume_identifier.strip() == b"CIDATA"
    found = {}
    for child in iso.list_children(rr_path="/"):
        if child.is_file():
            content = BytesIO()
            name = child.rock_ridge.name().decode()
            iso.get_file_from_iso_fp(content, rr_path=f"/{name}")
            found[name] = content.getvalue()
    iso.close()
    return found


def test_a_guest_reads_what_it_is_told_by_every_channel(site: Site) -> None:
    """fw_cfg and SMBIOS hold the very lines, the seed disk its files; a dump of the machine is a clean template."""
    data = {"role": "worker", "awkward": AWKWARD, "empty": ""}
    told: list[Step] = []
    vm = site.launch(
        site.template.replace("<os>", f"{OWN}<os>"),
        "web",
        channels=["fw_cfg", "smbios", "nocloud"],
        data=data,
        user_data=USER_DATA,
        on_progress=lambda progress: told.append(progress.step),
    )
    lines = [
        f"mac={vm.mac}",
        f"address={vm.address}/8",
        "gateway=10.0.0.1",
        "dns=10.0.0.2 10.0.0.3",
        "search=farm.example",
        "hostname=web",
        "data.role=worker",
        f"data.awkward={AWKWARD}",
        "data.empty=",
    ]
    assert shown(site.lab, vm.address, FW_CFG_FILE).decode() == "\n".join(lines)
    strings = oem_strings(shown(site.lab, vm.address, OEM_FILE))
    assert strings == ["theirs, too", *(f"{OEM_PREFIX}{line}" for line in lines)]
    assert shown(site.lab, vm.address, "/sys/class/dmi/id/product_serial") == b"17\n"
    assert shown(site.lab, vm.address, "/sys/class/dmi/id/product_uuid").decode().strip() == str(vm.uuid)
    meta = json.loads(shown(site.lab, vm.address, "/seed/vdb/meta-data"))
    assert meta["instance-id"] == str(vm.uuid)
    assert meta["local-hostname"] == "web"
    assert meta["macbind"]["data"] == data
    network = json.loads(shown(site.lab, vm.address, "/seed/vdb/network-config"))
    assert [one["subnets"][0]["address"] for one in network["config"]] == [f"{vm.address}/8"]
    assert shown(site.lab, vm.address, "/seed/vdb/user-data").decode() == USER_DATA

    [disk, seed] = vm.clones
    assert (seed.volume, Path(seed.path).parent) == ("macbind-web-seed", Path(disk.path).parent)
    assert stat.S_IMODE(Path(seed.path).stat().st_mode) & 0o077 == 0, "nobody else reads it"
    assert told.index(Step.CLONED) < told.index(Step.SEEDED) < told.index(Step.STARTED)

    dumped = site.xml("web")
    done = destroy(site.client, vm)
    assert done.clones == (seed.path, disk.path)
    assert_a_dump_is_a_clean_template(site, dumped, str(vm.address))


def assert_a_dump_is_a_clean_template(site: Site, dumped: str, address: str) -> None:
    """A machine made of a machine's XML is told what it is told now, once, or nothing; libvirt takes it."""
    template = dumped.replace("macbind-web-vdb", site.disk.name)
    silent = site.launch(template, "silent", wait=NOW)
    xml = site.xml("silent")
    assert [part for part in (FW_CFG_NAME, f">{OEM_PREFIX}", address, "-seed") if part in xml] == []
    assert "theirs, too" in xml
    again = site.launch(template, "again", channels=list(Channel)[:3], data={"role": "other"}, wait=NOW)
    xml = site.xml("again")
    assert xml.count(FW_CFG_NAME) == 1
    assert xml.count(f"{OEM_PREFIX}mac=") == 1
    assert xml.count("macbind-again-seed") == 1
    assert [part for part in ("worker", "web-seed", f"mac={silent.mac}") if part in xml] == []
    for one in (silent, again):
        destroy(site.client, one)


def test_each_of_many_has_its_own_seed(site: Site) -> None:
    """Two machines launched together have two seed disks, with their own addresses; both go with the group."""
    uri = site.libvirtd.uri
    template = site.template.replace(
        "</memory>",
        "</memory><metadata><channels xmlns='urn:macbind:channels:1' use='nocloud'>"
        "<data key='role'>worker</data></channels></metadata>",
    )
    made = site.inside(
        lambda: launch_many(site.client, template, "farm", "speck", 2, uri=uri, data={"rack": "7"}, wait=NOW)
    )
    assert {Path(vm.clones[-1].path).stat().st_mode & 0o777 for vm in made} == {0o600}
    seeds = [seed_of(vm.clones[-1].path) for vm in made]
    for vm, seed in zip(made, seeds, strict=True):
        assert list(seed) == ["meta-data", "network-config", "user-data"]
        meta = json.loads(seed["meta-data"])
        assert (meta["instance-id"], meta["local-hostname"]) == (str(vm.uuid), vm.name)
        assert meta["macbind"] | {"dns": ""} == {
            "mac": str(vm.mac),
            "address": f"{vm.address}/8",
            "gateway": "10.0.0.1",
            "dns": "",
            "search": "farm.example",
            "hostname": vm.name,
            "data": {"role": "worker", "rack": "7"},
        }
        assert f"macbind-{vm.name}-seed" in site.xml(vm.domain)
        assert Template(site.xml(vm.domain)).choice == Choice((Channel.NOCLOUD,), {"role": "worker"})
    assert seeds[0] != seeds[1]
    gone = destroy_group(site.client, "speck", uri=uri)
    assert [len(one.clones) for one in gone] == [2, 2]


def test_a_machine_that_does_not_start_leaves_no_seed(site: Site) -> None:
    """Whatever fails after the seed disk was made takes it away again; a foreign volume of its name stays."""
    broken = site.template.replace("<cmdline>", "<dtb>/nowhere</dtb><cmdline>")
    site.fails(MachineFailed, broken, channels=["nocloud"])
    theirs = site.images / "macbind-doomed-seed"
    site.libvirtd.virsh("vol-create-as", "images", theirs.name, "3k")
    with pytest.raises(Conflict, match="volume 'macbind-doomed-seed'"):
        site.launch(site.template, "doomed", channels=["nocloud"])
    assert theirs.read_bytes() == bytes(3072)
    site.libvirtd.virsh("vol-delete", theirs.name, "images")


def test_a_file_that_libvirt_does_not_know_stays(site: Site) -> None:
    """A file of a clone's or seed's name, such as another hypervisor's on shared storage, is a conflict, not a part.

    libvirt looks through a pool after every upload, so it may know the file by the time that parts are deleted.
    """
    cases: list[tuple[str, How]] = [
        ("seed", {"channels": ["nocloud"]}),
        ("vdb", {}),
        ("vdb", {"clone": Copying.FULL}),
    ]
    for part, how in cases:
        theirs = site.images / f"macbind-doomed-{part}"
        theirs.write_text("theirs")
        with pytest.raises(Conflict, match=f"No volume '{theirs.name}' can be made"):
            site.launch(site.template, "doomed", **how)
        assert theirs.read_text() == "theirs"
        theirs.unlink()
        site.libvirtd.virsh("pool-refresh", "images")


def test_bad_choices_are_refused_before_anything_is_taken(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel or data that cannot be is one sentence, and no address is taken."""
    diskless = site.guest.template()
    busy = "".join(
        f"<disk type='file' device='cdrom'><target dev='hd{letter}' bus='ide'/></disk>" for letter in "bcd"
    )
    disk = "<disk type='file'><source file='/boot'/><target dev='hda' bus='ide'/><readonly/></disk>"
    full = diskless.replace("<interface", f"{disk}{busy}<interface")
    cases: list[tuple[str, How, str]] = [
        (diskless, {"channels": ["telepathy"]}, "no channel 'telepathy'"),
        (diskless, {"data": {"role": "worker"}}, "no channel that would carry it"),
        (diskless, {"channels": ["fw_cfg"], "data": {"a b": "c"}}, "'a b' cannot be a key"),
        (diskless, {"channels": ["fw_cfg"], "data": {"a": "b\nc"}}, "value of 'a'"),
        (diskless, {"channels": ["fw_cfg"], "data": {f"k{n}": "," * 1024 for n in range(60)}}, "too much"),
        (diskless, {"channels": ["nocloud"]}, "no disk of its own"),
        (diskless, {"channels": ["nocloud"], "seed_pool": "nowhere"}, "no active storage pool 'nowhere'"),
        (diskless, {"channels": ["fw_cfg"], "seed_pool": "images"}, "nocloud only"),
        (diskless, {"channels": ["fw_cfg"], "user_data": USER_DATA}, "User-data is for"),
        (diskless, {"channels": ["nocloud"], "user_data": "\udcff"}, "user-data is no text"),
        (full, {"channels": ["nocloud"], "seed_pool": "images"}, "ide bus has no room"),
        (diskless, {"channels": ["xenstore"]}, "channel xenstore is Xen's"),
        (diskless.replace("type='qemu'", "type='xen'"), {"channels": ["fw_cfg"]}, "channel fw_cfg is QEMU's"),
        (diskless.replace("type='qemu'", "type='xen'"), {"channels": ["xenstore"]}, "needs a Xen hypervisor"),
    ]
    before = site.client.history()
    for template, how, sentence in cases:
        error = site.fails(InvalidRequest, template, **how)
        assert sentence in error.message
        assert error.hint
    monkeypatch.setitem(sys.modules, "pycdlib", None)
    site.fails(ConfigError, diskless, channels=["nocloud"], seed_pool="images")
    assert site.client.history() == before


def test_from_the_command_line(site: Site, tmp_path: Path) -> None:
    """Channels, data, seed pool, user-data and DHCP options count; mistakes are one sentence and exit code 4."""
    template, script = tmp_path / "web.xml", tmp_path / "user-data"
    template.write_text(site.guest.template())
    script.write_text(f"\ufeff{USER_DATA}")
    given = ["launch", str(template), "farm", "web", "--no-ping"]
    channels = ["--channel", "fw_cfg", "--channel", "nocloud", "--seed-pool", "images"]
    told = ["--data", "role=a=b", "--data", "rack=7", "--router", "10.0.0.9", "--hostname", "edge"]
    site.vm(*given, *channels, *told, "--user-data", str(script))
    root = parse_domain(site.xml("web"))
    lines = root.findtext(f"./sysinfo/entry[@name='{FW_CFG_NAME}']", "").splitlines()
    assert lines[-3:] == ["hostname=edge", "data.role=a=b", "data.rack=7"]
    assert "gateway=10.0.0.9" in lines
    assert site.client.get("web").options.to_dict() == {"hostname": "edge", "routers": ["10.0.0.9"]}
    assert seed_of(site.images / "macbind-web-seed")["user-data"].decode() == USER_DATA
    assert "macbind-web-seed deleted" in site.vm("destroy", "web")
    chosen = "<metadata><channels xmlns='urn:macbind:channels:1' use='fw_cfg'/></metadata>"
    template.write_text(site.guest.template().replace("<memory", f"{chosen}<memory"))
    site.vm(*given, "--channel", "none")
    assert FW_CFG_NAME not in site.xml("web")
    site.vm("destroy", "web")
    assert "no channel 'mail'" in site.vm(*given, "--channel", "mail", status=4)
    assert "has no '='" in site.vm(*given, "--channel", "fw_cfg", "--data", "role", status=4)
    assert "twice" in site.vm(*given, "--channel", "fw_cfg", "--data", "a=1", "--data", "a=2", status=4)


def test_what_a_machine_is_told_is_what_counts_for_it(site: Site) -> None:
    """Its own options come before its pool's and subnet's; a name that is no host name is none."""
    own = DhcpOptions.parse({"routers": ["10.0.0.9"], "hostname": "edge"})
    with pytest.raises(NotFound):
        site.client.network_settings("edge/1")
    one = site.client.allocate("farm", "edge/1", options=own)
    routed = DhcpOptions.parse({"routers": ["10.0.0.9"], "static_routes": ["0.0.0.0/0 via 10.0.0.8"]})
    router = site.client.allocate("farm", "edge-3", options=routed)
    other = site.client.allocate("farm", "edge/2")
    told = site.client.network_settings("edge/1")
    assert (told.name, told.mac, str(told.interface)) == (one.name, one.mac, f"{one.address}/8")
    assert told.options.to_dict() == {
        "routers": ["10.0.0.9"],
        "hostname": "edge",
        "domain_name_servers": ["10.0.0.2", "10.0.0.3"],
        "domain_name": "farm.example",
    }
    identity, _ = GuestData().identity(site.client, one)
    assert (identity.hostname, str(identity.gateway)) == ("edge", "10.0.0.9")
    identity, _ = GuestData().identity(site.client, other)
    assert (identity.hostname, str(identity.gateway)) == (None, "10.0.0.1")
    with pytest.raises(Conflict, match="allocated anew"):
        GuestData().identity(site.client, replace(one, address=other.address))
    identity, _ = GuestData().identity(site.client, router)
    assert (identity.hostname, str(identity.gateway)) == ("edge-3", "10.0.0.8")
    for name in (one.name, other.name, router.name):
        site.client.release(name)


def test_a_machine_told_by_xenstore(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way with a QEMU domain in a Xen domain's place: its lines are there before it runs, or it is not."""
    telling = GuestData((Channel.XENSTORE,), {"role": "worker"})
    template = Template(site.guest.template())
    with Xenstored(tmp_path) as store, Hypervisor(site.libvirtd.uri) as hypervisor:
        monkeypatch.setenv("XENSTORED_PATH", str(store.socket))
        order = LaunchPlan(
            site.client, hypervisor, template, [], Copying.LINKED, NOW, False, Reporter(None), telling
        )
        journey = Launch(order, site.client.allocate("farm", "xen"), uuid4())
        vm = journey.bring_up()
        number = site.libvirtd.virsh("domid", "xen").strip()
        assert site.libvirtd.virsh("domstate", "xen").strip() == "running"
        home = f"/local/domain/{number}/vm-data/macbind"
        asked = [f"{home}/{key}" for key in ("mac", "address", "gateway", "hostname", "data/role")]
        assert store.ask("xenstore-read", *asked).splitlines() == [
            str(vm.mac),
            f"{vm.address}/8",
            "10.0.0.1",
            "xen",
            "worker",
        ]
        assert journey.take_down() == []
        assert site.left() == []

        store.close()
        journey = Launch(order, site.client.allocate("farm", "xen"), uuid4())
        with pytest.raises(HypervisorUnavailable, match="xenstored"):
            journey.bring_up()
        assert site.libvirtd.virsh("domstate", "xen").strip() == "paused", "it has done nothing"
        assert journey.take_down() == []


def test_a_machine_is_paused_until_it_has_been_written_for(site: Site) -> None:
    """What must be done before the first instruction is done while the domain is paused; if that fails it ends."""
    xml = site.guest.template(name="early")
    seen: list[tuple[int, str]] = []

    def look(number: int) -> None:
        seen.append((number, site.libvirtd.virsh("domstate", str(number)).strip()))

    with Hypervisor(site.libvirtd.uri) as hypervisor:
        running.start(hypervisor, "early", xml, look)
        assert [state for _, state in seen] == ["paused"]
        assert site.libvirtd.virsh("domid", "early").strip() == str(seen[0][0])
        assert site.libvirtd.virsh("domstate", "early").strip() == "running"
        site.libvirtd.virsh("destroy", "early")

        def fail(_: int) -> None:
            raise MachineFailed("not written")

        own = uuid4()
        named = xml.replace("</name>", f"</name><uuid>{own}</uuid>")
        with pytest.raises(MachineFailed, match="not written"):
            running.start(hypervisor, "early", named, fail)
        assert site.libvirtd.virsh("domstate", "early").strip() == "paused", "it has done nothing"
        assert running.destroy(hypervisor, own)
