"""`python -m labkit.demo` (`make run`): it shows everything, fails when something fails, and leaves nothing."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.conftest import open_directory
from labkit.netns import run_command
from labkit.wait import until


class Demo:
    """One run of the demo, with a directory of its own for all its files."""

    def __init__(self, place: Path, *arguments: str, **environment: str) -> None:
        self.place = place
        self.output = place / "output"
        # With it a story that is not written line by line would look as if it were.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        with self.output.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "labkit.demo", *arguments],
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[1],
                env={**inherited, "TMPDIR": str(place), **environment},
            )

    def says(self, words: str) -> bool:
        """Whether it has printed this."""
        return words in self.output.read_text()

    def left(self) -> list[str]:
        """What of it is still there: namespaces, processes, files."""
        namespaces = [str(path) for path in Path("/run/netns").glob(f"labkit-{self.process.pid}-*")]
        commands = [path for path in Path("/proc").glob("[0-9]*/cmdline") if self._mentions_us(path)]
        files = [str(path) for path in self.place.iterdir() if path != self.output]
        return namespaces + [str(path) for path in commands] + files

    def _mentions_us(self, path: Path) -> bool:
        try:
            return str(self.place).encode() in path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False


@pytest.fixture
def place() -> Iterator[Path]:
    """Where a run keeps all its files; short, as sockets need."""
    with open_directory() as place:
        yield place


def test_demo_shows_everything_and_leaves_nothing(place: Path) -> None:
    """The story ends with status 0, and no namespace, process or file of it remains."""
    demo = Demo(place, "--guest", "1")
    assert demo.process.wait(200) == 0, demo.output.read_text()
    assert demo.says("Everything was shown; nothing is left running.")
    assert demo.says("the script, asking nobody (--probes 0)")
    assert demo.says("the same address is allocated and served again, at once")
    assert demo.left() == []


def test_demo_without_dhcpd_fails_and_leaves_nothing(place: Path) -> None:
    """When dhcpd cannot be started the demo ends with a status other than 0 and cleans up."""
    tools = place / "tools"
    tools.mkdir()
    demo_place = place / "demo"
    demo_place.mkdir()
    for name in ("ip", "bridge", "busybox"):
        found = next(
            Path(where) / name
            for where in ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
            if (Path(where) / name).exists()
        )
        (tools / name).symlink_to(found)
    demo = Demo(demo_place, "--no-vm", PATH=str(tools))
    assert demo.process.wait(200) == 1, demo.output.read_text()
    assert not demo.says("Everything was shown")
    assert demo.left() == []


def test_demo_that_is_left_open_goes_when_it_is_told_to(place: Path) -> None:
    """`--keep` leaves the farm open and says how to use it, virsh too; SIGTERM, like Ctrl-C, takes it down."""
    demo = Demo(place, "--keep")
    until(lambda: demo.says("Ctrl-C takes it down") or demo.process.poll() is not None, 200, "the demo")
    assert demo.left()
    (command,) = re.findall(r"virsh --connect .*", demo.output.read_text())
    assert "State" in run_command(shlex.split(command)).stdout
    demo.process.terminate()
    assert demo.process.wait(120) == 0, demo.output.read_text()
    assert demo.left() == []
