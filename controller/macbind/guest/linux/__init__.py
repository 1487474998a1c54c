"""The script that gives a Linux machine the address its MAC stands for: `mac2ip`.

It is one file of plain POSIX sh, put together from the parts beside this module, so that each can be read by
itself. What it knows of the pools is a table; everything else is the same for every site.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.resources import files

from macbind.guest.facts import GuestPool

_PARTS = ("head", "decode", "channels", "interfaces", "probe", "configure", "persist", "main")


def render(pools: Sequence[GuestPool], version: str = "") -> str:
    """The script for machines of these pools; they need not be of one scheme.

    Args:
        pools: At least one, in the order in which they are asked for an address.
        version: What the script calls itself; this macbind's by default.
    """
    from macbind import __version__

    prefixes = ", ".join(dict.fromkeys(one.scheme.text for one in pools))
    names = ", ".join(one.name for one in pools)
    values = {
        "@TABLE@": "\n".join(map(_offer, pools)),
        "@PREFIXES@": prefixes,
        "@POOLS@": f"the pool {names}" if len(pools) == 1 else f"the pools {names}",
        "@VERSION@": version or __version__,
    }
    text = "".join(_read(f"{part}.sh") for part in _PARTS)
    for mark, value in values.items():
        text = text.replace(mark, value)
    return text


def unit() -> str:
    """The systemd unit that runs the script at boot, before any network manager."""
    return _read("mac2ip.service")


def udev_rule() -> str:
    """The udev rule that runs the unit again when a card is plugged in."""
    return _read("mac2ip.rules")


def _offer(pool: GuestPool) -> str:
    """A pool as a line of the script's table; see `offer` in decode.sh."""
    words = (
        pool.name,
        pool.scheme.text,
        f"{pool.subnet[0]}-{pool.subnet[-1]}",
        str(pool.subnet.prefixlen),
        str(pool.gateway or ""),
        " ".join(map(str, pool.dns)),
        pool.search or "",
        " ".join(f"{one.lo}-{one.hi}" for one in pool.ranges),
        " ".join(map(str, pool.forbidden)),
        " ".join(map(str, pool.others)),
    )
    return f"  offer {' '.join(map(shlex.quote, words))}"


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
