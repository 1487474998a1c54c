"""The scripts that give a Windows machine the address its MAC stands for: `mac2ip.ps1` and `mac2ip.bat`.

Each is one file of plain ASCII with CRLF at the ends of lines, put together from the parts in a folder beside this
module, so that each can be read by itself. What it knows of the pools is a table in it; everything else is the same
for every site.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files

from macbind.errors import InvalidRequest
from macbind.guest.facts import GuestPool
from macbind.guest.windows import batchfile, table

_DOMAIN = re.compile(r"[A-Za-z0-9._-]+")
_ODD = re.compile(r"[^A-Za-z0-9._-]")  # not in a comment, whatever a pool is called


def powershell(pools: Sequence[GuestPool]) -> str:
    """The script for Windows 8, Server 2012 and up, as text with CRLF.

    Args:
        pools: At least one, in the order in which they are asked for an address.

    Raises:
        InvalidRequest: There is no pool, or one has facts that a script cannot carry.
    """
    parts = ("decode.ps1", "channels.ps1", "adapters.ps1", "configure.ps1", "main.ps1")
    return _render("ps1", parts, pools, {"@TABLE@": table.rows(_checked(pools))})


def batch(pools: Sequence[GuestPool]) -> str:
    """The script for `cmd`, Windows XP and up, as text with CRLF; arguments and errors as of `powershell`."""
    checked = _checked(pools)
    marks = {
        "@HANDED@": batchfile.handed(checked),
        "@SUBNETS@": batchfile.subnets(checked),
        "@TAKEN@": batchfile.taken(checked),
    }
    return _render("cmd", ("decode.bat", "adapters.bat", "configure.bat", "main.bat"), pools, marks)


def _checked(pools: Sequence[GuestPool]) -> Sequence[GuestPool]:
    """The pools, if a script can carry their facts without any quoting."""
    if not pools:
        raise InvalidRequest("A guest script needs a pool.", hint="Name at least one.")
    for pool in pools:
        if pool.search is not None and not _DOMAIN.fullmatch(pool.search):
            raise InvalidRequest(
                f"The domain {pool.search!r} of the pool '{pool.name}' cannot be written into a script.",
                hint="Use letters, digits, dots and -.",
                pool=pool.name,
            )
    return pools


def _render(folder: str, parts: Sequence[str], pools: Sequence[GuestPool], values: Mapping[str, str]) -> str:
    """The parts, one after the other, with the values in place of their marks."""
    from macbind import __version__

    names = ", ".join(_ODD.sub("_", pool.name) for pool in pools)
    common = {
        "@PREFIXES@": ", ".join(dict.fromkeys(pool.scheme.text for pool in pools)),
        "@POOLS@": f"the pool {names}" if len(pools) == 1 else f"the pools {names}",
        "@VERSION@": __version__,
    }
    text = "".join(files(__package__).joinpath(folder, part).read_text(encoding="ascii") for part in parts)
    for mark, value in {**values, **common}.items():
        text = text.replace(mark, value)
    return text.replace("\n", "\r\n")
