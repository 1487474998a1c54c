"""An import: what a list of machines asks for, compared with what their names hold already. Pure.

:func:`wishes` reads the entries. :func:`planned` compares each wish with the name's holder. The registry itself says
whether a new one is possible: see :mod:`macbind.registry.imports`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

from macbind.core.address_range import parse_address
from macbind.core.allocation import Allocation, check_name
from macbind.core.dhcp_options import NO_OPTIONS, DhcpOptions
from macbind.core.errors import InvalidAddress, InvalidRequest, RequestError
from macbind.core.labels import check_labels
from macbind.core.mac_address import MacAddress

MAX_ENTRIES = 10_000
"""Entries of one import. The registry takes them in one transaction, and everybody else waits for that."""
_IN_THE_FILE = "Leave one of them out."


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


@dataclass(frozen=True, slots=True)
class Wish:
    """An entry as the registry takes it.

    Attributes:
        entry: The entry.
        row: What becomes of it.
        address: Its address; None if it has none that can be read.
        mac: Its MAC; None for the scheme's own.
        held: The allocation that its name has already.
        options: What the name has afterwards.
    """

    entry: ImportEntry
    row: ImportRow
    address: IPv4Address | None = None
    mac: MacAddress | None = None
    held: Allocation | None = None
    options: DhcpOptions = NO_OPTIONS

    @property
    def verdict(self) -> ImportVerdict:
        """What becomes of it."""
        return self.row.verdict

    def judged(
        self, verdict: ImportVerdict, why: str = "", mend: str = "", holder: str | None = None
    ) -> Wish:
        """The same with another verdict."""
        return replace(self, row=replace(self.row, verdict=verdict, why=why, mend=mend, holder=holder))

    def refused(self, error: RequestError) -> Wish:
        """The same, where the registry refuses it: a conflict if the error knows with whom."""
        holder = error.details.get("holder")
        verdict = ImportVerdict.IMPOSSIBLE if holder is None else ImportVerdict.CONFLICT
        return self.judged(verdict, error.message, error.hint, holder)


# -- reading -------------------------------------------------------------------------------------------------


def wishes(entries: Iterable[ImportEntry], subnets: Iterable[IPv4Network]) -> list[Wish]:
    """What the entries ask for; those that cannot be, or stand there twice, are judged already."""
    known = sorted(set(subnets))
    return _without_doubles([_wish(one, known) for one in entries])


def _wish(entry: ImportEntry, subnets: Sequence[IPv4Network]) -> Wish:
    first = entry.addresses[0] if entry.addresses else None
    row = ImportRow(
        entry.line, entry.file, entry.name, first, entry.mac, ImportVerdict.NEW, left_out=entry.left_out
    )
    wish = Wish(entry, row, options=entry.options)
    try:
        if entry.problem:
            raise InvalidRequest(entry.problem, hint=entry.mend)
        _check_words(entry)
        address, others = _address_of(entry, subnets)
        mac = None if entry.mac is None else MacAddress.parse(entry.mac)
    except RequestError as error:
        return wish.refused(error)
    row = replace(
        row,
        address=str(address),
        mac=None if mac is None else str(mac),
        left_out=(*entry.left_out, *(f"address {one}" for one in others)),
    )
    return replace(wish, row=row, address=address, mac=mac)


def _check_words(entry: ImportEntry) -> None:
    """Refuses words that macbind cannot have.

    Raises:
        RequestError: One of them is such.
    """
    if not entry.name:
        raise InvalidRequest("It has no name.", hint="Add one.")
    check_name(entry.name)
    if entry.group is not None:
        check_name(entry.group, "group")
    check_labels(entry.labels)


def _address_of(entry: ImportEntry, subnets: Sequence[IPv4Network]) -> tuple[IPv4Address, list[IPv4Address]]:
    """The address of an entry, and those that macbind has nothing to do with.

    Raises:
        RequestError: It has none, or several.
    """
    if not entry.addresses:
        raise InvalidRequest("It has no address.", hint="Add its IPv4 address.")
    found = list(dict.fromkeys(_parsed(text) for text in entry.addresses))
    within = [one for one in found if any(one in subnet for subnet in subnets)]
    if len(within) > 1:
        raise InvalidRequest(
            f"It has {len(within)} addresses in the subnets of pools: {', '.join(map(str, within[:4]))}.",
            hint="One MAC has one address here: leave one of them in.",
        )
    chosen = within[0] if within else found[0]
    return chosen, [one for one in found if one != chosen]


def _parsed(text: str) -> IPv4Address:
    try:
        return parse_address(text)
    except InvalidAddress as error:
        if not _is_ipv6(text):
            raise
        raise InvalidRequest(
            f"{text} is an IPv6 address, and macbind reserves IPv4 addresses only.",
            hint="Leave it out: an IPv6 address follows from the MAC.",
        ) from error


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text.strip().partition("/")[0])
    except ValueError:
        return False
    return True


def _without_doubles(found: list[Wish]) -> list[Wish]:
    """Refuses those whose name, address or MAC stands in the list more than once, each with the other line."""
    keys: list[tuple[str, Callable[[Wish], object]]] = [
        ("name", lambda one: one.entry.name),
        ("address", lambda one: one.address),
        ("MAC", lambda one: one.mac),
    ]
    for what, key in keys:
        places: dict[object, list[int]] = defaultdict(list)
        for number, one in enumerate(found):
            if one.address is not None and key(one) is not None:
                places[key(one)].append(number)
        for value, numbers in places.items():
            if len(numbers) < 2:
                continue
            first, second = found[numbers[0]].row, found[numbers[1]].row
            for number in numbers:
                other = second if number == numbers[0] else first
                if found[number].verdict is ImportVerdict.NEW:
                    found[number] = found[number].judged(
                        ImportVerdict.CONFLICT,
                        f"The {what} {value} stands twice in the list: {found[number].row.place} and {other.place}.",
                        _IN_THE_FILE,
                        other.name,
                    )
    return found


# -- comparing -----------------------------------------------------------------------------------------------


def planned(found: Iterable[Wish], held: Mapping[str, Allocation]) -> list[Wish]:
    """The wishes, each compared with the allocation that has its name, if there is one."""
    return [
        _compared(one, held[one.entry.name])
        if one.verdict is ImportVerdict.NEW and one.entry.name in held
        else one
        for one in found
    ]


def _compared(wish: Wish, one: Allocation) -> Wish:
    entry, end = wish.entry, f"macbind {'unreserve' if one.pinned else 'release'} {one.name}"
    kind = "a reservation" if one.pinned else "an allocation"
    difference = None
    if one.address != wish.address:
        difference = f"'{one.name}' already names {one.address}, {kind}"
    elif wish.mac not in (None, one.mac):
        difference = f"'{one.name}' ({one.address}) is bound to {one.mac}, not {wish.mac}"
    elif one.pinned != entry.pinned:
        difference = f"'{one.name}' ({one.address}) is {kind}"
    elif entry.group not in (None, one.group):
        difference = f"'{one.name}' ({one.address}) is in another group than '{entry.group}'"
    if difference is not None:
        mend = f"Use another name or leave it out, or end it with `{end}` and import again."
        return wish.judged(ImportVerdict.CONFLICT, f"{difference}.", mend, one.name)
    asked = entry.options.named(entry.name)
    options = DhcpOptions.parse(one.options.to_dict() | asked.to_dict())
    news = [] if options == one.options else ["options"]
    news += [] if {**one.labels, **entry.labels} == one.labels else ["labels"]
    wish = replace(wish, held=one, options=options)
    if not news:
        return wish.judged(ImportVerdict.SAME)
    return wish.judged(ImportVerdict.CHANGED, f"Other {' and '.join(news)}.")
