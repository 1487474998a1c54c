"""For every test: interruptible programs, no judgement of slow machines, and a fair share for parallel workers."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import shares

# A test run in the background is started with SIGINT ignored, and every program it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A change is judged by the same examples in every run; `make hunt` draws new ones.
_ANY_SPEED: Any = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("macbind", derandomize=True, **_ANY_SPEED)
settings.register_profile("hunt", print_blob=True, **_ANY_SPEED)
settings.load_profile("macbind")

_FINDING = "finding"


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: most tests wait most of the time, for a guest, a lease or a deadline."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n`, each file is one worker's; see `shares`."""
    return shares.Scheduler(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first: what is begun last should be short."""
    items.sort(key=lambda item: shares.rank(item.path))


@pytest.fixture
def finding(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Adds a line to the end of the run's output: what a test found out and everybody should see."""
    return lambda line: request.node.user_properties.append((_FINDING, line))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints that, in every run."""
    reports = [one for found in terminalreporter.stats.values() for one in found]
    called = [one for one in reports if isinstance(one, pytest.TestReport) and one.when == "call"]
    found = [str(line) for one in called for name, line in one.user_properties if name == _FINDING]
    if found:
        terminalreporter.section("findings")
        for line in found:
            terminalreporter.line(line)
