"""The API's bodies and queries. Values are parsed here, once; inside there are only typed values."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

from macbind.core.allocation import MAX_LEASE_S, check_name
from macbind.core.dhcp_options import BY_FIELD, NO_OPTIONS, DhcpOptions
from macbind.core.errors import InvalidOption, InvalidRequest
from macbind.core.labels import MAX_LABELS, check_labels, check_wanted
from macbind.core.mac_address import MacAddress
from macbind.core.option_kinds import Kind
from macbind.core.origin import MAX_REASON
from macbind.core.pool import Confirm
from macbind.registry.allocate import Wanted

SEE_OPENAPI = "The OpenAPI document is at /openapi.json."
MAX_COUNT = 65_536
"""Allocations per request; some 40 MB of answer."""
MAX_WAIT_S = 300.0
MAX_TTL_S = 10 * 365 * 86_400.0
"""Ten years: longer than any machine lives, and still a date."""
MAX_GENERATION = (1 << 63) - 1
"""What the database's whole numbers hold."""


def _plain(value: str) -> str:
    # PostgreSQL takes no NUL, and a terminal obeys many of the others.
    if not value.isprintable():
        raise PydanticCustomError("plain", "must not hold control characters")
    return value


Plain = Annotated[str, Field(max_length=255), AfterValidator(_plain)]
"""Text for the registry."""


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
        kind = BY_FIELD[name].kind if name in BY_FIELD else Kind.LABEL
        if kind.is_table or kind is Kind.MTU:
            wanted = dict if kind.is_table else int
            what, fits = f"{'an object' if kind.is_table else 'a number'}", one is None or type(one) is wanted
        else:
            parts = one if kind.is_list else [one]
            what = "a list of texts" if kind.is_list else "a text"
            fits = isinstance(parts, list) and all(
                isinstance(part, str) for part in parts if part or kind.is_list
            )
        if not fits:
            raise InvalidOption(
                f"{name}: {one!r} is not {what}.",
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


DryRun = Annotated[bool, Field(description="only say what would be done; nothing is changed, nobody is told")]
Names = Annotated[list[str], Field(min_length=1, max_length=MAX_COUNT, fail_fast=True)]


def _written_out(value: object) -> object:
    # A number would be taken for seconds since 1970.
    if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\d[Tt ]", value, re.ASCII):
        raise PydanticCustomError("text", "must be a time with its zone, as 2026-11-29T20:00:00Z")
    return value


Since = Annotated[AwareDatetime, BeforeValidator(_written_out)]


class Parameters(BaseModel):
    """What a request may give; anything else is refused."""

    model_config = ConfigDict(extra="forbid")


Reason = Annotated[
    str, Field(max_length=MAX_REASON, description="why, for the audit log"), AfterValidator(_plain)
]
GivenLabels = Annotated[dict[str, str], AfterValidator(check_labels)]


class ChangeParameters(Parameters):
    """What every change takes."""

    reason: Reason | None = None
    timeout_s: Timeout = None


class AllocateBody(ChangeParameters):
    """One of ``name``, ``names``, and ``group`` with ``count`` (whose members are group-1, group-2 …).

    With a header Idempotency-Key the name of one machine may be left out.
    """

    pool: str
    name: str | None = None
    names: Names | None = None
    group: str | None = None
    count: Annotated[int, Strict()] | None = Field(default=None, ge=1, le=MAX_COUNT)
    address: Address | None = Field(default=None, description="this address, not the first unoccupied one")
    options: Options = NO_OPTIONS
    domain: Plain | None = None
    ttl_s: Annotated[float, Strict()] | None = Field(
        default=None, gt=0, le=MAX_TTL_S, description="released by itself after so many seconds"
    )
    labels: GivenLabels = Field(default_factory=dict)
    confirm: Confirm | None = Field(
        default=None, description="how many DHCP servers are waited for; what the pool says by default"
    )
    dry_run: Annotated[DryRun, Strict()] = False

    def wanted(self, key: str | None = None) -> Wanted:
        """The request as the registry takes it.

        Args:
            key: What tells it from all others; it makes a name where none is given.

        Raises:
            InvalidRequest: The parameters contradict each other.
        """
        given = [self.name is not None, self.names is not None, self.count is not None]
        is_named = any(given) or key is None
        if is_named and sum(given) != 1:
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
        if not is_named:
            names: tuple[str, ...] = (f"vm-{key[:12] if key else ''}",)
        elif self.name is not None:
            names = (self.name,)
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
            labels=self.labels,
            request=key,
        )


class ReleaseBody(ChangeParameters):
    """One of ``name``, ``group`` and ``address``."""

    name: str | None = None
    group: str | None = None
    address: Address | None = None
    generation: Annotated[int, Strict()] | None = Field(
        default=None, ge=0, le=MAX_GENERATION, description="only if it is still of this generation"
    )
    dry_run: Annotated[DryRun, Strict()] = False

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


class ReserveBody(ChangeParameters):
    """A reservation."""

    name: str
    address: Address
    mac: Mac | None = None
    options: Options = NO_OPTIONS
    labels: GivenLabels = Field(default_factory=dict)
    dry_run: Annotated[DryRun, Strict()] = False


Name = Annotated[str, AfterValidator(check_name)]


class LabelBody(ChangeParameters):
    """A name, the labels to set, and the keys of those to remove."""

    name: Name
    labels: GivenLabels = Field(default_factory=dict)
    remove: Annotated[list[str], Field(max_length=MAX_LABELS)] = Field(default_factory=list)


class RemarkBody(Parameters):
    """A name, and what is to be said of it in the audit log."""

    name: Name
    reason: Annotated[Reason, Field(min_length=1)]
    timeout_s: Timeout = None


class ReleaseLabelledBody(ChangeParameters):
    """Labels that allocations must have, all of them; null stands for any value."""

    labels: Annotated[
        dict[str, str | None], Field(min_length=1, max_length=MAX_LABELS), AfterValidator(check_wanted)
    ]
    pool: str | None = None


Token = Annotated[
    str, Field(min_length=8, max_length=128, pattern=r"^[!-~]+$", description="the lease's token")
]
LeaseTime = Annotated[
    float,
    Strict(),
    Field(
        gt=0,
        le=MAX_LEASE_S,
        description="after so many seconds anybody may go on with it, or abort it",
    ),
]


class LeaseRenumberBody(ChangeParameters):
    """A renumbering under way, and the token that holds it."""

    name: Name
    token: Token
    lease_s: LeaseTime = 60.0


class RenumberBody(ChangeParameters):
    """A name, its new address, and the token that holds the renumbering; macbind makes one where none is given."""

    name: Name
    to: Address
    token: Token = Field(default_factory=lambda: secrets.token_urlsafe(16))
    lease_s: LeaseTime = 60.0


class EndRenumberBody(ChangeParameters):
    """A renumbering to finish or to abort; without the token only when its lease has expired."""

    name: Name
    token: Token | None = None


class Nothing(Parameters):
    """No parameters."""


class UnreserveQuery(ChangeParameters):
    """How to end a reservation."""

    dry_run: DryRun = False


class ErrorDetail(BaseModel):
    """What is wrong, where, and how to mend it."""

    code: str
    message: str
    hint: str
    details: dict[str, Any]


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


def check_parameters(kind: type[BaseModel], data: object) -> None:
    """Refuses a parameter that there is not, before anything is read: a body may hold a million of them.

    Raises:
        InvalidRequest: It names the first.
    """
    unknown = (
        next((name for name in data if name not in kind.model_fields), None)
        if isinstance(data, dict)
        else None
    )
    if unknown is not None:
        raise InvalidRequest(f"There is no parameter {_shown(str(unknown))} here.", hint=SEE_OPENAPI)


def _shown(name: str) -> str:
    return name[:64] if name.isprintable() else ascii(name[:64])


def sentence(fault: Mapping[str, Any]) -> str:
    """What pydantic found wrong, as a user of the API would say it."""
    where = ".".join(str(part) for part in fault["loc"])
    match fault["type"]:
        case _ if not where:
            return "The body must be a JSON object, sent with Content-Type: application/json."
        case "missing":
            return f"{where} is missing."
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"There is no parameter {where} here."
        case "text" | "plain":
            return f"{where} {fault['msg']}."
    message = str(fault["msg"])
    if message.startswith("Input "):
        return f"{where} {message.removeprefix('Input ').replace('should be', 'must be', 1)}."
    return f"{where}: {message}."
