"""A thread that takes one turn after the other: what every part has in common that works in the background.

A turn that fails because of a peer is taken again after a pause, which grows while it fails. Any other error is a
defect: the log has it, the service is told, and the thread ends.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import structlog

from macbind.core.errors import PeerError
from macbind.registry.configuration import GIVES_UP

_log = structlog.get_logger()

OnDefect = Callable[[BaseException], None]
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0


class Supervised:
    """The thread.

    Args:
        name: Its name, for the log.
        turn: One turn. It may take long, but has to look at ``stopping`` then.
        on_defect: Called with a defect.
        every_s: The pause after a turn that succeeded, in seconds.
        on_trouble: Called with a peer's failure.
        at_end: Called when the thread ends, whatever the reason.

    Attributes:
        stopping: Set when the thread is to end; it can be waited for.
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], None],
        on_defect: OnDefect,
        *,
        every_s: float = 0.0,
        on_trouble: OnDefect = lambda _: None,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._name, self._turn, self._every_s = name, turn, every_s
        self._on_defect, self._on_trouble, self._at_end = on_defect, on_trouble, at_end
        self.stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after the turn it is at."""
        self.stopping.set()
        self._thread.join()

    def _run(self) -> None:
        GIVES_UP.set(self.stopping.is_set)
        try:
            pause_s = FIRST_PAUSE_S
            while not self.stopping.is_set():
                try:
                    self._turn()
                except PeerError as error:
                    self._on_trouble(error)
                    self.stopping.wait(pause_s * random.uniform(1, 1.5))  # noqa: S311  # nosec B311  # to spread them
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                else:
                    pause_s = FIRST_PAUSE_S
                    self.stopping.wait(self._every_s)
        except BaseException as error:  # noqa: BLE001  # never silently without this part
            _log.critical("stopped by a defect", part=self._name, exc_info=error)
            self._on_defect(error)
        finally:
            self._at_end()
