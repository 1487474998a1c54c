"""The scripts' parts put together: files beside a module, with marks for what depends on the pools.

A line that begins with ``#:word`` belongs to the script only if that word is among its features.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.resources import files

from macbind.core.errors import InvalidRequest
from macbind.guest.facts import GuestPool

_FEATURE = re.compile(r"#:(\w+) ?(.*)", re.DOTALL)
_ODD = re.compile(r"[^A-Za-z0-9._-]")  # in a comment, whatever the name of a pool is


def fill(
    package: str,
    parts: Sequence[str],
    pools: Sequence[GuestPool],
    marks: Mapping[str, str],
    features: Collection[str] = (),
) -> str:
    """The parts of a package one after the other, with values in place of their marks.

    Args:
        package: The package whose folder has the parts.
        parts: The paths of the files in that folder.
        pools: The pools that the script is for; three marks in every script name them and the version.
        marks: The other values, by their marks.
        features: The words whose lines are in the script.
    """
    from macbind import __version__

    names = ", ".join(_ODD.sub("_", pool.name) for pool in pools)
    common = {
        "@PREFIXES@": ", ".join(dict.fromkeys(pool.scheme.text for pool in pools)),
        "@POOLS@": f"the pool {names}" if len(pools) == 1 else f"the pools {names}",
        "@VERSION@": __version__,
    }
    texts = (files(package).joinpath(part).read_text(encoding="utf-8") for part in parts)
    filled = "".join(line for text in texts for line in _lines(text, features))
    for mark, value in {**marks, **common}.items():
        filled = filled.replace(mark, value)
    return filled


def check(names: Collection[str], known: Collection[str], what: str) -> None:
    """Checks what a script is asked to contain.

    Raises:
        InvalidRequest: One of the names is not known.
    """
    for name in names:
        if name not in known:
            raise InvalidRequest(f"There is no {what} '{name}'.", hint=f"There are: {', '.join(known)}.")


def _lines(text: str, features: Collection[str]) -> Iterator[str]:
    """The lines of a part that these features leave."""
    for line in text.splitlines(keepends=True):
        match = _FEATURE.fullmatch(line)
        if match is None:
            yield line
        elif match[1] in features:
            yield match[2]
