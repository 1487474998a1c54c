"""Calls that may never return: each is made in a thread that can be left behind.

libvirt waits for ever for a hypervisor that takes a connection and says nothing, and for one whose packets are lost.
A thread that waits in such a call cannot be ended. So it is left to its fate, and another makes the next call. If too
many are left behind, no more calls are made until one returns.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

MAX_LEFT = 8
"""How many threads may be left behind at a time."""
_SLICE_S = 0.2


class Silent(Exception):
    """A call has not returned in time, or nobody wants to wait for it any more."""


@dataclass(frozen=True, slots=True)
class _Job(Generic[_T]):
    call: Callable[[], _T]
    too_late: Callable[[_T], Any]
    future: Future[_T]


class _Caller:
    """The thread that makes the calls, until one does not return."""

    def __init__(self, name: str, left: dict[_Caller, object]) -> None:
        self._todo: queue.SimpleQueue[_Job[Any] | None] = queue.SimpleQueue()
        self._left, self._lock, self._is_left = left, threading.Lock(), False
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def put(self, call: Callable[[], _T], too_late: Callable[[_T], Any]) -> Future[_T]:
        future: Future[_T] = Future()
        self._todo.put(_Job(call, too_late, future))
        return future

    def end(self) -> None:
        self._todo.put(None)

    def leave(self, future: Future[Any], about: object) -> bool:
        """Leaves it behind; False if it has just returned."""
        with self._lock:
            if future.done():
                return False
            self._is_left = True
            self._left[self] = about
            return True

    def _run(self) -> None:
        while (job := self._todo.get()) is not None:
            result, failure = None, None
            try:
                result = job.call()
            except BaseException as error:  # noqa: BLE001  # it is raised where the result is waited for
                failure = error
            with self._lock:
                if not self._is_left:
                    if failure is None:
                        job.future.set_result(result)
                    else:
                        job.future.set_exception(failure)
                    continue
            if failure is None:
                job.too_late(result)
            self._left.pop(self, None)
            return


class Patience:
    """Makes calls one at a time, and waits for each for a limited time. To be used by one thread.

    Args:
        name: Of the threads.
        stop: When it is set, nobody waits any more.
    """

    def __init__(self, name: str, stop: threading.Event) -> None:
        self._name, self._stop = name, stop
        self._caller: _Caller | None = None
        self._left: dict[_Caller, object] = {}

    def call(
        self,
        call: Callable[[], _T],
        within_s: float,
        *,
        about: object = None,
        too_late: Callable[[_T], Any] = lambda _: None,
        always: bool = False,
    ) -> _T:
        """The result of a call.

        Args:
            call: The call.
            within_s: How long it may take, in seconds.
            about: What it is about: nothing more is asked about that while a call has not returned.
            too_late: What is done with the result if the call returns after all; it may take as long as it likes.
            always: Whether it is waited for also when nobody else waits any more.

        Raises:
            Silent: It has not returned in time.
        """
        if len(self._left) >= MAX_LEFT or (about is not None and about in list(self._left.values())):
            raise Silent("an earlier question has not been answered yet")
        if self._caller is None:
            self._caller = _Caller(self._name, self._left)
        caller, until = self._caller, time.monotonic() + within_s
        future = caller.put(call, too_late)
        while (left_s := until - time.monotonic()) > 0 and (always or not self._stop.is_set()):
            try:
                return future.result(min(left_s, _SLICE_S))
            except TimeoutError:
                if future.done():  # its own error, or it has returned at this very moment
                    return future.result()
        if caller.leave(future, about):
            self._caller = None
            raise Silent(f"no answer within {within_s:g} s")
        return future.result()

    def close(self) -> None:
        """Ends the thread, if it is not left behind."""
        if self._caller is not None:
            self._caller.end()
            self._caller = None
