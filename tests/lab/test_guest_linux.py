"""Real machines without a DHCP server: each finds its address by its MAC, or by what the host says, or refuses."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from labkit.guest import BOOT_DEADLINE_S, Guest, boot, greeting, tcp_answers, wait_ping
from labkit.mac2ip import SCHEMES
from labkit.net import Lab
from labkit.virt import Console, Libvirtd
from labkit.wait import until
from macbind.guest.linux import CHANNELS, render

STATUS = re.compile(r"guest: mac2ip ended with status (\d+)\s")
FOREIGN = "02:00:00:00:00:77"
"""A MAC that no pool has, of a machine whose address the host tells."""

IDENTITY = """\
mac={mac}
address={address}/8
gateway=10.9.9.9
dns=10.9.9.53 10.9.9.54
search=told.example.org
hostname=told
data.role=worker bee
"""


def fwcfg(xml: str, lines: str) -> str:
    """A domain that hands the lines over as a firmware file."""
    file = f"<entry name='opt/org.macbind/identity'>{lines}</entry>"
    return xml.replace("<devices>", f"<sysinfo type='fwcfg'>{file}</sysinfo>\n  <devices>")


def smbios(xml: str, lines: str) -> str:
    """A domain that hands the lines over as OEM strings, among others."""
    strings = ["somebody else's", *(f"macbind:{line}" for line in lines.splitlines())]
    entries = "".join(f"<entry>{one}</entry>" for one in strings)
    told = f"<sysinfo type='smbios'><oemStrings>{entries}</oemStrings></sysinfo>"
    xml = xml.replace("<devices>", f"{told}\n  <devices>")
    return xml.replace("</os>", "<smbios mode='sysinfo'/></os>")


@dataclass(frozen=True)
class Machines:
    """All guests of this module, running, by their names."""

    lab: Lab
    consoles: Mapping[str, Console]

    def status(self, name: str) -> int:
        """With which status the guest's script ended."""
        console = self.consoles[name]
        try:
            until(lambda: STATUS.search(console.text()), BOOT_DEADLINE_S, f"the script of {name} to end")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; its console ends:\n{console.tail()}") from None
        found = STATUS.search(console.text())
        assert found is not None
        return int(found[1])

    def says(self, name: str, address: str) -> list[str]:
        """What a guest says of itself at this address, once its script has done all it does, which is not at once."""
        assert self.status(name) == 0, self.consoles[name].tail()
        wait_ping(self.lab, address, BOOT_DEADLINE_S, console=self.consoles[name])
        return greeting(self.lab, address).splitlines()


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Clones of one image on a bridge without a DHCP server, all started at once."""
    place = tmp_path_factory.mktemp("guests")
    image = Guest.build().with_files(place / "clone.cpio", {"mac2ip": render(SCHEMES, channels=CHANNELS)})
    with Lab() as lab, Libvirtd(lab, place / "virt") as libvirtd:
        squatter = lab.port("squatter", "02:00:00:00:00:99")
        squatter.add_address("10.1.1.9/8")
        told = IDENTITY.format(mac=FOREIGN, address="10.2.0.7")
        other = IDENTITY.format(mac="02:00:00:00:00:78", address="10.2.0.8")
        guests = {
            "web": image.template(name="web", mac="00:16:3e:01:01:03"),
            "db": image.template(name="db", mac="00:16:3e:01:01:04", options="--hostname=vm-%"),
            "foreign": image.template(name="foreign", mac="b8:27:eb:01:01:05", options="--wait=0"),
            "late": image.template(name="late", mac="00:16:3e:01:01:09"),
            "told": fwcfg(image.template(name="told", mac=FOREIGN), told),
            "oem": smbios(image.template(name="oem", mac="02:00:00:00:00:78"), other),
            "copy": fwcfg(smbios(image.template(name="copy", mac="00:16:3e:01:01:06"), told), told),
        }
        yield Machines(lab, {name: boot(libvirtd, xml) for name, xml in guests.items()})


def test_clones_of_one_image_have_the_addresses_of_their_macs(machines: Machines) -> None:
    """Two machines of one image, different in their MACs only, answer pings and TCP at their addresses."""
    web = machines.says("web", "10.1.1.3")
    assert "eth0 10.1.1.3/8 00:16:3e:01:01:03" in web
    assert "gateway=10.1.0.1" in web
    db = machines.says("db", "10.1.1.4")
    assert db[0] == "vm-10-1-1-4"
    assert "eth0 10.1.1.4/8 00:16:3e:01:01:04" in db
    assert tcp_answers(machines.lab, "10.1.1.3")


def test_machine_with_a_foreign_mac_configures_nothing(machines: Machines) -> None:
    """It says which MACs it would know, and ends with status 3."""
    assert machines.status("foreign") == 3
    said = machines.consoles["foreign"].text()
    assert "No NIC has a MAC of the pools, which begin with 00:16:3e, 52:54:00, 0a:58." in said
    assert "eth0=b8:27:eb:01:01:05" in said


def test_machine_whose_address_is_taken_refuses_it(machines: Machines) -> None:
    """It names the machine that answered, ends with status 5, and the other goes on answering."""
    assert machines.status("late") == 5
    said = machines.consoles["late"].text()
    assert "another machine (02:00:00:00:00:99) has 10.1.1.9, the address of 00:16:3e:01:01:09." in said
    assert machines.lab.ping("10.1.1.9")
    neighbour = machines.lab.run(["ip", "neigh", "show", "10.1.1.9"]).stdout
    assert "02:00:00:00:00:99" in neighbour


@pytest.mark.parametrize(
    ("name", "mac", "address"),
    [("told", FOREIGN, "10.2.0.7"), ("oem", "02:00:00:00:00:78", "10.2.0.8")],
    ids=["QEMU firmware file", "SMBIOS OEM strings"],
)
def test_the_hosts_word_counts_for_any_mac(machines: Machines, name: str, mac: str, address: str) -> None:
    """A machine whose MAC is of no pool has what the host told it, its name and its data included."""
    said = machines.says(name, address)
    assert said[0] == "told"
    assert f"eth0 {address}/8 {mac}" in said
    assert "data.role=worker bee" in said


def test_copied_identity_is_not_used(machines: Machines) -> None:
    """A machine that was copied with the identity of another says so of each channel, and follows its MAC."""
    assert "eth0 10.1.1.6/8 00:16:3e:01:01:06" in machines.says("copy", "10.1.1.6")
    said = machines.consoles["copy"].text()
    for channel in ("fw_cfg", "smbios"):
        assert f"What {channel} says is not used: it is about {FOREIGN}" in said
