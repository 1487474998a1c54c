"""For every test: interruptible programs, no judgement of slow machines, and a fair share for parallel workers."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# A test run in the background is started with SIGINT ignored, and every program it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("macbind", deadline=None)
settings.load_profile("macbind")

HERE = Path(__file__).parent
LONGEST_FIRST = (
    "lab/test_throughput.py",
    "system/test_init.py",  # the first machine, which waits for its Debian where there is none yet
    "lab/test_machine.py",
    "lab/test_lifecycle.py",
    "lab/test_labkit_virt.py",
    "lab/test_health.py",
    "system/test_life.py",
    "system/test_service.py",
    "lab/test_failures.py",
    "lab/test_slow_clients.py",
    "lab/test_daemon.py",
    "lab/test_bad_clients.py",
    "contract/test_writer.py",
    "contract/test_registry_races.py",
)
"""Files whose tests take longest; what is begun last should be short. Others are run in any order."""
TEST_BY_TEST = ("system/test_chaos.py", "lab/test_demo.py", "lab/test_throughput.py")
"""Files whose tests share nothing, so that they need not be run by one worker."""
_FINDING = "finding"


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: most tests wait most of the time, for a guest, a lease or a deadline."""
    return len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts files by what they take, and keeps each with one worker, as its tests share a farm or a guest."""
    for name in {*LONGEST_FIRST, *TEST_BY_TEST}:
        assert (HERE / name).exists(), f"{name} is not there any more: adapt {__file__}"
    ranks = {name: rank for rank, name in enumerate(LONGEST_FIRST)}
    names = {item: item.path.relative_to(HERE).as_posix() for item in items}
    items.sort(key=lambda item: ranks.get(names[item], len(ranks)))
    for item in items:
        group = item.name if names[item] in TEST_BY_TEST else ""
        item.add_marker(pytest.mark.xdist_group(f"{names[item]} {group}".strip()))


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
