"""The script for Linux machines without DHCP: `mac2ip`.

It is one file of POSIX sh, put together from the parts beside this module. By default it finds the NIC, decodes the
MAC, probes by ARP and configures; everything more is left out unless it is asked for.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence
from importlib.resources import files

from macbind.core.address_range import AddressRange
from macbind.core.errors import InvalidRequest
from macbind.guest.arithmetic import Between, gateway_of, inside, octets
from macbind.guest.facts import GuestPool
from macbind.guest.template import check, fill

MANAGERS = ("networkd", "networkmanager", "netplan", "ifupdown", "ifcfg")
AUTO, RESOLVED = "auto", "resolved"
PERSIST = (*MANAGERS, AUTO, RESOLVED)
"""Who is told for the next boot: one of `MANAGERS`, or the one that the machine has (`AUTO`); and `RESOLVED`.

`AUTO` includes `RESOLVED`, which is systemd-resolved or resolvconf.
"""
CHANNELS = ("fw_cfg", "smbios", "xenstore")
"""The channels that a script can read, in the order in which it asks them."""

_DEFAULT = ("head", "decode", "interfaces", "probe", "configure", "main")
_PARTS = (
    *("head", "decode", "channels/channels", *(f"channels/{name}" for name in CHANNELS)),
    *("interfaces", "probe", "configure", "outside", "files", "hostname"),
    *(f"persist/{name}" for name in ("services", "manager", "mask", *MANAGERS, AUTO, RESOLVED)),
    "main",
)
"""All parts, in the order of the script. One that is not in every script has the name of its feature."""


def render(
    pools: Sequence[GuestPool], *, persist: Collection[str] = (), channels: Collection[str] = ()
) -> str:
    """The script for machines of these pools, which may have different schemes.

    Args:
        pools: At least one. The first pool that has an address for a MAC counts.
        persist: Some of `PERSIST`.
        channels: Some of `CHANNELS`.

    Raises:
        InvalidRequest: There is no such channel, or the managers are not one that exists.
    """
    check(channels, CHANNELS, "channel that a script can read")
    check(persist, PERSIST, "value of --persist")
    wanted = [name for name in persist if name != RESOLVED]
    if len(set(wanted)) > 1:
        raise InvalidRequest(
            f"A script cannot persist for {' and '.join(wanted)}.",
            hint=f"Choose one, or '{AUTO}': the script then finds out which one a machine has.",
        )
    manager = wanted[0] if wanted else ""
    managers = MANAGERS if manager == AUTO else tuple(wanted)
    resolved = manager == AUTO or RESOLVED in persist
    far = {"networkd", "netplan"} & set(managers)
    there = {
        **dict.fromkeys((*managers, *channels), True),
        "auto": manager == AUTO,
        "manager": manager,
        "resolved": resolved,
        "unresolved": not resolved,
        "services": manager or resolved,
        "changed": resolved or "networkmanager" in managers,
        "plain": "networkmanager" not in managers,
        "channels": channels,
        "files": persist or channels,
        "hostname": manager or channels,
        "far": far,
        "mask": {"ifupdown", "ifcfg"} & set(managers),
        "outside": far or channels or any(map(_gateway_is_outside, pools)),
    }
    features = {name for name, given in there.items() if given}
    parts = [part for part in _PARTS if part in _DEFAULT or part.rpartition("/")[2] in features]
    marks = {
        "@TABLE@": "\n".join(map(_offer, pools)),
        "@MANAGER@": manager,
        "@MANAGERS@": " ".join(managers),
        "@CHANNELS@": " ".join(name for name in CHANNELS if name in channels),
    }
    return fill(__package__, [f"{part}.sh" for part in parts], pools, marks, features)


def unit() -> str:
    """The systemd unit that runs the script at boot, before any network manager."""
    return _read("mac2ip.service")


def udev_rule() -> str:
    """The udev rule that runs the unit again when a NIC is plugged in."""
    return _read("mac2ip.rules")


def _gateway_is_outside(pool: GuestPool) -> bool:
    return pool.gateway is not None and pool.gateway.of(pool.subnet[0]) not in pool.subnet


def _offer(pool: GuestPool) -> str:
    """A pool as a line of the script's table; see `offer` in decode.sh.

    The shell fills in the octets of address and gateways: ``$1`` to ``$6`` are the bytes of the MAC.
    """
    own = octets(pool, "$")
    never = [*map(str, pool.forbidden), *(gateway_of(rule, own) for rule in pool.others)]
    words = (
        shlex.quote(pool.name),
        pool.scheme.text,
        ".".join(own),
        str(pool.subnet.prefixlen),
        gateway_of(pool.gateway, own) if pool.gateway else "''",
        f"'{' '.join(map(str, pool.dns))}'",
        shlex.quote(pool.search or ""),
        _any(pool, pool.ranges),
        _any(pool, [AddressRange.of(pool.subnet)]),
        f'"{" ".join(never)}"',
    )
    return f"  offer {' '.join(words)}"


def _any(pool: GuestPool, ranges: Iterable[AddressRange]) -> str:
    """The arithmetic expression that is 1 if the address is in one of the ranges, else 0."""
    names = {"B3": "$3", "N": "n"}
    tests = [
        " && ".join(_test(names[one.name], one) for one in both)
        for item in ranges
        for both in inside(pool, item)
    ]
    return f"$(({' || '.join(tests)}))"


def _test(name: str, one: Between) -> str:
    return f"{name} == {one.lo}" if one.lo == one.hi else f"{name} >= {one.lo} && {name} <= {one.hi}"


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
