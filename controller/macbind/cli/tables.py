"""What each command shows: its columns, and the schema of its JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from macbind.cli.columns import Column, Table
from macbind.core.free_range import FreeRange
from macbind.core.printable import visible

if TYPE_CHECKING:
    from ipaddress import IPv4Address

    from macbind.core.allocation import Allocation


def schema_of(of: Callable[[], Any]) -> Callable[[], dict[str, Any]]:
    """The JSON schema of a type, made only when somebody asks for it."""

    def make() -> dict[str, Any]:
        from pydantic import TypeAdapter

        return TypeAdapter(of()).json_schema(mode="serialization")

    return make


def _allocation() -> Any:
    from macbind.core.allocation import Allocation

    return Allocation


@dataclass(frozen=True, slots=True)
class Line:
    """A row of `macbind list`: an allocation, or the free space between two of them.

    Attributes:
        of: The allocation or the range.
        renumbers_to: The address that the allocation is being renumbered to.
    """

    of: Allocation | FreeRange
    renumbers_to: IPv4Address | None = None

    @property
    def first(self) -> IPv4Address:
        """The address, or the first of the range."""
        return self.of.lo if isinstance(self.of, FreeRange) else self.of.address


def lines_of(found: Iterable[Allocation], gaps: Iterable[FreeRange] = ()) -> list[Line]:
    """Allocations as rows, with rows for the free space between them if that is given."""
    held = list(found)
    targets = {one.renumbers_from: one.address for one in held if one.renumbers_from is not None}
    lines = [Line(one, targets.get(one.address)) for one in held]
    between = [Line(one) for one in gaps]
    return sorted([*lines, *between], key=attrgetter("first")) if between else lines


def _of(name: str) -> Callable[[Line], object]:
    """An attribute of the allocation; a free range has only some of them."""
    return lambda line: getattr(line.of, name, None)


def _address(line: Line) -> object:
    one = line.of
    if not isinstance(one, FreeRange):
        return one.address
    return str(one.lo) if one.lo == one.hi else f"{one.lo}-{one.hi}"


def _state(line: Line) -> str:
    """What stands in the last column: words, of which no other column has more than one."""
    one = line.of
    if isinstance(one, FreeRange):
        return f"free {one.size}"
    words = [str(one.state), "pinned" if one.pinned else None]
    words += [f"renumbers from {one.renumbers_from}" if one.renumbers_from else None]
    words += [f"renumbers to {line.renumbers_to}" if line.renumbers_to else None]
    return " ".join(word for word in words if word)


_UNITS = (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1))


def _labels(line: Line) -> str | None:
    """Labels as one word: a space in a value stands there as an escape, and a comma, too."""
    values = {
        key: visible(text).replace(" ", "\\x20").replace(",", "\\x2c")
        for key, text in getattr(line.of, "labels", {}).items()
    }
    return ",".join(f"{key}={value}" for key, value in values.items()) or None


def _seen(line: Line) -> str | None:
    """How long ago, as one word in the largest unit that fits."""
    moment = getattr(line.of, "last_seen", None)
    if moment is None:
        return None
    age = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    return next((f"{age // size}{unit}" for unit, size in _UNITS if age >= size), "0s")


def _lines_schema() -> Any:
    from macbind.core.allocation import Allocation

    return list[Allocation | FreeRange]


ALLOCATIONS = Table(
    columns=(
        Column("address", _address, "the IPv4 address", rank=attrgetter("first")),
        Column("mac", _of("mac"), "its MAC"),
        Column("name", _of("name"), "the holder's name"),
        Column("pool", _of("pool"), "the pool"),
        Column("group", _of("group"), "the group"),
        Column("gateway", _of("gateway"), "the gateway the machine is told", "wide"),
        Column("link-local", _of("link_local"), "its link-local IPv6 address", "wide"),
        Column("ipv6", _of("ipv6"), "its IPv6 address by SLAAC", "wide"),
        Column("labels", _labels, "its labels, as key=value", "wide"),
        Column("seen", _seen, "how long ago its machine was last seen", "wide"),
        Column("domain", _of("domain"), "the libvirt domain", "asked"),
        Column("created", _of("created_at"), "when it was allocated", "asked"),
        Column("expires", _of("expires_at"), "when it is released by itself", "asked"),
        Column("released", _of("released_at"), "when it was released", "asked"),
        Column("generation", _of("generation"), "its generation", "asked"),
        Column("pinned", _of("pinned"), "whether it is a reservation", "asked"),
        Column("state", _state, "pending, bound, releasing or cooling, and more words"),
    ),
    key=_of("name"),
    empty="No allocations.",
    schema=schema_of(_lines_schema),
    value=attrgetter("of"),
)


def _released() -> Any:
    from macbind.core.allocation import BulkItem, Released

    return list[Released] | list[BulkItem]


RELEASED = Table(
    ALLOCATIONS.columns, ALLOCATIONS.key, "Nothing to release.", schema_of(_released), ALLOCATIONS.value
)


def _shown() -> Any:
    from pydantic import create_model

    from macbind.core.allocation import Allocation, AuditEntry

    return create_model(
        "Shown",
        allocation=(Allocation, ...),
        renumbers_to=(Allocation | None, ...),
        history=(list[AuditEntry], ...),
    )


SHOWN = Table(ALLOCATIONS.columns, ALLOCATIONS.key, ALLOCATIONS.empty, schema_of(_shown), ALLOCATIONS.value)

FREE = Table(
    columns=(
        Column("first", attrgetter("lo"), "the first address"),
        Column("last", attrgetter("hi"), "the last address"),
        Column("addresses", attrgetter("size"), "how many they are"),
        Column("pool", attrgetter("pool"), "the pool", "wide"),
    ),
    key=lambda one: one.lo if one.lo == one.hi else f"{one.lo}-{one.hi}",
    empty="No unoccupied address.",
    schema=schema_of(lambda: list[FreeRange]),
)


def _pools() -> Any:
    from macbind.core.pool import PoolUsage

    return list[PoolUsage]


def _percent(one: Any) -> float:
    return round(100 * (one.size - one.free) / one.size, 1) if one.size else 100.0


POOLS = Table(
    columns=(
        Column("pool", attrgetter("pool"), "its name"),
        Column("size", attrgetter("size"), "all addresses that it hands out"),
        Column("free", attrgetter("free"), "those that can be taken"),
        Column("allocated", attrgetter("allocated"), "those that a name holds"),
        Column("pinned", attrgetter("pinned"), "those of them that are reservations"),
        Column("releasing", attrgetter("releasing"), "those that are released and not free yet"),
        Column("others", attrgetter("used_by_others"), "those that others use"),
        Column("used", _percent, "how many of a hundred are not free", "wide"),
    ),
    key=attrgetter("pool"),
    empty="No pools.",
    schema=schema_of(_pools),
)


def _history() -> Any:
    from macbind.core.allocation import AuditEntry

    return list[AuditEntry]


def _detail(name: str) -> Callable[[Any], object]:
    return lambda one: one.detail.get(name)


HISTORY = Table(
    columns=(
        Column("at", attrgetter("at"), "when"),
        Column("action", attrgetter("action"), "what was done"),
        Column("address", attrgetter("address"), "to which address"),
        Column("name", attrgetter("name"), "of which name"),
        Column("pool", _detail("pool"), "of which pool"),
        Column("group", _detail("group"), "of which group"),
        Column("actor", attrgetter("actor"), "who did it"),
        Column("reason", _detail("reason"), "why"),
        Column("id", attrgetter("id"), "its number in the audit log", "wide"),
        Column("generation", attrgetter("generation"), "the allocation's generation", "wide"),
    ),
    key=attrgetter("name"),
    empty="No changes.",
    schema=schema_of(_history),
)


def _events() -> dict[str, Any]:
    """One object for each event, with its kind as ``event``."""
    from pydantic import TypeAdapter

    from macbind.core.event import Change, FindingsNow, Gap

    kinds: list[dict[str, Any]] = []
    definitions: dict[str, Any] = {}
    for name, kind in {"change": Change, "gap": Gap, "findings": FindingsNow}.items():
        schema = TypeAdapter(kind).json_schema(mode="serialization")
        definitions |= schema.pop("$defs", {})
        schema["properties"] = {"event": {"const": name}, **schema["properties"]}
        schema["required"] = ["event", *schema["required"]]
        kinds.append(schema)
    return {"oneOf": kinds, "$defs": definitions}


EVENTS = Table(
    columns=tuple(
        Column(one.name, attrgetter(one.name), one.about, one.level) if one.name in ("pool", "group") else one
        for one in HISTORY.columns
    ),
    key=HISTORY.key,
    empty=HISTORY.empty,
    schema=_events,
)


def _why() -> Any:
    from macbind.core.why import Why

    return list[Why]


WHY = Table(
    columns=(
        Column("query", attrgetter("query"), "what was asked for"),
        Column("address", attrgetter("address"), "the address"),
        Column("code", attrgetter("code"), "the reason's code, which never changes"),
        Column("answer", attrgetter("answer"), "the answer"),
    ),
    key=attrgetter("address"),
    empty="No answer.",
    schema=schema_of(_why),
)


def _made() -> Any:
    from macbind.core.allocation import Allocation

    return Allocation | list[Allocation]


MADE = Table(ALLOCATIONS.columns, ALLOCATIONS.key, ALLOCATIONS.empty, schema_of(_made), ALLOCATIONS.value)
RESERVED = Table(
    ALLOCATIONS.columns, ALLOCATIONS.key, ALLOCATIONS.empty, schema_of(_allocation), ALLOCATIONS.value
)
