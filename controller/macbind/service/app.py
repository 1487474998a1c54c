"""The HTTP API: thin handlers that parse, check who is calling, ask the service and write JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from ipaddress import IPv4Address
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

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
from macbind.model import Allocation, AuditEntry, PoolUsage, Released, Status
from macbind.service import wire
from macbind.service.addresses import AddressService, Pending
from macbind.service.peer import Access, Peer, peer_from

_T = TypeVar("_T")
_log = structlog.get_logger()

_SEE_OPENAPI = "The OpenAPI document is at /openapi.json."
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


def _caller(request: Request, *, change: bool) -> Peer:
    peer = peer_from(request.scope.get("client"))
    access: Access = request.app.state.access
    access.check(peer, change=change)
    return peer


def _reader(request: Request) -> Peer:
    return _caller(request, change=False)


def _changer(request: Request) -> Peer:
    return _caller(request, change=True)


Reader = Annotated[Peer, Depends(_reader)]
Changer = Annotated[Peer, Depends(_changer)]


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
    )

    app.state.access = access

    async def settled(pending: Pending[_T], wanted_s: float | None) -> _T:
        try:
            return await asyncio.wait_for(asyncio.wrap_future(pending.future), wanted_s or timeout_s)
        except TimeoutError:
            raise await run_in_threadpool(pending.give_up) from None

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
        pending = service.release(str(peer), name=name, pinned=True)
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
    return app


def _json(adapter: TypeAdapter[Any], value: Any) -> Response:
    # Written by pydantic directly: validating our own values again would cost more than making them.
    return Response(adapter.dump_json(value), media_type="application/json")


def _answer(error: MacbindError, status: int | None = None) -> JSONResponse:
    code = status or next(code for kind, code in _STATUS if isinstance(error, kind))
    return JSONResponse({"error": error.to_dict()}, status_code=code)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MacbindError)
    if isinstance(error, InvariantViolation):
        _log.critical("defect", path=request.url.path, exc_info=error)
    return _answer(error)


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return _answer(InvalidRequest(f"{where or 'The request'}: {first['msg']}.", hint=_SEE_OPENAPI))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _answer(
            NotFound(
                f"There is no {request.url.path} here.", hint="The OpenAPI document is at /openapi.json."
            )
        )
    return _answer(
        InvalidRequest(f"{request.method} {request.url.path}: {error.detail}."), status=error.status_code
    )
