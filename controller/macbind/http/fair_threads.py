"""A thread pool in which users take turns."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")


class FairThreadPool:
    """Threads for questions. When all are busy, the waiting users take turns, however many questions each has.

    Used in the event loop only.
    """

    def __init__(self, threads: int) -> None:
        self._free = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="question")
        self._waiting: dict[
            Hashable, deque[asyncio.Future[None]]
        ] = {}  # by user, whose turn it is next first

    async def run(self, user: Hashable, work: Callable[[], _T]) -> _T:
        """The result of ``work``, done in a thread when it is the user's turn."""
        await self._enter(user)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        finally:
            self._leave()

    async def _enter(self, user: Hashable) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was our turn already
                self._leave()
            raise

    def _leave(self) -> None:
        """Gives the thread to the first question of the next user that still waits."""
        while self._waiting:
            user = next(iter(self._waiting))
            queue = self._waiting.pop(user)
            turn = queue.popleft()
            if queue:
                self._waiting[user] = queue  # behind the others
            if not turn.cancelled():
                turn.set_result(None)
                return
        self._free += 1
