"""One network interface of a machine: found by its MAC, and described anew with another MAC and address. Pure.

What the hypervisor has added while it runs is left out; all else stays, so the interface that is plugged in has the
model, the network, the slot and the filter of the one that was unplugged.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass
from ipaddress import IPv4Address
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from macbind.addressing import MacAddress
from macbind.errors import Conflict, InvalidAddress
from macbind.virt.domain import RECORD_NAMESPACE, RECORD_TAG, macs_in, parse_domain

RECORD_PREFIX = "macbind-move"
_GENERATED = re.compile(r"(vnet|vif|macvtap|macvlan)\d+")
"""Names libvirt gives tap devices by itself, and never takes from a definition."""


@dataclass(frozen=True, slots=True)
class Place:
    """An address with its MAC."""

    mac: MacAddress
    address: IPv4Address


def card_in(xml: str, mac: MacAddress) -> str | None:
    """The XML of a domain's interface with this MAC, None if it has none.

    Raises:
        Conflict: It has two.
        InvalidRequest: The text is not domain XML.
    """
    found = _with_mac(parse_domain(xml), mac)
    if len(found) > 1:
        raise Conflict(
            f"The domain has {len(found)} interfaces with the MAC {mac}.", hint="Remove all but one of them."
        )
    return _text(found[0]) if found else None


def exchanged(card: str, old: Place, new: Place) -> str:
    """The XML of an interface, to be plugged in with another address in the place of the one it describes."""
    interface = ElementTree.fromstring(card)  # noqa: S314  # libvirt's own, through card_in
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


def redefined(definition: str, old: Place, new: Place) -> str | None:
    """A stored definition with the interface's MAC and address exchanged; None if it has no such interface."""
    root = deepcopy(parse_domain(definition))
    found = _with_mac(root, old.mac)
    for interface in found:
        _readdress(interface, old, new)
    return ElementTree.tostring(root, encoding="unicode") if found else None


def _readdress(interface: Element, old: Place, new: Place) -> None:
    mac = interface.find("mac")
    if mac is None:
        mac = SubElement(interface, "mac")
    mac.set("address", str(new.mac))
    for parameter in interface.iterfind("./filterref/parameter"):
        match parameter.get("name", "").upper(), parameter.get("value", ""):
            case "IP", value if value == str(old.address):
                parameter.set("value", str(new.address))
            case "MAC", value if _is_mac(value, old.mac):
                parameter.set("value", str(new.mac))


def _with_mac(root: Element, mac: MacAddress) -> list[Element]:
    return [
        interface
        for interface in root.iterfind("./devices/interface")
        if any(_is_mac(element.get("address", ""), mac) for element in interface.iterfind("mac"))
    ]


def _is_mac(text: str, mac: MacAddress) -> bool:
    try:
        return MacAddress.parse(text) == mac
    except InvalidAddress:
        return False


def _text(element: Element) -> str:
    alone = deepcopy(element)
    alone.tail = None
    return ElementTree.tostring(alone, encoding="unicode")


# -- the record ----------------------------------------------------------------------------------------------


def record(name: str, card: str) -> str:
    """What is written into a domain's metadata before its interface is unplugged: how to plug it in again.

    Args:
        name: Of the allocation that moves.
        card: The interface, as it was.
    """
    root = Element("move", name=name)
    root.append(ElementTree.fromstring(card))  # noqa: S314  # libvirt's own, through card_in
    return ElementTree.tostring(root, encoding="unicode")


def recorded(xml: str, name: str) -> str | None:
    """The interface that a domain had before a move of this name began to exchange it, None if none is on record."""
    found = _record_in(xml)
    if found is None or found.get("name") != name:
        return None
    card = found.find("interface")
    return None if card is None else _text(card)


def unplugged_macs(xml: str) -> frozenset[MacAddress]:
    """The MACs of the interface on record, which the domain has lost or may lose yet."""
    found = _record_in(xml)
    card = None if found is None else found.find("interface")
    return frozenset() if card is None else macs_in(f"<domain><devices>{_text(card)}</devices></domain>")


def _record_in(xml: str) -> Element | None:
    found = parse_domain(xml).find(f"./metadata/{RECORD_TAG}")
    if found is not None:
        for element in found.iter():  # libvirt puts what the element holds into the element's namespace
            element.tag = element.tag.removeprefix(f"{{{RECORD_NAMESPACE}}}")
    return found
