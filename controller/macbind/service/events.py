"""The event feed: reads the audit log once for all who follow it.

Every reader has a position, the number of the last change it was given. What is newer it takes from the latest
changes, which all readers share, or from the audit log if it is further behind. So nobody misses anything, however
slow it is, and a reader costs no memory. The feed looks after each commit, and now and then: another controller
writes to the same registry.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import structlog

from macbind.core.errors import InvalidRequest, MacbindError
from macbind.core.event import Change, Gap
from macbind.core.findings import Finding
from macbind.registry.changes import Log, changes, newest
from macbind.registry.store import Registry
from macbind.registry.transaction import View
from macbind.service.waiting import call_in

_T = TypeVar("_T")
_log = structlog.get_logger()

NOT_YET = -1
"""Stands for the numbers of changes that were not read yet."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much the feed keeps and reads, and how often; the defaults are right, other values are for tests.

    Attributes:
        latest: Changes that are kept for all readers.
        look: Changes that are read at a time.
        page: Changes that one reader is given at a time.
        look_s: How often the registry is looked at without a reason, in seconds.
        findings_s: How often the findings are looked at, in seconds.
        reader_s: The least time between two looks for each reader: 200 readers are told 10 times a second at most.
    """

    latest: int = 10_000
    look: int = 1000
    page: int = 200
    look_s: float = 0.5
    findings_s: float = 2.0
    reader_s: float = 0.0005


@dataclass(frozen=True, slots=True)
class Batch:
    """What a reader is given.

    Attributes:
        position: From here it goes on.
        version: Of the findings that it has; None if it wants none.
        changes: The changes after its old position, and up to the new one.
        gap: What is missing before them.
        findings: All findings, if they have changed.
    """

    position: int
    version: int | None
    changes: tuple[Change, ...] = ()
    gap: Gap | None = None
    findings: tuple[Finding, ...] | None = None


class Changed:
    """Wakes everybody in the event loop who waits for something to change. Any thread may notify.

    Attributes:
        listener: Called at once, in the thread that notifies.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._is_called = False
        self.listener: Callable[[], object] = lambda: None

    def notify(self) -> None:
        """Something may have changed; costs nothing while nobody waits."""
        self.listener()
        loop = self._loop
        if self._waiting and loop is not None and not self._is_called:
            self._is_called = True
            call_in(loop, self._wake)

    def _wake(self) -> None:
        self._is_called = False
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    @contextmanager
    def noted(self) -> Iterator[asyncio.Future[None]]:
        """A future that is done when something changes from now on. Look after you have it, then wait for it."""
        self._loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting.add(future)
        try:
            yield future
        finally:
            self._waiting.discard(future)


class EventFeed:
    """Gives readers what has changed. Used in the event loop only.

    Args:
        registry: Has the audit log.
        findings: All findings now.
        changed: Notified after each commit.
        pace: How much, and how often.
    """

    def __init__(
        self,
        registry: Registry,
        findings: Callable[[], tuple[Finding, ...]],
        changed: Changed,
        pace: Pace = Pace(),
    ) -> None:
        self._pace = pace
        self._registry, self._ask_findings, self._changed = registry, findings, changed
        self._news = Changed()
        self._readers = 0
        self._task: asyncio.Task[None] | None = None
        self._latest: list[Change] = []
        self._ids: list[int] = []
        self._floor = self._newest = NOT_YET  # the latest are all after the one, and up to the other
        self._findings: tuple[Finding, ...] = ()
        self._version = 0

    async def start(self, after: int | None) -> int:
        """Where a reader begins that has seen everything up to ``after``; None: that begins now.

        Raises:
            InvalidRequest: There was no such change yet.
        """
        last = await asyncio.to_thread(self._look, newest)
        if after is not None and after > last:
            raise InvalidRequest(
                f"There is no change {after} yet; the last one is {last}.",
                hint="Was the registry exchanged or restored? Read everything anew, and begin without `after`.",
                after=after,
                newest=last,
            )
        return last if after is None else after

    @contextmanager
    def reader(self, position: int, *, findings: bool) -> Iterator[Reader]:
        """One who reads from a position on."""
        self._readers += 1
        if self._task is None:
            self._version = 0
            self._task = asyncio.create_task(self._follow())
        try:
            yield Reader(self, position, findings=findings)
        finally:
            self._readers -= 1
            if not self._readers:
                self._task.cancel()
                self._task, self._floor, self._newest = None, NOT_YET, NOT_YET

    async def _follow(self) -> None:
        """Keeps the latest changes and the findings while anybody reads them."""
        loop = asyncio.get_running_loop()
        findings_at = loop.time()
        while True:
            with self._changed.noted() as changed:
                try:
                    await self._take_new()
                    if loop.time() >= findings_at:
                        self._take_findings(await asyncio.to_thread(self._ask_findings))
                        findings_at = loop.time() + self._pace.findings_s
                except MacbindError as error:  # readers find it out themselves
                    _log.warning("events", problem=error.message)
                    await asyncio.sleep(self._pace.look_s)
                    continue
                await asyncio.wait((changed,), timeout=self._pace.look_s)
            await asyncio.sleep(self._readers * self._pace.reader_s)

    async def _take_new(self) -> None:
        if self._newest == NOT_YET:
            self._latest, self._ids = [], []
            self._floor = self._newest = await asyncio.to_thread(self._look, newest)
            self._news.notify()
        while found := (await self._log(self._newest, self._pace.look)).changes:
            if len(self._latest) >= 2 * self._pace.latest:
                self._latest, self._ids = self._latest[-self._pace.latest :], self._ids[-self._pace.latest :]
                self._floor = self._ids[0] - 1
            self._latest += found
            self._ids += [one.id for one in found]
            self._newest = self._ids[-1]
            self._news.notify()

    def _take_findings(self, found: tuple[Finding, ...]) -> None:
        if found != self._findings or not self._version:
            self._findings, self._version = found, self._version + 1
            self._news.notify()

    async def _log(self, after: int, limit: int) -> Log:
        return await asyncio.to_thread(self._look, lambda view: changes(view, after, limit))

    def _look(self, question: Callable[[View], _T]) -> _T:
        with self._registry.read() as view:
            return question(view)

    @property
    def readers(self) -> int:
        """How many read now."""
        return self._readers

    # -- for readers -----------------------------------------------------------------------------------

    async def next(self, position: int, version: int | None, timeout_s: float) -> Batch:
        """What is new after a position and a version of the findings; nothing if that takes too long."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while True:
            with self._news.noted() as news:
                batch = await self._batch(position, version)
                left_s = until - loop.time()
                if batch.changes or batch.gap or batch.findings is not None or left_s <= 0:
                    return batch
                await asyncio.wait((news,), timeout=left_s)

    async def _batch(self, position: int, version: int | None) -> Batch:
        if self._floor <= position <= self._newest:
            index = bisect_right(self._ids, position)
            found, gap = self._latest[index : index + self._pace.page], None
        else:
            log = await self._log(position, self._pace.page)
            found, gap = log.changes, log.gap
        last = found[-1].id if found else position
        if version is None or version == self._version:
            return Batch(last, version, tuple(found), gap)
        return Batch(last, self._version, tuple(found), gap, self._findings)


class Reader:
    """One who follows the changes.

    Args:
        feed: Has them.
        position: The last change that is known.
        findings: Whether findings are wanted.

    Attributes:
        position: The last change that was given.
    """

    def __init__(self, feed: EventFeed, position: int, *, findings: bool) -> None:
        self._feed, self.position = feed, position
        self._version: int | None = 0 if findings else None

    async def next(self, timeout_s: float) -> Batch:
        """What is new; nothing if that takes too long.

        Raises:
            RegistryUnavailable: The registry cannot be used now.
        """
        batch = await self._feed.next(self.position, self._version, timeout_s)
        self.position, self._version = batch.position, batch.version
        return batch
