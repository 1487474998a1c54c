"""What a machine is told, as parts of its XML: put in once, taken out whole, and nothing else is touched."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Interface
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import pytest

from macbind.core.errors import InvalidRequest
from macbind.core.mac_address import MacAddress
from macbind.guest import identity
from macbind.guest.identity import IDENTITY_LINES, check_data
from macbind.virt.channel_xml import Message, Seed, check_size
from macbind.virt.channels import Channel, Choice, parse_channels
from macbind.virt.domain_xml import Mark, parse_domain
from macbind.virt.machine_xml import MachineIdentity
from macbind.virt.template import Template

LINES = ("mac=00:16:3e:01:01:03", "address=10.1.1.3/16", "data.role=worker")
HOSTILE = "$(id)`id`\";'&<>,,name=opt/x,file=/etc/shadow"
AWKWARD = (*LINES, "data.list=a,b", "data.odd=\"<&>'", f"data.hostile={HOSTILE}")
SEED = Seed("/images/macbind-web-seed")
EVERYTHING = Message((Channel.FW_CFG, Channel.SMBIOS, Channel.NOCLOUD), LINES, SEED)
WHO = MachineIdentity(
    UUID("6b0c7a52-1f6e-4d0f-9f5e-2a2f0d3c4b5a"),
    MacAddress.parse("00:16:3e:01:01:03"),
    IPv4Address("10.1.1.3"),
    Mark("web", "farm", datetime(2026, 1, 2, tzinfo=UTC)),
)
CARD = "<interface type='bridge'><source bridge='br0'/></interface>"
OWN = (
    "<os><type>hvm</type><smbios mode='sysinfo'/></os>"
    "<sysinfo type='smbios'><system><entry name='serial'>x</entry></system>"
    "<oemStrings><entry>theirs</entry></oemStrings></sysinfo>"
    "<sysinfo type='fwcfg'><entry name='opt/com.example/own'>theirs</entry></sysinfo>"
    "<qemu:commandline><qemu:arg value='-name'/><qemu:arg value='theirs'/></qemu:commandline>"
)


def template(rest: str = "", disks: str = "", kind: str = "kvm") -> str:
    """A domain with these parts."""
    return (
        f"<domain type='{kind}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>web</name>"
        f"{rest}<devices>{disks}{CARD}</devices></domain>"
    )


def machine(xml: str, message: Message | None = None) -> str:
    """The machine that is made of a template."""
    return Template(xml).machine(WHO, {}, message=message)


def disk(dev: str, bus: str | None = None, device: str = "disk") -> str:
    """A disk that is not copied."""
    on = f" bus='{bus}'" if bus else ""
    return f"<disk type='file' device='{device}'><target dev='{dev}'{on}/><readonly/></disk>"


def blob(xml: str) -> str | None:
    """What QEMU is to put into fw_cfg."""
    root = parse_domain(xml)
    found = root.findtext("./sysinfo[@type='fwcfg']/entry[@name='opt/org.macbind/identity']")
    arguments = [one.get("value", "") for one in root.iter("{http://libvirt.org/schemas/domain/qemu/1.0}arg")]
    given = [one for one in arguments if one.startswith("name=opt/org.macbind/identity,string=")]
    assert len(given) + (found is not None) <= 1, "twice"
    if not given:
        return found
    assert arguments[arguments.index(given[0]) - 1] == "-fw_cfg"
    assert arguments.count("-fw_cfg") == 1
    return given[0].partition("string=")[2].replace(",,", ",")


def oem(xml: str) -> list[str | None]:
    """All OEM strings."""
    return [one.text for one in parse_domain(xml).iterfind("./sysinfo[@type='smbios']/oemStrings/entry")]


@pytest.mark.parametrize("own", ["", OWN])
@pytest.mark.parametrize("lines", [LINES, AWKWARD])
def test_a_machine_as_a_template_forgets_what_it_was_told(own: str, lines: tuple[str, ...]) -> None:
    """What was put in is replaced, or gone without a trace; what was the template's own stays."""
    plain = machine(template(own))
    first = machine(template(own), Message(EVERYTHING.channels, lines, SEED))
    assert blob(first) == "\n".join(lines)
    theirs = ["theirs"] if own else []
    assert oem(first) == [*theirs, *(f"macbind:{line}" for line in lines)]
    assert parse_domain(first).find("./os/smbios[@mode='sysinfo']") is not None
    assert first.count("macbind-web-seed") == 1
    assert ElementTree.canonicalize(machine(first)) == ElementTree.canonicalize(plain)
    other = ("mac=00:16:3e:01:01:04",)
    second = machine(first, Message(EVERYTHING.channels, other, Seed("/images/macbind-db-seed")))
    assert blob(second) == other[0]
    assert oem(second) == [*theirs, f"macbind:{other[0]}"]
    assert "macbind-web-seed" not in second
    assert second.count("macbind-db-seed") == 1


def test_without_a_channel_nothing_changes() -> None:
    """A message that uses no channel, and none at all, give the same XML as ever."""
    xml = template(OWN, disk("vda", "virtio"))
    assert machine(xml) == machine(xml, Message())
    assert "identity" not in machine(xml)


def test_the_uuid_of_sysinfo_stays_the_machines() -> None:
    """OEM strings join a template's own SMBIOS entries, whose UUID libvirt compares."""
    rest = "<sysinfo type='smbios'><system><entry name='uuid'>other</entry></system></sysinfo>"
    root = parse_domain(machine(template(rest), EVERYTHING))
    assert root.findtext("./sysinfo/system/entry[@name='uuid']") == str(WHO.uuid)
    assert len(root.findall("./sysinfo[@type='smbios']")) == 1


@pytest.mark.parametrize(
    ("disks", "kind", "device", "bus", "target"),
    [
        ("", "kvm", "disk", "virtio", "vda"),
        ("", "xen", "disk", "xen", "xvda"),
        (disk("vda", "virtio"), "kvm", "disk", "virtio", "vdb"),
        (disk("vdb"), "kvm", "disk", "virtio", "vdc"),
        (disk("sda", "sata", "cdrom") + disk("sdb", "sata"), "kvm", "cdrom", "sata", "sdc"),
        (disk("sda", "sata", "cdrom") + disk("vda", "virtio"), "kvm", "disk", "virtio", "vdb"),
        (disk("hda") + disk("hdd", "ide", "cdrom"), "kvm", "cdrom", "ide", "hdb"),
        (disk("sda", "scsi"), "kvm", "cdrom", "scsi", "sdb"),
        (disk("sda"), "kvm", "cdrom", "scsi", "sdb"),
        (disk("xvda"), "xen", "disk", "xen", "xvdb"),
    ],
)
def test_the_seed_disk_is_on_the_bus_of_the_first_disk(
    disks: str, kind: str, device: str, bus: str, target: str
) -> None:
    """Where a guest has a driver, and behind its other disks, so that it boots from what it booted from."""
    root = parse_domain(machine(template("", disks, kind), Message((Channel.NOCLOUD,), LINES, SEED)))
    [made] = [one for one in root.iterfind("./devices/disk") if one.find("source") is not None]
    found = made.find("target")
    assert found is not None
    assert (made.get("device"), found.get("bus"), found.get("dev")) == (device, bus, target)
    assert made.find("readonly") is not None
    assert (made.find("driver") is not None) == (kind == "kvm")


def test_a_seed_disk_on_a_block_device() -> None:
    """A volume of LVM is no file."""
    seed = Seed("/dev/images/macbind-web-seed", is_block=True)
    made = machine(template(), Message((Channel.NOCLOUD,), LINES, seed))
    root = parse_domain(made)
    assert root.find("./devices/disk[@type='block']/source[@dev='/dev/images/macbind-web-seed']") is not None
    assert "seed" not in machine(made)


def test_a_full_bus_is_said() -> None:
    """IDE has four places."""
    full = "".join(disk(f"hd{letter}", "ide") for letter in "abcd")
    with pytest.raises(InvalidRequest, match="ide bus has no room"):
        Template(template("", full)).check([Channel.NOCLOUD])


def test_a_machine_is_told_so_many_lines() -> None:
    """One that is told everything there is has as many lines as room is left for."""
    address = IPv4Address("10.1.0.1")
    everything = identity.Identity(
        WHO.mac, IPv4Interface("10.1.1.3/16"), address, (address,), "farm.example", "web"
    )
    assert len(list(everything.lines())) == IDENTITY_LINES


def test_oem_strings_of_its_own_count() -> None:
    """SMBIOS counts strings in a byte: with more, a guest would see the remainder."""
    own = "".join(f"<entry>{number}</entry>" for number in range(200))
    found = Template(template(f"<sysinfo type='smbios'><oemStrings>{own}</oemStrings></sysinfo>"))
    found.check([Channel.SMBIOS], 49)
    found.check([Channel.FW_CFG], 64)
    with pytest.raises(InvalidRequest, match="200 OEM strings of its own"):
        found.check([Channel.SMBIOS], 50)


# -- what a template says ------------------------------------------------------------------------------------


def choosing(inside: str, attributes: str = "use='fw_cfg smbios'") -> str:
    """A template that chooses."""
    return template(
        f"<metadata><c:channels xmlns:c='urn:macbind:channels:1' {attributes}>{inside}</c:channels></metadata>"
    )


def test_a_template_chooses() -> None:
    """Channels, data and the pool of seed disks are read from its metadata, which stays."""
    xml = choosing(
        "<c:data key='role'> worker </c:data><c:data key='x'/>", "use='nocloud  fw_cfg nocloud' pool='p'"
    )
    choice = Template(xml).choice
    assert choice == Choice((Channel.NOCLOUD, Channel.FW_CFG), {"role": "worker", "x": ""}, "p")
    assert Template(machine(xml, EVERYTHING)).choice == choice
    assert Template(template()).choice == Choice()


@dataclass(frozen=True)
class Bad:
    """A template that chooses what cannot be, and what is said of it."""

    xml: str
    sentence: str


@pytest.mark.parametrize(
    "bad",
    [
        Bad(choosing("", "use='pigeon'"), "no channel 'pigeon'"),
        Bad(choosing("", "channel='fw_cfg'"), "attribute 'channel'"),
        Bad(choosing("<c:data>x</c:data>"), "something that is no data"),
        Bad(choosing("<c:date key='a'>x</c:date>"), "something that is no data"),
        Bad(choosing("<c:data key='a'><b/></c:data>"), "something that is no data"),
        Bad(choosing("<c:data key='a'>x</c:data><c:data key='a'>y</c:data>"), "key 'a' twice"),
        Bad(choosing("<c:data key='a b'>x</c:data>"), "'a b' cannot be a key"),
        Bad(
            choosing("").replace("</metadata>", "<channels xmlns='urn:macbind:channels:1'/></metadata>"),
            "two <channels>",
        ),
    ],
    ids=lambda bad: re.sub(r"\W+", "-", bad.sentence),
)
def test_a_template_that_chooses_what_cannot_be(bad: Bad) -> None:
    """One sentence says what is wrong with it, and how to write it."""
    with pytest.raises(InvalidRequest) as caught:
        Template(bad.xml)
    assert bad.sentence in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("kind", "rest", "channel", "sentence"),
    [
        ("xen", "", Channel.FW_CFG, "fw_cfg is QEMU's"),
        ("xen", "", Channel.SMBIOS, "smbios is QEMU's"),
        ("kvm", "", Channel.XENSTORE, "xenstore is Xen's"),
        ("kvm", "<os><smbios mode='host'/></os>", Channel.SMBIOS, "SMBIOS tables of the host"),
    ],
)
def test_what_a_template_cannot_do(kind: str, rest: str, channel: Channel, sentence: str) -> None:
    """Channels belong to hypervisors."""
    found = Template(template(rest, kind=kind))
    with pytest.raises(InvalidRequest, match=sentence):
        found.check([channel])
    found.check([Channel.NOCLOUD])


def test_channels_by_name() -> None:
    """Each once, in the order given; an unknown one is said."""
    assert parse_channels(["smbios", "fw_cfg", "smbios"]) == (Channel.SMBIOS, Channel.FW_CFG)
    with pytest.raises(InvalidRequest, match=r"no channel 'SMBIOS'.*fw_cfg, smbios, nocloud, xenstore"):
        parse_channels(["SMBIOS"])


@pytest.mark.parametrize("data", [{"rack": 7}, {"rack": None}, {"rack": b"7"}, {7: "rack"}])
def test_what_is_no_text_is_refused(data: Any) -> None:
    """A number from somebody's inventory is said to be none, by name."""
    with pytest.raises(InvalidRequest, match=r"rack|7"):
        check_data(data)


def test_too_much_to_say() -> None:
    """The most data a machine may have does not fit into SMBIOS tables; half of it does."""
    data = check_data({f"k{number}": "x" * 1024 for number in range(64)})
    lines = [f"data.{key}={value}" for key, value in data.items()]
    check_size(lines[:32])
    with pytest.raises(InvalidRequest, match="too much"):
        check_size(lines)
