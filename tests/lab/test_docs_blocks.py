"""What the documents show works: each block is run against a real farm, or says why it is not.

A block of shell, Python, TOML or JSON is run or read here. The line before a block that is not says so:
``<!-- not run: reason -->``.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from docs.tables import ROOT, pages
from labkit.farm import MACBIND, Farm
from macbind.config import load

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
domain_name_servers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.1-10.1.9.254"]
"""

_FENCE = re.compile(
    r"(?:^(?P<before>[^\n]*)\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_MARK = re.compile(r"<!-- not run: (?P<reason>\S.*) -->")
_PRINTED = re.compile(r"print\(.*\)\s+# (?P<words>\d.*)$", re.MULTILINE)
RUN = frozenset({"sh", "python", "toml", "json"})
TEXT = frozenset({"", "text", "ini", "xml"})
"""Languages of blocks that are for the eye."""
_CONFINED = (
    "for one in /etc /usr /var /root /home /boot; do mount --bind $one $one; mount -o remount,bind,ro $one; done; "
    'mount -t tmpfs tmpfs /run; exec "$@"'
)
"""A block that should have had a mark must not harm this machine, nor find its systemd and libvirt."""


class Block(NamedTuple):
    """A block of a page.

    Attributes:
        page: The page, from the root of the project.
        line: Where it begins.
        language: What stands behind its fence.
        text: What is in it.
        mark: The line before it.
    """

    page: str
    line: int
    language: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether nothing says that it is not run."""
        return self.language not in TEXT and not _MARK.fullmatch(self.mark)


def blocks() -> Iterator[Block]:
    """Every block of every page."""
    for page in [*pages(), ROOT / "dhcpd" / "README.md"]:
        text = page.read_text(encoding="utf-8")
        for found in _FENCE.finditer(text):
            line = text.count("\n", 0, found.start("language")) + 1
            yield Block(
                str(page.relative_to(ROOT)), line, found["language"], found["text"], found["before"] or ""
            )


BLOCKS = tuple(blocks())


def those_in(*languages: str) -> pytest.MarkDecorator:
    """The blocks in these languages that are run, each as a test."""
    chosen = [one for one in BLOCKS if one.is_run and one.language in languages]
    return pytest.mark.parametrize("block", chosen, ids=str)


def test_every_block_is_run_or_says_why_not() -> None:
    """Each language is known, and each mark stands right before a block."""
    assert {one.language for one in BLOCKS} <= RUN | TEXT
    for page in {ROOT / one.page for one in BLOCKS}:
        marks = page.read_text(encoding="utf-8").count("<!-- not run: ")
        blocks = [one for one in BLOCKS if ROOT / one.page == page]
        assert sum(bool(_MARK.fullmatch(one.mark)) for one in blocks) == marks, page


@pytest.fixture
def place(farm: Farm, tmp_path: Path) -> Iterator[Path]:
    """A directory with `macbind` on its path; what a block has allocated is given back after it."""
    command = tmp_path / "bin" / "macbind"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {MACBIND[0]} -c "{MACBIND[2]}" "$@"\n')
    command.chmod(0o755)
    yield tmp_path
    with farm.client() as client:
        for one in list(client.list()):
            (client.unreserve if one.pinned else client.release)(one.name)


def run(farm: Farm, place: Path, *command: str, text: str) -> str:
    """Runs a block where the service is, and returns what it printed."""
    env = {
        **os.environ,
        "MACBIND_SOCKET": str(farm.socket),
        "MACBIND_CONFIG": str(farm.config),
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        farm.lab.server.argv(["unshare", "--mount", "sh", "-euc", _CONFINED, "sh", *command]),
        input=text,
        capture_output=True,
        text=True,
        env=env,
        cwd=place,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


@those_in("sh")
def test_a_block_of_shell_works(farm: Farm, place: Path, block: Block) -> None:
    """Every command of it succeeds, one after the other."""
    run(farm, place, "sh", "-eu", text=block.text)


@those_in("python")
def test_a_block_of_python_works(farm: Farm, place: Path, block: Block) -> None:
    """It ends without an error, and prints what its comments say."""
    printed = run(farm, place, sys.executable, "-W", "error", "-", text=block.text)
    for found in _PRINTED.finditer(block.text):
        assert found["words"].strip() in printed.splitlines()


@those_in("toml")
def test_a_block_of_toml_is_a_configuration(tmp_path: Path, block: Block) -> None:
    """macbind accepts it; a part is completed by the least that a file needs."""
    tables = tomllib.loads(block.text)
    text = block.text
    if "dhcpd" not in tables:
        text += "\n[dhcpd.main]\n"
    if "pool" not in tables:
        text += '\n[pool.farm]\nsubnet = "10.1.0.0/16"\n'
    file = tmp_path / "macbind.toml"
    file.write_text(text)
    settings = load(file)
    assert settings.pools


@those_in("json")
def test_a_block_of_json_is_json(block: Block) -> None:
    """It can be read."""
    assert json.loads(block.text)
