"""A configuration file as read, and how a fault in it is told: one sentence with file, line and key."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from macbind.config.lines import KeyPath, find_lines, line_of
from macbind.config.tables import TABLES, Tables
from macbind.core.errors import ConfigError, InvalidAddress, InvalidOption

_SINGLE = ("registry", "service", "page", "api", "metrics", "names")
_BARE_KEY = re.compile("[A-Za-z0-9_-]+")
_WANTED = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list in brackets",
    "tuple_type": "a list in brackets",
    "dict_type": "a table",
    "model_type": "a table",
}
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a table",
}


@dataclass(frozen=True)
class Document:
    """A configuration file that has been read, able to say where each of its keys stands."""

    path: Path
    values: Mapping[str, Any]
    lines: Mapping[KeyPath, int]

    @classmethod
    def read(cls, path: Path) -> Document:
        """Reads a TOML file.

        Raises:
            ConfigError: It cannot be read or is not TOML.
        """
        try:
            raw = path.read_bytes()
        except FileNotFoundError as error:
            raise ConfigError(
                f"{path}: There is no such file.",
                hint="`macbind init` makes one; or copy the sample macbind.toml there and adapt it.",
                file=str(path),
            ) from error
        except PermissionError as error:
            raise ConfigError(
                f"{path}: This user is not permitted to read the file.",
                hint="Run the command as root, or let the user's group read it.",
                file=str(path),
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{path}: The file cannot be read: {error.strerror}.", file=str(path)
            ) from error
        try:
            text = raw.decode()
            values = tomllib.loads(text)
            lines = find_lines(text)
        except UnicodeDecodeError as error:
            empty = cls(path, {}, {(): raw.count(b"\n", 0, error.start) + 1})
            raise empty.error((), "The file is not UTF-8 text.") from error
        except tomllib.TOMLDecodeError as error:
            what = str(error).partition(" (at ")[0]
            place = re.search(r"\(at line (\d+), column (\d+)\)$", str(error))
            line = int(place[1]) if place else text.rstrip().count("\n") + 1
            column = f" (column {place[2]})" if place else " (end of the file)"
            raise cls(path, {}, {(): line}).error((), f"This is not valid TOML: {what}{column}.") from error
        except RecursionError as error:
            line = _line_with_longest(r"[\[{]", text)
            raise cls(path, {}, {(): line}).error((), "Lists or tables are nested too deeply.") from error
        except ValueError as error:
            line = _line_with_longest(r"[0-9_]+", text)
            raise cls(path, {}, {(): line}).error((), "A number has too many digits.") from error
        return cls(path, values, lines)

    def error(self, path: KeyPath, sentence: str, hint: str = "", **details: Any) -> ConfigError:
        """A ConfigError about what stands at ``path``: the sentence, after the file and the line."""
        line = line_of(self.lines, path)
        table, rest = _split(path)
        facts: dict[str, Any] = {"file": str(self.path), "line": line}
        if table:
            facts["table"] = ".".join(map(str, table))
        if rest:
            facts["key"] = str(rest[0])
        return ConfigError(f"{self.path} line {line}: {sentence}", hint=hint, **(facts | details))

    def located(self, error: ConfigError) -> ConfigError:
        """An error whose details name a ``pool`` and perhaps a ``key`` of its table, with file and line."""
        pool, key = error.details.get("pool"), error.details.get("key")
        path = () if pool is None else ("pool", pool) if key is None else ("pool", pool, key)
        if path[:2] not in self.lines:
            return ConfigError(f"{self.path}: {error.message}", hint=error.hint, **error.details)
        return self.error(path, error.message, error.hint, **error.details)

    @contextmanager
    def at(self, *path: str | int) -> Iterator[None]:
        """Tells an address or option that is refused inside the ``with`` block as a fault at ``path``."""
        try:
            yield
        except (InvalidAddress, InvalidOption) as error:
            table, rest = _split(path)
            key = str(rest[0]) if rest else ""
            named = not key or "option" in error.details or key in error.message
            sentence = error.message if named else f"{key}: {error.message}"
            raise self.error(path, f"{label(table)} {sentence}", error.hint) from error

    def tables(self) -> Tables:
        """The file's tables, each key of its type and within its bounds.

        Raises:
            ConfigError: One is not; of several faults, the first in the file. Its cause is a group of the others.
        """
        try:
            return Tables.model_validate(self.values)
        except ValidationError as error:
            faults = error.errors(include_url=False)
        faults.sort(key=lambda fault: line_of(self.lines, fault["loc"]))
        first, *others = map(self._tell, faults)  # pydantic's own text repeats values, which may be secret
        raise first from (ExceptionGroup("more faults", others) if others else None)

    def _tell(self, fault: ErrorDetails) -> ConfigError:
        path, kind, value, context = fault["loc"], fault["type"], fault["input"], fault.get("ctx", {})
        if path[-1] == "[key]":
            return self.error(
                path[:-1],
                f"{label(path[:-1])} has a name that cannot be used.",
                "Use 1 to 32 lower-case letters, digits and hyphens, beginning with a letter or digit.",
            )
        table, rest = _split(path)
        if kind == "extra_forbidden":
            return self._unknown(path, value)
        if kind == "missing":
            return self.error(path, f"{label(table)} lacks the key {rest[0]!r}, which is required.")
        if kind == "form":
            sentence = fault["msg"]
        elif kind in {"literal_error", "enum"}:
            sentence = f"must be {context['expected']}, not {json.dumps(value, default=str)}"
        elif kind in {"greater_than_equal", "less_than_equal"}:
            bound = context.get("ge", context.get("le"))
            sentence = f"must be at {'least' if 'ge' in context else 'most'} {bound:.10g}, not {value}"
        elif kind == "finite_number":
            sentence = "must be a finite number"
        else:
            sentence = f"must be {_WANTED.get(kind, fault['msg'])}, not {_KINDS.get(type(value), 'a date')}"
        name = "".join(f"[{part}]" if isinstance(part, int) else str(part) for part in rest)
        return self.error(path, f"{label(table)} {name} {sentence}.".replace("  ", " "))

    def _unknown(self, path: KeyPath, value: object) -> ConfigError:
        table, rest = _split(path)
        if len(path) == 1:
            known: Iterable[str] = [f"[{name}]" for name in TABLES]
            what = f"There is no table {label(path)}."
            if not isinstance(value, dict):
                what = f"The key {path[0]!r} stands in no table."
            return self.error(path, what, did_you_mean(label(path), known), key=str(path[0]))
        known = TABLES[str(path[0])].model_fields
        return self.error(
            path, f"{label(table)} has no key {rest[0]!r}.", did_you_mean(str(rest[0]), known, quote="'")
        )


def did_you_mean(name: str, known: Iterable[str], quote: str = "") -> str:
    """A hint with the nearest known name, or with all of them."""
    names = list(known)
    near = get_close_matches(name, names, 1)
    if near:
        return f"Did you mean {quote}{near[0]}{quote}?"
    return f"Known are {', '.join(names)}."


def label(table: KeyPath) -> str:
    """A table's header as written in the file: ``[subnet."10.1.0.0/16"]``."""
    parts = (str(part) for part in table)
    return f"[{'.'.join(part if _BARE_KEY.fullmatch(part) else json.dumps(part) for part in parts)}]"


def _line_with_longest(pattern: str, text: str) -> int:
    """The line with the longest match, or the most matches of one length, for faults tomllib gives no place of."""
    sizes = [sorted(map(len, re.findall(pattern, line)), reverse=True) for line in text.split("\n")]
    return max(range(len(sizes)), key=sizes.__getitem__) + 1


def _split(path: KeyPath) -> tuple[KeyPath, KeyPath]:
    """The table of a path, and the rest: the key in it."""
    depth = 1 if path[:1] and path[0] in _SINGLE else 2
    return path[:depth], path[depth:]
