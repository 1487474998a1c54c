"""The hashes that `make install` insists on: they are those of the versions that were tested, and of all of them."""

import re

import pytest

from audit import ROOT, pinned
from audit.hashes import PLACE, needed, parts, text_of

PARTS = sorted(parts())


def listed(part: str) -> dict[str, dict[str, list[str]]]:
    """Version and hashes of each package in a file of requirements."""
    found: dict[str, dict[str, list[str]]] = {}
    for block in re.split(r"\n(?=\S)", (PLACE / f"{part}.txt").read_text(encoding="utf-8"))[1:]:
        head, *hashes = block.split(" \\\n")
        name, version = head.split("==")
        found[name] = {version.strip(): [one.strip() for one in hashes]}
    return found


@pytest.mark.parametrize("part", PARTS)
def test_each_part_lists_what_is_pinned(part: str) -> None:
    """`make hashes` was run since a version has changed: packages and versions are those of the constraints."""
    assert {name: next(iter(of)) for name, of in listed(part).items()} == parts()[part]


@pytest.mark.parametrize("part", PARTS)
def test_each_package_has_hashes(part: str) -> None:
    """Each package has at least one SHA-256; one that is made for each Python and processor has four."""
    for name, of in listed(part).items():
        (hashes,) = of.values()
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), name
        assert len(set(hashes)) in (1, 4), name


def test_the_parts_are_all_that_is_installed() -> None:
    """Base and optional parts together are the constraints, and no package is in two of them."""
    made = parts()
    installed = [name for part in ("base", "postgresql", "libvirt") for name in made[part]]
    assert sorted(installed) == sorted(pinned((ROOT / "dhcpd/constraints.txt").read_text(encoding="utf-8")))
    assert needed(()) == set(made["base"])


def test_a_file_of_requirements_is_what_pip_reads() -> None:
    """A package, its version, and each hash on a line of its own."""
    assert text_of({"a": "1.0"}, {"a": ["ff", "00"]}).splitlines()[1:] == [
        "a==1.0 \\",
        "    --hash=sha256:00 \\",
        "    --hash=sha256:ff",
    ]
