"""The page: its files, and the few operations of the API that it uses, as one ASGI application of its own.

::

    PageAccess ─► Router ─► files of the page
                        └─► Endpoint: the same operations as over the socket, with few threads of its own
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from ipaddress import IPv4Address
from typing import Annotated

from pydantic import BeforeValidator, Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from macbind.core.errors import InvalidRequest, NotFound
from macbind.core.findings import Status
from macbind.core.page_token import May
from macbind.http import within
from macbind.http.errors import Refused
from macbind.http.fair_threads import FairThreadPool
from macbind.http.limits import Limits
from macbind.http.operation import Asked, Endpoint, Operation, Question
from macbind.http.page_access import PagePeer, page_peer
from macbind.http.patience import Patience
from macbind.http.schemas import Address, Nothing, Parameters
from macbind.service.maps import Maps
from macbind.service.meters import Meters
from macbind.service.status import StatusReport
from macbind.service.table import Table, TablePage
from macbind.service.trends import PoolTrend, Trends

LIMITS = Limits(body_bytes=64 << 10, heartbeat_s=5.0, readers=2)
"""What a page may ask for. It releases one name at a time, and notices soon that it is cut off."""
MAX_ROWS, MAX_ADDRESSES = 10_000, 200
"""Rows in one answer, and addresses in one question."""
_WRITES = {("POST", "/v1/release")}
_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class About:
    """What a page knows of itself and of the service.

    Attributes:
        token: The id of the token it has; None without one.
        may: What it may.
        status: The service at a glance.
        trends: The last hour of each pool.
        bounds: The lowest and the highest address of each pool's map.
    """

    token: str | None
    may: May
    status: Status
    trends: list[PoolTrend]
    bounds: dict[str, tuple[IPv4Address, IPv4Address]]


class RowsQuery(Parameters):
    """Which rows of the table; addresses have commas between them."""

    pool: str
    addresses: (
        Annotated[
            list[Address],
            Field(max_length=MAX_ADDRESSES),
            BeforeValidator(lambda text: text.split(",")),
        ]
        | None
    ) = None
    after: Address | None = None
    limit: int = Field(default=MAX_ROWS, ge=1, le=MAX_ROWS)


def about(report: StatusReport, trends: Trends, maps: Maps) -> Question[Nothing]:
    """What the page asks again and again."""

    def ask(asked: Asked[Nothing]) -> About:
        peer = asked.peer
        assert isinstance(peer, PagePeer)
        status = report.status()
        if peer.pools is not None:
            status = within.status(status, asked)
        known = {one.pool for one in status.pools}
        bounds = {pool: ends for pool, ends in maps.bounds().items() if pool in known}
        return About(peer.token or None, peer.may, status, trends.of(status.pools), bounds)

    return Question(
        "/v1/page",
        "What the page may do, the service, and its last hour",
        Nothing,
        TypeAdapter(About),
        ask,
        within=within.itself,
    )


def rows(table: Table) -> Question[RowsQuery]:
    """The table's rows, in an answer as small as can be."""
    return Question(
        "/v1/page/rows",
        "The allocations of a pool as arrays, in large pages",
        RowsQuery,
        TypeAdapter(TablePage),
        lambda asked: table.page(**dict(asked.given)),
        within=within.itself,
    )


def _is_of_the_page(one: Operation) -> bool:
    """Everything that reads, and releasing; waiting is for programs."""
    return (one.method, one.path) in _WRITES or (
        one.method == "GET" and one.path not in ("/v1/wait", "/metrics")
    )


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    tag: str


def _files() -> Mapping[str, _File]:
    """The page's files by their paths."""
    found = {}
    for one in files("macbind").joinpath("page").iterdir():
        kind = one.name.rpartition(".")[2]
        if kind in _TYPES:
            content = one.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            path = "/" if one.name == "index.html" else f"/page/{one.name}"
            found[path] = _File(content, _TYPES[kind], tag)
    return found


class Page:
    """The application behind its access control.

    Args:
        operations: What can be asked for over the socket; the page uses some of it.
        timeout_s: How long a change waits for DHCP servers if the page does not say, in seconds.
        patience: Who waits, to be hurried when the service ends.
        meters: Counts requests.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        *,
        timeout_s: Callable[[], float],
        patience: Patience,
        meters: Meters,
    ) -> None:
        self._files = _files()
        by_path: dict[str, dict[str, Operation]] = defaultdict(dict)
        for one in filter(_is_of_the_page, operations):
            by_path[one.path][one.method] = one
        threads = FairThreadPool(LIMITS.readers)
        routes = [
            Route(path, Endpoint(methods, LIMITS, timeout_s, patience, threads, meters, page_peer))
            for path, methods in by_path.items()
        ]
        routes += [Route(path, self._file, methods=["GET"]) for path in self._files]
        self._router: ASGIApp = Router(routes, redirect_slashes=False, default=_nowhere)

    def is_public(self, path: str) -> bool:
        """Whether a path is a file of the page, which has no data in it."""
        return path in self._files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] == "http":
            await self._router(scope, receive, send)

    async def _file(self, request: Request) -> Response:
        file = self._files[request.url.path]
        headers = {"etag": file.tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.media_type, headers=headers)


async def _nowhere(scope: Scope, _: Receive, __: Send) -> None:
    if scope["method"] not in ("GET", "HEAD"):
        error = InvalidRequest(f"The page cannot {scope['method']} {scope['path']}.", hint="Use the socket.")
        raise Refused(error, 405)
    raise NotFound(f"There is no {scope['path']} here.", hint="The page is at /.")
