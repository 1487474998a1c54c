"""One network interface in domain XML: found, described anew for another address, and kept on record."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import IPv4Address
from uuid import uuid4
from xml.etree import ElementTree

import pytest

from macbind.addressing import MacAddress
from macbind.errors import Conflict
from macbind.virt.domain import RECORD_NAMESPACE, Mark
from macbind.virt.interface import (
    Place,
    card_in,
    exchanged,
    record,
    recorded,
    redefined,
    unplugged_macs,
)
from macbind.virt.template import Identity, Template

OLD = Place(MacAddress.parse("00:16:3e:01:01:03"), IPv4Address("10.1.1.3"))
NEW = Place(MacAddress.parse("00:16:3e:01:01:09"), IPv4Address("10.1.1.9"))
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


def card() -> str:
    """The interface of the running domain."""
    found = card_in(RUNNING, OLD.mac)
    assert found is not None
    return found


def test_a_card_is_found_by_its_mac() -> None:
    """However the MAC is spelled; one that is not there is None, and two are refused."""
    assert 'portid="4f0e9b1e"' in card()
    assert card_in(RUNNING, NEW.mac) is None
    with pytest.raises(Conflict, match="2 interfaces"):
        card_in(RUNNING.replace("52:54:00:00:00:01", str(OLD.mac)), OLD.mac)


def test_what_is_plugged_in_differs_by_mac_and_address_only() -> None:
    """Network, model, slot and filter stay; what libvirt added while it ran is left out."""
    wanted = KEPT.format(filter="clean-traffic", ip=NEW.address, mac=NEW.mac)
    assert flat(exchanged(card(), OLD, NEW)) == flat(
        f'<interface type="network"><mac address="{NEW.mac}"/>{wanted}</interface>'
    )


def test_exchanging_back_gives_the_old_card() -> None:
    """What is plugged in after a move that failed is what was there."""
    there = exchanged(card(), OLD, NEW)
    assert flat(exchanged(there, NEW, OLD)) == flat(exchanged(card(), OLD, OLD))


@pytest.mark.parametrize(
    ("target", "stays"), [("vnet0", False), ("macvtap3", False), ("tap-web", True), ("vnet-web", True)]
)
def test_a_tap_device_named_by_the_user_keeps_its_name(target: str, stays: bool) -> None:
    """One that libvirt named gets another name."""
    xml = f'<interface type="bridge"><mac address="{OLD.mac}"/><target dev="{target}"/></interface>'
    assert (f'dev="{target}"' in exchanged(xml, OLD, NEW)) == stays


def test_a_definition_changes_in_one_place() -> None:
    """Everything else is as it was; a definition without the card is none to change."""
    again = redefined(RUNNING, OLD, NEW)
    assert again is not None
    assert flat(again) == flat(
        RUNNING.replace("00:16:3E:01:01:03", str(NEW.mac))
        .replace(str(OLD.mac), str(NEW.mac))
        .replace(f'"{OLD.address}"', f'"{NEW.address}"')
    )
    assert redefined(RUNNING, NEW, OLD) is None


def recorded_by_libvirt() -> str:
    """The record of `web`, as libvirt gives it back."""
    return record("web", card()).replace("<move", f'<move xmlns="{RECORD_NAMESPACE}"', 1)


def test_a_record_is_read_as_libvirt_keeps_it() -> None:
    """libvirt puts all of it into the record's namespace; another move's record is not ours."""
    xml = f"<domain><metadata>{recorded_by_libvirt()}</metadata><devices/></domain>"
    found = recorded(xml, "web")
    assert found is not None
    assert flat(found) == flat(card())
    assert recorded(xml, "db") is None
    assert recorded(RUNNING, "web") is None


def test_a_copy_of_a_machine_that_is_being_moved_is_not() -> None:
    """A machine launched from it has lost no card of its own."""
    kept = '<interface type="bridge"><source bridge="br0"/></interface>'
    xml = (
        f"<domain><name>web</name><metadata>{recorded_by_libvirt()}</metadata><os><type>hvm</type></os>"
        f"<devices>{kept}</devices></domain>"
    )
    mark = Mark("db", "farm", datetime.now(UTC))
    copy = Template(xml).machine(Identity(uuid4(), NEW.mac, NEW.address, mark), {})
    assert unplugged_macs(xml) == {OLD.mac}
    assert unplugged_macs(copy) == frozenset()


def test_what_was_unplugged_is_known_by_its_mac() -> None:
    """Whoever moved it; a domain without a record has lost nothing."""
    xml = f"<domain><metadata>{recorded_by_libvirt()}</metadata><devices/></domain>"
    assert unplugged_macs(xml) == {OLD.mac}
    assert unplugged_macs(RUNNING) == frozenset()
