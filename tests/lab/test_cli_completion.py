"""Completion in real shells: what the service knows, quickly, and silently when it is down."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.farm import MACBIND, Farm
from labkit.terminal import Terminal
from labkit.wait import until

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.1-10.1.9.254"]

[pool.fast]
subnet = "10.0.0.0/8"
ranges = ["10.2.0.1-10.2.0.9"]
"""


@pytest.fixture(scope="module")
def place(farm: Farm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `macbind` on its path and the scripts of the shells; the farm holds some names."""
    place = tmp_path_factory.mktemp("shells")
    command = place / "macbind"
    command.write_text(f'#!/bin/sh\nexec {MACBIND[0]} -c "{MACBIND[2]}" "$@"\n')
    command.chmod(0o755)
    for shell in ("bash", "zsh", "fish"):
        (place / f"{shell}.script").write_text(farm.macbind("completion", shell))
    with farm.client() as client:
        client.allocate("farm", "build-7", group="speck-7")
        client.allocate("farm", "build:x@1", group="speck-7")
        client.allocate("farm", "other")
        client.reserve("buzzer", "10.1.9.9")
    return place


@pytest.fixture
def env(farm: Farm, place: Path) -> dict[str, str]:
    """The environment of a shell."""
    return {"PATH": f"{place}:{os.environ['PATH']}", "MACBIND_SOCKET": str(farm.socket), "HOME": str(place)}


def words(place: Path, env: dict[str, str], line: str) -> list[str]:
    """What macbind says for a line, as every shell asks."""
    parts = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(parts) - 1), "_MACBIND_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [place / "macbind"], env={**env, **asked}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("macbind allocate fa", ["farm", "fast"]),
        ("macbind show bu", ["build-7", "build:x@1", "buzzer"]),
        ("macbind release bu", ["build-7", "build:x@1"]),
        ("macbind unreserve ", ["buzzer"]),
        ("macbind list --group sp", ["speck-7"]),
        ("macbind why 10.1.9", ["10.1.9.9"]),
        ("macbind list -o js", ["json", "jsonl"]),
        ("macbind list --columns mac,na", ["mac,name"]),
        ("macbind explain pool.rel", ["pool.release"]),
        ("macbind completion f", ["fish"]),
        ("macbind vm l", ["launch", "list"]),
        ("macbind free --soc", ["--socket"]),
    ],
)
def test_words(place: Path, env: dict[str, str], line: str, found: list[str]) -> None:
    """Pools, names, reservations, groups, addresses, forms, columns and codes."""
    # A shell is never held up: on a slow machine there may be no words at the first time of asking.
    until(lambda: words(place, env, line) == found, 60, f"{found} to be said")


def test_a_service_that_is_down_or_hangs_holds_up_no_shell(
    farm: Farm, place: Path, env: dict[str, str], tmp_path: Path
) -> None:
    """There are no words then, and nothing is said; --socket counts before the environment."""
    assert words(place, env | {"MACBIND_SOCKET": str(tmp_path / "none.sock")}, "macbind show ") == []
    named = f"macbind show --socket {farm.socket} bui"
    elsewhere = env | {"MACBIND_SOCKET": "/none"}
    until(lambda: words(place, elsewhere, named) == ["build-7", "build:x@1"], 60, "the words of --socket")
    assert farm.process is not None
    os.kill(farm.pid, 19)  # SIGSTOP
    try:
        began = time.monotonic()
        assert words(place, env, "macbind show ") == []
        assert time.monotonic() - began < 20
    finally:
        os.kill(farm.pid, 18)  # SIGCONT


SHELLS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}


@pytest.fixture(params=list(SHELLS))
def shell(request: pytest.FixtureRequest, place: Path, env: dict[str, str]) -> Iterator[Terminal]:
    """A shell that has been taught."""
    name = request.param
    teach = {
        "bash": f"PS1='ready> '; bind 'set enable-bracketed-paste off'; . {place}/bash.script; echo taught=$?",
        "zsh": f"PS1='ready> '; autoload -Uz compinit; compinit -D; . {place}/zsh.script; echo taught=$?",
        "fish": f"source {place}/fish.script; echo taught=$status",
    }
    with Terminal(SHELLS[name], env) as terminal:
        terminal.type(teach[name] + "\n")
        terminal.wait_for("taught=0\n", 60)
        yield terminal


def shows(shell: Terminal, text: str) -> bool:
    """Whether a text is seen soon; if not, the key is pressed again."""
    try:
        shell.wait_for(text, 5)
    except AssertionError:
        shell.type("\t")
        return False
    return True


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("macbind show build-\t", "build-7"),
        ("macbind show build:\t", "build:x@1"),
        ("macbind list --group spe\t", "speck-7"),
        ("macbind unres\t", "unreserve"),
        ("macbind explain pool_ex\t", "pool_exhausted"),
    ],
)
def test_a_real_shell_completes(shell: Terminal, typed: str, completed: str) -> None:
    """The tabulator key completes names with colons, too, groups, commands and codes, behind another command."""
    shell.type(f"echo =; {typed}")
    # On a slow machine there may be no words at the first time of asking.
    until(lambda: shows(shell, completed), 60, f"{completed} to appear")
    shell.type("\x03exit\n")


def test_a_real_shell_completes_files_where_files_are_meant(shell: Terminal, place: Path) -> None:
    """An option with a path gets the shell's own completion of files."""
    (place / "only-one.toml").touch()
    shell.type(f"macbind check --config {place}/only-o\t")
    shell.wait_for("only-one.toml", 60)
    shell.type("\x03exit\n")


def test_a_real_shell_says_nothing_of_a_service_that_is_down(shell: Terminal, tmp_path: Path) -> None:
    """Nothing appears but what was typed."""
    shell.type(f"macbind show --socket {tmp_path}/none.sock nobody-\t")
    shell.wait_for("nobody-", 60)
    shell.type("\x03")
    shell.type("echo still-$HOME-here\n")
    shell.wait_for("-here\n", 60)
    assert "reached" not in shell.text
    assert "Traceback" not in shell.text
