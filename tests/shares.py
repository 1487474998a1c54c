"""How the tests are shared out among the workers of pytest-xdist: by file, the longest first.

The tests of a file share a farm, a guest or a machine, which every worker that has some of them would have to make.
"""

from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

HERE = Path(__file__).parent
LONGEST_FIRST = (
    "xen/test_machines.py",
    "lab/test_throughput.py",
    "system/test_init.py",  # the first machine, which waits for its Debian where there is none yet
    "lab/test_lifecycle.py",
    "lab/test_machine.py",
    "lab/test_labkit_virt.py",
    "system/test_life.py",
    "lab/test_renumber.py",
    "lab/test_health.py",
    "system/test_service.py",
    "system/test_chaos.py",
    "lab/test_demo.py",
    "system/test_guest_linux.py",
    "contract/test_registry_races.py",
    "lab/test_windows_batch.py",
    "lab/test_guest_linux.py",
    "lab/test_failures.py",
    "property/test_lifecycle.py",
    "property/test_owners.py",
    "property/test_comparing.py",
    "property/test_registry.py",
    "property/test_client.py",
)
"""The files that take more than 10 s: what is begun last should be short. The others come in any order."""
TEST_BY_TEST = ("lab/test_demo.py", "lab/test_throughput.py", "system/test_chaos.py")
"""Files whose tests share nothing: each test is a share of its own."""


def rank(file: Path) -> int:
    """The place of a file's tests among all."""
    name = file.relative_to(HERE).as_posix()
    return LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)


def share(nodeid: str) -> str:
    """Tests with the same share are run one after the other by the same worker."""
    file = nodeid.partition("::")[0]
    return nodeid if file.endswith(TEST_BY_TEST) else file


class Scheduler(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives each worker that is about to have nothing left the next share, in the order of the tests."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        config.option.loadscopereorder = False  # it would put those with the most tests first
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return share(nodeid)
