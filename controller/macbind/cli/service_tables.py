"""What the commands show that ask about the service and macbind itself: status, wait, explain."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from macbind.cli.columns import Column, Table
from macbind.cli.tables import schema_of


@dataclass(frozen=True, slots=True)
class Part:
    """A row of `macbind status`: a DHCP server, a pool, a hypervisor, a controller or a finding."""

    kind: str
    name: str
    state: str
    since: object = None
    about: str | None = None


def _status() -> Any:
    from macbind.core.findings import Status

    return Status


STATUS = Table(
    columns=(
        Column("kind", attrgetter("kind"), "dhcpd, pool, hypervisor, controller or finding"),
        Column("name", attrgetter("name"), "its name; of a finding its code"),
        Column("state", attrgetter("state"), "how it is"),
        Column("since", attrgetter("since"), "since when"),
        Column("about", attrgetter("about"), "what is to be said of it"),
    ),
    key=attrgetter("name"),
    empty="Nothing.",
    schema=schema_of(_status),
)


def _controllers() -> Any:
    from macbind.core.findings import ControllerStatus

    return list[ControllerStatus]


CONTROLLERS = Table(
    columns=(
        Column("host", attrgetter("host"), "the name of its machine"),
        Column("socket", attrgetter("socket"), "where it listens there"),
        Column("state", lambda one: "alive" if one.is_alive else "silent", "whether it was heard of lately"),
        Column("leads", lambda one: leads(one) or None, "the dhcpds that it writes to, and how they are"),
        Column("since", attrgetter("since"), "since when it runs"),
        Column("heard", attrgetter("heard_at"), "when it was last heard of"),
        Column("version", attrgetter("version"), "its version of macbind"),
        Column(
            "asked", lambda one: "yes" if one.is_asked else "no", "whether it is the one that answers", "wide"
        ),
    ),
    key=attrgetter("host"),
    empty="None.",
    schema=schema_of(_controllers),
)


def leads(one: Any) -> str:
    """What a controller leads, in words."""
    return ", ".join(f"{lead.dhcpd} ({lead.state})" for lead in one.leads)


NAMES = Table(
    columns=(Column("name", lambda name: name, "the name"),),
    key=lambda name: name,
    empty="None.",
    schema=schema_of(lambda: list[str]),
)


def _entries() -> Any:
    from macbind.cli.explained import Entry

    return list[Entry]


ENTRIES = Table(
    columns=(
        Column("kind", attrgetter("kind"), "key, error, finding or reason"),
        Column("name", attrgetter("name"), "its name"),
        Column("example", attrgetter("example"), "a key's example or default", "wide"),
        Column("meaning", attrgetter("meaning"), "what it means"),
    ),
    key=attrgetter("name"),
    empty="Nothing.",
    schema=schema_of(_entries),
)
