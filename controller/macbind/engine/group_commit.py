"""Group commit: the changes that many callers ask for at once become one transaction.

Changes that arrive while a transaction is on its way to the disk share the next one, and its flush. A change that
is alone is committed at once.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from macbind.core.errors import MacbindError, PeerError, RequestError, ServiceUnavailable
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction

_T = TypeVar("_T")


@dataclass(slots=True)
class _Job:
    actor: str
    work: Callable[[Transaction], Any]
    future: Future[Any]
    asked_at: float


class GroupCommitter:
    """Runs jobs against the registry, as many per transaction as are waiting.

    A job runs again after a failed transaction. The registry then shows nothing of its earlier run.

    Args:
        registry: The registry.
        after_commit: Called after each transaction that a DHCP server or a reader of events has to hear of.
    """

    def __init__(self, registry: Registry, after_commit: Callable[[], None]) -> None:
        self._registry, self._after_commit = registry, after_commit
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self._busy_since: float | None = None
        self._closing = threading.Lock()  # no job enters the queue behind the word to close
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Commits what was submitted and ends the thread."""
        with self._closing:
            self._closed = True
            self._jobs.put(None)
        self._thread.join()

    @property
    def busy_s(self) -> float:
        """How long the job under way has taken so far, in seconds; 0 if there is none."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def submit(self, actor: str, work: Callable[[Transaction], _T]) -> Future[_T]:
        """Runs ``work`` in a transaction; its result is ready once that is durable.

        Args:
            actor: Who asked, for the audit log.
            work: Changes the registry; a RequestError from it undoes this job only.
        """
        future: Future[_T] = Future()
        future.set_running_or_notify_cancel()  # a caller that goes away must not cancel the work
        with self._closing:
            if not self._closed:
                self._jobs.put(_Job(actor, work, future, time.monotonic()))
                return future
        future.set_exception(ServiceUnavailable("macbind is shutting down.", hint="Ask again in a moment."))
        return future

    def _run(self) -> None:
        while (first := self._jobs.get()) is not None:
            jobs, last = [first], False
            while len(jobs) < self._registry.sizes.requests and not last:
                try:
                    following = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    last = True
                else:
                    jobs.append(following)
            self._busy_since = time.monotonic()
            self._commit(jobs)
            self._busy_since = None
            if last:
                return

    def _commit(self, jobs: list[_Job]) -> None:
        outcomes: list[tuple[_Job, Any, BaseException | None]] = []
        has_news = True  # what has failed may have been committed all the same
        try:
            with self._registry.write(jobs[0].actor) as txn:
                for job in jobs:
                    self._busy_since = time.monotonic()
                    txn.actor, txn.asked_at = job.actor, job.asked_at
                    outcomes.append((job, *self._attempt(txn, job, alone=len(jobs) == 1)))
            has_news = txn.has_news
        except Exception as error:  # noqa: BLE001  # every waiting caller must be told, whatever it was
            if len(jobs) > 1 and not isinstance(error, PeerError):
                for job in jobs:  # one of them is the reason: try each by itself
                    self._commit([job])
                return
            # The registry itself is the reason: waiting for it once more for each of them helps nobody.
            outcomes = [(job, None, error) for job in jobs]
        if has_news:
            self._after_commit()
        for job, result, failure in outcomes:
            if failure is None:
                job.future.set_result(result)
            else:
                job.future.set_exception(failure)

    @staticmethod
    def _attempt(txn: Transaction, job: _Job, *, alone: bool) -> tuple[Any, MacbindError | None]:
        if alone:
            return job.work(txn), None
        try:
            with txn.undone_if_refused():
                return job.work(txn), None
        except RequestError as error:
            return None, error
