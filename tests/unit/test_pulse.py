"""The service manager's watchdog hears from us exactly as long as every part goes on."""

import threading
import time

from labkit.wait import until
from macbind.daemon.watchdog import Heartbeat, Task, Watchdog


def test_hanging_part_is_named_and_silences_us() -> None:
    """A part that shows no progress beyond its limit hangs; with it the watchdog is no longer told."""
    silent_s = {"writer": 1.0, "http": 2.0}
    told: list[bool] = []
    pulse = Watchdog(
        lambda: [Task(name, 10.0, lambda name=name: silent_s[name]) for name in silent_s],  # type: ignore[misc]
        lambda: told.append(True),
    )
    pulse.check()
    assert (pulse.hanging(), len(told)) == (set(), 1)
    silent_s["writer"] = 10.5
    pulse.check()
    assert (pulse.hanging(), len(told)) == ({"writer"}, 1)
    silent_s["writer"] = 0.0
    pulse.check()
    assert (pulse.hanging(), len(told)) == (set(), 2)


def test_thread_tells_until_it_is_closed() -> None:
    """Started, it tells by itself; closed, it is gone."""
    told = threading.Event()
    pulse = Watchdog(list, told.set)
    pulse.start()
    assert told.wait(60)
    pulse.close()
    assert "pulse" not in {thread.name for thread in threading.enumerate()}


def test_beat_measures_from_the_last_progress() -> None:
    """Progress makes the silence begin anew."""
    beat = Heartbeat()
    until(lambda: beat.silent_s() > 0.01, 60, "some silence")
    before = time.monotonic()
    beat()
    assert 0 <= beat.silent_s() <= time.monotonic() - before
