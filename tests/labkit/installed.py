"""macbind as an administrator has it: installed by `make install` on a Debian with systemd, without internet."""

import hashlib
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.alone import alone
from labkit.debian import image
from labkit.net import Lab
from labkit.netns import run_command
from labkit.nspawn import Machine
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.errors import RegistryUnavailable, ServiceUnavailable
from macbind.core.findings import Status

REPOSITORY = Path(__file__).parents[2]
CACHE = REPOSITORY / ".cache"
DEBIAN_PYTHON = "/usr/bin/python3"
"""The one that macbind is installed with; the tests may run under another."""
SOURCE, WHEELS, BUILT = "/usr/src/macbind", "/srv/wheels", "/srv/built"
_PIP_S = 300.0


@dataclass(frozen=True)
class Parts:
    """What machines are made of.

    Attributes:
        image: The Debian to boot from.
        wheels: A directory with the wheels of everything macbind depends on.
        built: A directory with the wheel of this macbind.
    """

    image: Path
    wheels: Path
    built: Path


def prepare(built: Path) -> Parts:
    """Gets the parts; `built` is an empty directory for the wheel. The first time it takes minutes, then seconds."""
    wheel = build(built)
    return Parts(image(CACHE), wheels(wheel), built)


def build(place: Path) -> Path:
    """The wheel of this macbind, in an empty directory."""
    _pip("wheel", "--no-deps", "--wheel-dir", str(place), str(REPOSITORY))
    (wheel,) = place.glob("macbind-*.whl")
    return wheel


def wheels(wheel: Path) -> Path:
    """A directory with the wheels of everything that a wheel of macbind depends on."""
    wanted = [REPOSITORY / "pyproject.toml", REPOSITORY / "tests/constraints.txt"]
    key = hashlib.sha256(b"".join(path.read_bytes() for path in (*wanted, Path(__file__)))).hexdigest()[:12]
    place = CACHE / f"wheels-{key}"
    with alone(place.with_suffix(".lock")):
        if not place.exists():
            half = place.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            # libvirt's module is Debian's: these are the rest of the extra "libvirt".
            what = [f"{wheel}[postgresql]", "icmplib", "pycdlib"]
            _pip("wheel", "--wheel-dir", str(half), "--constraint", str(wanted[1]), *what)
            (half / wheel.name).unlink()
            half.rename(place)
    return place


def _pip(*arguments: str) -> None:
    run_command(
        [sys.executable, "-m", "pip", "--python", DEBIAN_PYTHON, "--quiet", *arguments], deadline_s=_PIP_S
    )


class Installed(Machine):
    """A machine with macbind's source tree and wheels in sight; `install` installs it."""

    def __init__(self, lab: Lab, parts: Parts, directory: Path) -> None:
        shown = {SOURCE: REPOSITORY, WHEELS: parts.wheels, BUILT: parts.built}
        super().__init__(lab, parts.image, directory, shown)
        self._wheel = next(parts.built.glob("macbind-*.whl")).name

    def make(self, *targets: str) -> str:
        """Runs make in the source tree, as the README says, but without internet; returns what it printed."""
        return self.run(
            *("make", "--silent", f"--directory={SOURCE}", *targets, f"WHEEL={BUILT}/{self._wheel}"),
            f"PIP_ARGS=--no-index --find-links={WHEELS}",
            deadline_s=_PIP_S,
        ).stdout

    def set_up(self, *flags: str) -> None:
        """`macbind init` and what it says to run next, until everything serves."""
        done = json.loads(self.run("macbind", "init", "--yes", "--json", *flags).stdout)
        for command in done["next"]:
            if command != "macbind status":
                self.run(*command.split())
        self.wait_serving()

    def client(self, timeout_s: float = 30.0) -> Client:
        """The Python API, from outside of the machine: its socket is a file."""
        return Client(self.root / "run/macbind/macbind.sock", timeout_s=timeout_s)

    def macbind_json(self, *arguments: str) -> Any:
        """Runs the installed command line and returns its value."""
        return json.loads(self.run("macbind", *arguments, "--json").stdout)

    def status(self) -> Status | None:
        """How things stand; None while the service does not say so."""
        try:
            with self.client() as client:
                return client.status()
        except (ServiceUnavailable, RegistryUnavailable):
            return None

    def wait_serving(self, deadline_s: float = 60.0) -> None:
        """Waits until the service answers and its dhcpd is served."""
        try:
            until(
                lambda: (now := self.status()) and all(one.state == "serving" for one in now.dhcpds),
                deadline_s,
                "macbind to serve",
            )
        except TimeoutError as error:
            logs = "".join(self.journal(unit)[-3000:] for unit in ("macbind", "isc-dhcp-server"))
            raise TimeoutError(f"{error}; the journals end:\n{logs}") from None
