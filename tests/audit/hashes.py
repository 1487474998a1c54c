"""`make hashes`: the hashes of what `make install` fetches, for each optional part, from what pip downloads now.

They hold whatever index a file comes from: an index that serves another file under the same name is refused.
Source archives are not listed. To build one runs code of its own, with tools that nobody has hashed.
"""

import hashlib
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from audit import ROOT, pinned

PLACE = ROOT / "dhcpd/requirements"
BUILD = "build"
EXTRAS = ("postgresql", "libvirt")
SYSTEMS = frozenset({"libvirt-python"})
"""What comes from Debian."""
_PYTHONS, _MACHINES = ("3.11", "3.13"), ("x86_64", "aarch64")
_GLIBC = range(36, 4, -1)
"""The ages of the C library that Debian 12 can stand in for."""


def needed(extras: Iterable[str]) -> set[str]:
    """All that the package needs with these extras, by and by."""
    found: set[str] = set()

    def follow(name: str, extras: set[str]) -> None:
        for text in requires(name) or []:
            one = Requirement(text)
            if one.marker is not None and not any(one.marker.evaluate({"extra": e}) for e in {"", *extras}):
                continue
            key = canonicalize_name(one.name)
            if key not in found or one.extras:
                found.add(key)
                if key not in SYSTEMS:
                    follow(one.name, one.extras)

    follow("macbind", set(extras))
    return found


def parts() -> dict[str, dict[str, str]]:
    """What each file lists, by the file's name: the versions of packages."""
    pins = pinned((ROOT / "dhcpd/constraints.txt").read_text(encoding="utf-8"))
    base = needed(())
    of = {"base": base, **{extra: needed([extra]) - base - SYSTEMS for extra in EXTRAS}}
    made = {part: {name: pins[name] for name in sorted(names)} for part, names in of.items()}
    return made | {BUILD: pinned((ROOT / "dhcpd/build-constraints.txt").read_text(encoding="utf-8"))}


def fetch(pins: Mapping[str, str]) -> dict[str, set[str]]:
    """The SHA-256 of each wheel that a supported machine would take, by package."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    with tempfile.TemporaryDirectory() as name:
        for python in _PYTHONS:
            for machine in _MACHINES:
                _download([f"{name}=={version}" for name, version in pins.items()], name, python, machine)
        for file in Path(name).glob("*.whl"):
            found[parse_wheel_filename(file.name)[0]].add(hashlib.sha256(file.read_bytes()).hexdigest())
    return dict(found)


def _download(what: Iterable[str], place: str, python: str, machine: str) -> None:
    platforms = [f"manylinux_2_{age}_{machine}" for age in _GLIBC] + [f"manylinux2014_{machine}"]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"),
            *("--only-binary=:all:", f"--dest={place}", f"--python-version={python}", "--implementation=cp"),
            *(f"--abi={abi}" for abi in (f"cp{python.replace('.', '')}", "abi3", "none")),
            *(f"--platform={one}" for one in platforms),
            *what,
        ],
        check=True,
    )


def text_of(pins: Mapping[str, str], hashes: Mapping[str, Iterable[str]]) -> str:
    """A file of requirements with hashes."""
    lines = [
        f"# Made by `make hashes`: wheels for Python {' and '.join(_PYTHONS)} on {' and '.join(_MACHINES)}."
    ]
    for name, version in pins.items():
        some = [f"    --hash=sha256:{one}" for one in sorted(hashes[name])]
        lines.append(" \\\n".join([f"{name}=={version}", *some]))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Writes the files."""
    PLACE.mkdir(exist_ok=True)
    for part, pins in parts().items():
        (PLACE / f"{part}.txt").write_text(text_of(pins, fetch(pins)), encoding="utf-8")


if __name__ == "__main__":
    main()
