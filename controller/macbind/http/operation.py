"""One path for a request: read what is given, ask the use case, write the answer as JSON.

A router lists operations: method, path, what may be given, and the use case. ``app`` makes Starlette routes of
them, and ``openapi`` the document, from the same list.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from macbind.core.errors import InvalidRequest, NotPermitted
from macbind.core.origin import Origin, key_of, request_id
from macbind.http.access import METER, Peer, peer_from
from macbind.http.errors import JSON, Refused
from macbind.http.fair_threads import FairThreadPool
from macbind.http.limits import Limits
from macbind.http.patience import Patience
from macbind.http.schemas import SEE_OPENAPI, Nothing, check_parameters, sentence
from macbind.service.meters import Meters
from macbind.service.waiting import Deadline

_REPEATED = "label"
"""The parameter that a query may have several times."""
_T = TypeVar("_T")
_Given = TypeVar("_Given", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Asked(Generic[_Given]):
    """What somebody asks for.

    Attributes:
        given: The body, or the parameters of the query.
        peer: Who asks.
        name: The name in the path, if it has one.
        request: The id of the request, for the audit log.
        key: What tells it from all others, if its caller has given it a key.
    """

    given: _Given
    peer: Peer
    name: str
    request: str = ""
    key: str | None = None

    @property
    def origin(self) -> Origin:
        """Who asks, in which request and why, for the audit log."""
        reason = getattr(self.given, "reason", None) or None
        return Origin(str(self.peer), self.request or None, reason, self.peer.pools)


@dataclass(frozen=True)
class Question(Generic[_Given]):
    """An operation that only reads. It runs in a thread.

    Attributes:
        path: The path, as Starlette writes it.
        summary: One sentence for the OpenAPI document.
        given: The parameters of its query.
        answer: Writes the result; None where ``ask`` returns bytes of ``media_type``.
        ask: The use case.
        media_type: Of the answer.
        within: Cuts a result to what a caller may see who is limited to pools; None: such a caller may not ask.
    """

    path: str
    summary: str
    given: type[_Given]
    answer: TypeAdapter[Any] | None
    ask: Callable[[Asked[_Given]], Any]
    media_type: str = JSON
    method: str = "GET"
    within: Callable[[Any, Asked[_Given]], Any] | None = None


@dataclass(frozen=True)
class Change(Generic[_Given]):
    """An operation that changes things, or waits for others to do so.

    It ends when the use case does, or when the caller's patience does.

    Attributes:
        method: POST with a body, or DELETE or GET with a query.
        path: The path, as Starlette writes it.
        summary: One sentence for the OpenAPI document.
        given: The body, or the parameters of the query.
        answer: Writes the result.
        make: The use case.
    """

    method: str
    path: str
    summary: str
    given: type[_Given]
    answer: TypeAdapter[Any]
    make: Callable[[Asked[_Given], Deadline], Coroutine[Any, Any, Any]]
    media_type: str = JSON


@dataclass(frozen=True)
class Stream(Generic[_Given]):
    """An operation that answers for as long as the caller reads.

    Attributes:
        path: The path, as Starlette writes it.
        summary: One sentence for the OpenAPI document.
        given: The parameters of its query.
        serve: Sends the answer; what it raises before it has begun is answered.
        media_type: Of the answer.
    """

    path: str
    summary: str
    given: type[_Given]
    serve: Callable[[Asked[_Given], Scope, Receive, Send], Coroutine[Any, Any, None]]
    media_type: str
    method: str = "GET"
    answer: TypeAdapter[Any] | None = None


Operation = Question[Any] | Change[Any] | Stream[Any]


def name_of(operation: Operation) -> str:
    """An operation's name: method and path, as the OpenAPI document has them."""
    return f"{operation.method} {plain_path(operation.path)}"


def plain_path(path: str) -> str:
    """A path as OpenAPI writes it, without Starlette's convertors."""
    return re.sub(r"{(\w+):\w+}", r"{\1}", path)


class Endpoint:
    """The operations of one path.

    Args:
        operations: By method.
        limits: What one client may ask for.
        timeout_s: How long a change waits for DHCP servers if the caller does not say, in seconds; asked each time.
        patience: Who waits.
        threads: Where questions are answered.
        meters: Counts requests.
        who: Tells from the scope of a request who asks.
    """

    def __init__(
        self,
        operations: Mapping[str, Operation],
        limits: Limits,
        timeout_s: Callable[[], float],
        patience: Patience,
        threads: FairThreadPool,
        meters: Meters,
        who: Callable[[Scope], Peer] = lambda scope: peer_from(scope.get("client")),
    ) -> None:
        self._meters = {
            method: meters.request(name_of(one), timed=not isinstance(one, Stream))
            for method, one in operations.items()
        }
        self._operations, self._limits, self._timeout_s = operations, limits, timeout_s
        self._patience, self._threads, self._who = patience, threads, who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        meter = self._meters.get(scope["method"])
        if meter is not None:
            scope[METER] = meter
        await self._handle(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = self._operations.get(scope["method"])
        if operation is None:
            error = InvalidRequest(
                f"{scope['method']} {scope['path']}: Method Not Allowed.", hint=SEE_OPENAPI
            )
            raise Refused(error, 405, {"Allow": ", ".join(sorted(self._operations))})
        if operation.method == "POST":
            _validated(Nothing, _query(scope))
            given = _validated(operation.given, _parsed(scope, await self._body(receive)))
        else:
            given = _validated(operation.given, _query(scope))
        request = request_id(_header(scope, b"x-request-id")) if isinstance(operation, Change) else ""
        peer, sent = self._who(scope), _header(scope, b"idempotency-key")
        key = None if sent is None or operation.method != "POST" else key_of(str(peer.share), sent)
        asked = Asked(given, peer, scope["path_params"].get("name", ""), request, key)
        if isinstance(operation, Stream):
            await operation.serve(asked, scope, receive, send)
            return
        if isinstance(operation, Question):
            content = await self._threads.run(asked.peer.share, lambda: _answered(operation, asked))
        else:
            content = written(operation.answer, await self._made(operation, asked, receive))
        headers = {"X-Request-ID": request} if request else None
        await Response(content, headers=headers, media_type=operation.media_type)(scope, receive, send)

    async def _made(self, change: Change[Any], asked: Asked[Any], receive: Receive) -> Any:
        """The result of a change, for a caller whose end ``receive`` tells."""
        with self._patience.deadline(asked.given.timeout_s or self._timeout_s()) as deadline:
            watch = asyncio.create_task(_end_with(receive, deadline))
            try:
                return await deadline.attend(change.make(asked, deadline))
            finally:
                watch.cancel()

    async def _body(self, receive: Receive) -> bytes:
        """The whole body.

        Raises:
            Refused: It is too large, or was not complete in time.
            ClientDisconnect: What has arrived is not what was to be asked.
        """
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            async with self._patience.reading():
                return await self._whole(bytearray(body), receive)
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        return self._within(body)

    async def _whole(self, body: bytearray, receive: Receive) -> bytes:
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            self._within(body)
            if not message.get("more_body"):
                return bytes(body)
        raise ClientDisconnect

    def _within(self, body: _T) -> _T:
        if len(body) > self._limits.body_bytes:  # type: ignore[arg-type]
            error = InvalidRequest(
                f"The body has more than {self._limits.body_bytes >> 20} MiB.",
                hint="Ask for less at a time.",
            )
            raise Refused(error, 413)
        return body


async def _end_with(receive: Receive, deadline: Deadline) -> None:
    """Nobody waits for a caller who is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    deadline.end()


def _answered(question: Question[Any], asked: Asked[Any]) -> bytes:
    if asked.peer.pools is not None:
        check_within(question, asked)
    result = question.ask(asked)
    if asked.peer.pools is not None and question.within is not None:
        result = question.within(result, asked)
    return result if question.answer is None else written(question.answer, result)


def check_within(operation: Question[Any], asked: Asked[Any]) -> None:
    """Refuses what a caller may not ask who is limited to pools.

    Raises:
        NotPermitted: It is about another pool, or about all of them.
    """
    pools = asked.peer.pools or frozenset()
    if operation.within is None:
        raise NotPermitted(
            f"{asked.peer} may not ask this: it is limited to pools.", hint="Use a token without `--pool`."
        )
    named = asked.name if operation.path.startswith("/v1/pools/{") else getattr(asked.given, "pool", None)
    if named is not None and named not in pools:
        raise NotPermitted(
            f"{asked.peer} may not use the pool '{named}'.",
            hint=f"Its pools are: {', '.join(sorted(pools))}.",
        )


def written(adapter: TypeAdapter[Any], value: Any) -> bytes:
    """A result as JSON. Our own values need no second validation, which would cost more than making them."""
    return adapter.dump_json(value)


def _query(scope: Scope) -> dict[str, Any]:
    if not scope["query_string"]:
        return {}
    params = QueryParams(scope["query_string"])
    found: dict[str, Any] = dict(params)
    if _REPEATED in found:
        found[_REPEATED] = params.getlist(_REPEATED)
    return found


def _header(scope: Scope, name: bytes) -> str | None:
    value = next((value for key, value in scope["headers"] if key == name), None)
    return None if value is None else value.decode(errors="replace")


def _parsed(scope: Scope, body: bytes) -> Any:
    """The JSON of a body.

    Raises:
        InvalidRequest: It is none.
    """
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    if not body or kind.partition(b";")[0].strip().lower() != b"application/json":
        raise InvalidRequest(
            "The body must be a JSON object, sent with Content-Type: application/json.", hint=SEE_OPENAPI
        )
    try:
        return json.loads(body)
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            f"The body is not JSON: {error.msg} (character {error.pos}).", hint=SEE_OPENAPI
        ) from error
    except (ValueError, RecursionError) as error:  # no text, a number without end, too many brackets
        raise InvalidRequest(
            f"macbind fails in parsing the body: {type(error).__name__}.", hint=SEE_OPENAPI
        ) from error


def _validated(kind: type[_Given], data: Any) -> _Given:
    check_parameters(kind, data)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise InvalidRequest(sentence(fault), hint=SEE_OPENAPI) from error
