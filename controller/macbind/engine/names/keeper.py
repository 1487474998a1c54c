"""A thread that keeps names somewhere: it looks at the registry, and writes what differs.

Each look computes all names anew, so nothing depends on a message that was missed. Looks follow commits and
confirmations, and come now and then without a reason. Who waits is told after a look that began after the question.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

import structlog

from macbind.core.errors import PeerError
from macbind.core.findings import Finding
from macbind.core.host_names import HostNames, host_names
from macbind.engine.supervised import OnDefect, Supervised
from macbind.names.trouble import Trouble
from macbind.registry.held import held
from macbind.registry.store import Registry

_log = structlog.get_logger()

TICK_S = 1.0
"""How often the lead is looked after."""
LEAST_REST_S = 0.02
"""How long nothing is looked at after a look, or as long as the look took; unless somebody waits for the next."""
IDLE_SHARE = 20
"""A look without a reason comes after so many times what the last one took."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 5.0
"""How long nothing is tried after a failure; longer after each one."""


class Keeper:
    """The thread. A subclass says where names are kept.

    Args:
        name: Of the thread.
        registry: The truth.
        beat: Called whenever it goes on.
        on_defect: Called with a defect of ours.

    Attributes:
        findings: What an admin should look at.
    """

    def __init__(
        self, name: str, registry: Registry, beat: Callable[[], object], on_defect: OnDefect
    ) -> None:
        self._name, self._registry, self._beat = name, registry, beat
        self.findings: tuple[Finding, ...] = ()
        self._due = threading.Event()
        self._due.set()
        self._asked = threading.Event()
        self._lock = threading.Lock()
        self._waiting: list[Future[None]] = []
        self._is_over = False
        self._trouble: Finding | None = None
        self._pause_s = FIRST_PAUSE_S
        self._look_at = self._retry_at = 0.0
        self._thread = Supervised(name, self._turn, on_defect, at_end=self._end)
        self.start = self._thread.start

    def wake(self) -> None:
        """Says that names may have changed; cheap, and safe from any thread."""
        self._due.set()

    def close(self) -> None:
        """Ends the thread after the look it is at."""
        self._thread.stopping.set()
        self._asked.set()
        self._due.set()
        self._thread.close()

    def settled(self) -> Future[None]:
        """Done when all is written that is in the registry now, or when it cannot be. Any thread may call it."""
        future: Future[None] = Future()
        with self._lock:
            if self._trouble is None and not self._is_over:
                self._waiting.append(future)
                self._asked.set()
                self._due.set()
                return future
        future.set_result(None)
        return future

    # -- what a subclass says --------------------------------------------------------------------------

    def _may_write(self) -> bool:
        """Whether this controller is the one that writes."""
        return True

    def _write(self, names: HostNames) -> None:
        """Writes what differs.

        Raises:
            Trouble: It cannot be written.
        """
        raise NotImplementedError

    def _lose(self) -> None:
        """Lets another controller try, after a failure."""

    def _found(self) -> tuple[Finding, ...]:
        """What the last look has found beside names that are none."""
        return ()

    # -- the loop --------------------------------------------------------------------------------------

    def _end(self) -> None:
        with self._lock:
            self._is_over = True
        self._answer(self._take())
        self._lose()

    def _take(self) -> list[Future[None]]:
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._asked.clear()
        return waiting

    def _answer(self, waiting: list[Future[None]]) -> None:
        for future in waiting:
            future.set_result(None)

    def _turn(self) -> None:
        is_due = self._due.wait(TICK_S)
        if is_due:  # a commit is followed by confirmations, and by one who waits for the names
            self._asked.wait(LEAST_REST_S)
        self._beat()
        now = time.monotonic()
        if self._thread.stopping.is_set():
            return
        if now < self._retry_at:
            self._thread.stopping.wait(min(self._retry_at - now, TICK_S))
            return
        if not self._may_write():
            self._due.clear()
            self._say(None, ())
            self._answer(self._take())
        elif is_due or now >= self._look_at:
            self._due.clear()
            waiting = self._take()
            try:
                self._look()
            except PeerError:
                self._due.set()
                raise
            finally:
                self._answer(waiting)
            took = time.monotonic() - now
            self._asked.wait(
                min(max(took, LEAST_REST_S), TICK_S)
            )  # a look at many leaves time for everything else
            self._look_at = time.monotonic() + max(TICK_S, IDLE_SHARE * took)

    def _look(self) -> None:
        with self._registry.read() as view:
            names = host_names(held(view))
        try:
            self._write(names)
        except Trouble as trouble:
            self._say(trouble.finding, (trouble.finding, *names.findings()))
            self._due.set()
            self._retry_at = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._lose()
            self._answer(self._take())
        else:
            self._pause_s = FIRST_PAUSE_S
            self._say(None, (*self._found(), *names.findings()))

    def _say(self, trouble: Finding | None, findings: tuple[Finding, ...]) -> None:
        known = {one.key for one in self.findings}
        for one in findings:
            if one.key not in known:
                _log.warning("finding", part=self._name, code=one.code, finding=str(one))
        with self._lock:  # first: who has seen that all is well may count on it
            self._trouble = trouble
        self.findings = findings
