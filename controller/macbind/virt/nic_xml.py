"""The XML of one NIC: found by its MAC, and described anew with another MAC and address. Pure.

What the hypervisor has added while the machine runs is left out; all else stays. So the NIC that is plugged in has
the model, the network, the slot and the filter of the one that was unplugged.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from xml.etree import ElementTree  # nosec B405  # reads only what a line below gives a reason for
from xml.etree.ElementTree import Element, SubElement  # nosec B405  # builds XML, reads none

from macbind.core.errors import Conflict, InvalidAddress
from macbind.core.ipv6 import interface_id
from macbind.core.mac_address import MacAddress
from macbind.virt.domain_reader import RECORD_NAMESPACE, DomainXml, read_domain
from macbind.virt.domain_xml import RECORD_TAG, macs_in, parse_domain

RECORD_PREFIX = "macbind-renumber"
_SOURCES = {"bridge": {"bridge"}, "network": {"network", "portgroup", "bridge"}, "direct": {"dev", "mode"}}
"""What a NIC on record may be connected to, and the attributes that say to what."""
_PLAIN = frozenset(
    {"mac", "source", "model", "target", "filterref", "virtualport", "vlan", "mtu", "link", "driver", "boot"}
    | {"address", "alias", "bandwidth", "port", "coalesce"}
)
"""What a NIC on record may have: nothing that runs a program or opens a file on the hypervisor."""
_HALF = (1 << 64) - 1
_GENERATED = re.compile(r"(vnet|vif|macvtap|macvlan)\d+")
"""Names libvirt gives tap devices by itself, and never takes from a definition."""


@dataclass(frozen=True, slots=True)
class NicAddress:
    """The MAC of a NIC and the addresses that go with it.

    Attributes:
        mac: Its MAC.
        address: Its IPv4 address.
        ipv6: What it makes of its network's IPv6 prefix; None if there is none.
    """

    mac: MacAddress
    address: IPv4Address
    ipv6: IPv6Address | None = None


def nic_in(xml: str, mac: MacAddress) -> str | None:
    """The XML of a domain's NIC with this MAC, None if it has none.

    Raises:
        Conflict: It has two.
        InvalidRequest: The text is not domain XML.
    """
    found = _with_mac(parse_domain(xml), mac)
    if len(found) > 1:
        raise Conflict(
            f"The domain has {len(found)} NICs with the MAC {mac}.", hint="Remove all but one of them."
        )
    return _text(found[0]) if found else None


def exchanged(nic: str, old: NicAddress, new: NicAddress) -> str:
    """The XML of a NIC, to be plugged in with another address in the place of the one it describes."""
    interface = ElementTree.fromstring(nic)  # noqa: S314  # nosec B314  # libvirt's own, through nic_in
    for target in interface.findall("target"):
        if _GENERATED.fullmatch(target.get("dev", "")):
            interface.remove(target)
    for alias in interface.findall("alias"):
        if not alias.get("name", "").startswith("ua-"):  # the user's own
            interface.remove(alias)
    for source in interface.findall("source"):
        source.attrib.pop("portid", None)
        if interface.get("type") == "network":
            source.attrib.pop("bridge", None)
    _readdress(interface, old, new)
    return _text(interface)


def redefined(definition: str, old: NicAddress, new: NicAddress) -> str | None:
    """A stored definition with the NIC's MAC and address exchanged; None if it has no such NIC."""
    root = deepcopy(parse_domain(definition))
    found = _with_mac(root, old.mac)
    for interface in found:
        _readdress(interface, old, new)
    return ElementTree.tostring(root, encoding="unicode") if found else None


def _readdress(interface: Element, old: NicAddress, new: NicAddress) -> None:
    mac = interface.find("mac")
    if mac is None:
        mac = SubElement(interface, "mac")
    mac.set("address", str(new.mac))
    for parameter in interface.iterfind("./filterref/parameter"):
        match parameter.get("name", "").upper(), parameter.get("value", ""):
            case "IP", value if value == str(old.address):
                parameter.set("value", str(new.address))
            case "IPV6", value if (changed := _other_ipv6(value, old, new)) is not None:
                parameter.set("value", str(changed))
            case "MAC", value if _is_mac(value, old.mac):
                parameter.set("value", str(new.mac))


def _other_ipv6(value: str, old: NicAddress, new: NicAddress) -> IPv6Address | None:
    """What becomes of an IPv6 address that was made of the old MAC; None for any other."""
    try:
        address = IPv6Address(value)
    except AddressValueError:
        return None
    if int(address) & _HALF != interface_id(old.mac):
        return None
    if address == old.ipv6 and new.ipv6 is not None:
        return new.ipv6
    return IPv6Address(int(address) & ~_HALF | interface_id(new.mac))


def _with_mac(root: Element, mac: MacAddress) -> list[Element]:
    return [
        interface
        for interface in root.iterfind("./devices/interface")
        if any(_is_mac(element.get("address", ""), mac) for element in interface.iterfind("mac"))
    ]


def _is_mac(text: str, mac: MacAddress) -> bool:
    return _parsed(text) == mac


def _parsed(text: str) -> MacAddress | None:
    try:
        return MacAddress.parse(text)
    except InvalidAddress:
        return None


def _text(element: Element) -> str:
    alone = deepcopy(element)
    alone.tail = None
    return ElementTree.tostring(alone, encoding="unicode")


# -- the record ----------------------------------------------------------------------------------------------


def record(name: str, nic: str) -> str:
    """What is written into a domain's metadata before its NIC is unplugged: how to plug it in again.

    Args:
        name: Of the allocation that is renumbered.
        nic: The NIC, as it was.
    """
    root = Element("renumber", name=name)
    root.append(ElementTree.fromstring(nic))  # noqa: S314  # nosec B314  # libvirt's own, through nic_in
    return ElementTree.tostring(root, encoding="unicode")


def recorded(xml: str, name: str) -> str | None:
    """The NIC that a domain had before its renumbering began to exchange it, None if none is on record."""
    found = _record_in(xml)
    if found is None or found.get("name") != name:
        return None
    nic = found.find("interface")
    return None if nic is None else _text(nic)


def distrust(nic: str, macs: frozenset[MacAddress], definition: str | None) -> str | None:
    """Why a NIC on record may not be plugged in; None if it may. Who may write metadata may have written it.

    Args:
        nic: The NIC on record.
        macs: The MACs of the renumbering.
        definition: The domain's stored definition; None if it has none.
    """
    interface = ElementTree.fromstring(nic)  # noqa: S314  # nosec B314  # through parse_domain
    kind = interface.get("type", "")
    if not macs & macs_in(f"<domain><devices>{nic}</devices></domain>") or len(interface.findall("mac")) != 1:
        return "its MAC is none of the renumbering"
    if kind not in _SOURCES:
        return f"its type is '{kind}'"
    odd = sorted({child.tag for child in interface} - _PLAIN)
    if odd:
        return f"it has a <{odd[0]}>"
    if definition is not None:
        ours = [one for mac in sorted(macs) for one in _with_mac(parse_domain(definition), mac)]
        if any(_connection(one) != _connection(interface) for one in ours):
            return "it is connected to something else than in the domain's definition"
    return None


def _connection(interface: Element) -> tuple[object, ...]:
    """What a NIC is connected to, without what libvirt adds while it runs."""
    kind = interface.get("type", "")
    wanted = _SOURCES.get(kind, set()) - ({"bridge"} if kind == "network" else set())
    sources = [sorted((key, source.get(key)) for key in wanted) for source in interface.findall("source")]
    vlans = [tag.get("id") for tag in interface.iterfind("./vlan/tag")]
    return kind, sources, vlans


def unplugged_macs(xml: str) -> frozenset[MacAddress]:
    """The MACs of the NIC on record, which the domain has lost or may lose yet."""
    return macs_on_record(read_domain(xml))


def macs_on_record(domain: DomainXml) -> frozenset[MacAddress]:
    """The MACs of the NIC on record in what was read of a domain."""
    found = domain.ours.get(RECORD_TAG)
    if found is None:
        return frozenset()
    texts = [one.get("address", "") for one in found.iter() if one.tag.rpartition("}")[2] == "mac"]
    macs = (_parsed(text) for text in texts)
    return frozenset(mac for mac in macs if mac is not None)


def _record_in(xml: str) -> Element | None:
    found = read_domain(xml).ours.get(RECORD_TAG)
    if found is not None:
        for element in found.iter():  # libvirt puts what the element holds into the element's namespace
            element.tag = element.tag.removeprefix(f"{{{RECORD_NAMESPACE}}}")
    return found
