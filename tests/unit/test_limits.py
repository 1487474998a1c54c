"""Turns and places: who is served next, and who gets in."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from macbind.core.errors import ServiceUnavailable
from macbind.http.access import Peer, peer_from
from macbind.http.fair_threads import FairThreadPool
from macbind.http.limits import OURS_SHARE, RESERVED_FILES, Places
from macbind.http.local_listener import LocalConnection, LocalListener

GREEDY, MODEST = 1, 2


def in_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs it in an event loop of its own, for a minute at most."""
    asyncio.run(asyncio.wait_for(work(), 60))


def test_users_take_turns_whoever_asks_most() -> None:
    """Who asks once waits for one of the other user's many questions, not for all of them."""
    done: list[int] = []
    busy = threading.Event()

    async def crowd() -> None:
        turns = FairThreadPool(1)
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
        turns = FairThreadPool(2)
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
        turns = FairThreadPool(1)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await turns.run(GREEDY, lambda: 1 // 0)

    in_loop(fail)


@pytest.mark.parametrize("users", [1, 2, 3, 7])
def test_places_are_shared(users: int) -> None:
    """So many greedy users get equal shares, and one more finds as much room as each of them has, or nearly."""
    seats, shared = Places(800), 800 - 800 // OURS_SHARE
    places = dict.fromkeys(range(1, users + 1), 0)  # accounts of every Debian
    for _ in range(800):
        for uid in places:
            with suppress(ServiceUnavailable):
                seats.enter(uid)
                places[uid] += 1
    share = shared // (users + 1)
    assert all(share - 1 <= taken <= share + users for taken in places.values())
    for _ in range(share // 2 - users):
        seats.enter(99)
    for uid, taken in places.items():
        for _ in range(taken):
            seats.leave(uid)
    for _ in range(share // 2):
        seats.enter(1)


def test_places_are_kept_for_root_and_the_service() -> None:
    """However many users are greedy, root finds a place."""
    seats = Places(800)
    for uid in range(1, 11):
        with suppress(ServiceUnavailable):
            while True:
                seats.enter(uid)
    with pytest.raises(ServiceUnavailable, match="places left"):
        seats.enter(13)
    for _ in range(800 // OURS_SHARE // 2):
        seats.enter(0)


def test_user_ids_without_an_account_share_one_users_places() -> None:
    """Who has an account may use 65,536 subordinate user ids, and gets no more places by them."""
    seats, taken = Places(800), 0
    for uid in range(100_000, 100_020):
        with suppress(ServiceUnavailable):
            while True:
                seats.enter(uid)
                taken += 1
    assert taken <= 800 // 2
    seats.enter(1)
    seats.leave(100_019)
    seats.enter(100_000)


@contextmanager
def listening(path: Path, seats: Places) -> Iterator[LocalListener]:
    """A socket that users connect to."""
    plain = socket.socket(socket.AF_UNIX)
    plain.bind(str(path))
    plain.listen()
    with LocalListener(plain, seats) as listener:
        yield listener


def test_name_of_a_peer_is_the_kernels_word(tmp_path: Path) -> None:
    """An accepted connection says who called connect(2), in the form that a request's scope has."""
    with listening(tmp_path / "s", Places(10)) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        accepted, name = listener.accept()
        with accepted:
            assert accepted.getpeername() == name
            assert peer_from(name) == Peer(os.getpid(), os.getuid(), os.getgid())


def test_place_is_free_again_when_its_connection_is_closed(tmp_path: Path) -> None:
    """Who finds no place hears why and is closed; however often a connection is closed, its place counts once."""
    with ExitStack() as stack:
        listener = stack.enter_context(listening(tmp_path / "s", Places(2)))
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)]
        for client in clients:
            client.connect(str(tmp_path / "s"))
        first, _ = listener.accept()
        assert isinstance(first, LocalConnection)
        with pytest.raises(ConnectionAbortedError):
            listener.accept()
        said = b"".join(iter(lambda: clients[1].recv(65536), b""))
        assert said.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert f"Your user (uid {os.getuid()}) has 1 connections".encode() in said
        first.close()
        first.close()
        again, _ = listener.accept()
        again.close()


@pytest.mark.parametrize(
    ("soft", "hard", "connections"),
    [(1024, 20_000, 4096), (1024, 1024, 1024 - RESERVED_FILES), (300, 300, 150), (20_000, 20_000, 4096)],
)
def test_connections_fit_the_open_file_limit(soft: int, hard: int, connections: int) -> None:
    """The soft limit is raised as far as is needed, and what it allows is told."""
    program = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
        "from macbind.http.limits import Limits, connections_within\n"
        "print(connections_within(Limits()), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    needed = 4096 + RESERVED_FILES
    assert done.stdout.split() == [str(connections), str(max(soft, min(needed, hard)))]
