"""The values of the HTTP API as JSON: the service writes with these adapters, the client reads with them."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import TypeAdapter

_T = TypeVar("_T")
_made: dict[object, TypeAdapter[Any]] = {}


def adapter(kind: type[_T]) -> TypeAdapter[_T]:
    """Reads and writes values of a type: always the same one, made when it is first asked for. That takes a while."""
    if kind not in _made:
        _made[kind] = TypeAdapter(kind)
    return _made[kind]
