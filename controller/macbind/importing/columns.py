"""Reads tables of text: columns in any order, parted by semicolons, commas, tabs or blanks, below a header."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address

from macbind.core.errors import InvalidRequest
from macbind.core.import_plan import ImportEntry
from macbind.importing.machine_list import MachineList, name_for, options_of

_NAMES: dict[str, tuple[str, ...]] = {
    "name": ("name", "machine", "vm", "host", "hostname"),
    "address": ("address", "ip", "ipaddress", "ipv4", "ip4", "ipv4address", "fixedaddress", "addr"),
    "mac": (
        *("mac", "macaddress", "macaddr", "hardware", "hardwareaddress", "hardwareethernet", "hwaddress"),
        *("hwaddr", "ethernet", "ether", "ethernetaddress", "physicaladdress", "dhcpidentifier"),
    ),
    "hostname": ("hostname",),
    "next_server": ("nextserver", "dhcp4nextserver"),
    "filename": ("filename", "bootfile", "bootfilename", "dhcp4bootfilename"),
    "group": ("group",),
    "pinned": ("pinned",),
    "identifier_type": ("dhcpidentifiertype",),
}
"""The names that a column may have, best first."""
_NOT_NEEDED = {"pool", "state", "hostid", "dhcp4subnetid", "dhcp6subnetid", "authkey"}
_IDENTIFIERS = ("hw-address", "duid", "circuit-id", "client-id", "flex-id")
"""What Kea's table means by the numbers of dhcp_identifier_type."""
_NOTHING = {"", "-", "null", "\\n", "none"}
_FUNCTION = re.compile(r"(?:hex|inet_ntoa|encode)\((\w+)(?:,[^)]*)?\)")
_HEX = re.compile(r"(?:0x|\\x|x')?([0-9a-f]{12})'?", re.IGNORECASE)
_COMMENT = re.compile(r'((?:"[^"]*"|[^"#]|(?<=\S)#)*?)(?:(?<!\S)#.*)?', re.DOTALL)
_WORD = re.compile(r'"((?:[^"]|"")*)"(?!\S)|(\S+)')


def read_columns(text: str) -> MachineList:
    """The machines of a table.

    Raises:
        InvalidRequest: It has no header, or is no table.
    """
    rows = _rows(text)
    try:
        line, header = next(rows)
    except StopIteration:
        raise InvalidRequest("The list is empty.", hint="It needs a header as name,ip,mac.") from None
    found = MachineList()
    places = _places(line, header, found)
    for line, cells in rows:
        found.add(_entry(line, cells, places, len(header)))
    return found


def _places(line: int, header: Sequence[str], found: MachineList) -> dict[str, int]:
    """Which column is where.

    Raises:
        InvalidRequest: The line is no header.
    """
    given = [_plain(cell) for cell in header]
    places: dict[str, int] = {}
    for what, names in _NAMES.items():
        for name in names:
            if name in given and given.index(name) not in places.values():
                places[what] = given.index(name)
                if given.count(name) > 1:
                    raise InvalidRequest(
                        f"Line {line}: the column '{name}' stands there twice.", hint="Rename one of them."
                    )
                break
    if "address" not in places:
        raise InvalidRequest(
            f"Line {line} is no header with a column for the address.",
            hint="Begin with a line that names the columns, as name,ip,mac.",
        )
    for number, name in enumerate(given):
        if name and number not in places.values() and name not in _NOT_NEEDED:
            found.note(f"The column '{header[number].strip()[:64]}' is not read.")
    return places


def _plain(cell: str) -> str:
    """The name of a column in small letters, without what does not matter."""
    name = cell.strip().lower()
    if (function := _FUNCTION.fullmatch(name)) is not None:
        name = function[1]
    return re.sub(r"[\s_.-]", "", name)


def _entry(line: int, cells: Sequence[str], places: dict[str, int], width: int) -> ImportEntry:
    def cell(what: str) -> str | None:
        place = places.get(what, width)
        text = cells[place].strip().removeprefix("'") if place < len(cells) else ""
        return None if text.lower() in _NOTHING else text

    address, mac, number = cell("address"), cell("mac"), cell("identifier_type")
    server = cell("next_server")
    if "identifier_type" in places:
        address, server, mac = _of_database(address), _of_database(server), _hexadecimal(mac)
    options, left_out = options_of(
        {"hostname": cell("hostname"), "next_server": server, "filename": cell("filename")}
    )
    is_other = number not in (None, "0")
    kind = _IDENTIFIERS[int(number)] if number in {"1", "2", "3", "4"} else f"identifier of type {number}"
    return ImportEntry(
        name_for(cell("name"), address),
        () if address is None else tuple(address.replace(",", " ").split()),
        None if is_other else mac,
        line,
        options=options,
        group=cell("group"),
        pinned=(cell("pinned") or "yes").lower() in ("yes", "true", "t", "1"),
        problem=f"It is known by its {kind}, and macbind knows MACs only." if is_other else "",
        mend="Give its MAC instead." if is_other else "",
        left_out=(*left_out, *(["more cells than columns"] if len(cells) > width else [])),
    )


def _of_database(address: str | None) -> str | None:
    """An address as Kea's table has it: a whole number, 0 for none."""
    if address is None or not address.isdecimal() or int(address) >= 1 << 32:
        return address
    return str(IPv4Address(int(address))) if int(address) else None


def _hexadecimal(mac: str | None) -> str | None:
    """A MAC as databases print bytes."""
    digits = None if mac is None else _HEX.fullmatch(mac)
    return mac if digits is None else digits[1]


# -- lines ---------------------------------------------------------------------------------------------------


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows with the numbers of their lines; lines that are empty or comments are none."""
    lines = list(_without_comments(text.splitlines()))
    head = next((line for line in lines if line.strip()), "")
    mark = next((one for one in (";", ",", "\t") if one in head), None)
    if mark is None or (mark == "\t" and "\t\t" in head):
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield number, _words(line)
        return
    width = head.count(mark) + 1
    reader = csv.reader(lines, delimiter=mark, skipinitialspace=mark != "\t", strict=True)
    before = 0
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InvalidRequest(
                f"Line {reader.line_num} cannot be read as a row: {error}.", hint="Look at its quotes."
            ) from error
        first, before = before + 1, reader.line_num
        if any(cell.strip() for cell in cells):
            # Tabs may also be there for people, several in a row.
            aligned = mark == "\t" and len(cells) > width
            yield first, _words(lines[first - 1]) if aligned else cells


def _words(line: str) -> list[str]:
    return [word[1].replace('""', '"') if word[1] is not None else word[2] for word in _WORD.finditer(line)]


def _without_comments(lines: Iterable[str]) -> Iterator[str]:
    """The lines without comments; what stands between quotes, also of several lines, is none."""
    is_open = False
    for line in lines:
        found = None if is_open or "#" not in line else _COMMENT.fullmatch(line)
        kept = line if found is None else found[1]
        is_open ^= bool(kept.count('"') % 2)
        yield kept
