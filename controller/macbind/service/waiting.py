"""How the event loop waits: for results of threads, and until a caller's deadline.

A use case runs to its end, whether or not somebody waits for it. A deadline ends the waiting only: when its time
is over, when the caller has gone, or when the service ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, ClassVar, TypeVar

from macbind.core.errors import RegistryUnavailable

_T = TypeVar("_T")
_MOMENT_S = 2.5
"""A use case ends so soon after its deadline, unless the registry holds it up; in seconds."""


class Deadline:
    """The end of one caller's patience. Used in the event loop only.

    Args:
        seconds: It ends in so many seconds at the latest.
    """

    _unattended: ClassVar[set[asyncio.Task[Any]]] = set()

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._timer = self._loop.call_later(seconds, self.end)

    def end(self) -> None:
        """Ends it now."""
        self._timer.cancel()
        if not self._over.done():
            self._over.set_result(None)

    def within(self, seconds: float) -> None:
        """Ends it in so many seconds, unless it ends earlier."""
        latest = self._loop.time() + seconds
        if latest < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(latest, self.end)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._over.done()

    async def wait(self, future: asyncio.Future[Any]) -> bool:
        """Waits for a future; False if the deadline ends first."""
        if not future.done():
            await asyncio.wait((future, self._over), return_when=asyncio.FIRST_COMPLETED)
        return future.done()

    async def attend(self, use_case: Coroutine[Any, Any, _T]) -> _T:
        """The result of a use case, which goes on when nobody waits for it any more.

        Raises:
            RegistryUnavailable: The registry has not taken the change in time.
            MacbindError: What the use case raises.
        """
        task = asyncio.create_task(use_case)
        self._unattended.add(task)
        task.add_done_callback(self._unattended.discard)
        if not await self.wait(task):
            await asyncio.wait({task}, timeout=_MOMENT_S)
        if task.done():
            return task.result()
        task.add_done_callback(lambda task: task.exception())  # nobody else looks at it
        raise RegistryUnavailable(
            "The registry has not taken the change in time.",
            hint="It is busy, or another process holds its write lock. It may take the change yet: ask again with "
            "the same name to see.",
        )


def call_in(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Has an event loop make a call soon, from any thread. One that has ended, or ends just now, does not."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call)


class Handover:
    """The one place where threads hand results to the event loop. Those that come together wake it once."""

    def __init__(self) -> None:
        self._done: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._is_called = False

    def future(self, source: Future[_T]) -> asyncio.Future[_T]:
        """What the event loop waits for instead of ``source``. Cancelling it leaves ``source`` alone."""
        loop = asyncio.get_running_loop()
        target: asyncio.Future[_T] = loop.create_future()

        def done(source: Future[_T]) -> None:
            self._done.append((target, source))
            if not self._is_called:
                self._is_called = True
                call_in(loop, self._deliver)

        source.add_done_callback(done)
        return target

    def _deliver(self) -> None:
        self._is_called = False  # first: what is put there from now on is taken here, or wakes the loop again
        while self._done:
            target, source = self._done.popleft()
            if target.done():
                continue
            error = source.exception()
            if error is None:
                target.set_result(source.result())
            else:
                target.set_exception(error)
                target.exception()  # one who no longer waits does not look at it, which is no fault
