"""Searching allocations by any part of a name, group, domain, address or MAC, decided by the database."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, bindparam, cast, func, or_
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from macbind.core.errors import InvalidAddress
from macbind.core.mac_address import MacAddress
from macbind.registry.tables import allocation as al

_LEAST_DASHED = 3
"""So many digits a part of a MAC with dashes has at least."""
_HEX = re.compile(r"[0-9a-f]+")


class _Digits(FunctionElement[str]):
    """A MAC as twelve hexadecimal digits."""

    type = Text()
    inherit_cache = True


@compiles(_Digits, "sqlite")
def _sqlite(element: Any, compiler: Any, **how: Any) -> str:
    return f"printf('%012x', {compiler.process(element.clauses, **how)})"


@compiles(_Digits, "postgresql")
def _postgresql(element: Any, compiler: Any, **how: Any) -> str:
    return f"lpad(to_hex({compiler.process(element.clauses, **how)}), 12, '0')"


def _address() -> ColumnElement[str]:
    """The address as text."""
    octets = [cast(al.c.ip // (1 << shift) % 256, Text) for shift in (24, 16, 8, 0)]
    text: ColumnElement[str] = octets[0]
    for one in octets[1:]:
        text = text + "." + one
    return text


def _spelled(size: int, mark: str) -> ColumnElement[str]:
    """The MAC in groups of so many digits, with a mark between them."""
    parts = [func.substr(_Digits(al.c.mac), first, size) for first in range(1, 13, size)]
    text: ColumnElement[str] = parts[0]
    for one in parts[1:]:
        text = text + mark + one
    return text


def _like(text: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
    return text.like(bindparam(pattern, type_=Text), escape="\\")


def _mac(size: int, mark: str, pattern: str) -> ColumnElement[bool]:
    """Whether the MAC has a part in one spelling; its bare digits are looked at first, which is quick."""
    return and_(_like(_Digits(al.c.mac), "q_bare"), _like(_spelled(size, mark), pattern))


_CRITERIA: dict[str, ColumnElement[bool]] = {
    "q_text": or_(*(_like(func.lower(one), "q_text") for one in (al.c.name, al.c.grp, al.c.domain))),
    "q_address": _like(_address(), "q_address"),
    "q_digits": _like(_Digits(al.c.mac), "q_digits"),
    "q_colons": _mac(2, ":", "q_colons"),
    "q_dots": _mac(4, ".", "q_dots"),
}
MARK = "q_"
"""Begins the names of all parameters of a search."""


def criterion(parameters: Iterable[str]) -> ColumnElement[bool]:
    """Whether an allocation has a text somewhere.

    Args:
        parameters: The names of what :func:`patterns` has made: only in these places it can be.
    """
    return or_(*(_CRITERIA[one] for one in parameters if one in _CRITERIA))


def patterns(text: str) -> dict[str, str]:
    """The parameters of a search for a text, one for each place where it can be.

    A MAC may be written in any spelling, whole or in part: ``00:16:3E``, ``00-16-3e``, ``0016.3e01``, ``163e01``.
    Small and capital letters of ASCII are the same.
    """
    low = _lower(text)
    found = {"q_text": low}
    if re.fullmatch(r"[0-9.]+", low):
        found["q_address"] = low
    bare = re.sub(r"[:.-]", "", low)
    try:
        found["q_digits"] = f"{MacAddress.parse(text).value:012x}"  # a whole one, also without leading zeros
    except InvalidAddress:
        if _HEX.fullmatch(low):
            found["q_digits"] = low
        elif _is_part_with_colons(low, bare):
            found |= {"q_colons": low.replace("-", ":"), "q_bare": bare}
        elif re.fullmatch(r"[0-9a-f.]*", low):
            found |= {"q_dots": low, "q_bare": bare}
    return {name: _part(one) for name, one in found.items()}


def _is_part_with_colons(low: str, bare: str) -> bool:
    """Whether a text is a part of a MAC with : or - between its bytes; ``b-1`` is a part of a name."""
    return bool(re.fullmatch(r"[0-9a-f:-]*", low)) and ("-" not in low or len(bare) >= _LEAST_DASHED)


def _lower(text: str) -> str:
    """Small letters, of ASCII only: SQLite knows no others."""
    return "".join(one.lower() if one.isascii() else one for one in text)


def _part(text: str) -> str:
    """A pattern of what holds the text."""
    return "%" + re.sub(r"([\\%_])", r"\\\1", text) + "%"
