"""Records of a name server: which belong there, which are ours, and what has to change.

Beside each record of ours stands a TXT record, the mark. The mark says who made the record, and what the record says.
A name without a mark of ours belongs to others, whatever it says, and nothing of it is changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

_MARK = re.compile(r'"macbind owner=([a-z0-9-]+) record=([^\s"]+)"')


@dataclass(frozen=True, slots=True)
class Found:
    """What a name server has at one name.

    Attributes:
        data: Its A records, or in a reverse zone its PTR records.
        texts: Its TXT records, as a zone file has them.
    """

    data: frozenset[str] = field(default_factory=frozenset)
    texts: frozenset[str] = field(default_factory=frozenset)

    def marked(self, owner: str) -> set[str]:
        """The records here that this owner has made."""
        marks = (_MARK.fullmatch(text) for text in self.texts)
        return {mark[2] for mark in marks if mark is not None and mark[1] == owner}


@dataclass(frozen=True, slots=True)
class Change:
    """A record that is made, replaced or removed.

    Attributes:
        name: Where.
        old: Records of ours that are there.
        new: The record to be there; None if none is.
        texts: All TXT records that were found there; it is done only if they are the same still.
    """

    name: str
    old: frozenset[str]
    new: str | None
    texts: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Difference:
    """What a zone lacks.

    Attributes:
        changes: What has to be done.
        foreign: Names that belong to others, and the record that was to be there.
    """

    changes: tuple[Change, ...]
    foreign: tuple[tuple[str, str], ...] = ()


def mark(owner: str, record: str) -> str:
    """The TXT record beside a record, as a zone file has it."""
    return f'"macbind owner={owner} record={record}"'


def difference(
    owner: str, wanted: Mapping[str, str], kept: Mapping[str, str], there: Mapping[str, Found]
) -> Difference:
    """What has to change in a zone.

    Args:
        owner: Whose records are ours.
        wanted: The record of each name that has to be there.
        kept: The record of each name that may stay if it is there; has all of ``wanted``.
        there: What is there.
    """
    foreign: list[tuple[str, str]] = []
    changes: list[Change] = []
    for name, found in there.items():
        ours = found.marked(owner)
        if ours and name not in wanted:
            stays = {kept[name]} if name in kept else set[str]()
            if ours - stays:
                changes.append(Change(name, frozenset(ours), None, found.texts))
    for name, record in wanted.items():
        now = there.get(name)
        if now is None:
            changes.append(Change(name, frozenset(), record))
        elif not now.marked(owner):
            if now.data != {record}:
                foreign.append((name, record))
        elif now.marked(owner) != {record} or record not in now.data:
            changes.append(Change(name, frozenset(now.marked(owner)), record, now.texts))
    return Difference(tuple(changes), tuple(foreign))


def after(there: dict[str, Found], changes: Iterable[Change], owner: str) -> None:
    """Notes in ``there`` that changes were made."""
    for one in changes:
        now = there.get(one.name, Found())
        data = now.data - one.old
        texts = now.texts - {mark(owner, record) for record in one.old}
        if one.new is not None:
            data, texts = data | {one.new}, texts | {mark(owner, one.new)}
        if data or texts:
            there[one.name] = Found(data, texts)
        else:
            there.pop(one.name, None)


def absolute(name: str) -> str:
    """A name with its final dot."""
    return f"{name}."


def reverse_name(address: IPv4Address) -> str:
    """The name under which the name of an address is found."""
    return absolute(address.reverse_pointer)


def forward(names: Mapping[str, IPv4Address], domain: str) -> dict[str, str]:
    """The A record of each name."""
    return {absolute(f"{name}.{domain}"): str(address) for name, address in names.items()}


def backward(names: Mapping[str, IPv4Address], domain: str, zone: str) -> dict[str, str]:
    """The PTR record of each address of a reverse zone."""
    return dict(_backward(names, domain, f".{absolute(zone)}"))


def _backward(names: Mapping[str, IPv4Address], domain: str, end: str) -> Iterator[tuple[str, str]]:
    for name, address in names.items():
        if (reverse := reverse_name(address)).endswith(end):
            yield reverse, absolute(f"{name}.{domain}")
