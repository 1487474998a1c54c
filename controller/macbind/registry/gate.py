"""A gate that many pass at a time, and that one may close once everybody is through."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from macbind.core.errors import RegistryUnavailable


class Gate:
    """Keeps those who read the registry apart from the moment in which its configuration changes.

    Nobody may pass it twice at a time: the second passage would wait for the first one's end.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside, self._is_closed = 0, False

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Waits until the gate is open, and keeps it from being closed meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                if self._is_closed:
                    self._changed.notify_all()

    @contextmanager
    def closed(self, patience_s: float) -> Iterator[None]:
        """Lets nobody in, and waits until everybody is out.

        Raises:
            RegistryUnavailable: Somebody was not out in time; the gate is open again.
        """
        with self._changed:
            self._is_closed = True
        try:
            with self._changed:
                if not self._changed.wait_for(lambda: not self._inside, patience_s):
                    raise RegistryUnavailable("The registry is busy with a question.", hint="Ask again.")
            yield
        finally:
            with self._changed:
                self._is_closed = False
                self._changed.notify_all()
