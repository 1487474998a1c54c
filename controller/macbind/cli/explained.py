"""Everything that has a short name and a meaning: configuration keys, errors, findings, reasons.

`macbind explain`, macbind.toml(5) and the tables of the documentation have them from here.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files

from macbind.core import errors, why
from macbind.core.errors import InvariantViolation, MacbindError, NotFound, PeerError, RequestError
from macbind.core.findings import CODES

_KEY = re.compile(r"^#? ?(?P<key>[a-z0-9_]+) = (?P<value>.*?)(?:\s{2,}# (?P<about>.*))?$")
_MORE = re.compile(r"^(#  | {20,}#)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that can be explained.

    Attributes:
        kind: ``key``, ``error``, ``finding`` or ``reason``.
        name: A key with its table, as ``pool.release``; a code.
        meaning: What it means.
        example: A key's example or default.
    """

    kind: str
    name: str
    meaning: str
    example: str | None = None


def sample() -> str:
    """The sample of the configuration file, which shows every key."""
    return files("macbind.config").joinpath("sample.toml").read_text(encoding="utf-8")


def keys() -> Iterator[tuple[str, Entry]]:
    """The keys of the configuration in the order of the sample, each with the head of its table."""
    head, found = "", None
    for line in sample().splitlines():
        if line.startswith("["):
            if found:
                yield found
            head, found = line.partition("]")[0] + "]", None
        elif match := _KEY.match(line):
            if found:
                yield found
            table = re.split(r"[.\]]", head[1:])[0]
            entry = Entry("key", f"{table}.{match['key']}", match["about"] or "", match["value"].strip())
            found = head, entry
        elif found and _MORE.match(line):
            head, one = found
            meaning = f"{one.meaning} {line.lstrip(' #')}".strip()
            found = head, Entry(one.kind, one.name, meaning, one.example)
        elif found:
            yield found
            found = None
    if found:
        yield found


def kinds_of_errors() -> list[type[MacbindError]]:
    """The errors that are raised, those first that are the caller's fault."""
    kinds = [
        one
        for one in vars(errors).values()
        if isinstance(one, type)
        and issubclass(one, MacbindError)
        and one not in (MacbindError, RequestError, PeerError)
    ]
    return sorted(kinds, key=lambda one: (one is InvariantViolation, issubclass(one, PeerError)))


def reasons() -> Iterator[tuple[str, str]]:
    """The codes of `macbind why`, each with the docstring that stands below it."""
    (kind,) = ast.parse(inspect.getsource(why.Reason)).body
    assert isinstance(kind, ast.ClassDef)
    said = [
        one.value.value
        for one in kind.body
        if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)
    ]
    for code, text in zip(why.Reason, said[1:], strict=True):
        yield code.value, str(text)


def first_sentence(text: str | None) -> str:
    """The first paragraph of a docstring in one line."""
    assert text is not None
    return re.sub(r"\s+", " ", text.strip().partition("\n\n")[0])


def _may_repeat(kind: type[MacbindError]) -> str:
    if kind is InvariantViolation:
        return ""
    return " Asking again may succeed." if issubclass(kind, PeerError) else " Asking again changes nothing."


def entries() -> list[Entry]:
    """All that can be explained."""
    return [
        *(one for _, one in keys()),
        *(
            Entry("error", one.code, f"{first_sentence(one.__doc__).replace('``', '')}{_may_repeat(one)}")
            for one in kinds_of_errors()
        ),
        *(Entry("finding", code, meaning) for code, meaning in CODES.items()),
        *(Entry("reason", code, meaning) for code, meaning in reasons()),
    ]


def explained(what: str) -> list[Entry]:
    """What a word means; several things may have it, as a key of several tables.

    Args:
        what: A code, a key with its table (``pool.release``, ``[pool.farm] release``), or a key or a table alone.

    Raises:
        NotFound: Nothing has this name; the hint has the nearest ones.
    """
    word = re.sub(r"^\[([a-z]+)[^\]]*\]\s*", r"\1.", what.strip().lower()).rstrip(".").replace("-", "_")
    word = re.sub(r"^([a-z]+)\.[^.]+\.([a-z0-9_]+)$", r"\1.\2", word)
    known = entries()
    found = [one for one in known if one.name == word]
    found = found or [one for one in known if one.kind == "key" and word in one.name.split(".")]
    if found:
        return found
    names = {part for one in known for part in (one.name, one.name.rpartition(".")[2])}
    near = get_close_matches(word, sorted(names), n=5, cutoff=0.5)
    hint = f"Did you mean {', '.join(near)}?" if near else ""
    raise NotFound(
        f"Nothing is called {what[:64]!r}.",
        hint=f"{hint} `macbind explain` lists all.".strip(),
        name=what[:64],
    )
