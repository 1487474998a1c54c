"""Calls that never return: who makes them is not held up, and what comes too late is not lost."""

from __future__ import annotations

import threading
import time

import pytest

from labkit.wait import until
from macbind.virt.patience import MAX_LEFT, Patience, Silent

LONG_S, SHORT_S = 60.0, 0.05


@pytest.fixture
def gate() -> threading.Event:
    """What the calls wait for that do not return."""
    return threading.Event()


def test_results_and_errors_are_those_of_the_call() -> None:
    """Whatever a call returns or raises, also a TimeoutError of its own."""
    patience = Patience("p", threading.Event())
    assert patience.call(lambda: 7, LONG_S) == 7
    for error in (ValueError, TimeoutError):

        def fails(error: type[Exception] = error) -> None:
            raise error

        with pytest.raises(error):
            patience.call(fails, LONG_S)
    patience.close()


def test_a_call_that_does_not_return_is_left_behind(gate: threading.Event) -> None:
    """The next one is made nevertheless; what the first brings at last is given to whoever clears it away."""
    late: list[bool] = []
    patience = Patience("p", threading.Event())
    with pytest.raises(Silent):
        patience.call(lambda: gate.wait(LONG_S), SHORT_S, too_late=late.append)
    assert patience.call(lambda: 7, LONG_S) == 7
    gate.set()
    until(lambda: late == [True], LONG_S, "the late result")
    patience.close()


def test_nothing_more_is_asked_about_what_has_not_answered(gate: threading.Event) -> None:
    """One domain that does not answer holds one thread, however often it is asked for."""
    patience = Patience("p", threading.Event())
    asked: list[int] = []

    def ask() -> bool:
        asked.append(1)
        return gate.wait(LONG_S)

    for _ in range(3 * MAX_LEFT):
        with pytest.raises(Silent):
            patience.call(ask, SHORT_S, about="slow")
    until(lambda: asked, LONG_S, "the question")
    assert len(asked) == 1
    assert patience.call(lambda: 7, LONG_S, about="other") == 7
    gate.set()

    def answers() -> bool:
        try:
            return patience.call(lambda: True, LONG_S, about="slow")
        except Silent:
            return False

    until(answers, LONG_S, "it to be asked again")
    patience.close()


def test_the_number_of_threads_left_behind_is_bounded(gate: threading.Event) -> None:
    """Then no call is made any more, until one returns."""
    patience = Patience("p", threading.Event())
    asked: list[int] = []

    def ask() -> bool:
        asked.append(1)
        return gate.wait(LONG_S)

    for _ in range(2 * MAX_LEFT):
        with pytest.raises(Silent):
            patience.call(ask, SHORT_S)
    until(lambda: len(asked) >= MAX_LEFT, LONG_S, "all that may be asked")
    assert len(asked) == MAX_LEFT
    gate.set()

    def goes_on() -> bool:
        try:
            return patience.call(lambda: True, LONG_S)
        except Silent:
            return False

    until(goes_on, LONG_S, "calls to be made again")
    patience.close()


def test_whoever_stops_waits_no_longer(gate: threading.Event) -> None:
    """A call under way is left as soon as nobody wants its result."""
    stop = threading.Event()
    patience = Patience("p", stop)
    threading.Timer(SHORT_S, stop.set).start()
    began_at = time.monotonic()
    with pytest.raises(Silent):
        patience.call(lambda: gate.wait(LONG_S), LONG_S)
    assert time.monotonic() - began_at < LONG_S / 2
    gate.set()
