"""One network interface in domain XML: found, described anew for another address, and kept on record."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv6Address
from uuid import uuid4
from xml.etree import ElementTree

import pytest

from macbind.core.errors import Conflict
from macbind.core.mac_address import MacAddress
from macbind.virt.domain_reader import RECORD_NAMESPACE
from macbind.virt.domain_xml import Mark
from macbind.virt.machine_xml import MachineIdentity
from macbind.virt.nic_xml import (
    NicAddress,
    distrust,
    exchanged,
    nic_in,
    record,
    recorded,
    redefined,
    unplugged_macs,
)
from macbind.virt.template import Template

OLD = NicAddress(MacAddress.parse("00:16:3e:01:01:03"), IPv4Address("10.1.1.3"))
NEW = NicAddress(MacAddress.parse("00:16:3e:01:01:09"), IPv4Address("10.1.1.9"))
KEPT = """
      <source network="farm"/>
      <model type="e1000e"/>
      <mtu size="9000"/>
      <boot order="1"/>
      <filterref filter="{filter}"><parameter name="IP" value="{ip}"/><parameter name="MAC" value="{mac}"/>
        <parameter name="IP" value="10.1.1.200"/><parameter name="DHCPSERVER" value="10.0.0.1"/></filterref>
      <alias name="ua-first"/>
      <address type="pci" domain="0x0000" bus="0x01" slot="0x00" function="0x0"/>"""
RUNNING = f"""<domain type="kvm"><name>web</name><devices>
    <interface type="bridge"><mac address="52:54:00:00:00:01"/><source bridge="br1"/></interface>
    <interface type="network"><mac address="00:16:3E:01:01:03"/>
      {
    KEPT.format(filter="clean-traffic", ip=OLD.address, mac=OLD.mac).replace(
        '<source network="farm"/>',
        '<source network="farm" portid="4f0e9b1e" bridge="virbr0"/><target dev="vnet7"/><alias name="net1"/>',
    )
}
    </interface></devices></domain>"""


def flat(xml: str) -> list[tuple[str, dict[str, str]]]:
    """Tags and attributes in their order."""
    return [(element.tag, dict(element.attrib)) for element in ElementTree.fromstring(xml).iter()]  # noqa: S314


def nic() -> str:
    """The interface of the running domain."""
    found = nic_in(RUNNING, OLD.mac)
    assert found is not None
    return found


def test_a_nic_is_found_by_its_mac() -> None:
    """However the MAC is spelled; one that is not there is None, and two are refused."""
    assert 'portid="4f0e9b1e"' in nic()
    assert nic_in(RUNNING, NEW.mac) is None
    with pytest.raises(Conflict, match="2 NICs"):
        nic_in(RUNNING.replace("52:54:00:00:00:01", str(OLD.mac)), OLD.mac)


def test_what_is_plugged_in_differs_by_mac_and_address_only() -> None:
    """Network, model, slot and filter stay; what libvirt added while it ran is left out."""
    wanted = KEPT.format(filter="clean-traffic", ip=NEW.address, mac=NEW.mac)
    assert flat(exchanged(nic(), OLD, NEW)) == flat(
        f'<interface type="network"><mac address="{NEW.mac}"/>{wanted}</interface>'
    )


def test_exchanging_back_gives_the_old_nic() -> None:
    """What is plugged in after a renumbering that failed is what was there."""
    there = exchanged(nic(), OLD, NEW)
    assert flat(exchanged(there, NEW, OLD)) == flat(exchanged(nic(), OLD, OLD))


@pytest.mark.parametrize(
    ("target", "stays"), [("vnet0", False), ("macvtap3", False), ("tap-web", True), ("vnet-web", True)]
)
def test_a_tap_device_named_by_the_user_keeps_its_name(target: str, stays: bool) -> None:
    """One that libvirt named gets another name."""
    xml = f'<interface type="bridge"><mac address="{OLD.mac}"/><target dev="{target}"/></interface>'
    assert (f'dev="{target}"' in exchanged(xml, OLD, NEW)) == stays


def test_a_definition_changes_in_one_place() -> None:
    """Everything else is as it was; a definition without the NIC is none to change."""
    again = redefined(RUNNING, OLD, NEW)
    assert again is not None
    assert flat(again) == flat(
        RUNNING.replace("00:16:3E:01:01:03", str(NEW.mac))
        .replace(str(OLD.mac), str(NEW.mac))
        .replace(f'"{OLD.address}"', f'"{NEW.address}"')
    )
    assert redefined(RUNNING, NEW, OLD) is None


def test_ipv6_that_was_made_of_the_old_mac_is_made_of_the_new() -> None:
    """The filter's link-local address and that of the prefix follow the MAC; another machine's stays."""
    old = replace(OLD, ipv6=IPv6Address("2001:db8:1::216:3eff:fe01:103"))
    new = replace(NEW, ipv6=IPv6Address("2001:db8:2::216:3eff:fe01:109"))
    values = ("fe80::216:3eff:fe01:103", "2001:db8:1::216:3eff:fe01:103", "2001:db8:1::99", "none")
    parameters = "".join(f"<parameter name='IPV6' value='{value}'/>" for value in values)
    inside = f"<mac address='{OLD.mac}'/><filterref filter='f'>{parameters}</filterref>"
    xml = f"<interface type='bridge'>{inside}</interface>"

    def found(new: NicAddress) -> list[str]:
        made = ElementTree.fromstring(exchanged(xml, old, new))  # noqa: S314  # ours
        return [one.get("value", "") for one in made.iter("parameter")]

    rest = ["2001:db8:1::99", "none"]
    assert found(new) == ["fe80::216:3eff:fe01:109", "2001:db8:2:0:216:3eff:fe01:109", *rest]
    assert found(NEW) == ["fe80::216:3eff:fe01:109", "2001:db8:1:0:216:3eff:fe01:109", *rest]


def recorded_by_libvirt() -> str:
    """The record of `web`, as libvirt gives it back."""
    return record("web", nic()).replace("<renumber", f'<renumber xmlns="{RECORD_NAMESPACE}"', 1)


def test_a_record_is_read_as_libvirt_keeps_it() -> None:
    """libvirt puts all of it into the record's namespace; another renumbering's record is not ours."""
    xml = f"<domain><metadata>{recorded_by_libvirt()}</metadata><devices/></domain>"
    found = recorded(xml, "web")
    assert found is not None
    assert flat(found) == flat(nic())
    assert recorded(xml, "db") is None
    assert recorded(RUNNING, "web") is None


def test_a_copy_of_a_machine_that_is_being_renumbered_is_not() -> None:
    """A machine launched from it has lost no NIC of its own."""
    kept = '<interface type="bridge"><source bridge="br0"/></interface>'
    xml = (
        f"<domain><name>web</name><metadata>{recorded_by_libvirt()}</metadata><os><type>hvm</type></os>"
        f"<devices>{kept}</devices></domain>"
    )
    mark = Mark("db", "farm", datetime.now(UTC))
    copy = Template(xml).machine(MachineIdentity(uuid4(), NEW.mac, NEW.address, mark), {})
    assert unplugged_macs(xml) == {OLD.mac}
    assert unplugged_macs(copy) == frozenset()


def test_what_was_unplugged_is_known_by_its_mac() -> None:
    """Whoever renumbered it; a domain without a record has lost nothing."""
    xml = f"<domain><metadata>{recorded_by_libvirt()}</metadata><devices/></domain>"
    assert unplugged_macs(xml) == {OLD.mac}
    assert unplugged_macs(RUNNING) == frozenset()


PLAIN = f'<interface type="bridge"><mac address="{OLD.mac}"/><source bridge="br0"/></interface>'
FORGED = [
    (PLAIN.replace(">", "><script path='/tmp/x.sh'/>", 1), "it has a <script>"),
    (PLAIN.replace(">", "><backend tap='/tmp/x'/>", 1), "it has a <backend>"),
    (PLAIN.replace(">", "><rom file='/etc/shadow'/>", 1), "it has a <rom>"),
    (PLAIN.replace("bridge", "ethernet", 1), "its type is 'ethernet'"),
    (PLAIN.replace("bridge", "hostdev", 1), "its type is 'hostdev'"),
    (PLAIN.replace("bridge", "vhostuser", 1), "its type is 'vhostuser'"),
    (PLAIN.replace(str(OLD.mac), "52:54:00:66:66:66"), "its MAC is none of the renumbering"),
    (PLAIN.replace("<mac ", "<mac address='52:54:00:66:66:66'/><mac "), "its MAC is none of the renumbering"),
    (PLAIN.replace("br0", "br-management"), "it is connected to something else"),
    (PLAIN.replace("</i", "<vlan><tag id='7'/></vlan></i"), "it is connected to something else"),
]


@pytest.mark.parametrize(("nic", "why"), FORGED, ids=[why for _, why in FORGED])
def test_forged_record_is_not_plugged_in(nic: str, why: str) -> None:
    """Whoever may write a domain's metadata can run no program, open no file and reach no other network by it."""
    definition = f"<domain><devices>{PLAIN.replace(str(OLD.mac), str(NEW.mac))}</devices></domain>"
    doubt = distrust(nic, frozenset({OLD.mac, NEW.mac}), definition)
    assert doubt is not None
    assert why in doubt


def test_own_record_is_plugged_in() -> None:
    """What was written before the NIC was unplugged is trusted, with and without a definition to compare it with."""
    macs = frozenset({OLD.mac, NEW.mac})
    kept = recorded(f"<domain><metadata>{recorded_by_libvirt()}</metadata><devices/></domain>", "web")
    assert kept is not None
    assert distrust(kept, macs, None) is None
    assert distrust(kept, macs, RUNNING) is None
    assert distrust(PLAIN, macs, f"<domain><devices>{PLAIN}</devices></domain>") is None
