"""Many clients at once."""

import multiprocessing
import multiprocessing.pool
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any

from bench.rows import TOLD, Result, Row, at_least
from bench.sites import open_farm, timed
from macbind.client.client import Client

CLIENTS = 32
_mine: tuple[Client, Any] | None = None
"""The client of a process of the crowd, and where it waits for the others."""


def measure(*, quick: bool) -> Result:
    """Throughput of 32 clients against that of one; the service commits in groups."""
    rounds, each = (2, 6) if quick else (5, 25)
    threads = Row(
        f"`Client.allocate`, {CLIENTS} clients in {CLIENTS} threads of one process",
        "one client",
        "/s",
        at_least(4),
    )
    processes = Row(
        f"`Client.allocate`, {CLIENTS} clients in {CLIENTS} processes", "one client", "/s", at_least(4)
    )
    least = Row(
        f"- the least: {CLIENTS} clients in threads whose requests find nothing to do",
        "one client that allocates",
        "/s",
        TOLD,
        detail=True,
    )
    total = CLIENTS * each
    with open_farm() as farm, ExitStack() as stack:
        alone = stack.enter_context(farm.client(60))
        crowd = [stack.enter_context(farm.client(60)) for _ in range(CLIENTS)]
        workers = stack.enter_context(_processes(farm.socket))
        executor = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        for _ in range(rounds):
            base = total // 4 / timed(_allocate, alone, "alone", "one", total // 4)
            threads.ours.append(total / timed(_in_threads, executor, crowd, each))
            processes.ours.append(total / timed(_in_processes, workers, each))
            least.ours.append(total / timed(_in_threads, executor, crowd, each, _ask_for_nothing))
            for row in (threads, processes, least):
                row.base.append(base)
            for group in ("alone", "threads", "processes"):
                alone.release_group(group)
    return Result([threads, processes, least])


def _allocate(client: Client, group: str, prefix: str, count: int) -> None:
    for index in range(count):
        client.allocate("farm", f"{group}-{prefix}-{index}", group=group)


def _ask_for_nothing(client: Client, group: str, prefix: str, count: int) -> None:
    for index in range(count):
        assert client.release(f"{group}-{prefix}-{index}-none").already_gone


def _in_threads(
    executor: ThreadPoolExecutor,
    crowd: Sequence[Client],
    each: int,
    work: Callable[[Client, str, str, int], None] = _allocate,
) -> None:
    started = [
        executor.submit(work, client, "threads", str(number), each) for number, client in enumerate(crowd)
    ]
    for one in started:
        one.result()


def _in_processes(workers: multiprocessing.pool.Pool, each: int) -> None:
    workers.starmap(_in_this_process, [(str(number), each) for number in range(CLIENTS)], 1)


@contextmanager
def _processes(socket: Path) -> Iterator[multiprocessing.pool.Pool]:
    """Processes with a client each, ready to begin at the same moment."""
    # They are forked from a process without threads, which has imported what they need once for all of them.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.crowd"])
    barrier = context.Barrier(CLIENTS)
    with context.Pool(CLIENTS, _begin, (socket, barrier)) as pool:
        _in_processes(pool, 0)  # all are up
        yield pool


def _begin(socket: Path, barrier: Barrier) -> None:
    global _mine  # noqa: PLW0603  # that is how a pool's process keeps what is its own
    _mine = Client(socket, timeout_s=60), barrier


def _in_this_process(prefix: str, count: int) -> None:
    assert _mine is not None
    client, barrier = _mine
    barrier.wait(60)  # each process takes one share: nobody can be here twice
    _allocate(client, "processes", prefix, count)
