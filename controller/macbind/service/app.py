"""The HTTP API: thin handlers that parse, check who is calling, ask the service and write JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from ipaddress import IPv4Address
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from macbind import __version__
from macbind.addressing import MacAddress
from macbind.errors import (
    AddressInUse,
    Conflict,
    InvalidRequest,
    InvariantViolation,
    MacbindError,
    NotFound,
    NotPermitted,
    PeerError,
    PoolExhausted,
    RequestError,
)
from macbind.model import Allocation, AuditEntry, PoolUsage, Released, Status, check_name
from macbind.service import wire
from macbind.service.addresses import AddressService, Pending
from macbind.service.metrics import CONTENT_TYPE, exposition
from macbind.service.peer import Access, Peer, peer_from

_T = TypeVar("_T")
_log = structlog.get_logger()

_SEE_OPENAPI = "The OpenAPI document is at /openapi.json."
_HURRY_S = 2.0
"""How long a request that waits for dhcpd may go on waiting when the service ends, in seconds."""
_STATUS: tuple[tuple[type[MacbindError], int], ...] = (
    (NotFound, 404),
    (NotPermitted, 403),
    (AddressInUse, 409),
    (Conflict, 409),
    (PoolExhausted, 409),
    (RequestError, 400),
    (PeerError, 503),
    (InvariantViolation, 500),
    (MacbindError, 500),
)
_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": wire.ErrorBody, "description": "The caller's fault; asking again changes nothing."},
    "5XX": {"model": wire.ErrorBody, "description": "A peer's fault; the same request may succeed later."},
}


async def _caller(request: Request, *, change: bool) -> Peer:
    peer = peer_from(request.scope.get("client"))
    access: Access = request.app.state.access
    if not access.is_ours(peer):  # a directory of users and groups may take its time
        await run_in_threadpool(access.check, peer, change=change)
    return peer


async def _reader(request: Request) -> Peer:
    return await _caller(request, change=False)


async def _changer(request: Request) -> Peer:
    return await _caller(request, change=True)


# What is asked before each request is not worth a thread of its own, as FastAPI would give a plain function.
async def _known_query(request: Request) -> None:
    """Refuses a misspelt filter, which would otherwise mean: everything."""
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    for name in request.query_params:
        if name not in known:
            hint = f"Known are: {', '.join(sorted(known))}." if known else _SEE_OPENAPI
            raise InvalidRequest(f"There is no query parameter '{name}' here.", hint=hint)


Reader = Annotated[Peer, Depends(_reader)]
Changer = Annotated[Peer, Depends(_changer)]


class BodyLimit:
    """Refuses a body that is larger than any request of ours, before it fills the memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        left = wire.MAX_BODY

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, f"The body has more than {wire.MAX_BODY >> 20} MiB")
            return message

        await self._app(scope, counted, send)


class Deadlines:
    """The requests that wait for dhcpd, so that they can be told to come to an end."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Timeout] = set()

    async def settled(self, pending: Pending[_T], timeout_s: float) -> _T:
        """The result of a change.

        Raises:
            DhcpdUnavailable: Not confirmed in time; the change stays recorded.
            MacbindError: What was asked for is not possible.
        """
        deadline = asyncio.timeout(timeout_s)
        self._waiting.add(deadline)
        try:
            async with deadline:
                return await asyncio.wrap_future(pending.future)
        except TimeoutError:
            if pending.future.done():  # at the very moment
                return pending.future.result()
            raise await run_in_threadpool(pending.give_up) from None
        finally:
            self._waiting.discard(deadline)

    def hurry(self) -> None:
        """The service ends: nobody may wait much longer."""
        latest = asyncio.get_running_loop().time() + _HURRY_S
        for deadline in self._waiting:
            when = deadline.when()
            if when is not None and when > latest:
                deadline.reschedule(latest)


def create_app(
    service: AddressService,
    access: Access,
    *,
    timeout_s: float,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> FastAPI:
    """Builds the application.

    Args:
        service: Does the work.
        access: Who may read and change.
        timeout_s: How long a request waits for dhcpd if it does not say, in seconds.
        lifespan: Run around the application's life.
    """
    app = FastAPI(
        title="macbind",
        version=__version__,
        description="Allocates IP addresses with their MACs and makes them real in ISC dhcpd.",
        lifespan=lifespan,
        responses=_ERRORS,
        dependencies=[Depends(_known_query)],
    )
    deadlines = Deadlines()
    app.state.access, app.state.deadlines = access, deadlines
    app.add_middleware(BodyLimit)

    async def settled(pending: Pending[_T], wanted_s: float | None) -> _T:
        return await deadlines.settled(pending, wanted_s or timeout_s)

    @app.post("/v1/allocations", response_model=wire.AllocationList, summary="Allocate one or several")
    async def allocate(body: wire.AllocateBody, peer: Changer) -> Response:
        made = await settled(service.allocate(body.wanted(), str(peer)), body.timeout_s)
        return _json(wire.ALLOCATIONS, wire.AllocationList.model_construct(allocations=made))

    @app.post("/v1/release", response_model=Released, summary="Release by name, group or address")
    async def release(body: wire.ReleaseBody, peer: Changer) -> Response:
        body.check()
        pending = service.release(
            str(peer),
            name=body.name,
            group=body.group,
            address=body.address,
            generation=body.generation,
            reason=body.reason,
        )
        return _json(wire.RELEASED, await settled(pending, body.timeout_s))

    @app.post("/v1/reservations", response_model=Allocation, summary="Pin an address")
    async def reserve(body: wire.ReserveBody, peer: Changer) -> Response:
        pending = service.reserve(body.name, body.address, str(peer), mac=body.mac, options=body.options)
        return _json(wire.ALLOCATION, (await settled(pending, body.timeout_s))[0])

    @app.delete("/v1/reservations/{name:path}", response_model=Released, summary="End a pinned reservation")
    async def unreserve(
        name: str, peer: Changer, timeout_s: Annotated[wire.Timeout, Query()] = None
    ) -> Response:
        pending = service.release(str(peer), name=check_name(name), pinned=True)
        return _json(wire.RELEASED, await settled(pending, timeout_s))

    @app.get("/v1/allocations", response_model=wire.AllocationList, summary="List, in pages")
    def listing(
        _: Reader,
        pool: str | None = None,
        group: str | None = None,
        address: IPv4Address | None = None,
        mac: str | None = None,
        released: bool = False,
        after: IPv4Address | None = None,
        limit: Annotated[int, Query(ge=1, le=wire.MAX_PAGE)] = 500,
    ) -> Response:
        found = service.page(
            pool=pool,
            group=group,
            address=address,
            mac=None if mac is None else MacAddress.parse(mac),
            released=released,
            after=after,
            limit=limit,
        )
        following = found[-1].address if len(found) == limit else None
        body = wire.AllocationList.model_construct(allocations=found, next=following)
        return _json(wire.ALLOCATIONS, body)

    @app.get("/v1/allocations/{name:path}", response_model=Allocation, summary="One allocation")
    def show(name: str, _: Reader) -> Response:
        return _json(wire.ALLOCATION, service.get(name))

    @app.get("/v1/pools", response_model=list[PoolUsage], summary="All pools in numbers")
    def pools(_: Reader) -> Response:
        return _json(wire.POOLS, service.pools())

    @app.get("/v1/status", response_model=Status, summary="The service at a glance")
    def status(_: Reader) -> Response:
        return _json(wire.STATUS, service.status())

    @app.get("/metrics", summary="For Prometheus")
    def metrics(_: Reader) -> Response:
        return Response(exposition(service.status), media_type=CONTENT_TYPE)

    @app.get("/v1/history", response_model=list[AuditEntry], summary="The latest changes, newest first")
    def history(
        _: Reader,
        address: IPv4Address | None = None,
        name: str | None = None,
        limit: Annotated[int, Query(ge=1, le=wire.MAX_PAGE)] = 100,
    ) -> Response:
        return _json(wire.HISTORY, service.history(address=address, name=name, limit=limit))

    app.add_exception_handler(MacbindError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_defect)
    return app


def _json(adapter: TypeAdapter[Any], value: Any) -> Response:
    # Written by pydantic directly: validating our own values again would cost more than making them.
    return Response(adapter.dump_json(value), media_type="application/json")


def _answer(error: MacbindError, status: int | None = None) -> Response:
    code = status or next(code for kind, code in _STATUS if isinstance(error, kind))
    # As ASCII: a message may quote text that is no Unicode.
    return Response(json.dumps({"error": error.to_dict()}), code, media_type="application/json")


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MacbindError)
    if isinstance(error, InvariantViolation):
        _log.critical("defect", path=request.url.path, exc_info=error)
    return _answer(error)


async def _on_defect(request: Request, error: Exception) -> Response:
    """The answer to what nobody thought of; the server logs the error itself, with its traceback."""
    what = f"{type(error).__name__} in {request.method} {request.url.path}"
    return _answer(
        InvariantViolation(
            f"macbind has met a defect of its own: {what}.", hint="The service's log has more."
        )
    )


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return _answer(InvalidRequest(_sentence(error.errors()[0]), hint=_SEE_OPENAPI))


def _sentence(fault: Mapping[str, Any]) -> str:
    """What pydantic found wrong, as a user of the API would say it."""
    context = fault.get("ctx", {})
    if fault["type"] == "json_invalid":
        return f"The body is not JSON: {context.get('error', '?')} (character {fault['loc'][-1]})."
    where = ".".join(str(part) for part in fault["loc"][1:])
    match fault["type"]:
        case _ if not where:
            return "The body must be a JSON object, sent with Content-Type: application/json."
        case "missing":
            return f"{where} is missing."
        case "extra_forbidden" | "unexpected_keyword_argument":
            return f"There is no parameter {where} here."
        case "text":
            return f"{where} must be a text."
        case "string_pattern_mismatch":
            return f"{where} must not hold control characters."
    message = str(fault["msg"])
    if message.startswith("Input "):
        return f"{where} {message.removeprefix('Input ').replace('should be', 'must be', 1)}."
    return f"{where}: {message}."


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _answer(NotFound(f"There is no {request.url.path} here.", hint=_SEE_OPENAPI))
    told = f"{request.method} {request.url.path}: {error.detail.rstrip('.')}."
    return _answer(InvalidRequest(told, hint=_SEE_OPENAPI), status=error.status_code)
