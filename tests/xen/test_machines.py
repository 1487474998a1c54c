"""macbind on a real Xen: PV guests that libvirt starts, with the real Xenstore, and dhcpd beside them in domain 0."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from labkit.guest import Guest, greeting, tcp_answers, wait_ping
from labkit.wait import until
from labkit.xen import LOOK_S, Xen, guest, template
from labkit.xen_farm import XenFarm

BOOT_S = 800.0
SAID_S = 600.0
# Reboots a domain, and defines it again while it is off, which has macbind look at it just then.
REBOOT = """
import json, libvirt, subprocess, sys
from labkit.wait import until

xen = libvirt.open("xen:///system")
domain = xen.lookupByName(sys.argv[1])
status = "curl --silent --unix-socket /run/macbind/macbind.sock http://macbind/v1/status".split()

def is_missed():
    seen = json.loads(subprocess.run(status, capture_output=True, check=True).stdout)
    return "domain_missing" in [one["code"] for one in seen["findings"]]

domain.reboot()
until(lambda: not domain.isActive(), 300, "the domain to end", pause_s=0.2)
xen.defineXML(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
until(is_missed, 300, "macbind to miss the domain", pause_s=0.2)
print("off while it was missed:", not domain.isActive())
until(domain.isActive, 300, "the domain to run again", pause_s=1)
"""


@pytest.fixture(scope="module")
def dhcp_guest(farm: XenFarm) -> Guest:
    """A PV guest that asks for its address by DHCP."""
    return guest(farm.xen.directory / "guest.cpio")


@pytest.fixture
def define(farm: XenFarm) -> Callable[[str, str], Path]:
    """Writes a domain's XML to a file that domain 0 can read."""

    def write(name: str, xml: str) -> Path:
        file = farm.xen.directory / f"{name}.xml"
        file.write_text(xml)
        return file

    return write


def wait_up(xen: Xen, address: str, name: str) -> None:
    """Waits until a guest answers at its address."""
    try:
        wait_ping(xen.lab, address, BOOT_S)
        until(lambda: tcp_answers(xen.lab, address), BOOT_S, f"{name} to greet")
    except TimeoutError as error:
        error.add_note(xen.guest_console(name))
        raise


def wait_released(farm: XenFarm, name: str) -> None:
    """Waits until nobody holds an address under this name."""
    until(
        lambda: name not in farm.addresses(), SAID_S, f"the address of {name} to be released", pause_s=LOOK_S
    )


def test_a_guest_gets_its_address_and_its_end_frees_it(
    farm: XenFarm, dhcp_guest: Guest, define: Callable[[str, str], Path]
) -> None:
    """dhcpd gives a PV guest exactly the address of its allocation; `virsh destroy` frees it for the next."""
    farm.allocate("web", "10.1.1.3")
    xml = template(dhcp_guest, name="web", mac="00:16:3e:01:01:03")
    farm.xen.virsh("create", str(define("web", xml)))
    wait_up(farm.xen, "10.1.1.3", "web")
    assert "10.1.1.3/8 00:16:3e:01:01:03" in greeting(farm.xen.lab, "10.1.1.3")
    assert "lease of 10.1.1.3 obtained from 10.0.0.2" in farm.xen.guest_console("web")
    farm.xen.virsh("destroy", "web")
    wait_released(farm, "web")
    farm.allocate("next", "10.1.1.3")
    assert farm.addresses()["next"] == "10.1.1.3"


@pytest.mark.invariant(10)
def test_pause_save_and_reboot_free_nothing(
    farm: XenFarm, dhcp_guest: Guest, define: Callable[[str, str], Path]
) -> None:
    """Xen ends the domain at a save and at a reboot, and macbind looks right then: the address is kept each time."""
    xen = farm.xen
    farm.allocate("victim", "10.1.1.7")
    xml = template(dhcp_guest, name="victim", mac="00:16:3e:01:01:07")
    xen.virsh("define", str(define("victim", xml)))
    xen.virsh("start", "victim")
    wait_up(xen, "10.1.1.7", "victim")
    saved = ("save victim /root/victim", "restore /root/victim", "managedsave victim", "start victim")
    for command in ("suspend victim", "resume victim", *saved):
        xen.virsh(*command.split())
        assert farm.addresses()["victim"] == "10.1.1.7", command
    wait_up(xen, "10.1.1.7", "victim")
    said = xen.run(f"PYTHONPATH={xen.project}/tests python3 -c {shlex.quote(REBOOT)} victim", deadline_s=1000)
    assert "off while it was missed: True" in said
    wait_up(xen, "10.1.1.7", "victim")
    what = "macbind to see that the domain runs"
    until(lambda: farm.ask("status")["findings"] == [], SAID_S, what, pause_s=LOOK_S)
    assert farm.addresses()["victim"] == "10.1.1.7"
    xen.virsh("destroy", "victim")
    wait_released(farm, "victim")


def test_a_launched_machine_reads_in_xenstore_who_it_is(
    farm: XenFarm, define: Callable[[str, str], Path]
) -> None:
    """`vm launch` tells a machine without DHCP by the channel xenstore; the guest script reads all of it."""
    script = farm.outside("guest-script", "linux", "--channels", "xenstore")
    told = guest(farm.xen.directory / "told.cpio", {"mac2ip": script})
    file = define("template", template(told))
    awkward = 'a,b="c" \\ %'
    launch = ["vm", "launch", str(file), "farm", "clerk", "--uri", "xen:///system", "--channel", "xenstore"]
    data = ["--data", "role=worker", "--data", f"role.of.it={awkward}"]
    farm.macbind(*launch, *data, "--timeout", "1200", deadline_s=1300)
    address = farm.addresses()["clerk"]
    wait_up(farm.xen, address, "clerk")
    lines = greeting(farm.xen.lab, address).splitlines()
    assert {f"address={address}/8", "data.role=worker", f"data.role.of.it={awkward}"} <= set(lines)
    assert f"{address}/8 gateway 10.0.0.1 (xenstore)" in farm.xen.guest_console("clerk")
    number = farm.xen.virsh("domid", "clerk").strip()
    nodes = farm.xen.run(f"xenstore-ls -f -p /local/domain/{number}/vm-data/macbind").splitlines()
    assert nodes
    assert all(node.endswith(f"(n0,r{number})") for node in nodes)
    farm.macbind("vm", "destroy", "clerk", "--uri", "xen:///system", deadline_s=1200)
    assert "clerk" not in farm.addresses()
