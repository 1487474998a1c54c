"""What a reader makes of a list: entries, and notes about what it passed over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import InvalidOption, InvalidRequest
from macbind.core.import_plan import MAX_ENTRIES, ImportEntry
from macbind.core.printable import visible

MAX_NOTES = 20
_SHOWN, _LONGEST, _MOST = 64, 250, 32


@dataclass
class MachineList:
    """A list of machines.

    Attributes:
        entries: In the order of the list.
        notes: What was passed over, a sentence each; the first :data:`MAX_NOTES`.
    """

    entries: list[ImportEntry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, entry: ImportEntry) -> None:
        """Adds an entry.

        Raises:
            InvalidRequest: There are too many.
        """
        if len(self.entries) >= MAX_ENTRIES:
            raise InvalidRequest(
                f"The list has more than {MAX_ENTRIES} entries.",
                hint="Split it, and import one part after the other.",
            )
        self.entries.append(_harmless(entry))

    def note(self, text: str) -> None:
        """Adds a note."""
        if len(self.notes) < MAX_NOTES:
            self.notes.append(text)


def _harmless(entry: ImportEntry) -> ImportEntry:
    """An entry whose texts are short and printable, however strange the list is; strange ones are no names."""
    return replace(
        entry,
        name=_text(entry.name),
        addresses=tuple(_text(one) for one in entry.addresses[:_MOST]),
        mac=None if entry.mac is None else _text(entry.mac),
        file=None if entry.file is None else _text(entry.file),
        group=None if entry.group is None else _text(entry.group),
        left_out=tuple(_text(one) for one in entry.left_out[:_MOST]),
    )


def _text(text: str) -> str:
    return visible(text[:_LONGEST])[:_LONGEST]


def name_for(name: str | None, address: str | None) -> str:
    """The name of an entry; one without a name is called by its address."""
    return name or (f"host-{address.replace('.', '-')}" if address else "")


def options_of(values: Mapping[str, Any]) -> tuple[DhcpOptions, tuple[str, ...]]:
    """The options with these values that macbind can have, and the others in words."""
    kept: dict[str, Any] = {}
    left_out = []
    for key, value in values.items():
        if value in (None, "", []):
            continue
        try:
            DhcpOptions.parse({key: value})
        except (InvalidOption, TypeError, ValueError, AttributeError):
            left_out.append(f"{key} {str(value)[:_SHOWN]}")
        else:
            kept[key] = value
    try:
        return DhcpOptions.parse(kept), tuple(left_out)
    except InvalidOption:
        return DhcpOptions(), (*left_out, *kept)


def words(found: Iterable[object], most: int = 8) -> tuple[str, ...]:
    """A few words about what was left out, each once."""
    return tuple(dict.fromkeys(str(one)[:_SHOWN] for one in found))[:most]
