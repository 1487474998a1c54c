"""The API's queries: what may be asked of pages, changes, events and reasons."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from macbind.core.allocation import check_name
from macbind.core.errors import InvalidRequest
from macbind.core.labels import read_wanted
from macbind.core.sizes import Sizes
from macbind.http.schemas import MAX_GENERATION, MAX_TTL_S, Address, Mac, Parameters, Plain, Since, Timeout
from macbind.registry.awaited import Meant, Until

MAX_PAGE = Sizes().page
MAX_NAMES = 4000
"""Characters of the names in a query: a URL has at most 64 KiB, and each of them may take twelve bytes there."""


LabelQuery = Annotated[
    list[str],
    Field(
        description="only what has all of these labels: key=value, or key for any value",
    ),
]


def criteria(given: Parameters) -> dict[str, Any]:
    """What a query asks for, with its labels read.

    Raises:
        InvalidLabel: One of them is no label.
    """
    found = dict(given)
    return found | {"labels": read_wanted(found.pop("label"))}


class ListQuery(Parameters):
    """Which allocations, and which page of them."""

    pool: str | None = None
    group: Plain | None = None
    address: Address | None = None
    mac: Mac | None = None
    released: bool = False
    unclaimed: bool = Field(default=False, description="only those that no domain was seen to use")
    label: LabelQuery = Field(default_factory=list)
    idle_s: float | None = Field(
        default=None,
        gt=0,
        le=MAX_TTL_S,
        description="only those of which nothing was seen for so many seconds",
    )
    q: Plain | None = Field(
        default=None,
        min_length=1,
        description="only those with this text in name, group, domain, address or MAC, which may have any spelling",
    )
    after: Address | None = None
    limit: int = Field(default=500, ge=1, le=MAX_PAGE)


class FreeQuery(Parameters):
    """Which page of a pool's free space."""

    after: Address | None = None
    limit: int = Field(default=500, ge=1, le=MAX_PAGE)


class HistoryQuery(Parameters):
    """Which changes."""

    address: Address | None = None
    name: Plain | None = None
    pool: Plain | None = None
    actor: Plain | None = Field(default=None, description="a user's name stands for all its processes")
    action: Plain | None = None
    request: Plain | None = Field(default=None, description="only of the request with this id")
    label: LabelQuery = Field(default_factory=list)
    since: Since | None = Field(default=None, description="only from this time on, with its time zone")
    limit: int = Field(default=100, ge=1, le=MAX_PAGE)


class EventsQuery(Parameters):
    """Which changes, and from where on."""

    after: int | None = Field(
        default=None,
        ge=0,
        le=MAX_GENERATION,
        description="only what came after the change of this number; by default what comes from now on. A header "
        "Last-Event-ID counts first",
    )
    pool: str | None = None
    name: Plain | None = None
    group: Plain | None = None
    label: LabelQuery = Field(default_factory=list)
    follow: bool = Field(default=True, description="false: end when all that is there has been sent")


class WaitQuery(Parameters):
    """What is waited for."""

    names: Annotated[
        str,
        Field(
            min_length=1, max_length=MAX_NAMES, description="names of allocations, with commas between them"
        ),
    ]
    until: Until
    generation: int | None = Field(
        default=None,
        ge=0,
        le=MAX_GENERATION,
        description="of the allocation that is meant; for one name only",
    )
    any: bool = Field(default=False, description="whether one of the names is enough")
    timeout_s: Timeout = None

    def meant(self) -> list[Meant]:
        """The names, each with the generation that is meant.

        Raises:
            InvalidRequest: One can be no name, or a generation is given for several.
        """
        names = list(dict.fromkeys(check_name(one) for one in self.names.split(",")))
        if self.generation is not None and len(names) != 1:
            raise InvalidRequest(
                "A generation belongs to one name.", hint="Wait for one name, or leave it out."
            )
        return [(one, self.generation) for one in names]


class WhyQuery(Parameters):
    """What is to be explained."""

    q: Plain = Field(description="an address (IPv4 or IPv6), a MAC, a name, or a domain's name or UUID")
