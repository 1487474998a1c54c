"""What `macbind import`, `macbind recover` and `macbind export` show."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

from macbind.cli.columns import Column, Table
from macbind.cli.tables import schema_of

if TYPE_CHECKING:
    from macbind.core.import_plan import ImportRow


def _plan() -> Any:
    from macbind.core.import_plan import ImportPlan

    return ImportPlan


def _why(one: ImportRow) -> str | None:
    """All that is to be said of a row, in sentences."""
    left_out = f"Not carried over: {', '.join(one.left_out)}." if one.left_out else ""
    return " ".join(text for text in (one.why, one.mend, left_out) if text) or None


IMPORTED = Table(
    columns=(
        Column("line", attrgetter("line"), "the line of the list"),
        Column("file", attrgetter("file"), "the file, if the list includes others", "wide"),
        Column(
            "verdict", attrgetter("verdict"), "what becomes of it: new, same, changed, conflict, impossible"
        ),
        Column("address", attrgetter("address"), "the IPv4 address"),
        Column("mac", attrgetter("mac"), "its MAC, where it is not left to the pool"),
        Column("name", attrgetter("name"), "its name"),
        Column("with", attrgetter("holder"), "with whom it is in conflict", "wide"),
        Column("why", _why, "what changes, what is wrong, and how to mend it"),
    ),
    key=attrgetter("name"),
    empty="Nothing to do.",
    schema=schema_of(_plan),
)


RECOVERED = Table(
    columns=(
        Column("verdict", attrgetter("verdict"), "what becomes of it: new, conflict, impossible"),
        Column("address", attrgetter("address"), "the IPv4 address"),
        Column("name", attrgetter("name"), "its name: that of its domain, or one made of the address"),
        Column("with", attrgetter("holder"), "with whom it is in conflict", "wide"),
        Column("why", _why, "what shows it, or what is wrong and how to mend it"),
    ),
    key=attrgetter("name"),
    empty="Nothing is seen that the registry does not know.",
    schema=schema_of(_plan),
)


def _export() -> dict[str, Any]:
    text = {"type": "string"}
    item = {
        "type": "object",
        "properties": {
            **dict.fromkeys(("name", "address", "mac", "group", "expires_at"), text),
            "pinned": {"type": "boolean"},
            "options": {"type": "object"},
            "labels": {"type": "object", "additionalProperties": text},
        },
        "required": ["name", "address", "mac", "pinned"],
    }
    return {
        "type": "object",
        "properties": {"format": text, "allocations": {"type": "array", "items": item}},
        "required": ["format", "allocations"],
    }


EXPORTED = Table(
    columns=(
        Column("name", attrgetter("name"), "its name"),
        Column("address", attrgetter("address"), "the IPv4 address"),
        Column("mac", attrgetter("mac"), "its MAC"),
        Column("pinned", attrgetter("pinned"), "whether it is a reservation"),
        Column("group", attrgetter("group"), "the group"),
    ),
    key=attrgetter("name"),
    empty="No allocations.",
    schema=_export,
)
