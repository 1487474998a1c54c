"""The scripts for Windows machines without DHCP: `mac2ip.ps1` and `mac2ip.bat`.

Each is one file of ASCII with CRLF at the ends of lines, put together from the parts beside this module. Both decide
by the same lines, which `macbind.guest.windows.decisions` renders in either language.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from macbind.core.errors import InvalidRequest
from macbind.guest.facts import GuestPool
from macbind.guest.template import check, fill
from macbind.guest.windows import decisions

CHANNELS = ("smbios", "xenstore")
"""The channels that the PowerShell script can read, in the order in which it asks them."""

_DOMAIN = re.compile(r"[A-Za-z0-9._-]+")


def powershell(pools: Sequence[GuestPool], *, channels: Collection[str] = ()) -> str:
    """The script for Windows 8, Server 2012 and later, as text with CRLF.

    Args:
        pools: At least one. The first pool that has an address for a MAC counts.
        channels: Some of `CHANNELS`.

    Raises:
        InvalidRequest: There is no pool or no such channel, or a script cannot contain the domain of a pool.
    """
    check(channels, CHANNELS, "channel that this script can read")
    read = [name for name in CHANNELS if name in channels]
    parts = ["decode", *(["channels", *read] if read else []), "adapters", "configure", "main"]
    marks = {
        "@SUMS@": decisions.powershell_sums(" " * 4),
        "@HANDED@": decisions.powershell(decisions.handed(pools), " " * 4),
        "@SUBNETS@": decisions.powershell(decisions.subnets(pools), " " * 8),
        "@FACTS@": decisions.powershell(decisions.facts(pools), " " * 4),
        "@CHANNELS@": ", ".join(f"'{name.title()}'" for name in read),
    }
    return _render([f"ps1/{part}.ps1" for part in parts], pools, marks, ["channels"] if read else [])


def batch(pools: Sequence[GuestPool]) -> str:
    """The script for `cmd`, Windows XP and later, as text with CRLF; arguments and errors as of `powershell`."""
    parts = ("decode", "adapters", "configure", "main")
    marks = {
        "@SUMS@": decisions.batch_sums(),
        "@HANDED@": decisions.batch(decisions.handed(pools)),
        "@SUBNETS@": decisions.batch(decisions.subnets(pools)),
        "@FACTS@": decisions.batch(decisions.facts(pools)),
    }
    return _render([f"cmd/{part}.bat" for part in parts], pools, marks, ())


def _render(
    parts: Sequence[str], pools: Sequence[GuestPool], marks: Mapping[str, str], features: Collection[str]
) -> str:
    if not pools:
        raise InvalidRequest("A guest script needs a pool.", hint="Name at least one.")
    for pool in pools:
        if pool.search is not None and not _DOMAIN.fullmatch(pool.search):
            raise InvalidRequest(
                f"The domain {pool.search!r} of the pool '{pool.name}' cannot be written into a script.",
                hint="Use letters, digits, dots and -.",
                pool=pool.name,
            )
    return fill(__package__, parts, pools, marks, features).replace("\n", "\r\n")
