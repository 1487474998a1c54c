"""The HTTP API as one ASGI application: access control, then the operation of the path.

Over TLS another access control stands before the same router: :mod:`macbind.http.api_access`.

::

    AccessMiddleware ─► Router ─► Endpoint ─► Question: a thread of the fair pool ─► use case
                                           └► Change: the event loop, until the deadline ─► use case
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from macbind.core.errors import NotFound
from macbind.http.access import Access, AccessMiddleware, Peer, peer_from
from macbind.http.fair_threads import FairThreadPool
from macbind.http.limits import Limits
from macbind.http.openapi import document
from macbind.http.operation import Endpoint, Operation, Question
from macbind.http.patience import Patience
from macbind.http.schemas import SEE_OPENAPI, Nothing
from macbind.service.meters import NO_OPERATION, Meters


def create_router(
    operations: Sequence[Operation],
    *,
    timeout_s: Callable[[], float],
    limits: Limits,
    patience: Patience,
    meters: Meters,
    lifespan: Callable[[Router], AbstractAsyncContextManager[None]] | None = None,
    who: Callable[[Scope], Peer] = lambda scope: peer_from(scope.get("client")),
) -> Router:
    """Builds the application without its access control.

    Args:
        operations: What can be asked for.
        timeout_s: How long a change waits for DHCP servers if the caller does not say, in seconds.
        limits: What one client may ask for.
        patience: Who waits, to be hurried when the service ends.
        meters: Counts requests.
        lifespan: Run around the application's life.
        who: Tells from the scope of a request who asks.
    """
    described = document(operations)
    about = Question(
        "/openapi.json", "This document", Nothing, None, lambda _: described, within=lambda found, _: found
    )
    by_path: dict[str, dict[str, Operation]] = defaultdict(dict)
    for one in (*operations, about):
        by_path[one.path][one.method] = one
    threads = FairThreadPool(limits.readers)
    routes = [
        Route(path, Endpoint(methods, limits, timeout_s, patience, threads, meters, who))
        for path, methods in by_path.items()
    ]
    return Router(routes, redirect_slashes=False, default=_nowhere, lifespan=lifespan)


def create_app(
    operations: Sequence[Operation],
    access: Access,
    *,
    timeout_s: Callable[[], float],
    limits: Limits,
    patience: Patience,
    meters: Meters,
    lifespan: Callable[[Router], AbstractAsyncContextManager[None]] | None = None,
) -> ASGIApp:
    """Builds the application of the Unix socket; ``access`` says who may read and change."""
    router = create_router(
        operations, timeout_s=timeout_s, limits=limits, patience=patience, meters=meters, lifespan=lifespan
    )
    return AccessMiddleware(router, access, patience, meters.request(NO_OPERATION, timed=False))


async def _nowhere(scope: Scope, _: Receive, __: Send) -> None:
    raise NotFound(f"There is no {scope['path']} here.", hint=SEE_OPENAPI)
