"""Time without the jumps of a clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from macbind.core.steady_time import SteadyTime

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    """The time of day so much later."""
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize("late_s", [0, 0.5, 4.9])
def test_a_late_turn_is_no_jump(late_s: float) -> None:
    """Nor is a clock that is corrected slowly, however long that takes."""
    steady = SteadyTime()
    for turn in range(100):
        assert not steady.note(after(turn * (10 + late_s)), turn * 10)
    assert not steady.is_held(990)
    assert steady.since(NOW, after(100)) == timedelta(seconds=100)


def test_what_was_made_before_a_jump_gets_its_time() -> None:
    """The host slept for an hour: an allocation of a minute before has lived for a minute."""
    steady = SteadyTime()
    steady.note(NOW, 0)
    steady.note(after(60), 60)
    assert steady.note(after(3661), 61) == timedelta(seconds=3600)
    assert steady.since(NOW, after(3661)) == timedelta(seconds=61)
    assert steady.since(after(3661), after(3700)) == timedelta(seconds=39)
    assert steady.is_held(61)
    assert steady.is_held(3660)
    assert not steady.is_held(3661)


def test_a_battery_that_was_empty_holds_nothing_for_years() -> None:
    """The hold is a day at most; the jump does not count for what was made before it, whenever."""
    steady = SteadyTime()
    steady.note(datetime(1970, 1, 1, tzinfo=UTC), 0)
    steady.note(NOW, 1)
    assert steady.is_held(86_400)
    assert not steady.is_held(86_401)
    assert steady.since(datetime(1970, 1, 1, tzinfo=UTC), NOW) == timedelta(seconds=1)


def test_a_clock_that_is_set_back_holds_nothing() -> None:
    """What is due then becomes due later, by itself."""
    steady = SteadyTime()
    steady.note(NOW, 0)
    assert not steady.note(after(-3600), 1)
    assert not steady.is_held(1)
