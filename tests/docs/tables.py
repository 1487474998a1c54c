"""The tables of the documentation, made from the code they describe.

A page holds a table between two comments, ``<!-- table: NAME -->`` and ``<!-- end -->``. ``make docs`` writes them,
and a test fails when a page is behind.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from docs import metrics
from macbind.cli.commands import app
from macbind.cli.explained import first_sentence, kinds_of_errors, reasons
from macbind.cli.explained import keys as config_keys
from macbind.cli.show import table_of
from macbind.config.tables import TABLES as MODELS
from macbind.core.errors import MacbindError, PeerError
from macbind.core.findings import CODES, SEVERITIES
from macbind.doctor import CHECKS, Need

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "controller" / "docs"
SAMPLE = ROOT / "dhcpd" / "macbind.toml"
TESTS = ROOT / "tests"

_PLACE = re.compile(r"(<!-- table: ([a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_KEY = re.compile(r"^#? ?(?P<key>[a-z0-9_]+) = (?P<value>.*?)(?:\s{2,}# (?P<about>.*))?$")

_MARKED_TEST = re.compile(
    r"^@pytest\.mark\.invariant\((?P<numbers>[0-9, ]+)\)\n(?:@[^\n]*\n)*(?:class|def) (?P<name>\w+)",
    re.MULTILINE,
)
_MARKED_MODULE = re.compile(r"^pytestmark = pytest\.mark\.invariant\((?P<numbers>[0-9, ]+)\)$", re.MULTILINE)


def pages() -> list[Path]:
    """Every page of the documentation."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", TESTS / "README.md", *sorted(PAGES.rglob("*.md"))]


def with_tables(text: str) -> str:
    """A page's text with its tables as they should be."""
    return _PLACE.sub(
        lambda found: found[1] + "".join(f"{line}\n" for line in TABLES[found[2]]()) + found[3], text
    )


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    names = list(columns)
    yield f"| {' | '.join(names)} |"
    yield f"| {' | '.join('---' for _ in names)} |"
    for row in rows:
        yield f"| {' | '.join(one.replace('|', chr(92) + '|') for one in row)} |"


def _errors() -> Iterator[str]:
    def retry(kind: type[MacbindError]) -> str:
        return "yes" if issubclass(kind, PeerError) else "no"

    return _table(
        ("class", "code", "ask again?", "meaning"),
        (
            (f"`{one.__name__}`", f"`{one.code}`", retry(one), _first(one.__doc__))
            for one in kinds_of_errors()
        ),
    )


def _findings() -> Iterator[str]:
    return _table(
        ("finding", "severity", "meaning"),
        ((f"`{code}`", SEVERITIES[code], meaning) for code, meaning in CODES.items()),
    )


def _checks() -> Iterator[str]:
    """The checks of the doctor, each with what it needs and what mends what it finds."""
    return _table(
        ("check", "severity", "what it finds", "it needs", "what mends it"),
        (
            (
                f"`{one.name}`",
                one.severity,
                one.about,
                ", ".join(need for need in one.needs if need is not Need.CONFIGURATION) or "-",
                "; ".join(f"`{line}`" for line in one.commands) or "by hand",
            )
            for one in CHECKS
        ),
    )


def _reasons() -> Iterator[str]:
    return _table(("code", "meaning"), ((f"`{code}`", text) for code, text in reasons()))


def _columns() -> Iterator[str]:
    """The columns of each command; those in brackets are shown if they are asked for."""
    yield from _table(("command", "columns"), _columns_of(get_command(app), "macbind"))


def _columns_of(command: Any, path: str) -> Iterator[tuple[str, str]]:
    for name, child in getattr(command, "commands", {}).items():
        yield from _columns_of(child, f"{path} {name}")
    table = table_of(command.callback)
    if table is not None and any("--columns" in one.opts for one in command.params):
        marks = {"always": "{}", "wide": "{} (wide)", "asked": "({})"}
        yield f"`{path}`", ", ".join(marks[one.level].format(one.name) for one in table.columns)


def _commands() -> Iterator[str]:
    return _table(("command", "what it does"), _rows_of(get_command(app), "macbind"))


def _rows_of(command: Any, path: str) -> Iterator[tuple[str, str]]:
    children = getattr(command, "commands", None)
    if children:
        for name, child in children.items():
            yield from _rows_of(child, f"{path} {name}")
        return
    words = [_argument(one) for one in command.params if one.param_type_name == "argument"]
    yield f"`{' '.join([path, *words])}`", _first(command.help)


def _argument(parameter: Any) -> str:
    """An argument as it is written in a command."""
    word = (parameter.metavar or parameter.name).upper()
    return word if parameter.required else f"[{word}]"


def _configuration() -> Iterator[str]:
    """The keys of the sample, with what its comments say of them."""
    yield from _table(("key", "example or default", "meaning"), _keys())


def _keys() -> Iterator[tuple[str, str, str]]:
    for head, one in config_keys():
        yield f"`{head} {one.name.partition('.')[2]}`", f"`{one.example}`", one.meaning


def sample_keys() -> set[tuple[str, str]]:
    """Every table and key that the sample shows, commented ones included."""
    text = SAMPLE.read_text(encoding="utf-8")
    tomllib.loads(text)
    found, section = set(), ""
    for line in text.splitlines():
        if line.startswith("["):
            section = re.split(r"[.\]]", line[1:])[0]
        elif match := _KEY.match(line):
            found.add((section, match["key"]))
    return found


def keys() -> set[tuple[str, str]]:
    """Every table and key that the configuration accepts."""
    return {(table, key) for table, model in MODELS.items() for key in model.model_fields}


def _metrics() -> Iterator[str]:
    return _table(("metric", "type", "meaning"), metrics.rows())


def _invariants() -> Iterator[str]:
    """The tests that carry ``@pytest.mark.invariant(n)``, by the number."""
    found: dict[int, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        text, place = path.read_text(encoding="utf-8"), path.relative_to(TESTS)
        for pattern in (_MARKED_TEST, _MARKED_MODULE):
            for match in pattern.finditer(text):
                name = match["name"] if "name" in match.groupdict() else str(place)
                for number in match["numbers"].split(","):
                    found.setdefault(int(number), []).append(f"[{name}](../../../tests/{place})")
    return _table(
        ("invariant", "tests"), ((str(number), ", ".join(tests)) for number, tests in sorted(found.items()))
    )


def _first(text: str | None) -> str:
    """The first sentence of a docstring or help, as a cell."""
    return first_sentence(text).replace("``", "`")


TABLES: dict[str, Callable[[], Iterable[str]]] = {
    "errors": _errors,
    "findings": _findings,
    "checks": _checks,
    "reasons": _reasons,
    "commands": _commands,
    "columns": _columns,
    "configuration": _configuration,
    "metrics": _metrics,
    "invariants": _invariants,
}
