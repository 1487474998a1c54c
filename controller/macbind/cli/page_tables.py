"""What the commands show that the page has, too: `macbind map` and `macbind token`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any

from macbind.cli.columns import Column, Table
from macbind.cli.tables import schema_of


def _runs() -> Any:
    from macbind.core.address_map import MapRun

    return list[MapRun]


RUNS = Table(
    columns=(
        Column("first", attrgetter("first"), "the first address"),
        Column("last", attrgetter("last"), "the last address"),
        Column("addresses", len, "how many they are"),
        Column("state", attrgetter("state"), "what they are"),
    ),
    key=lambda one: one.first if one.first == one.last else f"{one.first}-{one.last}",
    empty="No addresses.",
    schema=schema_of(_runs),
)


class By(StrEnum):
    """What proves a token's id."""

    SECRET = "secret"  # noqa: S105  # nosec B105  # no password, its name
    CERTIFICATE = "certificate"


@dataclass(frozen=True, slots=True)
class ListedToken:
    """A token as it is listed; without pools it is of all."""

    id: str
    may: str
    by: By
    pools: list[str] | None
    expires_at: datetime | None
    is_over: bool
    last_used_at: datetime | None
    note: str


@dataclass(frozen=True, slots=True)
class MadeToken:
    """A token as it is made: only here it has its secret, unless a certificate stands for that."""

    id: str
    token: str | None
    may: str
    pools: list[str] | None
    expires_at: datetime | None


def _pools(one: ListedToken | MadeToken) -> str | None:
    return None if one.pools is None else ",".join(one.pools)


TOKENS = Table(
    columns=(
        Column("id", attrgetter("id"), "its id"),
        Column("may", attrgetter("may"), "what it may: read or write"),
        Column("pools", _pools, "its pools; all if there are none"),
        Column("expires", attrgetter("expires_at"), "its end"),
        Column("used", attrgetter("last_used_at"), "when it was last used"),
        Column("by", attrgetter("by"), "what proves its id: a secret or a certificate", "wide"),
        Column("over", attrgetter("is_over"), "whether it has expired", "wide"),
        Column("note", lambda one: one.note or None, "what it is for"),
    ),
    key=attrgetter("id"),
    empty="No tokens.",
    schema=schema_of(lambda: list[ListedToken]),
)
MADE = Table(
    columns=(
        Column("id", attrgetter("id"), "its id"),
        Column("token", attrgetter("token"), "the token; it is shown this once"),
        Column("may", attrgetter("may"), "what it may: read or write"),
        Column("pools", _pools, "its pools; all if there are none"),
        Column("expires", attrgetter("expires_at"), "its end"),
    ),
    key=attrgetter("id"),
    empty="No token.",
    schema=schema_of(lambda: MadeToken),
)
