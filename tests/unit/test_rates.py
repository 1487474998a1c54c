"""How fast things go just now, from a bounded record."""

from macbind.core.findings import Rates
from macbind.service.rates import RateLog


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        """Now."""
        return self.at


def test_a_minute_is_counted_and_forgotten() -> None:
    """Allocations and releases count for a minute, however they are spread over it."""
    clock = Clock()
    log = RateLog(clock)
    assert log.now(3) == Rates(waiting=3)
    for _ in range(10):
        log.allocated(2)
        log.released()
        clock.at += 5
    assert log.now(0) == Rates(20, 10)
    clock.at += 30
    assert log.now(0) == Rates(10, 5)
    clock.at += 3600
    assert log.now(0) == Rates()


def test_the_time_from_destroy_to_free_is_that_of_a_quarter_of_an_hour() -> None:
    """Median and tail are of machines that ended within 15 minutes; without any there is none."""
    clock = Clock()
    log = RateLog(clock)
    log.ended(100.0)
    clock.at += 800
    for number in range(1, 100):
        log.ended(number / 100)
    found = log.now(0)
    assert found.destroy_to_free_p50_s == 0.51
    assert found.destroy_to_free_p99_s == 100.0
    clock.at += 200
    found = log.now(0)
    assert (found.destroy_to_free_p50_s, found.destroy_to_free_p99_s) == (0.5, 0.99)
    clock.at += 900
    assert log.now(0) == Rates()


def test_the_record_is_bounded() -> None:
    """Of very many releases the latest are kept."""
    log = RateLog(Clock())
    for number in range(100_000):
        log.ended(float(number))
    found = log.now(0)
    assert found.destroy_to_free_p50_s is not None
    assert found.destroy_to_free_p50_s > 95_000
