"""Group commit: one transaction for all who wait, and nobody pays for another one's failure."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from contract.book import make_pool
from contract.invariant import check_history, check_invariant
from labkit.wait import until
from macbind.core.allocation import Allocation
from macbind.core.errors import Conflict, InvariantViolation, PoolExhausted, ServiceUnavailable
from macbind.engine.group_commit import GroupCommitter
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.audit import history
from macbind.registry.queries import find
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction

_POOL = make_pool(subnet="10.1.0.0/22")
_WAIT_S = 60


class CountingRegistry(Registry):
    """A registry that counts its transactions, and fails those it is told to fail."""

    committed = rolled_back = 0
    failure: Exception | None = None

    @contextmanager
    def write(self, actor: str, *, now: datetime | None = None, lazy: bool = False) -> Iterator[Transaction]:
        """Counts."""
        try:
            with super().write(actor, now=now, lazy=lazy) as txn:
                yield txn
                if self.failure is not None and actor != "blocker":
                    raise self.failure
        except BaseException:
            self.rolled_back += 1
            raise
        self.committed += 1


class Desk:
    """A registry with a committer whose thread can be held at the door, so that jobs pile up."""

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}/registry.db"
        self.registry = CountingRegistry.open(self.url, {"farm": _POOL}, ["d1"])
        self.wakes = 0
        self.committer = GroupCommitter(self.registry, self._woken)
        self.committer.start()

    def _woken(self) -> None:
        self.wakes += 1

    def allocate(self, *names: str, actor: str = "tester") -> Future[list[Allocation]]:
        """Submits an allocation."""
        return self.committer.submit(actor, lambda txn: allocate(txn, Wanted("farm", names)))

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """What is submitted in here waits together, as if the disk were slow."""
        entered, leave = threading.Event(), threading.Event()

        def block(_: Transaction) -> None:
            entered.set()
            assert leave.wait(_WAIT_S)

        blocker = self.committer.submit("blocker", block)
        assert entered.wait(_WAIT_S)
        try:
            yield
        finally:
            leave.set()
            blocker.result(_WAIT_S)

    def names(self) -> list[str]:
        """Who holds an address."""
        with self.registry.read() as view:
            return [one.name for one in find(view)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk that is open; the registry is sound when it closes."""
    desk = Desk(tmp_path)
    yield desk
    desk.committer.close()
    desk.registry.close()
    check_invariant(desk.url, {"farm": _POOL})
    check_history(desk.url)


def test_jobs_that_wait_share_a_transaction(desk: Desk) -> None:
    """Whatever was submitted during a commit becomes the next one, in the order of submission."""
    with desk.held_up():
        jobs = [desk.allocate(f"m{number}") for number in range(100)]
    made = [job.result(_WAIT_S)[0] for job in jobs]
    assert desk.registry.committed == 2, "the blocker's, and one for all"
    assert desk.wakes == 1, "nobody has to hear of the blocker's"
    assert [one.name for one in made] == desk.names() == [f"m{number}" for number in range(100)]


def test_a_batch_is_bounded(desk: Desk) -> None:
    """More jobs than a batch holds are spread over several transactions."""
    with desk.held_up():
        jobs = [desk.allocate(f"m{number}") for number in range(desk.registry.sizes.requests + 10)]
    for job in jobs:
        job.result(_WAIT_S)
    assert desk.registry.committed == 3


def test_a_single_job_is_committed_at_once(desk: Desk) -> None:
    """Nobody waits for company."""
    assert desk.allocate("a").result(_WAIT_S)[0].name == "a"
    assert desk.registry.committed == 1


def test_results_are_durable(desk: Desk, tmp_path: Path) -> None:
    """When a result is there, another connection sees the change."""
    desk.allocate("a").result(_WAIT_S)
    other = Registry.open(desk.url, {"farm": _POOL}, ["d1"])
    with other.read() as view:
        assert [one.name for one in find(view)] == ["a"]
    other.close()


def test_each_change_is_logged_with_its_own_actor(desk: Desk) -> None:
    """Jobs of different callers in one transaction keep their actors."""
    with desk.held_up():
        jobs = [desk.allocate(f"m{number}", actor=f"uid {number}") for number in range(3)]
    for job in jobs:
        job.result(_WAIT_S)
    with desk.registry.read() as view:
        assert {(one.actor, one.name) for one in history(view)} == {
            ("uid 0", "m0"),
            ("uid 1", "m1"),
            ("uid 2", "m2"),
        }


def test_a_request_error_undoes_only_its_job(desk: Desk) -> None:
    """A job that is refused in the middle of its work leaves nothing, and its neighbours succeed."""

    def half(txn: Transaction) -> None:
        allocate(txn, Wanted("farm", ("half",)))
        allocate(txn, Wanted("farm", tuple(f"far-too-many-{number}" for number in range(2000))))

    with desk.held_up():
        before, failing, after = desk.allocate("a"), desk.committer.submit("x", half), desk.allocate("b")
        conflict = desk.allocate("a", "c")
    with pytest.raises(PoolExhausted):
        failing.result(_WAIT_S)
    with pytest.raises(Conflict):
        conflict.result(_WAIT_S)
    addresses = [str(job.result(_WAIT_S)[0].address) for job in (before, after)]
    assert addresses == ["10.1.0.1", "10.1.0.2"]
    assert (desk.names(), desk.registry.committed, desk.registry.rolled_back) == (["a", "b"], 2, 0)


def test_a_refused_job_alone_is_rolled_back(desk: Desk) -> None:
    """A job that is alone and refused ends its transaction."""

    def half(txn: Transaction) -> None:
        allocate(txn, Wanted("farm", ("half",)))
        allocate(txn, Wanted("farm", ("half",), group="other"))

    with pytest.raises(Conflict):
        desk.committer.submit("x", half).result(_WAIT_S)
    assert (desk.names(), desk.registry.rolled_back) == ([], 1)


@pytest.mark.parametrize("error", [ZeroDivisionError("a defect"), InvariantViolation("a defect")], ids=repr)
def test_a_batch_that_fails_is_tried_one_by_one(desk: Desk, error: Exception) -> None:
    """A defect in one job fails that job only; each other one is committed by itself."""
    runs: list[str] = []

    def note(name: str) -> Callable[[Transaction], list[Allocation]]:
        def work(txn: Transaction) -> list[Allocation]:
            runs.append(name)
            return allocate(txn, Wanted("farm", (name,)))

        return work

    def fail(_: Transaction) -> None:
        raise error

    with desk.held_up():
        good = [desk.committer.submit("x", note(name)) for name in ("a", "b")]
        bad = desk.committer.submit("x", fail)
        good.append(desk.committer.submit("x", note("c")))
    assert bad.exception(_WAIT_S) is error
    assert [job.result(_WAIT_S)[0].name for job in good] == desk.names() == ["a", "b", "c"]
    assert runs == ["a", "b", "a", "b", "c"], "those before the defect ran twice, on an unchanged registry"
    assert (desk.registry.committed, desk.registry.rolled_back) == (4, 2)


def test_a_cancelled_future_harms_nobody(desk: Desk) -> None:
    """A caller that goes away can neither cancel its job nor stop the thread that serves the others."""
    with desk.held_up():
        gone, other = desk.allocate("a"), desk.allocate("b")
        assert not gone.cancel()
    assert other.result(_WAIT_S)[0].name == "b"
    assert desk.names() == ["a", "b"]


def test_a_callback_that_fails_harms_nobody(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """An error in what a caller does with its result is logged and stays with that caller."""
    with desk.held_up():
        first, second = desk.allocate("a"), desk.allocate("b")
        first.add_done_callback(lambda _: 1 // 0)
    assert second.result(_WAIT_S)[0].name == "b"
    assert desk.allocate("c").result(_WAIT_S)[0].name == "c"
    assert "ZeroDivisionError" in caplog.text


def test_closing_finishes_what_was_submitted(desk: Desk) -> None:
    """Close returns when every job has its result; later ones are refused typed, also after a second close."""
    with desk.held_up():
        jobs = [desk.allocate(f"m{number}") for number in range(300)]
        closing = threading.Thread(target=desk.committer.close)
        closing.start()
        refusal = until(lambda: _refusal_of(desk), _WAIT_S, "the committer to refuse jobs")
    closing.join(_WAIT_S)
    assert all(job.done() and job.exception() is None for job in jobs)
    assert refusal is not None
    assert refusal.hint == "Ask again in a moment."
    desk.committer.close()
    with pytest.raises(ServiceUnavailable):
        desk.allocate("late").result(0)


def _refusal_of(desk: Desk) -> ServiceUnavailable | None:
    job = desk.committer.submit("tester", lambda _: None)
    error = job.exception(0) if job.done() else None
    assert error is None or isinstance(error, ServiceUnavailable)
    return error


def test_no_job_is_lost_when_closing(tmp_path: Path) -> None:
    """However submit and close race, every future is resolved: with a result or with a refusal."""
    desk = Desk(tmp_path)
    jobs: list[Future[None]] = []
    start = threading.Barrier(5)

    def submit() -> None:
        start.wait()
        while True:
            job = desk.committer.submit("tester", lambda _: None)
            jobs.append(job)
            if job.done() and job.exception() is not None:
                return

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    start.wait()
    desk.committer.close()
    for thread in threads:
        thread.join(_WAIT_S)
    assert all(job.done() for job in jobs)
    desk.registry.close()
