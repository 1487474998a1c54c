"""What the commands show that ask about the service, the site and macbind itself: status, doctor, wait, explain."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from macbind.cli.columns import Column, Table
from macbind.cli.tables import schema_of

if TYPE_CHECKING:
    from macbind.core.findings import Finding


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


@dataclass(frozen=True, slots=True)
class Found:
    """A row of `macbind doctor`: a finding, and the check that has found it."""

    check: str
    finding: Finding

    @property
    def key(self) -> str:
        """The finding as `--mute` takes it."""
        one = self.finding
        return f"{one.code}={one.subject}" if one.subject else one.code


def _examination() -> Any:
    from macbind.doctor.check import Examination

    return Examination


FOUND = Table(
    columns=(
        Column("check", attrgetter("check"), "the check that has found it"),
        Column("severity", attrgetter("finding.severity"), "error, warning or info"),
        Column("code", attrgetter("finding.code"), "its code"),
        Column("subject", lambda one: one.finding.subject or None, "what it is about"),
        Column("message", attrgetter("finding.message"), "what is wrong"),
        Column("hint", lambda one: one.finding.hint or None, "how to mend it", "wide"),
        Column("commands", lambda one: "; ".join(one.finding.commands) or None, "commands for that", "wide"),
        Column("since", attrgetter("finding.since"), "since when", "wide"),
        Column("count", attrgetter("finding.count"), "how often it came", "wide"),
    ),
    key=attrgetter("key"),
    empty="Nothing is found.",
    schema=schema_of(_examination),
)


CHECKS = Table(
    columns=(
        Column("check", attrgetter("name"), "its name"),
        Column("severity", attrgetter("severity"), "of what it finds"),
        Column("finds", attrgetter("about"), "what it finds"),
    ),
    key=attrgetter("name"),
    empty="There is no check.",
    schema=schema_of(lambda: list[dict[str, Any]]),
)


def _muted() -> Any:
    from macbind.registry.muted import Muted

    return list[Muted]


MUTED = Table(
    columns=(
        Column("code", attrgetter("code"), "the code of the findings"),
        Column("subject", lambda one: one.subject or None, "what they are about"),
        Column("until", attrgetter("until"), "until when"),
        Column("by", attrgetter("actor"), "who asked for it"),
    ),
    key=str,
    empty="Nothing is muted.",
    schema=schema_of(_muted),
)


@dataclass(frozen=True, slots=True)
class Packed:
    """A row of `macbind report`: a file in it."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Packet:
    """What `macbind report` has written."""

    file: str
    parts: tuple[Packed, ...]


PACKED = Table(
    columns=(
        Column("file", attrgetter("name"), "its name in the report"),
        Column("bytes", attrgetter("bytes"), "its size"),
    ),
    key=attrgetter("name"),
    empty="Nothing.",
    schema=schema_of(lambda: Packet),
)
