"""What a command shows, described once: the columns, what ``-o name`` prints, and what the JSON looks like.

Text, CSV, ``--columns``, ``--sort``, the documentation and the JSON schema follow from the description.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from macbind.core.errors import InvalidRequest

Level = Literal["always", "wide", "asked"]
Order = tuple["Column", bool]
"""A column to sort by, and whether from the greatest to the least."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: Its name, in lower case; the header is the same in upper case.
        of: The value of a row there; None where it has none.
        about: What it shows, in a few words.
        level: ``always`` it is shown, with ``wide`` output, or only if it is ``asked`` for.
        rank: What it is sorted by, where that is not its value.
    """

    name: str
    of: Callable[[Any], object]
    about: str
    level: Level = "always"
    rank: Callable[[Any], object] | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a command.

    Attributes:
        columns: The columns, in their order.
        key: What ``-o name`` prints of a row; None for a row that has no name.
        empty: What is said where there is no row.
        value: The value of a row in JSON and YAML.
        schema: The JSON schema of the whole answer.
    """

    columns: tuple[Column, ...]
    key: Callable[[Any], object]
    empty: str
    schema: Callable[[], dict[str, Any]]
    value: Callable[[Any], Any] = field(default=lambda row: row)

    @property
    def names(self) -> list[str]:
        """The names of all columns."""
        return [one.name for one in self.columns]

    def shown(self, *, wide: bool) -> list[Column]:
        """The columns that are shown if none is asked for."""
        levels = ("always", "wide") if wide else ("always",)
        return [one for one in self.columns if one.level in levels]

    def chosen(self, text: str) -> list[Column]:
        """The columns of a text ``a,b,c``; ``all`` stands for every one.

        Raises:
            InvalidRequest: One of them does not exist; it names those that do.
        """
        if text.strip().lower() == "all":
            return list(self.columns)
        return [self._named(word) for word in text.split(",")]

    def order(self, text: str) -> list[Order]:
        """The columns of a text ``a,-b``; those with a minus from the greatest to the least.

        Raises:
            InvalidRequest: One of them does not exist; it names those that do.
        """
        words = [word.strip() for word in text.split(",")]
        return [(self._named(word.removeprefix("-")), word.startswith("-")) for word in words]

    def _named(self, word: str) -> Column:
        wanted = word.strip().lower()
        for one in self.columns:
            if one.name == wanted:
                return one
        raise InvalidRequest(
            f"There is no column {word.strip()[:64]!r}.", hint=f"Columns are: {', '.join(self.names)}."
        )


def in_order(rows: Iterable[Any], order: Sequence[Order]) -> list[Any]:
    """The rows sorted; those without a value stand last, numbers in names count as numbers."""
    found = list(rows)
    for column, is_down in reversed(order):
        rank = column.rank or column.of
        empty = [one for one in found if rank(one) is None]
        rest = [one for one in found if rank(one) is not None]
        rest.sort(key=lambda one: _rank(rank(one)), reverse=is_down)
        found = rest + empty
    return found


def _rank(value: Any) -> tuple[str, Any]:
    """What values of one column are compared by; those of different kinds are never compared themselves."""
    if isinstance(value, str):
        parts = re.split(r"(\d+)", value.lower())
        return "", [(int(one), "") if one.isdecimal() and one.isascii() else (-1, one) for one in parts]
    kind = "number" if isinstance(value, (bool, int, float)) else type(value).__name__
    return kind, value
