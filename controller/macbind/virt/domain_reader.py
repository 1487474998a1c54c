"""Reads of a domain's XML what macbind needs of every domain, in one pass. Pure.

The XML is anybody's: whoever may define a domain writes what he likes into its ``<metadata>``, of any size and depth,
also with prefixes that are bound to nothing. So nothing is built of that but the elements of our own namespaces, and
of those only what is small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn
from xml.etree.ElementTree import Element, SubElement  # nosec B405  # builds XML, reads none
from xml.parsers import expat

from macbind.core.errors import InvalidAddress, InvalidRequest
from macbind.core.mac_address import MacAddress

MARK_NAMESPACE = "urn:macbind:machine:1"
"""XML namespace of the <machine> element that a machine's <metadata> holds."""
RECORD_NAMESPACE = "urn:macbind:renumber:1"
"""XML namespace of the <renumber> element that a domain's <metadata> holds while its NIC is being exchanged."""
MAX_LENGTH = 8 * 1024 * 1024
"""No definition is longer, in characters; libvirt itself sends no more than half of it."""
_OURS = frozenset({MARK_NAMESPACE, RECORD_NAMESPACE})
_MAX_ELEMENTS, _MAX_DEPTH = 200, 20
"""Of an element of ours."""
_CHUNK = 64 * 1024
"""So much is read before other threads get their turn."""
_MAC_PATH = ["domain", "devices", "interface", "mac"]


@dataclass(frozen=True, slots=True)
class DomainXml:
    """What a domain's XML says.

    Attributes:
        macs: The MACs of all its interfaces; interfaces without a readable one are passed over.
        ours: The elements of our own in its metadata, by qualified tag; the first of each.
    """

    macs: frozenset[MacAddress]
    ours: Mapping[str, Element]


def read_domain(xml: str) -> DomainXml:
    """Reads it.

    Raises:
        InvalidRequest: The text is not domain XML.
    """
    if len(xml) > MAX_LENGTH:
        raise InvalidRequest(
            f"The domain XML has more than {MAX_LENGTH // 1024**2} million characters.",
            hint="Shorten its <metadata>.",
        )
    reader = _Reader()
    try:
        for start in range(0, len(xml), _CHUNK):
            reader.parser.Parse(xml[start : start + _CHUNK], False)
        reader.parser.Parse("", True)
    except (expat.ExpatError, UnicodeError, ValueError) as error:
        raise InvalidRequest(f"The text is not domain XML: {error}.", hint="See `virsh dumpxml`.") from error
    return DomainXml(frozenset(reader.macs), reader.ours)


class _Reader:
    """Follows the parser: through the domain, past foreign metadata, or within an element of ours."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate("utf-8")
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = _refuse_doctype
        self.macs: set[MacAddress] = set()
        self.ours: dict[str, Element] = {}
        self._path: list[str] = []
        self._scopes: list[dict[str, str]] = [{}]
        self._open: list[Element] = []
        self._count = self._foreign_depth = 0
        self._walk()

    def _walk(self) -> None:
        self.parser.StartElementHandler, self.parser.EndElementHandler = self._start, self._end
        self.parser.CharacterDataHandler = None

    # -- the domain ------------------------------------------------------------------------------------

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._path and name != "domain":
            raise InvalidRequest(
                f"The XML describes a <{name}>, not a <domain>.", hint="See `virsh dumpxml`."
            )
        if self._path == ["domain", "metadata"]:
            self._start_metadata(name, attributes)
            return
        self._path.append(name)
        if len(self._path) <= 2:  # whose namespaces hold in the metadata
            self._scopes.append(_scope(self._scopes[-1], attributes))
        if self._path == _MAC_PATH:
            try:
                self.macs.add(MacAddress.parse(attributes.get("address", "")))
            except InvalidAddress:
                return

    def _end(self, _name: str) -> None:
        if len(self._path) <= 2:
            self._scopes.pop()
        self._path.pop()

    # -- metadata of others ----------------------------------------------------------------------------

    def _start_metadata(self, name: str, attributes: dict[str, str]) -> None:
        tag = _qualified(name, _scope(self._scopes[-1], attributes))
        if tag is None or tag[1:].partition("}")[0] not in _OURS or tag in self.ours:
            self._pass_over(1)
            return
        self._count = 0
        self.parser.StartElementHandler, self.parser.EndElementHandler = self._start_ours, self._end_ours
        self.parser.CharacterDataHandler = self._text
        self._start_ours(name, attributes)

    def _pass_over(self, depth: int) -> None:
        self._foreign_depth = depth
        self.parser.StartElementHandler = self._start_foreign
        self.parser.EndElementHandler = self._end_foreign
        self.parser.CharacterDataHandler = None

    def _start_foreign(self, _name: str, _attributes: dict[str, str]) -> None:
        self._foreign_depth += 1

    def _end_foreign(self, _name: str) -> None:
        self._foreign_depth -= 1
        if not self._foreign_depth:
            self._walk()

    # -- our own ---------------------------------------------------------------------------------------

    def _start_ours(self, name: str, attributes: dict[str, str]) -> None:
        scope = _scope(self._scopes[-1], attributes)
        tag = _qualified(name, scope)
        self._count += 1
        if tag is None or self._count > _MAX_ELEMENTS or len(self._open) >= _MAX_DEPTH:
            depth = len(self._open) + 1
            if self._open:  # nobody's work but that of somebody who tries what happens
                self.ours.pop(self._open[0].tag)
            self._close(len(self._open))
            self._pass_over(depth)
            return
        values = {key: value for key, value in attributes.items() if not key.startswith("xmlns")}
        element = SubElement(self._open[-1], tag, values) if self._open else Element(tag, values)
        if not self._open:
            self.ours[tag] = element
        self._open.append(element)
        self._scopes.append(scope)

    def _end_ours(self, _name: str) -> None:
        self._close(1)
        if not self._open:
            self._walk()

    def _close(self, count: int) -> None:
        for _ in range(count):
            self._open.pop()
            self._scopes.pop()

    def _text(self, text: str) -> None:
        element = self._open[-1]
        if len(element):
            element[-1].tail = (element[-1].tail or "") + text
        else:
            element.text = (element.text or "") + text


def _refuse_doctype(*_: object) -> NoReturn:
    """Refuses document type declarations: they define entities, which can grow without bounds."""
    raise InvalidRequest("The domain XML has a document type declaration.", hint="Remove its <!DOCTYPE>.")


def _scope(outer: dict[str, str], attributes: dict[str, str]) -> dict[str, str]:
    """The namespaces by prefix that hold within an element."""
    new = {key[6:]: value for key, value in attributes.items() if key == "xmlns" or key.startswith("xmlns:")}
    return outer | new if new else outer


def _qualified(name: str, scope: Mapping[str, str]) -> str | None:
    """A tag with its namespace; None if its prefix is bound to nothing."""
    prefix, colon, local = name.rpartition(":")
    namespace = scope.get(prefix)
    if namespace:
        return f"{{{namespace}}}{local}"
    return None if colon else name
