"""Host names: under which name each allocation is found, and the lines of a hosts file.

A name is the allocation's host name where it has one, or the allocation's own name where that is one label of a
host name (RFC 1123). All other allocations have no name. An allocation gets its name when it is bound, and keeps it
while it is held: a machine that runs must not lose its name because a DHCP server has to confirm something anew.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import NamedTuple

from macbind.core.findings import Finding
from macbind.core.option_kinds import fill, is_pattern

HOSTS_HEAD = "# Written by macbind: a change by hand is undone."
"""The first line of a hosts file of ours. A file without it is somebody else's."""
KEPT_BACK = frozenset({"localhost", "isatap", "wpad"})
"""Names that programs ask for by themselves. Whoever has one of them speaks for the whole network."""
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LISTED = 3


@dataclass(frozen=True, slots=True)
class HostNames:
    """The names of all allocations at one moment.

    Attributes:
        held: The address of each name.
        bound: Those of them whose allocation is bound.
        unfit: Allocations whose names are no host names.
        doubled: Allocations whose names an older allocation has.
    """

    held: Mapping[str, IPv4Address]
    bound: Collection[str]
    unfit: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()

    def shown(self, there: Mapping[str, IPv4Address]) -> dict[str, IPv4Address]:
        """What is to be found: all that is bound, and what is found already and still held."""
        return {
            name: address
            for name, address in self.held.items()
            if name in self.bound or there.get(name) == address
        }

    def changed_since(self, before: HostNames) -> set[str]:
        """The names that have another address now, or are bound now or then only."""
        there = before.held
        other = {name for name, address in self.held.items() if there.get(name) != address}
        return other | (there.keys() - self.held.keys()) | (set(self.bound) ^ set(before.bound))

    def findings(self) -> Iterator[Finding]:
        """The allocations that have no name."""
        if self.unfit:
            yield Finding(
                "names_unfit",
                f"{_some(self.unfit)} cannot be found by name: the name is no host name.",
                "Give a --hostname, or use names of letters, digits and hyphens, without localhost, isatap and wpad.",
                "names",
            )
        if self.doubled:
            yield Finding(
                "names_doubled",
                f"{_some(self.doubled)} cannot be found by name: another allocation has the host name already.",
                "Give each machine a host name of its own.",
                "names",
            )


def _some(names: Collection[str]) -> str:
    listed = ", ".join(f"'{name}'" for name in list(names)[:_LISTED])
    more = len(names) - _LISTED
    return f"{listed} and {more} more" if more > 0 else listed


class Held(NamedTuple):
    """An allocation that is held, as far as its name needs.

    Attributes:
        name: Its name.
        address: Its address.
        hostname: The host name that its machine is told, or the pattern of it; None if it is told none.
        created_at: When it was made, in seconds.
        is_bound: Whether its machine may start.
    """

    name: str
    address: IPv4Address
    hostname: str | None = None
    created_at: float = 0.0
    is_bound: bool = True


def host_name(one: Held) -> str | None:
    """The host name of an allocation in lower case; None if it has none."""
    own = one.hostname
    if is_pattern(own):
        own = fill(own or "", one.name, 1)
    name = (own or one.name).lower()
    return name if _LABEL.fullmatch(name) and name not in KEPT_BACK else None


def host_names(allocations: Iterable[Held]) -> HostNames:
    """The names of all allocations that are held; of two with one name, the older has it."""
    held: dict[str, IPv4Address] = {}
    bound: set[str] = set()
    unfit: list[str] = []
    doubled: list[str] = []
    for one in sorted(allocations, key=lambda one: (one.created_at, int(one.address))):
        name = host_name(one)
        if name is None:
            unfit.append(one.name)
        elif name in held:
            doubled.append(one.name)
        else:
            held[name] = one.address
            if one.is_bound:
                bound.add(name)
    return HostNames(held, bound, tuple(unfit), tuple(doubled))


def hosts_text(names: Mapping[str, IPv4Address], domain: str) -> str:
    """A hosts file with these names, in the order of their addresses."""
    lines = (
        f"{address} {name}.{domain} {name}\n"
        for name, address in sorted(names.items(), key=lambda one: int(one[1]))
    )
    return f"{HOSTS_HEAD}\n{''.join(lines)}"


def names_in(text: str) -> dict[str, IPv4Address] | None:
    """The names that a hosts file of ours has; None if the file is somebody else's."""
    head, *lines = text.split("\n")
    if head != HOSTS_HEAD:
        return None
    found: dict[str, IPv4Address] = {}
    for line in lines:
        words = line.split()
        try:
            found[words[-1]] = IPv4Address(words[0])
        except (IndexError, ValueError):
            continue  # it is written anew
    return found
