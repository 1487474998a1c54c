"""Reading domain XML. Pure."""

from __future__ import annotations

from xml.etree import ElementTree

from macbind.addressing import MacAddress
from macbind.errors import InvalidAddress, InvalidRequest


def parse_domain(xml: str) -> ElementTree.Element:
    """The document's ``<domain>`` element.

    Raises:
        InvalidRequest: The text is not domain XML.
    """
    try:
        root = ElementTree.fromstring(xml)  # noqa: S314  # libvirt's own, or a template of the caller's
    except ElementTree.ParseError as error:
        raise InvalidRequest(f"The text is not domain XML: {error}.", hint="See `virsh dumpxml`.") from error
    if root.tag != "domain":
        raise InvalidRequest(
            f"The XML describes a <{root.tag}>, not a <domain>.", hint="See `virsh dumpxml`."
        )
    return root


def macs_in(xml: str) -> frozenset[MacAddress]:
    """The MACs of all interfaces of a domain; interfaces without a readable one are passed over.

    Raises:
        InvalidRequest: The text is not domain XML.
    """
    found = set()
    for element in parse_domain(xml).iterfind("./devices/interface/mac"):
        try:
            found.add(MacAddress.parse(element.get("address", "")))
        except InvalidAddress:
            continue
    return frozenset(found)
