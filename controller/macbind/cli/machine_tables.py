"""What the commands show that deal with machines: `macbind vm` and `macbind renumber`."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from macbind.cli.columns import Column, Table
from macbind.cli.tables import schema_of


def _machines() -> Any:
    from macbind.machines.values import ListedMachine

    return list[ListedMachine]


def _uptime(one: Any) -> str | None:
    if one.uptime_s is None:
        return None
    minutes, rest = divmod(int(one.uptime_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


MACHINES = Table(
    columns=(
        Column("name", attrgetter("name"), "the allocation's name"),
        Column("address", attrgetter("address"), "its address"),
        Column("mac", attrgetter("mac"), "its MAC"),
        Column("state", attrgetter("state"), "the domain's state"),
        Column("up", _uptime, "since when it runs", rank=attrgetter("uptime_s")),
        Column("domain", attrgetter("domain"), "the domain"),
        Column("pool", attrgetter("pool"), "the pool", "wide"),
        Column("group", attrgetter("group"), "the group", "wide"),
        Column("uuid", attrgetter("uuid"), "the domain's UUID", "wide"),
    ),
    key=attrgetter("name"),
    empty="No machines.",
    schema=schema_of(_machines),
)


def _launched() -> Any:
    from macbind.machines.values import Machine

    return Machine | list[Machine]


LAUNCHED = Table(
    columns=(
        Column("name", attrgetter("name"), "the machine's name"),
        Column("address", attrgetter("address"), "its address"),
        Column("mac", attrgetter("mac"), "its MAC"),
        Column("domain", attrgetter("domain"), "the domain"),
        Column("uuid", attrgetter("uuid"), "the domain's UUID", "wide"),
        Column("uri", attrgetter("uri"), "the hypervisor", "wide"),
    ),
    key=attrgetter("name"),
    empty="No machines.",
    schema=schema_of(_launched),
)


def _destroyed() -> Any:
    from macbind.machines.values import Destroyed

    return list[Destroyed]


DESTROYED = Table(
    columns=(
        Column("name", attrgetter("name"), "the machine's name"),
        Column("gone", attrgetter("already_gone"), "whether there was nothing to destroy"),
    ),
    key=attrgetter("name"),
    empty="Nothing to destroy.",
    schema=schema_of(_destroyed),
)


def _renumbered() -> Any:
    from macbind.machines.values import Renumbered

    return Renumbered


RENUMBERED = Table(
    columns=(
        Column("name", attrgetter("name"), "the machine's name"),
        Column("address", attrgetter("address"), "its address now"),
        Column("mac", attrgetter("mac"), "its MAC now"),
        Column("before", attrgetter("before"), "the address before"),
    ),
    key=attrgetter("name"),
    empty="Nothing.",
    schema=schema_of(_renumbered),
)
