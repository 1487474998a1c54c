"""Descriptions of tables and forms of output, without a service: CSV, YAML, columns, sorting, and hostile text."""

import csv
import io
import json
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from macbind.cli import machine_tables, page_tables, service_tables, tables
from macbind.cli.columns import Column, Table, in_order
from macbind.cli.commands import app
from macbind.cli.formats import Form, csv_lines, structured
from macbind.cli.output import text_lines
from macbind.cli.show import Show, table_of
from macbind.cli.tables import ALLOCATIONS, Line, lines_of
from macbind.core.allocation import Allocation, State
from macbind.core.errors import InvalidRequest
from macbind.core.free_range import FreeRange
from macbind.core.mac_address import MacAddress

HOSTILE = "=cmd|' /C calc'!A0\x1b[2J\u202e\r\n\udcff\x7f"
EVERY = [
    one
    for module in (tables, machine_tables, page_tables, service_tables)
    for one in vars(module).values()
    if isinstance(one, Table)
]


def allocation(name: str, address: str = "10.1.1.3", **more: Any) -> Allocation:
    """An allocation as the service sends it."""
    values: dict[str, Any] = {
        "address": IPv4Address(address),
        "mac": MacAddress.parse("00:16:3e:01:01:03"),
        "name": name,
        "pool": "farm",
        "generation": 7,
        "state": State.BOUND,
        "created_at": datetime(2024, 1, 2, tzinfo=UTC),
    }
    return Allocation(**values | more)


@pytest.mark.parametrize("table", EVERY, ids=lambda one: one.columns[0].name)
def test_every_description_is_complete(table: Table) -> None:
    """Column names are words that fit into `--columns`, each once; each says what it shows; the schema is one."""
    assert len(set(table.names)) == len(table.names)
    assert all(name.replace("-", "").isalnum() and name == name.lower() for name in table.names)
    assert all(one.about for one in table.columns)
    assert {"always"} <= {one.level for one in table.columns}
    assert json.loads(json.dumps(table.schema()))


def test_every_command_that_prints_rows_has_the_same_options() -> None:
    """-o, --json and --columns are everywhere the same."""
    group = get_command(app)
    known: dict[str, Any] = dict(group.commands)  # type: ignore[attr-defined]
    for group_name in ("vm", "token"):
        known |= {f"{group_name} {name}": one for name, one in known.pop(group_name).commands.items()}
    options = {
        name: {spelling for one in command.params for spelling in one.opts} for name, command in known.items()
    }
    rows = {name for name, command in known.items() if table_of(command.callback)}
    assert {"list", "pools", "free", "history", "show", "why", "status", "watch", "vm list"} <= rows
    assert {"map", "token add", "token list", "token remove"} <= rows
    for name in rows:
        assert {"--output", "-o", "--json"} <= options[name], name
        assert {"--columns", "--headers"} <= options[name] or name in ("renumber", "token remove"), name


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\uff1d1"])
def test_no_cell_of_csv_is_a_formula(start: str) -> None:
    """What a spreadsheet would calculate begins with an apostrophe; numbers stay numbers."""
    (line,) = csv_lines([[start, -1, None, True, "plain"]])
    ((cell, *rest),) = csv.reader(io.StringIO(line))
    assert cell.startswith("'")
    assert rest == ["-1", "", "yes", "plain"]


@pytest.mark.parametrize("form", list(Form))
def test_no_form_prints_what_steers_a_terminal(form: Form) -> None:
    """Controls, marks of direction and broken text of others are escapes in every form; one row is one line."""
    lines = list(
        Show(ALLOCATIONS, form).lines(lines_of([allocation(HOSTILE, group=HOSTILE, domain=HOSTILE)]))
    )
    text = "\n".join(lines)
    assert text.replace("\n", "").isprintable()
    if form in (Form.CSV, Form.JSONL, Form.NAME):
        assert len(lines) == (2 if form is Form.CSV else 1)


def test_yaml_and_json_are_the_same_values() -> None:
    """Also for text that only one of the two writers of YAML can write."""
    for value in (
        {"a": HOSTILE.replace("\udcff", "")},
        [{"a": None, "b": [1, True]}, {"a": "yes"}],
        [],
        "text",
    ):
        said = "\n".join(structured(Form.JSON, value))
        assert yaml.safe_load("\n".join(structured(Form.YAML, value))) == json.loads(said) == value
    assert "\\uDCFF" in "\n".join(structured(Form.YAML, {"a": HOSTILE}))


def test_a_long_name_does_not_push_the_others_away() -> None:
    """10,000 characters are shown whole in their row; the other rows are as wide as without them."""
    long, short, head = "x" * 10_000, "y", "NAME"
    lines = list(text_lines([head, "B"], [[long, 1], [short, 2]]))
    assert lines[1] == f"{long}  1"
    assert len(lines[0]) == len(lines[2]) < 70


def test_columns_are_asked_for_by_their_names() -> None:
    """In any case, in the order asked for; an unknown one is a sentence with the known ones."""
    assert [one.name for one in ALLOCATIONS.chosen("State, mac")] == ["state", "mac"]
    assert ALLOCATIONS.chosen("all") == list(ALLOCATIONS.columns)
    for text in ("nonsense", "", "mac,,name", "mac;name"):
        with pytest.raises(InvalidRequest) as refused:
            ALLOCATIONS.chosen(text)
        assert "link-local" in refused.value.hint
    with pytest.raises(InvalidRequest):
        ALLOCATIONS.order("--mac")


def test_sorting() -> None:
    """Numbers in names count as numbers, what has no value stands last in both directions, and equals keep order."""
    rows = [
        allocation(name, group=group) for name, group in [("b10", "x"), ("b9", None), ("a", "y"), ("B9", "x")]
    ]

    def names(order: str) -> list[str]:
        return [one.of.name for one in in_order(lines_of(rows), ALLOCATIONS.order(order)) if one.of]

    assert names("name") == ["a", "b9", "B9", "b10"]
    assert names("-name") == ["b10", "b9", "B9", "a"]
    assert names("group,name") == ["B9", "b10", "a", "b9"]
    assert names("-group")[-1] == "b9"
    mixed = Table((Column("v", lambda row: row, "v"),), str, "", dict)
    assert in_order([3, "2", None, 1, "10"], mixed.order("v")) == ["2", "10", 1, 3, None]


def test_free_space_stands_in_its_place() -> None:
    """Gaps are rows between allocations; sorted by address a range counts by its first one."""
    gap = FreeRange("farm", IPv4Address("10.1.1.4"), IPv4Address("10.1.1.9"))
    lines = lines_of([allocation("a"), allocation("b", "10.1.1.10")], [gap])
    assert [one.first for one in lines] == sorted(one.first for one in lines)
    said = list(
        Show(ALLOCATIONS, Form.CSV, headers=False).lines(in_order(lines, ALLOCATIONS.order("-address")))
    )
    assert said[1] == "10.1.1.4-10.1.1.9,,,farm,,free 6"
    assert list(Show(ALLOCATIONS, Form.NAME).lines([Line(gap)])) == []


def test_only_as_much_is_taken_as_is_printed() -> None:
    """A limit without sorting ends the asking for more."""
    taken = []

    def rows() -> Any:
        for number in range(1000):
            taken.append(number)
            yield number

    assert Show(service_tables.NAMES, limit=3).pick(rows()) == [0, 1, 2]
    assert len(taken) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--columns", "a"], "There is no column 'a'. Columns are: address, mac, name,"),
        (["--sort", "mac,b"], "There is no column 'b'. Columns are: address, mac, name,"),
        (
            ["-o", "xml"],
            "'xml' is no form of this command. Forms are: text, wide, json, jsonl, yaml, csv, name.",
        ),
        (["--json", "-o", "csv"], "give one form, not two"),
        (["-o", "csv", "--json"], "give one form, not two"),
        (["--limit", "0"], "--limit"),
    ],
    ids=str,
)
def test_options_of_output_that_are_not_understood(options: list[str], words: str) -> None:
    """One sentence with what is known, the exit status of usage errors, and nobody was asked."""
    done = CliRunner().invoke(app, ["list", *options, "--socket", "/nonexistent/macbind.sock"])
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("form", "read"), [("json", json.loads), ("jsonl", json.loads), ("yaml", yaml.safe_load)]
)
def test_an_error_has_the_form_that_was_asked_for(form: str, read: Any) -> None:
    """It is a value on standard output, and a sentence on standard error."""
    done = CliRunner().invoke(app, ["list", "-o", form, "--socket", "/nonexistent/macbind.sock"])
    assert done.exit_code == 5
    assert read(done.stdout)["error"]["code"] == "service_unavailable"
    assert done.stderr.startswith("macbind: ")


def test_no_colours_without_a_terminal() -> None:
    """A pipe gets none, whatever TERM says."""
    done = CliRunner(env={"TERM": "xterm"}).invoke(app, ["explain", "not_found", "-o", "wide"])
    assert "NAME" in done.stdout
    assert "\x1b" not in done.stdout
