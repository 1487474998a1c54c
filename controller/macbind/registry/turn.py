"""Taking turns: a lock that serves threads in the order in which they asked."""

from __future__ import annotations

import threading
from collections import deque


class Turn:
    """A fair lock, handed from one holder to the next.

    With `threading.Lock` a thread that lets go and asks again at once overtakes all who wait: under load the
    thread that commits requests would keep the one that records confirmations out for seconds.
    """

    def __init__(self) -> None:
        self._door = threading.Lock()
        self._taken = False
        self._waiting: deque[threading.Lock] = deque()

    def take(self, timeout_s: float) -> bool:
        """Waits for one's turn; False if it did not come within ``timeout_s`` seconds."""
        ticket = threading.Lock()
        with self._door:
            if not self._taken:
                self._taken = True
                return True
            ticket.acquire()
            self._waiting.append(ticket)
        if ticket.acquire(timeout=timeout_s):
            return True
        with self._door:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                return False
        return True  # it came in the very last moment

    def give(self) -> None:
        """Ends one's turn; whoever has waited longest is next."""
        with self._door:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False
