"""A template's XML becomes a machine's: what two machines cannot share is new, the rest stays."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from macbind.core.errors import InvalidRequest
from macbind.core.mac_address import MacAddress
from macbind.virt.domain_xml import Mark, domain_name, macs_in, mark_in, nvram_in, parse_domain
from macbind.virt.machine_xml import MachineIdentity, console_files
from macbind.virt.template import Disk, Template

UUID_1 = UUID("6b0c7a52-1f6e-4d0f-9f5e-2a2f0d3c4b5a")
MARK = Mark("build-7", "farm", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "speck")
BUILD_7 = MachineIdentity(UUID_1, MacAddress.parse("00:16:3e:01:01:03"), IPv4Address("10.1.1.3"), MARK)
CARD = "<interface type='bridge'><mac address='52:54:00:aa:bb:cc'/><source bridge='br0'/></interface>"


@dataclass(frozen=True)
class Copy:
    """Where a copy of a disk is."""

    pool: str = "images"
    volume: str = "macbind-build-7-vda"
    path: str = "/images/macbind-build-7-vda"
    format: str = "qcow2"


def template(devices: str = CARD, rest: str = "", attributes: str = "type='kvm'") -> str:
    """A domain with these devices."""
    return (
        f"<domain {attributes}><name>web</name><uuid>11111111-2222-4333-8444-555555555555</uuid>"
        f"<memory unit='MiB'>128</memory>{rest}<devices>{devices}</devices></domain>"
    )


def machine(
    xml: str,
    network: str | None = None,
    copies: dict[str, Copy] | None = None,
    *,
    anti_spoofing: bool = False,
) -> Element:
    """The machine that is made of a template."""
    found = Template(xml, network)
    theirs = {disk.target: Copy() for disk in found.disks} | (copies or {})
    made = found.machine(BUILD_7, theirs, anti_spoofing=anti_spoofing)
    return parse_domain(made)


def text(element: Element | None) -> str:
    """An element as text."""
    assert element is not None
    return ElementTree.tostring(element, encoding="unicode")


# -- identity ------------------------------------------------------------------------------------------------


def test_name_uuid_and_mac_are_the_machines() -> None:
    """Nothing of the template's identity is left, wherever it stood."""
    made = machine(
        template(
            rest="<sysinfo type='smbios'><system><entry name='uuid'>11111111-2222-4333-8444-555555555555</entry>"
            "<entry name='serial'>x</entry></system></sysinfo><genid>22222222-2222-4333-8444-555555555555</genid>",
            attributes="type='kvm' id='7'",
        )
    )
    assert made.findtext("name") == "build-7"
    assert made.findtext("uuid") == str(UUID_1)
    assert made.findtext("./sysinfo/system/entry[@name='uuid']") == str(UUID_1)
    assert made.findtext("./sysinfo/system/entry[@name='serial']") == "x"
    assert made.get("id") is None
    assert not made.findtext("genid")
    assert "11111111-2222" not in text(made)
    assert macs_in(text(made)) == {BUILD_7.mac}


def test_name_and_uuid_are_added_where_the_template_has_none() -> None:
    """A template needs neither."""
    made = machine(f"<domain type='kvm'><devices>{CARD}</devices></domain>")
    assert made.findtext("name") == "build-7"
    assert made.findtext("uuid") == str(UUID_1)


def test_a_second_name_does_not_survive() -> None:
    """libvirt would take either."""
    made = machine(template(rest="<name>other</name><uuid>x</uuid>"))
    assert [one.text for one in made.findall("name")] == ["build-7"]
    assert [one.text for one in made.findall("uuid")] == [str(UUID_1)]


def test_a_template_can_be_used_again() -> None:
    """Making one machine leaves nothing in the next."""
    found = Template(template())
    first = found.machine(BUILD_7, {})
    other = MachineIdentity(
        UUID(int=5),
        MacAddress.parse("00:16:3e:01:01:04"),
        IPv4Address("10.1.1.4"),
        Mark("b", "farm", MARK.launched_at),
    )
    second = found.machine(other, {})
    assert macs_in(second) == {other.mac}
    assert "build-7" not in second
    assert found.machine(BUILD_7, {}) == first


def test_a_machine_is_marked() -> None:
    """Whose machine it is can be read back; a machine's XML as a template gives the new machine's mark."""
    made = text(machine(template(rest="<metadata><x xmlns='urn:other'>kept</x></metadata>")))
    assert mark_in(made) == MARK
    assert "kept" in made
    again = Mark("b", "other", MARK.launched_at)
    assert (
        mark_in(Template(made).machine(MachineIdentity(UUID_1, BUILD_7.mac, BUILD_7.address, again), {}))
        == again
    )


@pytest.mark.parametrize(
    "inside",
    [
        "",
        "<metadata/>",
        "<metadata><machine name='a' pool='b' launched='2026-01-01T00:00:00+00:00'/></metadata>",
        "<metadata><m:machine xmlns:m='urn:macbind:machine:1' name='a'/></metadata>",
        "<metadata><m:machine xmlns:m='urn:macbind:machine:1' name='a' pool='b' launched='soon'/></metadata>",
    ],
)
def test_other_domains_have_no_mark(inside: str) -> None:
    """Only a whole mark of our namespace counts."""
    assert mark_in(template(rest=inside)) is None


def test_names_become_domain_names() -> None:
    """What libvirt takes stays; the rest is replaced, and different names stay different."""
    assert domain_name("build-7.a_b") == "build-7.a_b"
    made = {domain_name(name) for name in ("a/b", "a-b", "a:b", "a@b", "a+b")}
    assert len(made) == 5
    assert all(set(name) <= set("abcdef0123456789-.") for name in made)
    assert domain_name("a/b") == domain_name("a/b")


def test_no_name_can_be_chosen_that_has_the_domain_of_another() -> None:
    """A plain name that looks like the domain of another name gets a domain of its own."""
    assert domain_name("team/db") == "team-db.0a6bfbf5"
    chain = ["team/db"]
    for _ in range(5):
        chain.append(domain_name(chain[-1]))
    assert len({domain_name(name) for name in chain}) == len(chain)
    assert domain_name("build.0a6bfbf") == "build.0a6bfbf"


# -- interfaces ----------------------------------------------------------------------------------------------

TWO_CARDS = (
    "<interface type='network'><mac address='52:54:00:00:00:01'/><source network='default' portid='p' "
    "bridge='virbr0'/><target dev='vnet7'/></interface>"
    "<interface type='bridge'><mac address='52:54:00:00:00:02'/><source bridge='br0'/><target dev='tap3'/>"
    "</interface>"
)


@pytest.mark.parametrize(("network", "index"), [("default", 0), ("virbr0", 0), ("br0", 1)])
def test_one_card_gets_the_mac_the_others_none(network: str | None, index: int) -> None:
    """The first card or the one on the network; libvirt invents MACs and taps for the others."""
    cards = machine(template(TWO_CARDS), network).findall("./devices/interface")
    assert [card.find("mac") is not None for card in cards] == [index == 0, index == 1]
    mac = cards[index].find("mac")
    assert mac is not None
    assert mac.get("address") == str(BUILD_7.mac)
    assert all(card.find("target") is None for card in cards)
    assert [card.get("type") for card in cards] == ["network", "bridge"]


def test_nics_on_different_networks_must_be_told_apart() -> None:
    """Which of them gets the address is not guessed; several on one network, by any of its names, leave no doubt."""
    with pytest.raises(
        InvalidRequest, match=r"2 NICs on different networks \(br0, default, virbr0\)"
    ) as refused:
        Template(template(TWO_CARDS))
    assert "--network virbr0" in refused.value.hint
    Template(template(TWO_CARDS.replace("bridge='br0'", "bridge='virbr0'")))
    user = "<interface type='user'/>"
    with pytest.raises(InvalidRequest, match="different networks"):
        Template(template(user + TWO_CARDS.partition("</interface>")[0] + "</interface>"))


def test_an_unknown_network_is_refused() -> None:
    """The message names it, the hint those there are."""
    with pytest.raises(InvalidRequest) as caught:
        Template(template(TWO_CARDS), "br9")
    assert "'br9'" in caught.value.message
    assert caught.value.hint == "Its interfaces are on br0, default, virbr0."


def test_a_template_without_card_is_refused() -> None:
    """It could not have an address."""
    with pytest.raises(InvalidRequest, match="no network interface"):
        Template(template(""))


def test_ports_of_switches_are_new() -> None:
    """Port ids of libvirt and Open vSwitch belong to the template's card; profiles stay."""
    made = text(
        machine(
            template(
                "<interface type='network'><source network='ovs' portid='old-port'/><virtualport type='openvswitch'>"
                "<parameters interfaceid='old-id' profileid='menial'/></virtualport></interface>"
            )
        )
    )
    assert "old-" not in made
    assert "menial" in made


# -- anti-spoofing -------------------------------------------------------------------------------------------


def filters(made: Element) -> list[tuple[str | None, dict[str, str]]]:
    """Each card's filter with its parameters; several of one name with a space between."""
    found = []
    for one in made.iterfind("./devices/interface/filterref"):
        parameters: dict[str, str] = {}
        for parameter in one:
            name, value = parameter.get("name", ""), parameter.get("value", "")
            parameters[name] = f"{parameters[name]} {value}" if name in parameters else value
        found.append((one.get("filter"), parameters))
    return found


OURS = ("macbind-clean-traffic", {"IP": "10.1.1.3", "IPV6": "fe80::216:3eff:fe01:103"})


def test_anti_spoofing_binds_the_card_to_its_address() -> None:
    """macbind's filter with the addresses of this MAC, on the card that has it and no other."""
    assert filters(machine(template(TWO_CARDS), "br0", anti_spoofing=True)) == [OURS]
    assert filters(machine(template(TWO_CARDS), "br0")) == []


def test_ipv6_of_this_mac_passes_the_filter() -> None:
    """Both addresses that the machine makes of its MAC; a machine made of a machine has its own."""
    prefix = IPv6Address("2001:db8:1::216:3eff:fe01:103")
    with_ipv6 = Template(template()).machine(replace(BUILD_7, ipv6=prefix), {}, anti_spoofing=True)
    both = {"IP": "10.1.1.3", "IPV6": f"fe80::216:3eff:fe01:103 {prefix}"}
    assert filters(parse_domain(with_ipv6)) == [("macbind-clean-traffic", both)]
    again = Template(with_ipv6)
    assert again.filter == "macbind-clean-traffic"
    assert filters(parse_domain(again.machine(BUILD_7, {}))) == [OURS]
    standard = CARD.replace("</i", "<filterref filter='clean-traffic'/></i")
    assert filters(machine(template(standard), anti_spoofing=True)) == [OURS]
    assert filters(machine(template(standard))) == [("clean-traffic", {})]


def test_a_filter_of_the_template_stays_and_gets_the_address() -> None:
    """Its IP and MAC parameters were another machine's; others are kept, and none is invented."""
    card = (
        "<interface type='bridge'><source bridge='br0'/><filterref filter='mine'><parameter name='MAC' "
        "value='52:54:00:aa:bb:cc'/>{ip}<parameter name='DHCPSERVER' value='10.0.0.1'/></filterref></interface>"
    )
    ours = {"IP": "10.1.1.3", "DHCPSERVER": "10.0.0.1"}
    stale = template(card.format(ip="<parameter name='IP' value='10.9.9.9'/>"))
    assert filters(machine(stale)) == [("mine", ours)]
    assert filters(machine(template(card.format(ip="")))) == [("mine", {"DHCPSERVER": "10.0.0.1"})]
    assert filters(machine(template(card.format(ip="")), anti_spoofing=True)) == [("mine", ours)]
    assert Template(stale).filter == "mine"
    assert Template(template()).filter == "macbind-clean-traffic"


# -- disks ---------------------------------------------------------------------------------------------------

FILE_DISK = (
    "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/><source file='/t/web.img' "
    "index='1'/><backingStore type='file'><format type='raw'/><source file='/t/base.img'/></backingStore>"
    "<target dev='vda' bus='virtio'/><serial>S1</serial></disk>"
)
VOLUME_DISK = "<disk type='volume'><source pool='t' volume='web.img'/><target dev='vdb'/></disk>"
KEPT_DISKS = (
    "<disk type='file' device='cdrom'><source file='/t/cd.iso'/><target dev='sda'/><readonly/></disk>"
    "<disk type='file' device='cdrom'><target dev='sdb'/></disk>"
    "<disk type='file' device='floppy'><source file='/t/f.img'/><target dev='fda'/></disk>"
    "<disk type='file'><source file='/t/ro.img'/><target dev='vdc'/><readonly/></disk>"
    "<disk type='network'><source protocol='rbd' name='a/b'/><target dev='vdd'/><shareable/></disk>"
)


def test_the_disks_to_copy() -> None:
    """Those a machine writes to; CD-ROMs, floppies, read-only and shared ones stay as they are."""
    assert Template(template(CARD + FILE_DISK + VOLUME_DISK + KEPT_DISKS)).disks == (
        Disk("vda", "/t/web.img", None, "raw"),
        Disk("vdb", None, ("t", "web.img"), None),
    )


@pytest.mark.parametrize(
    ("driver", "read_as", "copied_to", "attached"),
    [
        ("name='qemu' type='raw'", "raw", "qcow2", ("qemu", "qcow2")),
        ("name='phy' type='raw'", "raw", "qcow2", ("qemu", "qcow2")),
        ("name='file' type='raw'", "raw", "qcow2", ("qemu", "qcow2")),
        ("name='tap' type='aio'", "raw", "qcow2", ("qemu", "qcow2")),
        ("name='tap2' type='aio'", "raw", "raw", ("qemu", "raw")),
        ("name='phy' type='raw'", "raw", "raw", ("phy", "raw")),
        ("name='file'", None, "raw", ("file", "raw")),
    ],
)
def test_copies_of_xens_disks_are_attached_by_what_reads_them(
    driver: str, read_as: str | None, copied_to: str, attached: tuple[str, str]
) -> None:
    """Xen's own drivers know plain disks only: an overlay needs QEMU's; aio is no format of an image."""
    disk = f"<disk type='file'><driver {driver}/><source file='/i/a'/><target dev='xvda'/></disk>"
    found = Template(template(CARD + disk))
    assert found.disks[0].format == read_as
    made = machine(template(CARD + disk), copies={"xvda": Copy(format=copied_to)}).find(
        "./devices/disk/driver"
    )
    assert made is not None
    assert (made.get("name"), made.get("type")) == attached


def test_disks_are_replaced_by_their_copies() -> None:
    """File or volume, format, and no trace of the original's own backing chain; the rest of the disk stays."""
    made = machine(template(CARD + FILE_DISK + VOLUME_DISK + KEPT_DISKS))
    first, second, *kept = made.findall("./devices/disk")
    assert text(first) == (
        '<disk type="file" device="disk"><driver name="qemu" type="qcow2" cache="none" />'
        '<source file="/images/macbind-build-7-vda" /><target dev="vda" bus="virtio" /><serial>S1</serial></disk>'
    )
    assert text(second) == (
        '<disk type="volume"><driver name="qemu" type="qcow2" />'
        '<source pool="images" volume="macbind-build-7-vda" /><target dev="vdb" /></disk>'
    )
    before = parse_domain(template(KEPT_DISKS)).findall("./devices/disk")
    assert [text(one) for one in kept] == [text(one) for one in before]


@pytest.mark.parametrize(
    ("disk", "said"),
    [
        (
            "<disk type='block'><source dev='/dev/vg/web'/><target dev='vda'/></disk>",
            "neither a file nor a volume",
        ),
        (
            "<disk type='network'><source protocol='rbd' name='a'/><target dev='vda'/></disk>",
            "neither a file",
        ),
        ("<disk type='file'><target dev='vda'/></disk>", "neither a file"),
        ("<disk type='volume'><source pool='a'/><target dev='vda'/></disk>", "neither a file"),
        ("<disk type='file'><source file='/a'/></disk>", "target ''"),
        ("<disk type='file'><source file='/a'/><target dev='../../etc/x'/></disk>", "target '../../etc/x'"),
        ("<disk type='file'><source file='/a'/><target dev='vda-b'/></disk>", "target 'vda-b'"),
        ("<disk type='file'><source file='/a'><encryption/></source><target dev='vda'/></disk>", "encrypted"),
        ("<disk type='file'><source file='/a'/><encryption/><target dev='vda'/></disk>", "encrypted"),
        (FILE_DISK + FILE_DISK, "two disks vda"),
    ],
)
def test_disks_that_cannot_be_copied_are_refused(disk: str, said: str) -> None:
    """Before anything is made."""
    with pytest.raises(InvalidRequest) as caught:
        Template(template(CARD + disk))
    assert said in caught.value.message
    assert caught.value.hint


# -- leftovers of a running domain ---------------------------------------------------------------------------


def test_what_the_host_allots_is_allotted_anew() -> None:
    """Aliases, terminals, ports, CIDs and labels of the running template are gone; the user's aliases stay."""
    made = text(
        machine(
            template(
                CARD.replace("</interface>", "<alias name='net0'/></interface>")
                + "<controller type='scsi'><alias name='ua-mine'/></controller>"
                "<serial type='pty'><source path='/dev/pts/4'/><target port='0'/></serial>"
                "<console type='pty' tty='/dev/pts/4'><source path='/dev/pts/4'/></console>"
                "<graphics type='vnc' port='5900' autoport='yes' websocket='5700'/>"
                "<graphics type='spice' port='5999' tlsPort='5998' autoport='no' passwd='secret'/>"
                "<graphics type='vnc' socket='/run/old-vnc.sock'><listen type='socket' "
                "socket='/run/old-vnc.sock'/></graphics>"
                "<vsock model='virtio'><cid auto='no' address='77'/></vsock>",
                "<seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+64055</label></seclabel>",
            )
        )
    )
    for old in ("net0", "/dev/pts", "5900", "5700", "5999", "5998", "old-vnc", "77", "64055"):
        assert old not in made, old
    for kept in ("ua-mine", "secret", 'autoport="yes"', 'websocket="-1"', 'cid auto="yes"', 'model="dac"'):
        assert kept in made, kept


def test_files_and_sockets_of_consoles_are_each_machines_own() -> None:
    """Two machines cannot write one log; libvirt makes sockets of channels, others get the machine's name."""
    made = machine(
        template(
            CARD + "<serial type='file'><source path='/log/console.log'/></serial>"
            "<serial type='pty'><log file='/log/second' append='off'/></serial>"
            "<serial type='file'><source path='/dev/null'/></serial>"
            "<serial type='unix'><source mode='bind' path='/run/s.sock'/></serial>"
            "<serial type='unix'><source mode='connect' path='/run/collector.sock'/></serial>"
            "<channel type='unix'><source mode='bind' path='/lib/domain-7-web/agent.0'/></channel>"
        )
    )
    paths = [one.get("path") or one.get("file") for one in made.iter() if one.tag in ("source", "log")]
    assert paths[1:] == [
        "/log/console.build-7.log",
        "/log/second.build-7",
        "/dev/null",
        "/run/s.build-7.sock",
        "/run/collector.sock",
        None,
    ]
    assert console_files(text(made)) == ("/log/console.build-7.log", "/log/second.build-7", "/dev/null")


@pytest.mark.parametrize(
    ("nvram", "made"),
    [
        ("<nvram>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram>", None),
        ("<nvram template='/T.fd'>/nvram/web_VARS.fd</nvram>", '<nvram template="/T.fd" />'),
        ("<nvram type='file' template='/T.fd'><source file='/w'/></nvram>", '<nvram template="/T.fd" />'),
    ],
)
def test_uefi_variables_are_new(nvram: str, made: str | None) -> None:
    """libvirt makes the file anew from its template."""
    xml = template(rest=f"<os><loader>/code.fd</loader>{nvram}<type>hvm</type></os>")
    found = machine(xml).find("./os/nvram")
    assert (None if found is None else text(found)) == made
    assert nvram_in(text(machine(xml))) is None


def test_nvram_in_reads_the_file() -> None:
    """Only a file that is named can be left behind."""
    assert nvram_in(template(rest="<os><nvram> /n/web.fd\n</nvram></os>")) == "/n/web.fd"
    assert nvram_in(template()) is None


def test_foreign_namespaces_stay() -> None:
    """QEMU's own arguments are passed on."""
    made = machine(
        template(
            rest="<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='-x'/>"
            "</q:commandline>"
        )
    )
    arg = made.find(".//{http://libvirt.org/schemas/domain/qemu/1.0}arg")
    assert arg is not None
    assert arg.get("value") == "-x"
    assert "qemu:arg" in Template(text(made)).machine(BUILD_7, {})


# -- hostile texts -------------------------------------------------------------------------------------------

LAUGHS = (
    "<!DOCTYPE d [<!ENTITY a 'ha'>"
    + "".join(f"<!ENTITY {b} '{f'&{a};' * 50}'>" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]><domain><name>&i;</name></domain>"
)


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<",
        "no XML at all",
        "<domain>",
        "<domain></network>",
        "<network/>",
        "<domain/><domain/>",
        "<domain a='1' a='2'/>",
        "<domain>\x00</domain>",
        "<domain>\ud800</domain>",
        "<domain>&nbsp;</domain>",
        "<x:domain/>",
        "<domain xmlns='urn:x'/>",
        "<!DOCTYPE domain SYSTEM 'file:///etc/passwd'><domain/>",
        "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain><name>&x;</name></domain>",
        LAUGHS,
        "<domain>" + "<a>" * 200_000,
        "<domain>" + "<a>" * 200 + "</a>" * 200 + "</domain>",
    ],
)
def test_hostile_xml_is_refused(xml: str) -> None:
    """With a typed error, quickly, whatever it is."""
    with pytest.raises(InvalidRequest):
        parse_domain(xml)
    with pytest.raises(InvalidRequest):
        Template(xml)
