"""The commands that explain macbind itself: explain, schema, completion and manual pages."""

import json
import subprocess
from inspect import unwrap
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from docs.tables import keys as accepted_keys
from labkit.netns import run_command
from macbind.cli.commands import app
from macbind.cli.explained import entries, explained
from macbind.cli.reference import STATUSES
from macbind.cli.roff import escaped, prose
from macbind.cli.shells import FILE_OPTIONS, Shell, script
from macbind.cli.show import table_of
from macbind.core.errors import MacbindError, NotFound
from macbind.core.findings import CODES
from macbind.core.why import Reason


def run(*command: str) -> str:
    """What a command prints."""
    done = CliRunner().invoke(app, list(command))
    assert done.exit_code == 0, done.output
    return done.stdout


def commands(group: Any, path: str = "") -> dict[str, Any]:
    """Every command of the tree by its words."""
    found: dict[str, Any] = {}
    for name, one in group.commands.items():
        found |= commands(one, f"{path}{name} ") if hasattr(one, "commands") else {f"{path}{name}": one}
    return found


EVERY = commands(get_command(app))


def test_everything_with_a_code_is_explained() -> None:
    """Every key that the configuration accepts, every error, finding and reason, each with a meaning."""
    by_kind: dict[str, set[str]] = {}
    for one in entries():
        by_kind.setdefault(one.kind, set()).add(one.name)
        assert one.meaning
    assert by_kind["finding"] == set(CODES)
    assert by_kind["reason"] == {one.value for one in Reason}
    raised = {one.code for one in MacbindError._by_code.values()} - {"request_error", "peer_error", "error"}
    assert by_kind["error"] == raised
    assert by_kind["key"] == {f"{table}.{key}" for table, key in accepted_keys()}


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ("pool.release", ["pool.release"]),
        ("[pool.farm] release", ["pool.release"]),
        ("pool.farm.release", ["pool.release"]),
        ("release", ["pool.release"]),
        ("routers", ["subnet.routers", "pool.routers"]),
        ("Pool-Exhausted", ["pool_exhausted", "pool_exhausted"]),
        ("hypervisor", ["hypervisor.uri", "hypervisor.transition_s", "hypervisor.grace_s"]),
        ("resting", ["resting"]),
    ],
)
def test_a_thing_is_found_by_the_names_people_use(what: str, found: list[str]) -> None:
    """As in the file, with dots, alone, and in any case; all that have the name are told."""
    assert [one.name for one in explained(what)] == found


def test_an_unknown_word_has_the_nearest_names() -> None:
    """The hint proposes names that are alike."""
    with pytest.raises(NotFound) as refused:
        explained("dhcp_deaf")
    assert "Did you mean dhcpd_deaf" in refused.value.hint
    done = CliRunner().invoke(app, ["explain", "\x1b[2J" * 5000])
    assert done.exit_code == 4
    assert len(done.stderr) < 1000
    assert done.stderr.replace("\n", "").isprintable()


def test_without_a_word_all_are_listed() -> None:
    """As a table, and in the other forms."""
    assert run("explain").splitlines()[1].split()[:2] == ["key", "registry.url"]
    assert [one["name"] for one in json.loads(run("explain", "-o", "json"))] == [
        one.name for one in entries()
    ]
    assert "not_found" in run("explain", "-o", "name").split()


def test_every_command_with_values_has_a_schema() -> None:
    """`macbind schema` knows each command with -o; another word is an error that names them."""
    for name, one in EVERY.items():
        if table_of(one.callback) is not None:
            assert isinstance(json.loads(run("schema", *name.split())), dict)
    done = CliRunner().invoke(app, ["schema", "serve"])
    assert done.exit_code == 4
    assert "vm list" in done.stderr


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the manual pages."""
    place = tmp_path_factory.mktemp("man")
    run("man", "--dir", str(place))
    return place


PAGES = [
    "man1/macbind.1",
    "man1/macbind-config.1",
    "man1/macbind-dhcp.1",
    "man1/macbind-token.1",
    "man1/macbind-vm.1",
    "man5/macbind.toml.5",
]


def test_there_is_a_page_for_each_group_and_the_configuration(manual: Path) -> None:
    """And no other file."""
    assert sorted(str(one.relative_to(manual)) for one in manual.rglob("*.*")) == sorted(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_mandoc_finds_nothing_wrong(manual: Path, page: str) -> None:
    """Not even a question of style; every section that a page needs is there."""
    done = subprocess.run(
        ["mandoc", "-Tlint", str(manual / page)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("", "")
    text = (manual / page).read_text()
    sections = [line.removeprefix(".SH ") for line in text.splitlines() if line.startswith(".SH ")]
    wanted = {"NAME", "DESCRIPTION", "ENVIRONMENT", "FILES", "SEE ALSO"}
    assert wanted | ({"EXIT STATUS", "COMMANDS"} if page.endswith(".1") else set()) <= set(sections)


def rendered(page: Path) -> str:
    """A page as people read it, in one line."""
    text = run_command(["mandoc", "-Tutf8", "-Owidth=1000", str(page)]).stdout
    return " ".join("".join(one for one in _without_overstrike(text)).split())


def _without_overstrike(text: str) -> str:
    shown: list[str] = []
    for one in text:
        if one == "\b":
            shown.pop()
        else:
            shown.append(one)
    return "".join(shown)


def test_every_command_option_and_status_stands_in_the_manual(manual: Path) -> None:
    """With its help, as `--help` has it."""
    top, *groups = (rendered(manual / page) for page in PAGES[:-1])
    of_group = dict(zip(("config", "dhcp", "token", "vm"), groups, strict=True))
    for name, command in EVERY.items():
        text = of_group.get(name.partition(" ")[0], top)
        assert f"macbind {name}" in text
        for parameter in command.params:
            assert all(one in text for one in parameter.opts if one.startswith("-")), (name, parameter.name)
            assert " ".join(parameter.help.rstrip(".").split()) in text or "`" in parameter.help
    for code, meaning in STATUSES:
        assert f"{code} {meaning}." in top
    configuration = rendered(manual / PAGES[-1])
    assert all(f"{key} = " in configuration for _, key in accepted_keys())


def test_manual_pages_that_cannot_be_written_are_an_error(tmp_path: Path) -> None:
    """It names the file."""
    (tmp_path / "man1").touch()
    done = CliRunner().invoke(app, ["man", "--dir", str(tmp_path)])
    assert done.exit_code == 4
    assert "macbind.1 cannot be written" in done.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (".so /etc/passwd", ".so /etc/passwd"),
        ("'hi'", "'hi'"),
        (r"a\fBb \n(x", r"a\fBb \n(x"),
        ("ü … -x", "ü … -x"),
    ],
)
def test_text_is_not_obeyed_by_roff(tmp_path: Path, text: str, shown: str) -> None:
    """Dots, apostrophes and backslashes stand there as they are."""
    page = tmp_path / "x.1"
    page.write_text(
        f'.TH X 1 "2024-01-01" "x" "x"\n.SH NAME\n{escaped(text)}\n.SH DESCRIPTION\n{prose(text)}\n'
    )
    assert rendered(page).count(shown) == 2


@pytest.mark.parametrize("shell", list(Shell))
def test_a_shell_understands_its_script(tmp_path: Path, shell: Shell) -> None:
    """The shell itself finds no fault in it, and paths are completed for every option with a path."""
    file = tmp_path / "script"
    file.write_text(script(shell))
    assert run("completion", shell.value) == script(shell)
    done = subprocess.run(
        [shell.value, "-n", str(file)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_options_with_a_path_are_known_to_the_shells() -> None:
    """Every option whose value is a path, but -o, which is a form elsewhere; that of --socket may be a URL, too."""
    paths = {"--socket"}
    for command in EVERY.values():
        hints = get_type_hints(unwrap(command.callback))
        for parameter in command.params:
            is_path = Path in (hint := hints.get(parameter.name), *get_args(hint))
            if is_path and parameter.param_type_name == "option" and "-o" not in parameter.opts:
                paths |= {one for one in parameter.opts if one.startswith("--")}
    assert paths == set(FILE_OPTIONS)
