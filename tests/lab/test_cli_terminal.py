"""The command line at a terminal: lists that stay right, questions before much is given back, colours."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
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

[pool.small]
subnet = "10.0.0.0/8"
ranges = ["10.2.0.1-10.2.0.9"]
"""
INTERRUPT = "\x03"


def terminal(farm: Farm, *command: str, **env: str) -> Terminal:
    """Runs macbind in a terminal."""
    return Terminal([*MACBIND, *command, "--socket", str(farm.socket)], env, lines=12, columns=70)


@pytest.fixture
def at_terminal(farm: Farm) -> Callable[..., Terminal]:
    """Runs macbind in a terminal."""
    return lambda *command, **env: terminal(farm, *command, **env)


def test_a_list_follows_what_changes_and_a_restart(make_farm: Callable[..., Farm]) -> None:
    """Allocated, bound and released rows come and go by themselves, also after the service was away."""
    farm = make_farm(pools=POOLS)
    with farm.client() as client, terminal(farm, "list", "--pool", "small", "-w") as seen:
        seen.wait_for("No allocations.", on_screen=True)
        client.allocate("small", "first")
        seen.wait_for("first  small  -      bound", on_screen=True)
        farm.kill()
        seen.wait_for("! The macbind service at", on_screen=True)
        farm.start()
        farm.wait_serving()
        client.allocate("small", "second")
        seen.wait_for("second  small", on_screen=True)
        assert "first" in seen.screen
        client.release("first")
        client.release("second")
        seen.wait_for("No allocations.", on_screen=True)
        seen.type(INTERRUPT)
        assert seen.exit_status() == 130
        assert "Traceback" not in seen.text


def test_a_list_is_cut_to_the_screen(farm: Farm, at_terminal: Callable[..., Terminal]) -> None:
    """Rows and columns that have no room are left out, and the rows are counted."""
    with farm.client() as client, at_terminal("list", "--group", "many", "-w", "-o", "wide") as seen:
        client.allocate_group("farm", "many", 30)
        seen.wait_for("… 22 more", on_screen=True)
        rows = seen.screen.splitlines()
        assert len(rows) <= 12
        assert max(map(len, rows)) <= 70
        client.release_group("many")
        seen.type(INTERRUPT)
        assert seen.exit_status() == 130


def whole_lines(text: str) -> list[object]:
    """The JSON of the lines that were written to their end."""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def test_pools_follow_what_changes_in_a_file(farm: Farm, tmp_path: Path) -> None:
    """Without a terminal each look that differs stands below the last one; as JSON, each is a line."""
    told = tmp_path / "told"
    command = [
        *MACBIND,
        "pools",
        "-w",
        "-o",
        "jsonl",
        "--columns",
        "pool,allocated",
        "--socket",
        str(farm.socket),
    ]
    with told.open("w") as file, farm.client() as client:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE)
        try:
            until(lambda: told.read_text().count("\n") >= 2, 60, "the first look")
            client.allocate("small", "counted")
            last = {"pool": "small", "allocated": 1}
            until(lambda: last in whole_lines(told.read_text()), 60, "the change")
            assert "\x1b" not in told.read_text()
            client.release("counted")
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_a_list_without_a_service_is_an_error(tmp_path: Path) -> None:
    """It is said at once, with the exit status of an unavailable peer."""
    with Terminal([*MACBIND, "list", "-w", "--socket", str(tmp_path / "none.sock")]) as seen:
        assert seen.exit_status() == 5
        assert "there is no such socket" in seen.text


@pytest.fixture
def group(farm: Farm) -> Iterator[str]:
    """A group of three."""
    with farm.client() as client:
        client.allocate_group("farm", "speck", 3)
        yield "speck"
        client.release_group("speck")


@pytest.mark.parametrize("answer", ["n\n", "\n"], ids=["no", "nothing"])
def test_a_person_is_asked_before_a_group_is_released(
    farm: Farm, group: str, at_terminal: Callable[..., Terminal], answer: str
) -> None:
    """The members are named first; anything but yes leaves them, with exit status 1."""
    with at_terminal("release", "--group", group) as seen:
        seen.wait_for("Go on? [y/N]")
        assert "(speck-2) is released" not in seen.text
        assert "(speck-2) would be released" in seen.text
        seen.type(answer)
        assert seen.exit_status() == 1
        assert "Nothing was released." in seen.text
    assert len(farm.macbind("list", "--group", group, "-o", "name").split()) == 3


def test_yes_releases(farm: Farm, group: str, at_terminal: Callable[..., Terminal]) -> None:
    """Typed, or said with --yes; one name is released without a question."""
    with at_terminal("release", "speck-1") as seen:
        assert seen.exit_status() == 0
    with at_terminal("release", "speck-2", "speck-1") as seen:
        seen.wait_for("Go on? [y/N]")
        seen.type("y\n")
        assert seen.exit_status() == 0
    with at_terminal("release", "--group", group, "--yes") as seen:
        assert seen.exit_status() == 0
        assert "Go on?" not in seen.text
    assert farm.macbind("list", "--group", group, "-o", "name") == ""


def test_several_reservations_are_asked_for(farm: Farm, at_terminal: Callable[..., Terminal]) -> None:
    """Ctrl-C at the question leaves all of them."""
    with farm.client() as client:
        client.reserve("desk", "10.1.9.1")
        client.reserve("lamp", "10.1.9.2")
        with at_terminal("unreserve", "desk", "lamp") as seen:
            seen.wait_for("Go on? [y/N]")
            seen.type(INTERRUPT)
            assert seen.exit_status() != 0
        assert client.get("desk").pinned
        assert client.get("lamp").pinned
        with at_terminal("unreserve", "desk", "lamp", "-y") as seen:
            assert seen.exit_status() == 0


def test_colours_are_for_terminals_that_want_them(farm: Farm, at_terminal: Callable[..., Terminal]) -> None:
    """A header is bold at a terminal, and not with NO_COLOR or a dumb one."""
    assert os.environ.get("NO_COLOR") is None
    for env, bold in [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
    ]:
        with at_terminal("pools", **env) as seen:
            assert seen.exit_status() == 0
            assert ("\x1b[1mPOOL" in seen.raw) is bold, env
