"""Waiting for a condition, never for an amount of time.

This is the only place of the library that sleeps, and it sleeps between two looks, a few milliseconds by default.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.005


def until(condition: Callable[[], T], deadline_s: float, what: str, *, pause_s: float = _POLL_S) -> T:
    """Look at `condition` until it is true and return what it returned.

    An exception of the condition ends the waiting: that is how it says "this will never come". After
    `deadline_s` seconds a TimeoutError names `what` was waited for. The condition is always tried at least
    once. `pause_s` is between two looks: longer where a look costs what is waited for much time.
    """
    give_up_at = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= give_up_at:
            raise TimeoutError(f"gave up after {deadline_s:g} s waiting for {what}")
        time.sleep(pause_s)
