"""What a request passes before it is looked at, and how users take turns."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import TypeVar

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from macbind.errors import InvalidRequest, MacbindError, ServiceUnavailable
from macbind.service.answers import JSON, body_of, status_of
from macbind.service.limits import Limits
from macbind.service.peer import Access, peer_from

_T = TypeVar("_T")
_READING = ("GET", "HEAD", "OPTIONS")


class Refused(HTTPException):
    """A body is refused while it arrives. An HTTPException, because FastAPI would swallow any other there."""

    def __init__(self, error: MacbindError, status: int) -> None:
        super().__init__(status, error.message)
        self.error = error


class Door:
    """Asks who may come in before more than a piece of the body is read, and bounds what bodies take of the memory.

    Whatever its path, a request that asks needs the permission to read, any other the permission to change.
    """

    def __init__(self, app: ASGIApp, *, access: Access, limits: Limits) -> None:
        self._app, self._access, self._limits = app, access, limits
        self._held: Counter[int] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Before anything that takes time: a request that has arrived is carried out, even if its caller is gone.
        first: Message | None = await receive()
        try:
            peer = peer_from(scope.get("client"))
            change = scope["method"] not in _READING
            if not self._access.is_ours(peer):  # else users and groups are looked up, which may take its time
                await run_in_threadpool(self._access.check, peer, change=change)
        except MacbindError as error:
            await answer(error)(scope, receive, send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal first, size
            message, first = first or await receive(), None
            arrived = len(message.get("body", b""))
            size += arrived
            self._held[peer.uid] += arrived
            self._check(size, self._held[peer.uid])
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self._held[peer.uid] -= size

    def _check(self, size: int, held: int) -> None:
        limits = self._limits
        if size > limits.body_bytes:
            large = InvalidRequest(
                f"The body has more than {limits.body_bytes >> 20} MiB.",
                hint="Ask for less at a time.",
            )
            raise Refused(large, 413)
        if held > limits.bodies_bytes:
            busy = ServiceUnavailable(
                f"Your user's requests have more than {limits.bodies_bytes >> 20} MiB under way.",
                hint="Ask again when the others have been answered.",
            )
            raise Refused(busy, 503)


class Turns:
    """Threads for questions. When all are busy, the users who wait take turns, whoever asks the most.

    Used in the event loop only.
    """

    def __init__(self, threads: int) -> None:
        self._free = threads
        self._waiting: dict[int, deque[anyio.Event]] = {}  # by user, whose turn it is next first

    async def run(self, uid: int, work: Callable[[], _T]) -> _T:
        """The result of ``work``, done in a thread when it is the user's turn."""
        await self._enter(uid)
        try:
            return await run_in_threadpool(work)
        finally:
            self._leave()

    async def _enter(self, uid: int) -> None:
        if self._free:
            self._free -= 1
            return
        turn = anyio.Event()
        self._waiting.setdefault(uid, deque()).append(turn)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():  # it was our turn already
                self._leave()
            else:
                self._forget(uid, turn)
            raise

    def _forget(self, uid: int, turn: anyio.Event) -> None:
        queue = self._waiting[uid]
        queue.remove(turn)
        if not queue:
            del self._waiting[uid]

    def _leave(self) -> None:
        """Gives the thread to whom it is due: the first of the next user."""
        if not self._waiting:
            self._free += 1
            return
        uid, queue = next(iter(self._waiting.items()))
        del self._waiting[uid]
        queue.popleft().set()
        if queue:
            self._waiting[uid] = queue  # behind the others


def answer(error: MacbindError, status: int | None = None) -> Response:
    """The answer that tells an error."""
    return Response(body_of(error), status or status_of(error), media_type=JSON)
