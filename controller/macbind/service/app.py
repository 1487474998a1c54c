"""The HTTP API: thin handlers that parse, check who is calling, ask the service and write JSON."""

from __future__ import annotations

import asyncio
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
from starlette.types import Receive, Scope

from macbind import __version__
from macbind.addressing import MacAddress
from macbind.errors import InvalidRequest, InvariantViolation, MacbindError, NotFound
from macbind.model import Allocation, AuditEntry, Move, PoolUsage, Released, Status, Told, check_name
from macbind.service import wire
from macbind.service.addresses import AddressService, Pending
from macbind.service.answers import JSON
from macbind.service.door import Door, Refused, Turns, answer
from macbind.service.limits import Limits
from macbind.service.metrics import CONTENT_TYPE, exposition
from macbind.service.peer import Access, Peer, peer_from
from macbind.service.shortcut import Post, Shortcut

_T = TypeVar("_T")
_log = structlog.get_logger()

_SEE_OPENAPI = "The OpenAPI document is at /openapi.json."
_HURRY_S = 2.0
"""How long a request that waits for dhcpd may go on waiting when the service ends, in seconds."""
_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "model": wire.ErrorBody,
        "description": "The caller's fault; asking again changes nothing. 400: not well formed, or not possible. "
        "403: not permitted. 404: no such pool, allocation or path. 405: no such method. 408: too slow. "
        "409: somebody holds it, or nothing is left. 413, 431: too large.",
    },
    "5XX": {
        "model": wire.ErrorBody,
        "description": "503: a peer's fault, or too much at a time; the same request may succeed later. "
        "500: a defect of macbind.",
    },
}


def _peer(caller: Request) -> Peer:
    return peer_from(caller.scope.get("client"))


async def _known_query(request: Request) -> None:
    """Refuses a misspelt filter, which would otherwise mean: everything."""
    known = {field.alias for field in request.scope["route"].dependant.query_params}
    for name in request.query_params:
        if name not in known:
            hint = f"Known are: {', '.join(sorted(known))}." if known else _SEE_OPENAPI
            raise InvalidRequest(f"There is no query parameter '{name}' here.", hint=hint)


class Deadlines:
    """The requests that wait for dhcpd, so that they can be told to come to an end."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Timeout] = set()

    async def settled(self, pending: Pending[_T], timeout_s: float, receive: Receive) -> _T:
        """The result of a change, for a caller whose end ``receive`` tells.

        Raises:
            DhcpdUnavailable: Not confirmed in time, or the caller is gone; the change stays recorded.
            MacbindError: What was asked for is not possible.
        """
        deadline = asyncio.timeout(timeout_s)
        self._waiting.add(deadline)
        watch = asyncio.create_task(_end_with(receive, deadline))
        try:
            async with deadline:
                return await asyncio.wrap_future(pending.future)
        except TimeoutError:
            if pending.future.done():  # at the very moment
                return pending.future.result()
            raise await run_in_threadpool(pending.give_up) from None
        finally:
            watch.cancel()
            self._waiting.discard(deadline)

    def hurry(self) -> None:
        """The service ends: nobody may wait much longer."""
        latest = asyncio.get_running_loop().time() + _HURRY_S
        for deadline in self._waiting:
            when = deadline.when()
            if when is not None and when > latest:
                deadline.reschedule(latest)


async def _end_with(receive: Receive, deadline: asyncio.Timeout) -> None:
    """Nobody waits for a caller who is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    deadline.reschedule(asyncio.get_running_loop().time())


def create_app(
    service: AddressService,
    access: Access,
    *,
    timeout_s: float,
    limits: Limits,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
) -> FastAPI:
    """Builds the application.

    Args:
        service: Does the work.
        access: Who may read and change.
        timeout_s: How long a request waits for dhcpd if it does not say, in seconds.
        limits: What one client may ask for.
        lifespan: Run around the application's life.
    """
    app = FastAPI(
        title="macbind",
        version=__version__,
        description="Allocates IP addresses with their MACs and makes them real in ISC dhcpd.",
        lifespan=lifespan,
        responses=_ERRORS,
        dependencies=[Depends(_known_query)],
        docs_url=None,  # pages that load their scripts from elsewhere
        redoc_url=None,
    )
    deadlines, turns = Deadlines(), Turns(limits.readers)
    app.state.deadlines = deadlines

    async def settled(pending: Pending[_T], wanted_s: float | None, receive: Receive) -> _T:
        return await deadlines.settled(pending, wanted_s or timeout_s, receive)

    async def told(caller: Request, adapter: TypeAdapter[Any], ask: Callable[[], Any]) -> Response:
        return await turns.run(_peer(caller).uid, lambda: _json(adapter, ask()))

    async def allocated(body: wire.AllocateBody, peer: Peer, receive: Receive) -> Response:
        made = await settled(service.allocate(body.wanted(), str(peer)), body.timeout_s, receive)
        return _json(wire.ALLOCATIONS, wire.AllocationList.model_construct(allocations=made))

    async def released(body: wire.ReleaseBody, peer: Peer, receive: Receive) -> Response:
        body.check()
        pending = service.release(
            str(peer),
            name=body.name,
            group=body.group,
            address=body.address,
            generation=body.generation,
            reason=body.reason,
        )
        return _json(wire.RELEASED, await settled(pending, body.timeout_s, receive))

    posts: dict[str, Post[Any]] = {
        "/v1/allocations": Post(wire.AllocateBody, allocated),
        "/v1/release": Post(wire.ReleaseBody, released),
    }
    app.add_middleware(Shortcut, posts=posts, tell=_tell)
    app.add_middleware(Door, access=access, limits=limits)

    @app.post("/v1/allocations", response_model=wire.AllocationList, summary="Allocate one or several")
    async def allocate(body: wire.AllocateBody, caller: Request) -> Response:
        return await allocated(body, _peer(caller), caller.receive)

    @app.post("/v1/release", response_model=Released, summary="Release by name, group or address")
    async def release(body: wire.ReleaseBody, caller: Request) -> Response:
        return await released(body, _peer(caller), caller.receive)

    @app.post("/v1/reservations", response_model=Allocation, summary="Pin an address")
    async def reserve(body: wire.ReserveBody, caller: Request) -> Response:
        actor = str(_peer(caller))
        pending = service.reserve(body.name, body.address, actor, mac=body.mac, options=body.options)
        return _json(wire.ALLOCATION, (await settled(pending, body.timeout_s, caller.receive))[0])

    @app.delete("/v1/reservations/{name:path}", response_model=Released, summary="End a pinned reservation")
    async def unreserve(
        name: str, caller: Request, timeout_s: Annotated[wire.Timeout, Query()] = None
    ) -> Response:
        pending = service.release(str(_peer(caller)), name=check_name(name), pinned=True)
        return _json(wire.RELEASED, await settled(pending, timeout_s, caller.receive))

    @app.post("/v1/moves", response_model=Move, summary="Take the address a name is to move to")
    async def begin_move(body: wire.MoveBody, caller: Request) -> Response:
        peer = _peer(caller)
        pending = service.begin_move(
            body.name,
            body.to,
            str(peer),
            deadline_s=body.deadline_s,
            mover=peer.mover,
            generation=body.generation,
        )
        old, new = await settled(pending, body.timeout_s, caller.receive)
        return _json(wire.MOVE, Move(old, new))

    @app.post("/v1/moves/finish", response_model=Move, summary="A name has arrived: release its old address")
    async def finish_move(body: wire.FinishMoveBody, caller: Request) -> Response:
        peer = _peer(caller)
        pending = service.finish_move(body.name, body.generation, str(peer), mover=peer.mover)
        return _json(wire.MOVE, await settled(pending, body.timeout_s, caller.receive))

    @app.post("/v1/moves/abort", response_model=Released, summary="Give a move up: release the new address")
    async def abort_move(body: wire.AbortMoveBody, caller: Request) -> Response:
        peer = _peer(caller)
        pending = service.abort_move(body.name, str(peer), generation=body.generation, mover=peer.mover)
        return _json(wire.RELEASED, await settled(pending, body.timeout_s, caller.receive))

    @app.get("/v1/moves", response_model=list[Move], summary="The moves under way")
    async def moves(caller: Request) -> Response:
        return await told(caller, wire.MOVES, service.moves)

    @app.get("/v1/allocations", response_model=wire.AllocationList, summary="List, in pages")
    async def listing(
        caller: Request,
        pool: str | None = None,
        group: str | None = None,
        address: IPv4Address | None = None,
        mac: str | None = None,
        released: bool = False,
        after: IPv4Address | None = None,
        limit: Annotated[int, Query(ge=1, le=wire.MAX_PAGE)] = 500,
    ) -> Response:
        def page() -> wire.AllocationList:
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
            return wire.AllocationList.model_construct(allocations=found, next=following)

        return await told(caller, wire.ALLOCATIONS, page)

    @app.get("/v1/allocations/{name:path}", response_model=Allocation, summary="One allocation")
    async def show(name: str, caller: Request) -> Response:
        return await told(caller, wire.ALLOCATION, lambda: service.get(name))

    @app.get(
        "/v1/told/{name:path}", response_model=Told, summary="What a machine is told: mask, gateway, DNS …"
    )
    async def told_to(name: str, caller: Request) -> Response:
        return await told(caller, wire.TOLD, lambda: service.told(name))

    @app.get("/v1/pools", response_model=list[PoolUsage], summary="All pools in numbers")
    async def pools(caller: Request) -> Response:
        return await told(caller, wire.POOLS, service.pools)

    @app.get("/v1/status", response_model=Status, summary="The service at a glance")
    async def status(caller: Request) -> Response:
        return await told(caller, wire.STATUS, service.status)

    @app.get("/metrics", summary="For Prometheus", response_class=Metrics)
    async def metrics(caller: Request) -> Response:
        return await turns.run(_peer(caller).uid, lambda: Metrics(exposition(service.status)))

    @app.get("/v1/history", response_model=list[AuditEntry], summary="The latest changes, newest first")
    async def history(
        caller: Request,
        address: IPv4Address | None = None,
        name: str | None = None,
        limit: Annotated[int, Query(ge=1, le=wire.MAX_PAGE)] = 100,
    ) -> Response:
        return await told(
            caller, wire.HISTORY, lambda: service.history(address=address, name=name, limit=limit)
        )

    app.add_exception_handler(MacbindError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_defect)
    return app


class Metrics(Response):
    """Prometheus' text format."""

    media_type = CONTENT_TYPE


def _json(adapter: TypeAdapter[Any], value: Any) -> Response:
    # Written by pydantic directly: validating our own values again would cost more than making them.
    return Response(adapter.dump_json(value), media_type=JSON)


def _tell(scope: Scope, error: MacbindError) -> Response:
    if isinstance(error, InvariantViolation):
        _log.critical("defect", path=scope["path"], exc_info=error)
    return answer(error)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MacbindError)
    return _tell(request.scope, error)


async def _on_defect(request: Request, error: Exception) -> Response:
    """The answer to what nobody thought of; the server logs the error itself, with its traceback."""
    what = f"{type(error).__name__} in {request.method} {request.url.path}"
    return answer(
        InvariantViolation(
            f"macbind has met a defect of its own: {what}.", hint="The service's log has more."
        )
    )


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return answer(InvalidRequest(_sentence(error.errors()[0]), hint=_SEE_OPENAPI))


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
    if isinstance(error, Refused):
        return answer(error.error, error.status_code)
    if error.status_code == 404:
        return answer(NotFound(f"There is no {request.url.path} here.", hint=_SEE_OPENAPI))
    told = f"{request.method} {request.url.path}: {error.detail.rstrip('.')}."
    refusal = answer(InvalidRequest(told, hint=_SEE_OPENAPI), error.status_code)
    refusal.headers.update(error.headers or {})  # the Allow of a 405
    return refusal
