"""Reading domain XML, and the mark that tells our machines from other domains. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from xml.etree import ElementTree  # nosec B405  # reads only what a line below gives a reason for

from typing_extensions import override

from macbind.core.errors import InvalidRequest
from macbind.core.mac_address import MacAddress
from macbind.virt.domain_reader import MARK_NAMESPACE, RECORD_NAMESPACE, read_domain

RECORD_TAG = f"{{{RECORD_NAMESPACE}}}renumber"
QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
"""XML namespace of what libvirt passes on to QEMU as it is."""
_MARK_TAG = f"{{{MARK_NAMESPACE}}}machine"
_MAX_DEPTH = 100
"""Domain XML is some ten levels deep; what is read must also be written, and that is recursive."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_DIGEST = re.compile(r"\.[0-9a-f]{8}\Z")

ElementTree.register_namespace("macbind", MARK_NAMESPACE)
ElementTree.register_namespace("qemu", QEMU_NAMESPACE)


class _Builder(ElementTree.TreeBuilder):
    """Builds the tree; refuses what domain XML never has and hostile XML does."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def doctype(self, _name: str, _public: str | None, _system: str | None) -> None:
        """Refuses document type declarations: they define entities, which can grow without bounds."""
        raise InvalidRequest("The domain XML has a document type declaration.", hint="Remove its <!DOCTYPE>.")

    @override
    def start(self, tag: str, attrs: dict[str, str], /) -> ElementTree.Element:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise InvalidRequest(
                f"The domain XML is nested more than {_MAX_DEPTH} levels deep.", hint="See `virsh dumpxml`."
            )
        return super().start(tag, attrs)

    @override
    def end(self, tag: str, /) -> ElementTree.Element:
        self._depth -= 1
        return super().end(tag)


def parse_domain(xml: str) -> ElementTree.Element:
    """The document's ``<domain>`` element.

    Raises:
        InvalidRequest: The text is not domain XML.
    """
    try:
        parser = ElementTree.XMLParser(target=_Builder())  # noqa: S314  # nosec B314  # _Builder refuses entities
        parser.feed(xml)
        root = parser.close()
    except (ElementTree.ParseError, UnicodeError) as error:
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
    return read_domain(xml).macs


def domain_name(name: str) -> str:
    """An allocation's name as a domain and parts of file names can have it; different names stay different."""
    safe = _UNSAFE.sub("-", name)
    if safe == name and not _DIGEST.search(name):  # else a name could be chosen that is another's domain's
        return name
    return f"{safe}.{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a machine's domain XML says of it; only domains that have it are ever destroyed.

    Attributes:
        name: The name of its allocation.
        pool: The pool of its allocation.
        launched_at: When it was launched (UTC).
        group: The group of its allocation.
    """

    name: str
    pool: str
    launched_at: datetime
    group: str | None = None

    def put_into(self, root: ElementTree.Element) -> None:
        """Marks a domain, in the place of any mark it has."""
        metadata = root.find("metadata")
        if metadata is None:
            metadata = ElementTree.SubElement(root, "metadata")
        for old in metadata.findall(_MARK_TAG):
            metadata.remove(old)
        values = {"name": self.name, "pool": self.pool, "launched": self.launched_at.isoformat()}
        if self.group is not None:
            values["group"] = self.group
        ElementTree.SubElement(metadata, _MARK_TAG, values)


def mark_in(xml: str) -> Mark | None:
    """A domain's mark; None for a domain that is not ours.

    Raises:
        InvalidRequest: The text is not domain XML.
    """
    element = read_domain(xml).ours.get(_MARK_TAG)
    if element is None:
        return None
    try:
        launched_at = datetime.fromisoformat(element.attrib["launched"])
        return Mark(element.attrib["name"], element.attrib["pool"], launched_at, element.get("group"))
    except (KeyError, ValueError):  # somebody else's, or edited by hand
        return None


def nvram_in(xml: str) -> str | None:
    """The file of a domain's UEFI variables, which libvirt leaves behind when a transient domain ends."""
    return (parse_domain(xml).findtext("./os/nvram") or "").strip() or None
