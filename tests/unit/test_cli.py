"""The command line by itself: what it prints, how it exits, what it understands. No service is running here."""

import dataclasses
import json
import tracemalloc
from contextlib import redirect_stdout
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from macbind import __version__
from macbind.addressing import MacAddress
from macbind.cli.commands import app
from macbind.cli.output import EXIT_CODES, Output, plain, table
from macbind.errors import (
    ConfigError,
    DhcpdUnavailable,
    InvariantViolation,
    MacbindError,
    NotFound,
    NotPermitted,
    ServiceUnavailable,
)
from macbind.model import Allocation, Released, State
from macbind.options import DhcpOptions

NOWHERE = ["--socket", "/nonexistent/macbind.sock"]
ASKING: list[list[str]] = [
    ["allocate", "farm", "vm"],
    ["release", "vm"],
    ["release", "--group", "speck"],
    ["release", "--address", "10.1.1.3"],
    ["reserve", "printer", "10.0.0.9"],
    ["unreserve", "printer"],
    ["renumber", "vm", "--to", "10.1.1.9", "--live"],
    ["renumber", "vm", "--abort"],
    ["list"],
    ["show", "vm"],
    ["show", "10.1.1.3"],
    ["pools"],
    ["status"],
]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Runs commands in this process, with no setting of the environment."""
    monkeypatch.delenv("MACBIND_SOCKET", raising=False)
    monkeypatch.delenv("MACBIND_CONFIG", raising=False)
    return CliRunner()


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
def test_without_a_service_every_command_says_so(cli: CliRunner, command: list[str]) -> None:
    """Nothing on standard output, one sentence and a hint on standard error, exit status 5."""
    done = cli.invoke(app, [*command, *NOWHERE])
    assert done.exit_code == 5
    assert done.stdout == ""
    sentence, hint = done.stderr.splitlines()
    assert sentence == (
        "macbind: The macbind service at /nonexistent/macbind.sock cannot be reached: there is no such socket."
    )
    assert hint == "  Start it with `systemctl start macbind` or `macbind serve`."


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
def test_with_json_the_error_is_a_value(cli: CliRunner, command: list[str]) -> None:
    """--json prints the error on standard output for programs, besides the sentence for people."""
    done = cli.invoke(app, [*command, *NOWHERE, "--json"])
    assert done.exit_code == 5
    assert json.loads(done.stdout)["error"]["code"] == "service_unavailable"
    assert done.stderr.startswith("macbind: ")


def test_socket_of_the_environment_is_used(cli: CliRunner) -> None:
    """MACBIND_SOCKET names the socket unless --socket does."""
    done = cli.invoke(app, ["list"], env={"MACBIND_SOCKET": "/nonexistent/other.sock"})
    assert "/nonexistent/other.sock" in done.stderr
    done = cli.invoke(app, ["list", *NOWHERE], env={"MACBIND_SOCKET": "/nonexistent/other.sock"})
    assert "/nonexistent/macbind.sock" in done.stderr


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (ConfigError, 3),
        (NotFound, 4),
        (DhcpdUnavailable, 5),
        (ServiceUnavailable, 5),
        (NotPermitted, 6),
        (InvariantViolation, 70),
    ],
)
def test_each_kind_of_error_has_its_exit_status(kind: type[MacbindError], status: int) -> None:
    """The first entry of EXIT_CODES that fits is the exit status."""
    assert next(code for one, code, _ in EXIT_CODES if issubclass(kind, one)) == status


def test_every_exit_status_is_in_the_help(cli: CliRunner) -> None:
    """`macbind --help` lists the exit codes and every command."""
    told = " ".join(cli.invoke(app, ["--help"]).stdout.split())
    for number, meaning in [(0, "done"), (2, "the command line is not understood")]:
        assert f"{number} {meaning}" in told
    for _, number, meaning in EXIT_CODES:
        assert f"{number} {meaning}" in told
    for command in (
        "allocate",
        "release",
        "reserve",
        "unreserve",
        "list",
        "show",
        "pools",
        "status",
        "serve",
        "init",
        "render",
    ):
        assert f" {command} " in told


def test_every_command_and_option_explains_itself() -> None:
    """No command and no parameter is without a line of help."""
    group = get_command(app)
    commands = group.commands.values()  # type: ignore[attr-defined]
    assert all(command.help for command in commands)
    silent = [
        f"{command.name} {parameter.name}"
        for command in commands
        for parameter in command.params
        if parameter.name != "help" and not getattr(parameter, "help", None)
    ]
    assert silent == []


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["nonsense"],
        ["allocate"],
        ["allocate", "farm", "vm", "--timeout", "0"],
        ["allocate", "farm", "vm", "--timeout", "301"],
        ["allocate", "farm", "vm", "--ttl", "soon"],
        ["allocate", "farm", "--group", "g", "--count", "0"],
        ["allocate", "farm", "--group", "g", "--count", "many"],
        ["reserve", "printer"],
        ["list", "--nonsense"],
        ["show"],
    ],
    ids=" ".join,
)
def test_command_line_that_is_not_understood_exits_with_2(cli: CliRunner, command: list[str]) -> None:
    """A usage error shows the usage and asks nobody."""
    done = cli.invoke(app, command)
    assert done.exit_code == 2
    assert "Usage: " in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["release"], "Say what to release"),
        (["release", "vm", "--address", "10.1.1.3"], "Say what to release"),
        (["allocate", "farm", "--count", "2"], "--count needs --group"),
        (["allocate", "farm", "vm", "--address", "x"], "'x' is not an IPv4 address."),
        (["allocate", "farm", "vm", "--hostname", "a b"], "hostname 'a b' is not a host name."),
        (["allocate", "farm", "vm", "--ttl", "nan"], "cannot be written down"),
        (["reserve", "printer", "10.0.0.9", "--mac", "x"], "'x' is not a MAC address."),
        (["show", "\udcff"], "cannot be a name"),
    ],
)
def test_what_can_be_refused_without_the_service_is(cli: CliRunner, command: list[str], words: str) -> None:
    """Malformed values are refused with exit status 4 before anybody is asked."""
    done = cli.invoke(app, [*command, *NOWHERE])
    assert done.exit_code == 4
    assert words in done.stderr


@pytest.mark.parametrize("command", [["serve"], ["render"], ["render", "--check"], ["render", "--stdout"]])
def test_configuration_that_is_missing_exits_with_3(
    cli: CliRunner, command: list[str], tmp_path: Path
) -> None:
    """serve and render name the file that is not there."""
    done = cli.invoke(app, [*command, "--config", str(tmp_path / "none.toml")])
    assert done.exit_code == 3
    assert done.stderr.startswith(f"macbind: {tmp_path / 'none.toml'}: There is no such file.")


def test_version_is_printed(cli: CliRunner) -> None:
    """--version prints it and does nothing else."""
    done = cli.invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"macbind {__version__}\n")


def test_values_become_json_types() -> None:
    """Whatever a command prints with --json consists of JSON's types and keeps every field."""
    made = Allocation(
        IPv4Address("10.1.1.3"),
        MacAddress.parse("00:16:3e:01:01:03"),
        "vm",
        "farm",
        7,
        State.BOUND,
        datetime(2024, 1, 2, tzinfo=UTC),
        options=DhcpOptions(hostname="vm"),
    )
    told = plain(Released((made,), already_gone=False))
    assert json.loads(json.dumps(told)) == told
    one = told["allocations"][0]
    assert set(one) == {item.name for item in dataclasses.fields(Allocation)}
    assert (one["address"], one["mac"], one["state"]) == ("10.1.1.3", "00:16:3e:01:01:03", "bound")
    assert (one["options"], one["created_at"]) == ({"hostname": "vm"}, "2024-01-02T00:00:00+00:00")


def test_a_long_list_is_printed_item_by_item(capsys: pytest.CaptureFixture[str]) -> None:
    """The text is what it would be in one piece, and never the whole of it in memory."""
    output = Output(json=True)
    for value in ([], [{"a": [1, {}]}], [{"a": "x\ny"}, [], "z"], {"a": 1}):
        output.value(value)
        assert capsys.readouterr().out == json.dumps(value, indent=2) + "\n"
    many = [{"name": "x" * 1000}] * 10_000
    with Path("/dev/null").open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        tracemalloc.start()
        output.value(many)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1 << 20


def test_table_can_be_read_by_awk(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are as wide as their content, an absent value is a dash, an empty table is a remark on stderr."""
    table(["A", "LONG"], [("xyz", None), (1, "w")], "Nothing.")
    assert capsys.readouterr().out.splitlines() == ["A    LONG", "xyz  -", "1    w"]
    table(["A"], [], "Nothing.")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "Nothing.\n")
