"""Turns, places and waiting: who is served next, who gets in, and who is no longer waited for."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from macbind.errors import DhcpdUnavailable, ServiceUnavailable
from macbind.service.addresses import Pending
from macbind.service.app import Deadlines
from macbind.service.door import Turns
from macbind.service.limits import RESERVED_FILES, Limits, Visitors

GREEDY, MODEST = 1, 2


def in_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs it in an event loop of its own, for twenty seconds at most."""
    asyncio.run(asyncio.wait_for(work(), 20))


def test_users_take_turns_whoever_asks_most() -> None:
    """Who asks once waits for one of the other user's many questions, not for all of them."""
    done: list[int] = []
    busy = threading.Event()

    async def crowd() -> None:
        turns = Turns(1)
        first = asyncio.create_task(turns.run(GREEDY, busy.wait))
        await asyncio.sleep(0)
        many = [asyncio.create_task(turns.run(GREEDY, lambda: done.append(GREEDY))) for _ in range(50)]
        await asyncio.sleep(0)
        one = asyncio.create_task(turns.run(MODEST, lambda: done.append(MODEST)))
        await asyncio.sleep(0)
        busy.set()
        await asyncio.gather(first, *many, one)

    in_loop(crowd)
    assert done.index(MODEST) <= 1
    assert done.count(GREEDY) == 50


def test_who_gives_up_waiting_gives_up_the_turn() -> None:
    """A question that is cancelled, waiting or at its turn, keeps nobody from asking."""
    busy = threading.Event()

    async def crowd() -> None:
        turns = Turns(2)
        first = [asyncio.create_task(turns.run(GREEDY, busy.wait)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting = [
            asyncio.create_task(turns.run(uid, lambda: None)) for uid in (GREEDY, MODEST) for _ in range(3)
        ]
        await asyncio.sleep(0)
        for one in waiting[::2]:
            one.cancel()
        busy.set()
        await asyncio.gather(*first, *waiting, return_exceptions=True)
        for one in [asyncio.create_task(turns.run(MODEST, lambda: None)) for _ in range(3)]:
            await one

    in_loop(crowd)


def test_failing_question_gives_its_thread_back() -> None:
    """Its error is its own."""

    async def fail() -> None:
        turns = Turns(1)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await turns.run(GREEDY, lambda: 1 // 0)

    in_loop(fail)


@pytest.mark.parametrize("users", [1, 2, 3, 7])
def test_places_are_shared(users: int) -> None:
    """So many greedy users get equal shares, and one more finds as much room as each of them has, or nearly."""
    visitors = Visitors(Limits(connections=800))
    places = dict.fromkeys(range(users), 0)
    for _ in range(800):
        for uid in places:
            try:
                visitors.enter(uid)
                places[uid] += 1
            except ServiceUnavailable:
                continue
    share = 800 // (users + 1)
    assert all(share - 1 <= taken <= share + users for taken in places.values())
    for _ in range(share // 2 - users):
        visitors.enter(99)
    for uid, taken in places.items():
        for _ in range(taken):
            visitors.leave(uid)
    for _ in range(400 - share):
        visitors.enter(0)


def test_unread_answers_are_counted_by_user() -> None:
    """Beyond the limit a user is told; what was read counts no longer; others are not concerned."""
    visitors = Visitors(Limits(unread_bytes=100))
    visitors.leaves_unread(GREEDY, 60)
    visitors.leaves_unread(MODEST, 60)
    with pytest.raises(ServiceUnavailable):
        visitors.leaves_unread(GREEDY, 60)
    visitors.leaves_unread(GREEDY, -120)
    visitors.leaves_unread(GREEDY, 100)


@pytest.mark.parametrize(
    ("soft", "hard", "connections"),
    [(1024, 20_000, 4096), (1024, 1024, 1024 - RESERVED_FILES), (300, 300, 150), (20_000, 20_000, 4096)],
)
def test_connections_fit_the_open_file_limit(soft: int, hard: int, connections: int) -> None:
    """The soft limit is raised as far as is needed, and what it allows is told."""
    program = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "from macbind.service.limits import Limits, connections_within\n"
        "print(connections_within(Limits()), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    needed = 4096 + RESERVED_FILES
    assert done.stdout.split() == [str(connections), str(max(soft, min(needed, hard)))]


def test_caller_who_is_gone_is_not_waited_for() -> None:
    """The change stays; the wait for it ends when the connection does, however long it was to be."""
    given_up = []

    def overdue() -> DhcpdUnavailable:
        given_up.append(1)
        return DhcpdUnavailable("Not yet.")

    async def gone() -> None:
        messages = iter([{"type": "http.request"}, {"type": "http.disconnect"}])

        async def receive() -> Any:
            await asyncio.sleep(0)
            return next(messages)

        deadlines = Deadlines()
        with pytest.raises(DhcpdUnavailable):
            await deadlines.settled(Pending[None](overdue), 1e6, receive)

    in_loop(gone)
    assert given_up == [1]
