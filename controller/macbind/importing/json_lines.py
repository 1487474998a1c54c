"""Reads JSON as Kea has it: with comments and trailing commas; each object knows its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from macbind.core.errors import InvalidRequest

LINE = "\x00line"
"""The key under which an object has its line: no JSON of others has it."""
_TOKEN = re.compile(
    r'(?P<text>"(?:[^"\\\n]|\\.)*")|(?P<comment>\#[^\n]*|//[^\n]*|/\*.*?(?:\*/|\Z))|(?P<include><\?)'
    r'|(?P<blank>\s+)|(?P<mark>[{}\[\],:])|(?P<word>[^\s{}\[\],:"#/<]+|.)',
    re.DOTALL,
)


def read_json(text: str) -> Any:
    """The value of a text.

    Raises:
        InvalidRequest: It is no JSON.
    """
    try:
        return json.loads("".join(_rewritten(text)))
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            f"Line {error.lineno} is not JSON: {error.msg}.", hint="Look at the line, and at the one before."
        ) from error
    except (ValueError, RecursionError) as error:  # a number without end, too many brackets
        raise InvalidRequest(
            f"The JSON cannot be read: {type(error).__name__}.", hint="Look at its brackets and numbers."
        ) from error


def _rewritten(text: str) -> Iterator[str]:
    """The text as strict JSON, with the same lines."""
    line, comma, breaks = 1, "", ""
    for token in _TOKEN.finditer(text):
        word, kind = token[0], token.lastgroup
        newlines = "\n" * word.count("\n")
        if kind in ("blank", "comment"):
            # What is due stands where it was: on the line of an error.
            breaks += newlines
        elif kind == "include":
            raise InvalidRequest(
                f"Line {line} includes another file, which is not read.", hint="Import that file by itself."
            )
        else:
            yield ("" if word in ("}", "]") else comma) + breaks
            comma = breaks = ""
            if word == ",":
                comma = ","
            elif word == "{":
                yield f'{{"\\u0000line": {line}'
                comma = ","
            else:
                yield word
        line += len(newlines)
    yield comma


def lists(value: Any, key: str) -> Iterator[list[Any]]:
    """All lists that stand under a key, at any depth, in the order of the text."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, list):
            todo += reversed(one)
        elif isinstance(one, dict):
            found = one.get(key)
            if isinstance(found, list):
                yield found
            others = [item for name, item in one.items() if name != key]
            todo += reversed([item for item in others if isinstance(item, dict | list)])


def text_of(value: object) -> str | None:
    """A text of a JSON value; None for what is none."""
    return value if isinstance(value, str) and value else None


def line_of(one: Mapping[str, Any]) -> int:
    """The line of an object."""
    line = one.get(LINE)
    return line if isinstance(line, int) else 0
