"""The operations of maps: what the addresses of a pool are."""

from __future__ import annotations

from pydantic import Field

from macbind.client import codec
from macbind.http import within
from macbind.http.operation import Operation, Question
from macbind.http.queries import MAX_PAGE
from macbind.http.schemas import Address, Parameters
from macbind.service.maps import Maps

MAX_BLOCKS, MAX_RUNS = 65_536, 20_000


class MapQuery(Parameters):
    """Which part of a map, and how many runs of it."""

    first: Address | None = Field(default=None, description="only from this address on")
    last: Address | None = Field(default=None, description="only up to this address")
    limit: int = Field(default=MAX_PAGE, ge=1, le=MAX_RUNS)


class BlocksQuery(Parameters):
    """Which part of a map, and how many blocks at most."""

    first: Address | None = Field(default=None, description="only from this address on")
    last: Address | None = Field(default=None, description="only up to this address")
    most: int = Field(default=4096, ge=2, le=MAX_BLOCKS)


def operations(maps: Maps) -> list[Operation]:
    """The operations."""
    return [
        Question(
            "/v1/pools/{name}/map",
            "What the addresses of a pool are, as runs, in pages",
            MapQuery,
            codec.MAP,
            lambda asked: maps.runs(asked.name, **dict(asked.given)),
            within=within.itself,
        ),
        Question(
            "/v1/pools/{name}/blocks",
            "What the addresses of a pool are, counted by blocks of equal size",
            BlocksQuery,
            codec.BLOCKS,
            lambda asked: maps.blocks(asked.name, **dict(asked.given)),
            within=within.itself,
        ),
    ]
