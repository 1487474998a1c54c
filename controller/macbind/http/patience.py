"""How long the service waits for its clients, and for use cases when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from macbind.core.errors import InvalidRequest, ServiceUnavailable
from macbind.http.errors import Refused
from macbind.service.waiting import Deadline

_HURRY_S = 2.0
"""How long anybody may go on waiting when the service ends, in seconds."""


class Patience:
    """Everybody who waits, so that the end of the service can shorten it. Used in the event loop only.

    Args:
        receive_s: How long a client may take for a body, in seconds.

    Attributes:
        ending: Set when the service ends.
    """

    def __init__(self, receive_s: float) -> None:
        self._receive_s = receive_s
        self._deadlines: set[Deadline] = set()
        self._reading: set[asyncio.Timeout] = set()
        self._is_ending = False
        self.ending = asyncio.Event()

    @contextmanager
    def deadline(self, seconds: float) -> Iterator[Deadline]:
        """A deadline that comes earlier when the service ends."""
        deadline = Deadline(self._bounded(seconds))
        self._deadlines.add(deadline)
        try:
            yield deadline
        finally:
            self._deadlines.discard(deadline)
            deadline.end()

    @property
    def waiting(self) -> int:
        """How many callers wait for a change, or for something to happen."""
        return len(self._deadlines)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Waits for what a client is to send.

        Raises:
            Refused: It takes too long.
        """
        timeout = asyncio.timeout(self._bounded(self._receive_s))
        self._reading.add(timeout)
        try:
            async with timeout:
                yield
        except TimeoutError:
            if self._is_ending:
                ending = ServiceUnavailable("The macbind service is ending.", hint="Ask again.")
                raise Refused(ending, 503) from None
            late = InvalidRequest(
                f"The request was not complete within {self._receive_s:g} s.",
                hint="Send the whole request at once; the connection was closed.",
            )
            raise Refused(late, 408) from None
        finally:
            self._reading.discard(timeout)

    def _bounded(self, seconds: float) -> float:
        return min(seconds, _HURRY_S) if self._is_ending else seconds

    def hurry(self) -> None:
        """The service ends: nobody may wait much longer."""
        self._is_ending = True
        self.ending.set()
        for deadline in self._deadlines:
            deadline.within(_HURRY_S)
        latest = asyncio.get_running_loop().time() + _HURRY_S
        for timeout in self._reading:
            when = timeout.when()
            if when is not None and when > latest:
                timeout.reschedule(latest)
