"""The event stream: changes as server-sent events, for readers that may go away and come back.

The ``id`` of an event is the number of the change, so a reader that comes back with ``Last-Event-ID`` has missed
nothing. A reader that does not read is cut: it costs a place, and comes back when it can.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress

import structlog
from starlette.types import Message, Receive, Scope, Send

from macbind.client import codec
from macbind.core.errors import InvalidRequest, MacbindError
from macbind.core.event import Change, FindingsNow
from macbind.core.labels import read_wanted
from macbind.http.limits import Limits
from macbind.http.operation import Asked, Stream
from macbind.http.patience import Patience
from macbind.http.queries import EventsQuery
from macbind.http.schemas import MAX_GENERATION
from macbind.service.events import Batch, EventFeed

_log = structlog.get_logger()

MEDIA_TYPE = "text/event-stream"
_TEXTS = 2000
"""Events that are kept as they are sent."""
_HEADERS = [
    (b"content-type", MEDIA_TYPE.encode()),
    (b"cache-control", b"no-cache"),
    (b"connection", b"close"),
]


def operations(
    feed: EventFeed, patience: Patience, cut: Callable[[int], None], limits: Limits
) -> list[Stream[EventsQuery]]:
    """The operations."""
    texts = _Texts()

    async def serve(asked: Asked[EventsQuery], scope: Scope, receive: Receive, send: Send) -> None:
        position = await feed.start(_after(asked.given, scope))
        end = None if asked.given.follow else await feed.start(None)
        stream = _EventStream(feed, asked.given, limits, send, texts, asked.peer.pools)
        reading = asyncio.create_task(stream.run(position, end))
        leaving = asyncio.create_task(_left(receive))
        ending = asyncio.create_task(patience.ending.wait())
        try:
            await asyncio.wait((reading, leaving, ending), return_when=asyncio.FIRST_COMPLETED)
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
            if not leaving.done() and not await stream.end():
                cut(asked.peer.connection)
                await asyncio.wait((leaving,), timeout=limits.slow_s)
        finally:
            for task in (reading, leaving, ending):
                task.cancel()

    return [
        Stream("/v1/events", "What changes, as server-sent events", EventsQuery, serve, MEDIA_TYPE),
    ]


async def _left(receive: Receive) -> None:
    """Ends when the reader has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _after(given: EventsQuery, scope: Scope) -> int | None:
    """The change after which the reader begins; what a browser sends when it comes back counts first.

    Raises:
        InvalidRequest: The header is no number of a change.
    """
    sent = next((value for name, value in scope["headers"] if name == b"last-event-id"), b"")
    if not sent:
        return given.after
    if not sent.isdigit() or len(sent) > len(str(MAX_GENERATION)) or int(sent) > MAX_GENERATION:
        raise InvalidRequest(
            f"Last-Event-ID must be the id of an event, not {sent[:64].decode(errors='replace')!r}.",
            hint="Send the id that came last, or none.",
        )
    return int(sent)


class _Texts:
    """Changes as events, each written once for all readers that are given it at about the same time."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}

    def of(self, change: Change) -> bytes:
        """The change as an event."""
        text = self._known.get(change.id)
        if text is None:
            if len(self._known) >= _TEXTS:
                self._known.clear()
            text = b"id: %d\nevent: change\ndata: %b\n\n" % (change.id, codec.CHANGE.dump_json(change))
            self._known[change.id] = text
        return text


class _EventStream:
    """One answer."""

    def __init__(
        self,
        feed: EventFeed,
        given: EventsQuery,
        limits: Limits,
        send: Send,
        texts: _Texts,
        pools: frozenset[str] | None,
    ) -> None:
        self._feed, self._given, self._limits, self._send = feed, given, limits, send
        self._texts, self._pools = texts, pools
        self._labels = read_wanted(given.label)
        self._is_whole = True  # nobody is in the middle of sending

    async def run(self, position: int, end: int | None) -> None:
        """Sends until the reader is too slow, the registry cannot be used, or everything up to ``end`` is sent."""
        given = self._given
        is_part = given.pool or given.name or given.group or given.label or self._pools is not None
        findings = end is None and not is_part
        try:
            await self._put({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await self._tell(b"id: %d\n\n" % position)
            with self._feed.reader(position, findings=findings) as reader:
                while end is None or reader.position < end:
                    batch = await reader.next(self._limits.heartbeat_s)
                    await self._tell(self._written(batch))
            await self._tell(b"event: end\ndata: {}\n\n")  # else it would look like a connection that broke
        except TimeoutError:
            _log.info("slow reader", position=position)
        except MacbindError as error:
            _log.warning("events", problem=error.message)

    async def _tell(self, text: bytes) -> None:
        await self._put({"type": "http.response.body", "body": text, "more_body": True})

    async def end(self) -> bool:
        """Ends the answer in order; False if the reader does not take even that."""
        if not self._is_whole:
            return False
        try:
            await self._put({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            return False
        return True

    async def _put(self, message: Message) -> None:
        self._is_whole = False
        async with asyncio.timeout(self._limits.slow_s):
            await self._send(message)
        self._is_whole = True

    def _written(self, batch: Batch) -> bytes:
        """A batch as events. The last line says where to go on from, whatever was left out."""
        parts = []
        if batch.gap is not None:
            data = json.dumps({"after": batch.gap.after, "oldest": batch.gap.oldest})
            parts.append(f"id: {batch.gap.oldest - 1}\nevent: gap\ndata: {data}\n\n".encode())
        parts += [self._texts.of(one) for one in batch.changes if self._is_wanted(one)]
        if batch.findings is not None:
            data_bytes = codec.FINDINGS_NOW.dump_json(FindingsNow(batch.findings))
            parts.append(b"event: findings\ndata: %b\n\n" % data_bytes)
        parts.append(b"id: %d\n\n" % batch.position)
        return b"".join(parts)

    def _is_wanted(self, one: Change) -> bool:
        given = self._given
        return (
            (self._pools is None or one.pool in self._pools)
            and (given.pool is None or one.pool == given.pool)
            and (given.name is None or one.name == given.name)
            and (given.group is None or one.group == given.group)
            and (not self._labels or one.has_labels(self._labels))
        )
