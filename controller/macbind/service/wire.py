"""The API's request and response bodies. Values are parsed here, once; inside there are only typed values."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict, TypeAdapter
from pydantic_core import PydanticCustomError

from macbind.addressing import MacAddress
from macbind.errors import InvalidOption, InvalidRequest
from macbind.model import (
    MAX_MOVE_S,
    NO_OPTIONS,
    Allocation,
    AuditEntry,
    Move,
    PoolUsage,
    Released,
    Status,
    Told,
    check_name,
)
from macbind.options import DhcpOptions
from macbind.registry.transaction import Wanted

MAX_COUNT = 65_536
"""Allocations per request; some 40 MB of answer."""
MAX_PAGE = 1000
MAX_WAIT_S = 300.0
MAX_TTL_S = 10 * 365 * 86_400.0
"""Ten years: longer than any machine lives, and still a date."""
MAX_GENERATION = (1 << 63) - 1
"""What the database's whole numbers hold."""
_PLAIN = r"^[^\x00-\x1f\x7f]*$"
"""Text for the registry: no control characters (PostgreSQL does not even take a NUL)."""


_LISTS = frozenset(item.name for item in fields(DhcpOptions) if item.default == ())


def _text(value: object) -> object:
    # JSON's numbers and true are no addresses, though IPv4Address would take them for 0.0.0.1 and the like.
    if isinstance(value, str | IPv4Address):
        return value
    raise PydanticCustomError("text", "must be a text")


def _options(value: object) -> object:
    """Reads options as the configuration file and the command line do, so that they get the same errors."""
    if not isinstance(value, dict):
        return value
    for name, one in value.items():
        listed = name in _LISTS
        parts = one if listed else [one]
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts if part or listed):
            raise InvalidOption(
                f"{name}: {one!r} is not a {'list of texts' if listed else 'text'}.",
                hint="Write addresses and routes as texts, as in the configuration file.",
                option=str(name),
            )
    return DhcpOptions.parse(value)


Address = Annotated[IPv4Address, BeforeValidator(_text)]
Mac = Annotated[
    MacAddress, BeforeValidator(lambda value: value if isinstance(value, MacAddress) else _text(value))
]
Options = Annotated[DhcpOptions, BeforeValidator(_options)]
Timeout = Annotated[float | None, Field(gt=0, le=MAX_WAIT_S, description="seconds to wait for dhcpd")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AllocateBody(_Body):
    """One of ``name``, ``names``, and ``group`` with ``count`` (whose members are group-1, group-2 …)."""

    pool: str
    name: str | None = None
    names: list[str] | None = Field(default=None, min_length=1, max_length=MAX_COUNT)
    group: str | None = None
    count: Annotated[int, Strict()] | None = Field(default=None, ge=1, le=MAX_COUNT)
    address: Address | None = Field(default=None, description="this address, not the first unoccupied one")
    options: Options = NO_OPTIONS
    domain: str | None = Field(default=None, max_length=255, pattern=_PLAIN)
    ttl_s: Annotated[float, Strict()] | None = Field(
        default=None, gt=0, le=MAX_TTL_S, description="released by itself after so many seconds"
    )
    timeout_s: Timeout = None

    def wanted(self) -> Wanted:
        """The request as the registry takes it.

        Raises:
            InvalidRequest: The parameters contradict each other.
        """
        given = [self.name is not None, self.names is not None, self.count is not None]
        if sum(given) != 1:
            raise InvalidRequest(
                "An allocation needs exactly one of name, names and count.",
                hint="Give a name for one machine, or a group and a count for several.",
            )
        if self.count is not None and self.group is None:
            raise InvalidRequest(
                "count needs a group.", hint="The group names its members group-1, group-2 …"
            )
        if self.group is not None:
            check_name(self.group, "group")
        if self.name is not None:
            names: tuple[str, ...] = (self.name,)
        elif self.names is not None:
            names = tuple(self.names)
        else:
            names = tuple(f"{self.group}-{number}" for number in range(1, (self.count or 0) + 1))
        if len(set(names)) != len(names):
            raise InvalidRequest("names holds a name twice.", hint="Every machine needs its own name.")
        if self.address is not None and len(names) != 1:
            raise InvalidRequest("An address can be wanted for one machine only.", hint="Leave address out.")
        expires_at = None if self.ttl_s is None else datetime.now(UTC) + timedelta(seconds=self.ttl_s)
        return Wanted(
            pool=self.pool,
            names=names,
            group=self.group,
            address=self.address,
            options=self.options,
            domain=self.domain,
            expires_at=expires_at,
            whole_group=self.count is not None,
        )


class ReleaseBody(_Body):
    """One of ``name``, ``group`` and ``address``."""

    name: str | None = None
    group: str | None = None
    address: Address | None = None
    generation: Annotated[int, Strict()] | None = Field(
        default=None, ge=0, le=MAX_GENERATION, description="only if it is still of this generation"
    )
    reason: str = Field(default="asked", max_length=255, pattern=_PLAIN)
    timeout_s: Timeout = None

    def check(self) -> None:
        """Refuses a body that does not say what to release.

        An empty name is refused, too: it is an unset variable of the caller's, not something long gone.

        Raises:
            InvalidRequest: None or several of name, group and address are given, or what is given can never
                have been a name.
        """
        if sum(value is not None for value in (self.name, self.group, self.address)) != 1:
            raise InvalidRequest(
                "A release needs exactly one of name, group and address.", hint="Name what is to be released."
            )
        if self.name is not None:
            check_name(self.name)
        if self.group is not None:
            check_name(self.group, "group")


class ReserveBody(_Body):
    """A pinned reservation."""

    name: str
    address: Address
    mac: Mac | None = None
    options: Options = NO_OPTIONS
    timeout_s: Timeout = None


Name = Annotated[str, AfterValidator(check_name)]


class MoveBody(_Body):
    """A name, and the address it is to move to."""

    name: Name
    to: Address
    deadline_s: Annotated[float, Strict()] = Field(
        default=300.0,
        gt=0,
        le=MAX_MOVE_S,
        description="after so many seconds it is finished or given up by itself, by what the machine has then",
    )
    generation: Annotated[int, Strict()] | None = Field(
        default=None,
        ge=0,
        le=MAX_GENERATION,
        description="only to go on with the move to the allocation of this generation",
    )
    timeout_s: Timeout = None


class FinishMoveBody(_Body):
    """A move that has been made."""

    name: Name
    generation: Annotated[int, Strict()] = Field(
        ge=0, le=MAX_GENERATION, description="of the allocation that is moved to"
    )
    timeout_s: Timeout = None


class AbortMoveBody(_Body):
    """A move to give up."""

    name: Name
    generation: Annotated[int, Strict()] | None = Field(
        default=None,
        ge=0,
        le=MAX_GENERATION,
        description="only if it moves to the allocation of this generation",
    )
    timeout_s: Timeout = None


class AllocationList(BaseModel):
    """Allocations, and where the next page begins."""

    allocations: list[Allocation]
    next: IPv4Address | None = None


class ErrorDetail(BaseModel):
    """What is wrong, where, and how to mend it."""

    code: str
    message: str
    hint: str
    details: dict[str, Any]


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


ALLOCATIONS = TypeAdapter(AllocationList)
ALLOCATION = TypeAdapter(Allocation)
RELEASED = TypeAdapter(Released)
MOVE = TypeAdapter(Move)
MOVES = TypeAdapter(list[Move])
POOLS = TypeAdapter(list[PoolUsage])
STATUS = TypeAdapter(Status)
TOLD = TypeAdapter(Told)
HISTORY = TypeAdapter(list[AuditEntry])
