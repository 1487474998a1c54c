"""What an import takes and answers: entries of a list, a row for each, and the plan of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from macbind.core.dhcp_options import NO_OPTIONS, DhcpOptions

MAX_ENTRIES = 10_000
"""Entries of one import. The registry takes them in one transaction, and everybody else waits for that."""


class ImportVerdict(StrEnum):
    """What an import makes of one entry."""

    NEW = "new"
    """It is made."""
    SAME = "same"
    """It is there already, as the entry says."""
    CHANGED = "changed"
    """It is there already, and gets other options or labels."""
    CONFLICT = "conflict"
    """Somebody else has its name, its address or its MAC."""
    IMPOSSIBLE = "impossible"
    """It could be nobody's."""

    @property
    def is_done(self) -> bool:
        """Whether an import does it, or need not."""
        return self not in (ImportVerdict.CONFLICT, ImportVerdict.IMPOSSIBLE)


@dataclass(frozen=True, slots=True)
class ImportEntry:
    """A machine of a list. What it does not say is left as it is, or is as macbind makes it.

    Attributes:
        name: Its name.
        addresses: Its addresses as the list writes them. Only one may be in the subnets of pools.
        mac: Its MAC in any spelling; None for the scheme's own.
        line: The line of the list.
        file: The file, if the list consists of several.
        options: Its DHCP options.
        labels: Its labels.
        group: Its group, of an allocation.
        pinned: Whether it is a reservation; else it is an allocation.
        problem: Why it cannot be imported, as its reader knows already; empty if it can.
        mend: How to mend that.
        left_out: What the list says and no reservation can have.
    """

    name: str
    addresses: tuple[str, ...] = ()
    mac: str | None = None
    line: int = 0
    file: str | None = None
    options: DhcpOptions = NO_OPTIONS
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    group: str | None = None
    pinned: bool = True
    problem: str = ""
    mend: str = ""
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The entry as JSON types, without what has its default."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        found |= {
            "addresses": list(self.addresses),
            "options": self.options.to_dict(),
            "labels": dict(self.labels),
            "left_out": list(self.left_out),
        }
        return {key: value for key, value in found.items() if value or key in ("name", "pinned")}


@dataclass(frozen=True, slots=True)
class ImportRow:
    """What becomes of one entry.

    Attributes:
        line: The line of the list.
        file: The file, if the list consists of several.
        name: Its name.
        address: Its address, as far as it has one.
        mac: Its MAC; None for the scheme's own.
        verdict: What becomes of it.
        holder: With whom it is in conflict, by name; None if with nobody.
        why: What is wrong, or what changes; empty if there is nothing to say.
        mend: How to mend what is wrong.
        left_out: What the list says and no reservation can have.
    """

    line: int
    file: str | None
    name: str
    address: str | None
    mac: str | None
    verdict: ImportVerdict
    holder: str | None = None
    why: str = ""
    mend: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where it stands in the list."""
        return f"line {self.line}" if self.file is None else f"{self.file} line {self.line}"


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """The answer to an import.

    Attributes:
        rows: One for each entry, in their order.
        applied: Whether what is new or changed has been done.
    """

    rows: tuple[ImportRow, ...]
    applied: bool = False
