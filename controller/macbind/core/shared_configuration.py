"""The part of a configuration that must be equal for all controllers of one registry.

Two controllers must not think differently of addresses, MACs and options, nor of DHCP servers and hypervisors. Files,
sockets, interfaces and permissions belong to a controller's own machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from macbind.core.errors import InvalidRequest

_BARE = re.compile("[A-Za-z0-9_-]+")
_LISTED = 5
"""Differences that are named before the rest is counted."""

Tables = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Values by kind of table, name and key: ``{"pool": {"farm": {"subnet": "10.1.0.0/16"}}}``."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a file has otherwise than the configuration in use.

    Attributes:
        key: Table and key as in the file, ``[pool.farm] routers``; or a table that only one of them has.
        in_file: Its value in the file, written as there; None if it is left out.
        in_use: Its value in use.
    """

    key: str
    in_file: str | None
    in_use: str | None

    def __str__(self) -> str:
        return f"{self.key}: {self.in_file or 'nothing'} in the file, {self.in_use or 'nothing'} in use"


@dataclass(frozen=True)
class SharedConfiguration:
    """The values; those that are left out have their defaults.

    Attributes:
        tables: The values.
    """

    tables: Tables

    @classmethod
    def of(cls, text: str) -> SharedConfiguration:
        """Reads what :attr:`text` has written.

        Raises:
            InvalidRequest: It is something else.
        """
        try:
            tables = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest("This is no configuration.", hint="Send tables as JSON.") from error
        if not isinstance(tables, dict) or not all(
            isinstance(some, dict) and all(isinstance(one, dict) for one in some.values())
            for some in tables.values()
        ):
            raise InvalidRequest("This is no configuration.", hint="Send tables by kind and name.")
        return cls(tables)

    @cached_property
    def text(self) -> str:
        """All of it, always written in the same way."""
        return json.dumps(self.tables, sort_keys=True)

    @cached_property
    def fingerprint(self) -> str:
        """What only an equal configuration has."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def lines(self) -> Iterator[str]:
        """All of it, as a configuration file has it."""
        for kind, some in sorted(self.tables.items()):
            for name, values in sorted(some.items()):
                yield _label(kind, name)
                yield from (f"{key} = {_written(value)}" for key, value in sorted(values.items()))
                yield ""

    def renamed_from(self, before: SharedConfiguration) -> dict[str, str]:
        """The dhcpds that had another name before, by that name: host and port are the same."""
        mine, others = self.tables.get("dhcpd", {}), before.tables.get("dhcpd", {})
        new = {_place(one): name for name, one in mine.items() if name not in others}
        places = {name: _place(one) for name, one in others.items() if name not in mine}
        return {old: new[place] for old, place in places.items() if place in new}

    def differences(self, in_use: SharedConfiguration) -> list[Difference]:
        """What this one, of a file, has otherwise than the one in use."""
        found: list[Difference] = []
        for kind in sorted({*self.tables, *in_use.tables}):
            mine, others = self.tables.get(kind, {}), in_use.tables.get(kind, {})
            for name in sorted({*mine, *others}):
                label = _label(kind, name)
                if name not in others:
                    found.append(Difference(label, "there", None))
                elif name not in mine:
                    found.append(Difference(label, None, "there"))
                else:
                    found += _of_table(label, mine[name], others[name])
        return found


def _place(dhcpd: Mapping[str, Any]) -> tuple[Any, Any]:
    return dhcpd.get("host"), dhcpd.get("port")


def _of_table(label: str, mine: Mapping[str, Any], others: Mapping[str, Any]) -> Iterator[Difference]:
    for key in sorted({*mine, *others}):
        if mine.get(key) != others.get(key):
            yield Difference(f"{label} {key}", _shown(mine, key), _shown(others, key))


@dataclass(frozen=True, slots=True)
class Recorded:
    """A shared configuration as the registry has it.

    Attributes:
        revision: Its number; only ever grows.
        shared: The values.
        is_applied: Whether it was meant for all controllers, whatever their files say.
        at: Since when it is in use (UTC).
        actor: Who brought it into use.
    """

    revision: int
    shared: SharedConfiguration
    is_applied: bool
    at: datetime
    actor: str


def in_words(differences: list[Difference]) -> str:
    """Differences as part of a sentence."""
    text = "; ".join(map(str, differences[:_LISTED]))
    more = len(differences) - _LISTED
    return f"{text}; and {more} more" if more > 0 else text


def _label(kind: str, name: str) -> str:
    return f"[{kind}.{_key(name)}]"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)


def _written(value: object) -> str:
    """A value as a configuration file has it; a table is written in one line."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(key)} = {_written(one)}" for key, one in sorted(value.items()))
        return f"{{ {pairs} }}" if pairs else "{}"
    return json.dumps(value)


def _shown(values: Mapping[str, Any], key: str) -> str | None:
    return _written(values[key]) if key in values else None
