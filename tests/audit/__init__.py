"""Known faults of what we depend on: the pinned versions against a list that is shipped, so that nothing is asked.

`advisories.json` says when somebody has last looked, where, and what it does not cover. `python -m audit` is part of
`make lint`: a version with a known fault ends it, and so does a package on which nobody has looked for any.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Self

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

LIST = Path(__file__).with_name("advisories.json")
ROOT = Path(__file__).parents[2]
PINS = ("tests/constraints.txt", "dhcpd/constraints.txt", "dhcpd/build-constraints.txt")
OLD_DAYS = 90
"""After so many days somebody should look again."""


@dataclass(frozen=True)
class Advisory:
    """A fault that somebody has published.

    Attributes:
        id: Its number, e.g. CVE-2025-43859.
        affected: The versions that have it: any of these ranges.
        fixed: The first version without it, for each range.
    """

    id: str
    affected: tuple[SpecifierSet, ...]
    fixed: tuple[str, ...]

    def hits(self, version: str) -> bool:
        """Whether a version has it."""
        return any(one.contains(version, prereleases=True) for one in self.affected)


@dataclass(frozen=True)
class Advisories:
    """The list: what is known of each package, and when somebody has last looked."""

    looked_at: date
    packages: Mapping[str, tuple[Advisory, ...]]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads the list.

        Raises:
            ValueError: A date or a range of versions is not one.
        """
        said = json.loads(text)
        return cls(
            date.fromisoformat(said["looked_at"]),
            {name: tuple(map(_advisory, some)) for name, some in said["packages"].items()},
        )

    def faults(self, where: str, pins: Mapping[str, str]) -> Iterator[str]:
        """What is wrong with the versions of a file of constraints, a sentence each."""
        for name, version in pins.items():
            for one in self.packages.get(name, ()):
                if one.hits(version):
                    yield f"{where}: {name} {version} has {one.id}. Take {' or '.join(one.fixed)}, or a later one."
            if name not in self.packages:
                yield (
                    f"{where}: nobody has looked for advisories on {name} {version}. "
                    f"Look, and enter it into {LIST.relative_to(ROOT)}; [] says that there are none."
                )

    def age_days(self, today: date) -> int:
        """How many days ago somebody has looked."""
        return (today - self.looked_at).days


def _advisory(said: Mapping[str, Any]) -> Advisory:
    return Advisory(said["id"], tuple(map(SpecifierSet, said["affected"])), tuple(said["fixed"]))


def pinned(text: str) -> dict[str, str]:
    """The version of each package in a file of constraints."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def audit(known: Advisories, pins: Mapping[str, Mapping[str, str]]) -> list[str]:
    """All that is wrong with the files of constraints: their pins by their names."""
    found = [fault for where, some in pins.items() for fault in known.faults(where, some)]
    wanted = {name for some in pins.values() for name in some}
    gone = sorted(set(known.packages) - wanted)
    return [
        *found,
        *(f"{LIST.relative_to(ROOT)}: {name} is no longer depended on. Remove it." for name in gone),
    ]
