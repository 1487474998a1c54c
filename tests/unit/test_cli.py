"""The command line by itself: what it prints, how it exits, what it understands. No service is running here."""

import dataclasses
import json
import os
import sys
import tracemalloc
from contextlib import redirect_stdout
from datetime import UTC, datetime
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from labkit.netns import run_command
from macbind import __version__
from macbind.cli.commands import app
from macbind.cli.formats import plain
from macbind.cli.output import EXIT_CODES, Output, say, table
from macbind.core.allocation import Allocation, Released, State
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import (
    ConfigError,
    DhcpdUnavailable,
    InvariantViolation,
    MacbindError,
    NotFound,
    NotPermitted,
    ServiceUnavailable,
)
from macbind.core.mac_address import MacAddress

GROUP = get_command(app)
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
    ["renumber", "vm", "--to", "10.1.1.9", "--timeout", "2m"],
    ["list", "--search", "00-16-3e"],
    ["list", "-w"],
    ["pools", "-w"],
    ["allocate", "farm", "vm", "--dry-run"],
    ["list"],
    ["show", "vm"],
    ["show", "10.1.1.3"],
    ["why", "10.1.1.3"],
    ["free", "farm"],
    ["map", "farm"],
    ["watch"],
    ["wait", "vm"],
    ["wait", "vm", "--for", "free"],
    ["history", "--since", "2h"],
    ["list", "--gaps"],
    ["list", "--label", "job=4711", "--idle", "2h"],
    ["label", "vm", "job=4711", "owner-"],
    ["release", "--label", "job"],
    ["pools"],
    ["controllers"],
    ["status"],
]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Runs commands in this process, with no setting of the environment."""
    monkeypatch.delenv("MACBIND_SOCKET", raising=False)
    monkeypatch.delenv("MACBIND_CONFIG", raising=False)
    # The runner would make the tree of commands anew for every command, which is most of the work.
    monkeypatch.setattr("typer.testing._get_command", lambda _: GROUP)
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
    commands = GROUP.commands.values()  # type: ignore[attr-defined]
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
        ["allocate", "farm", "vm", "--timeout", "6m"],
        ["renumber", "vm", "--to", "10.1.1.9", "--timeout", "soon"],
        ["renumber", "vm", "--to", "10.1.1.9", "--timeout", "0"],
        ["vm", "launch", "web.xml", "farm", "--timeout", "-1"],
        ["wait"],
        ["wait", "vm", "--for", "ever"],
        ["history", "--limit", "0"],
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
        (["allocate", "farm", "vm", "--ttl", "soon"], "'soon' is no duration."),
        (["allocate", "farm", "vm", "--ttl", "nan"], "'nan' is no duration."),
        (["wait", "vm", "--timeout", "0"], "'0' is no duration."),
        (["history", "--since", "yesterday"], "'yesterday' is no duration."),
        (["history", "--follow", "--json"], "--follow has no --json"),
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


HOSTILE = "x\r! All is well.\x9b2K\x1b[1;31m\u202e\n\udcff"
SHOWN = r"x\r! All is well.\x9b2K\x1b[1;31m\u202e\n\udcff"


def test_nothing_unprintable_reaches_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters of any kind, marks of direction and broken text stand in tables and lines as escapes."""
    table(["A", "B"], [[HOSTILE, "ü €"]], "")
    say(f"! The domain '{HOSTILE}'")
    said = capsys.readouterr().out.splitlines()
    assert said == [f"A{' ' * len(SHOWN)} B", f"{SHOWN}  ü €", f"! The domain '{SHOWN}'"]


def test_error_cannot_steer_the_terminal(cli: CliRunner) -> None:
    """What a name does to a message is shown, not done."""
    done = cli.invoke(app, ["show", "\x9b2J", "--socket", "/nonexistent/\u202emacbind\x1b[2J.sock"])
    assert done.exit_code == 5
    assert r"\u202emacbind\x1b[2J.sock" in done.stderr
    assert done.stderr.replace("\n", "").isprintable()


def test_log_for_people_cannot_steer_the_terminal() -> None:
    """A domain's name is written with escapes, in the event and beside it."""
    code = (
        "import structlog\nfrom macbind.config import ServiceSettings\n"
        "from macbind.daemon.logging import set_up_logging\n"
        "set_up_logging(ServiceSettings(log_format='console'))\n"
        "structlog.get_logger().warning('of \\x9b2J', domain='a\\u202eb\\x1b[2J')\n"
    )
    said = run_command([sys.executable, "-c", code]).stderr
    assert r"of \x9b2J" in said
    assert r"a\u202eb\x1b[2J" in said


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_in_the_log_shows_no_values(form: str) -> None:
    """Of a defect the lines of code and the error are told: among the values there may be a token."""
    code = (
        "import logging, structlog\nfrom macbind.config import ServiceSettings\n"
        "from macbind.daemon.logging import set_up_logging\n"
        f"set_up_logging(ServiceSettings(log_format='{form}'))\n"
        "def fail(header):\n    raise ValueError('no \\x1b[2Jnumber')\n"
        "try:\n    fail('s3cr' + 'et-Token')\n"
        "except ValueError as error:\n"
        "    structlog.get_logger().critical('defect', exc_info=error)\n"
        "    logging.getLogger('uvicorn.error').error('failed', exc_info=error)\n"
    )
    said = run_command([sys.executable, "-c", code]).stderr
    assert said.count("Traceback (most recent call last):") == 2
    assert said.count("ValueError: no ") == 2
    assert "s3cret-Token" not in said
    assert said.replace("\n", "").isprintable()


@pytest.mark.parametrize("kind", ["pipe", "endless", "large"])
def test_user_data_is_a_file_of_bounded_size(cli: CliRunner, tmp_path: Path, kind: str) -> None:
    """A pipe that nobody writes to, an endless device and a huge file are refused at once."""
    path = tmp_path / "user-data"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "endless":
            path = Path("/dev/zero")
        case _:
            with path.open("wb") as file:
                file.truncate(1 << 40)
    command = ["vm", "launch", "web", "farm", "--user-data", str(path), "--channel", "nocloud", *NOWHERE]
    done = cli.invoke(app, command)
    assert done.exit_code == 4
    assert ("more than 1024 KiB" if kind == "large" else "is not a regular file") in done.stderr


def test_file_nearby_is_not_taken_for_a_domain(
    cli: CliRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file counts only if it is written as one; the command says which template it uses."""
    (tmp_path / "web-template").write_text("<planted/>")
    (tmp_path / "web.xml").write_text("<own/>")
    monkeypatch.chdir(tmp_path)
    launch = ["vm", "launch", "--uri", "test:///default", *NOWHERE]
    by_name = cli.invoke(app, [*launch, "web-template", "farm"])
    assert by_name.exit_code == 4
    assert "template: the domain 'web-template'" in by_name.stderr
    assert "There is no domain 'web-template'" in by_name.stderr
    assert "'./web-template'" in by_name.stderr
    for text, root in (("./web-template", "planted"), ("web.xml", "own")):
        by_path = cli.invoke(app, [*launch, text, "farm"])
        assert f"template: the file {tmp_path / text}" in by_path.stderr
        assert f"<{root}>" in by_path.stderr
