"""Waiting for a change: until when, for whom, and what goes on without anybody."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any

import pytest
from typing_extensions import override

from macbind.core.errors import Conflict, RegistryUnavailable
from macbind.http.errors import Refused
from macbind.http.patience import Patience
from macbind.service.events import Changed
from macbind.service.waiting import Deadline, Handover

LONG_S = 1e6


def in_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs it in an event loop of its own, for a minute at most."""
    asyncio.run(asyncio.wait_for(work(), 60))


def test_deadline_ends_the_waiting_and_not_what_is_waited_for() -> None:
    """A future that comes in time is there; one that does not is left alone, and may still come."""

    async def wait() -> None:
        loop = asyncio.get_running_loop()
        there, late = loop.create_future(), loop.create_future()
        there.set_result(1)
        assert await Deadline(LONG_S).wait(there)
        deadline = Deadline(0.01)
        assert not await deadline.wait(late)
        assert not await deadline.wait(late), "it stays over"
        late.set_result(2)
        assert await deadline.wait(late), "what is there counts, even then"

    in_loop(wait)


def test_deadline_may_come_earlier_and_never_later() -> None:
    """Whoever hurries shortens it; a longer time changes nothing."""

    async def wait() -> None:
        never = asyncio.get_running_loop().create_future()
        hurried, short, ended = Deadline(LONG_S), Deadline(0.01), Deadline(LONG_S)
        hurried.within(0.01)
        hurried.within(LONG_S)
        short.within(LONG_S)
        ended.end()
        for deadline in (hurried, short, ended):
            assert not await deadline.wait(never)

    in_loop(wait)


def test_use_case_goes_on_without_its_caller() -> None:
    """A caller that is cancelled, or whose deadline ends, does not end the use case; it hears of the registry."""

    async def wait() -> None:
        release, done = asyncio.Event(), list[str]()

        async def use_case(name: str) -> str:
            await release.wait()
            done.append(name)
            return name

        over = Deadline(LONG_S)
        over.end()
        with pytest.raises(RegistryUnavailable, match="has not taken the change in time"):
            await over.attend(use_case("late"))
        caller = asyncio.create_task(Deadline(LONG_S).attend(use_case("cancelled")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        patient = asyncio.create_task(Deadline(LONG_S).attend(use_case("patient")))
        await asyncio.sleep(0)
        release.set()
        assert await patient == "patient"
        assert sorted(done) == ["cancelled", "late", "patient"]

    in_loop(wait)


def test_use_case_says_itself_what_was_late() -> None:
    """A use case that ends with its deadline is heard: its error says more, and so does a result at that moment."""

    async def wait() -> None:
        deadline = Deadline(0.01)

        async def refuse() -> None:
            await deadline.wait(asyncio.get_running_loop().create_future())
            raise Conflict("It waited.")

        with pytest.raises(Conflict, match="It waited"):
            await deadline.attend(refuse())

    in_loop(wait)


def test_service_that_ends_hurries_everybody() -> None:
    """Those who wait, and those who come then, wait a moment at most."""

    async def wait() -> None:
        patience, never = Patience(LONG_S), asyncio.get_running_loop().create_future()

        async def read() -> None:
            async with patience.reading():
                await asyncio.get_running_loop().create_future()

        reading = asyncio.create_task(read())
        with patience.deadline(LONG_S) as before:
            await asyncio.sleep(0)
            patience.hurry()
            with patience.deadline(LONG_S) as after:
                assert [await before.wait(never), await after.wait(never)] == [False, False]
        with pytest.raises(Refused, match="is ending"):
            await reading

    in_loop(wait)


def test_results_of_threads_arrive_in_the_loop() -> None:
    """Results and errors of many threads all arrive, each at its own future; one that was cancelled harms nobody."""

    async def wait() -> None:
        handover = Handover()
        sources = [Future[int]() for _ in range(200)]
        targets = [handover.future(one) for one in sources]
        targets[5].cancel()

        def resolve(numbers: range) -> None:
            for number in numbers:
                if number % 2:
                    sources[number].set_result(number)
                else:
                    sources[number].set_exception(Conflict(str(number)))

        threads = [threading.Thread(target=resolve, args=(range(start, 200, 4),)) for start in range(4)]
        for thread in threads:
            thread.start()
        found = await asyncio.gather(*targets, return_exceptions=True)
        for thread in threads:
            thread.join()
        assert isinstance(found[5], asyncio.CancelledError)
        assert [str(one) for number, one in enumerate(found) if number != 5] == [
            str(number) for number in range(200) if number != 5
        ]
        done = Future[int]()
        done.set_result(7)
        assert await handover.future(done) == 7

    in_loop(wait)


class Ending(asyncio.SelectorEventLoop):
    """An event loop that ends in the moment in which another thread calls it."""

    @override
    def call_soon_threadsafe(self, *arguments: Any, **named: Any) -> asyncio.Handle:  # type: ignore[override]
        self.close()
        return super().call_soon_threadsafe(*arguments, **named)


def test_an_event_loop_that_ends_takes_no_thread_along(caplog: pytest.LogCaptureFixture) -> None:
    """The service ends its event loop first: what threads still have to say finds nobody, and is no defect."""
    source: Future[None] = Future()
    changed, with_future, with_word = Changed(), Ending(), Ending()

    async def hand_over() -> None:
        Handover().future(source)

    async def begin(stack: ExitStack) -> None:
        stack.enter_context(changed.noted())

    with_future.run_until_complete(hand_over())
    with caplog.at_level(logging.ERROR):
        source.set_result(None)
    assert caplog.records == []
    with ExitStack() as stack:
        with_word.run_until_complete(begin(stack))
        changed.notify()
    assert with_word.is_closed()
