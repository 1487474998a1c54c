"""Where each key of a TOML document stands.

``tomllib`` gives values without positions, but an error that names the line is mended in half the time. This
file decides nothing about values: it walks a document that ``tomllib`` accepted and notes the line of each
table header, key and array element.

A path is a tuple of table and key names, with numbers for array elements: ``("pool", "farm", "ranges", 1)``.
Elements of an array of tables share the path of their first header; macbind's configuration has none.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping

KeyPath = tuple[str | int, ...]

_TOKEN = re.compile(
    r"""
      (?P<blank>[ \t]+|\#[^\n]*)
    | (?P<newline>\n)
    | (?P<string>\"{3}(?:\\.|[^\\])*?\"{3,5} | '{3}.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*')
    | (?P<sign>[\[\]{},=])
    | (?P<bare>[^\s\[\]{},=\#"']+)
    """,
    re.VERBOSE | re.DOTALL,
)


def find_lines(text: str) -> dict[KeyPath, int]:
    """The line, counted from 1, on which each path of a valid TOML document first appears.

    Raises:
        tomllib.TOMLDecodeError: The text is not TOML.
    """
    tomllib.loads(text)
    return _Walk(text.replace("\r\n", "\n")).document()


def line_of(lines: Mapping[KeyPath, int], path: KeyPath) -> int:
    """The line of a path or, where it does not appear, of the table it would stand in; else 1."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


class _Walk:
    """One pass over the tokens of a document; ``at`` is the next one."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str, int]] = []
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        line = 1
        for match in _TOKEN.finditer(text):
            if match.lastgroup not in {None, "blank"}:
                self.tokens.append((str(match.lastgroup), match[0], line))
            line += match[0].count("\n")
        self.tokens.append(("end", "", line))

    def document(self) -> dict[KeyPath, int]:
        """Notes every statement: a table header, or a key with its value."""
        table: KeyPath = ()
        while self._skip_newlines() != "end":
            if self.tokens[self.at][1] == "[":
                line = self.tokens[self.at][2]
                while self.tokens[self.at][1] == "[":
                    self.at += 1
                table = self._key((), "]", line)
                while self.tokens[self.at][1] == "]":
                    self.at += 1
            else:
                self._pair(table)
        return self.lines

    def _skip_newlines(self) -> str:
        while self.tokens[self.at][0] == "newline":
            self.at += 1
        return self.tokens[self.at][0]

    def _key(self, base: KeyPath, end: str, line: int) -> KeyPath:
        """Reads a key, dotted or quoted, up to the sign that ends it; notes each of its parts."""
        text = ""
        while self.tokens[self.at][1] != end:
            text += self.tokens[self.at][1]
            self.at += 1
        value: object = tomllib.loads(f"{text} = 0")
        path = base
        while isinstance(value, dict):
            ((name, value),) = value.items()
            path = (*path, name)
            self.lines.setdefault(path, line)
        return path

    def _pair(self, base: KeyPath) -> None:
        path = self._key(base, "=", self.tokens[self.at][2])
        self.at += 1
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        opening = self.tokens[self.at][1]
        if opening not in {"[", "{"}:
            while self.tokens[self.at][0] in {"string", "bare"}:  # a date and its time are two tokens
                self.at += 1
            return
        self.at += 1
        index = 0
        while True:
            self._skip_newlines()
            sign = self.tokens[self.at][1]
            if sign in {"]", "}"}:
                self.at += 1
                return
            if sign == ",":
                self.at += 1
            elif opening == "{":
                self._pair(path)
            else:
                self.lines.setdefault((*path, index), self.tokens[self.at][2])
                self._value((*path, index))
                index += 1
