"""The audit of what we depend on, and the exceptions that the code claims for itself."""

import json
import re
import tomllib
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from audit import LIST, PINS, Advisories, audit, pinned

ROOT = Path(__file__).parents[2]
KNOWN = Advisories.from_json(LIST.read_text(encoding="utf-8"))
NOSEC = re.compile(r"#\s*nosec\b(.*)")


def pins() -> dict[str, dict[str, str]]:
    """The files of constraints."""
    return {path: pinned((ROOT / path).read_text(encoding="utf-8")) for path in PINS}


def test_what_is_pinned_has_no_known_fault() -> None:
    """Every pinned package is in the list, and no pinned version has a fault that the list knows."""
    assert audit(KNOWN, pins()) == []


def test_a_vulnerable_version_is_found() -> None:
    """A version with a known fault is named with the file, the advisory, and the version to take."""
    planted = pins()
    planted["dhcpd/constraints.txt"]["h11"] = "0.14.0"
    (said,) = audit(KNOWN, planted)
    assert said == "dhcpd/constraints.txt: h11 0.14.0 has CVE-2025-43859. Take 0.16.0, or a later one."


@pytest.mark.parametrize(
    ("version", "hit"),
    [("1.26.18", True), ("1.26.19", False), ("2.0.0", True), ("2.2.2", False), ("2.2.0rc1", True)],
)
def test_a_fault_has_several_ranges(version: str, hit: bool) -> None:
    """A version counts when it lies in any of the ranges, a release candidate too."""
    (one,) = (one for one in KNOWN.packages["urllib3"] if one.id == "CVE-2024-37891")
    assert one.hits(version) is hit


def test_a_new_dependency_has_to_be_looked_at() -> None:
    """A package without an entry is a fault: no entry does not mean that there is no advisory."""
    planted = pins()
    planted["tests/constraints.txt"]["leftpad"] = "1.0"
    (said,) = audit(KNOWN, planted)
    assert said.startswith("tests/constraints.txt: nobody has looked for advisories on leftpad 1.0.")


def test_what_is_no_longer_pinned_leaves_the_list() -> None:
    """An entry on a package that nothing needs is a fault, so that the list says what was looked at."""
    planted = pins()
    del planted["tests/constraints.txt"]["harfile"]
    assert audit(KNOWN, planted) == [
        "tests/audit/advisories.json: harfile is no longer depended on. Remove it."
    ]


def test_the_list_has_an_age() -> None:
    """The age counts from the day on which somebody has last looked."""
    assert KNOWN.age_days(date(2027, 3, 1)) == (date(2027, 3, 1) - KNOWN.looked_at).days
    assert KNOWN.looked_at >= date(2026, 11, 30)


def test_no_advisory_calls_its_own_repair_vulnerable() -> None:
    """Each range has the version that ends it, which is not in any of them; no advisory stands twice."""
    for name, some in KNOWN.packages.items():
        assert len({one.id for one in some}) == len(some), name
        for one in some:
            assert len(one.fixed) == len(one.affected), one.id
            assert not any(one.hits(version) for version in one.fixed), one.id


def test_the_list_says_what_it_does_not_know() -> None:
    """Each source has the day until which it was read, and there is a word on what no source covers."""
    said = json.loads(LIST.read_text(encoding="utf-8"))
    assert all(date.fromisoformat(one["until"]) <= KNOWN.looked_at for one in said["sources"])
    assert len(said["not_covered"]) >= 3


def accepted() -> Iterator[tuple[str, str]]:
    """Where the code claims an exception of bandit's rules, and what it says."""
    for path in sorted((ROOT / "controller").rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if found := NOSEC.search(line):
                yield f"{path.relative_to(ROOT)}:{number}", found[1]


def test_every_exception_says_which_rule_and_why() -> None:
    """Where bandit is told to pass over a line, the line names the rule and has a reason."""
    bare = [where for where, said in accepted() if not re.fullmatch(r" B\d{3}  # \S.{5,}", said)]
    assert bare == []


def test_bandit_passes_over_only_what_ruff_passes_over_too() -> None:
    """Rules are off everywhere only if ruff has the same one off, with its reason."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert {one.replace("B", "S", 1) for one in tools["bandit"]["skips"]} <= set(
        tools["ruff"]["lint"]["ignore"]
    )
