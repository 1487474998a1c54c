"""Reads the hosts of a libvirt network, as `virsh net-dumpxml` prints them."""

from __future__ import annotations

from xml.parsers import expat  # nosec B407  # document type declarations are refused, so there are no entities

from macbind.core.errors import InvalidRequest
from macbind.core.import_plan import ImportEntry
from macbind.importing.machine_list import MachineList, name_for, options_of, words

_MAX_DEPTH = 100
_READ = frozenset({"name", "mac", "ip"})


def read_libvirt(data: bytes) -> MachineList:
    """The ``<host>`` entries of a network's DHCP.

    Raises:
        InvalidRequest: It is no XML, or not of a network.
    """
    reading = _Reading()
    try:
        reading.parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # an encoding that nobody knows
        raise InvalidRequest(
            f"Line {reading.parser.CurrentLineNumber} is not XML: {error}.",
            hint="Import what `virsh net-dumpxml NETWORK` prints, one network at a time.",
        ) from error
    return reading.found


class _Reading:
    """One reading of one document."""

    def __init__(self) -> None:
        self.found, self._path = MachineList(), list[str]()
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = lambda _: self._path.pop()

    def _doctype(self, *_: object) -> None:
        """Refuses document type declarations: they define entities, which can grow without bounds."""
        raise InvalidRequest("The XML has a document type declaration.", hint="Remove its <!DOCTYPE>.")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._path and tag != "network":
            raise InvalidRequest(
                f"The XML describes a <{tag[:64]}>, not a <network>.", hint="See `virsh net-dumpxml NETWORK`."
            )
        if len(self._path) >= _MAX_DEPTH:
            raise InvalidRequest(
                f"The XML is nested more than {_MAX_DEPTH} levels deep.", hint="See `virsh net-dumpxml`."
            )
        if tag == "host" and self._path[-1:] == ["dhcp"]:
            self._host(attributes)
        elif tag in ("range", "bootp") and self._path[-1:] == ["dhcp"]:
            self.found.note(f"Line {self.parser.CurrentLineNumber}: <{tag}> is not read.")
        self._path.append(tag)

    def _host(self, attributes: dict[str, str]) -> None:
        name, address, mac = attributes.get("name"), attributes.get("ip"), attributes.get("mac")
        # libvirt's dnsmasq tells a machine its name.
        options, left_out = options_of({"hostname": name})
        is_ipv4 = address is None or ":" not in address
        no_mac = mac is None and is_ipv4
        self.found.add(
            ImportEntry(
                name_for(name, address),
                () if address is None else (address,),
                mac,
                self.parser.CurrentLineNumber,
                options=options,
                problem="It is known by its name, and macbind knows MACs only." if no_mac else "",
                mend="Add its mac." if no_mac else "",
                left_out=(*left_out, *words(sorted(attributes.keys() - _READ))),
            )
        )
