"""Fixtures of the tests on Xen: one domain 0 with macbind and its dhcpd, which all tests share."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from labkit.net import Lab
from labkit.xen import Xen
from labkit.xen_farm import XenFarm

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
domain_name_servers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.1-10.1.1.250"]
"""
# A domain that reboots is off for 3 to 11 s here, and longer where several test runs share a processor.
TRANSITION_S = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of all waits until Xen and macbind have started, without KVM."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(3000))


@pytest.fixture(scope="session", autouse=True)
def nothing_remains() -> Iterator[None]:
    """After the last test no namespace of this process is left."""
    yield
    left = sorted(path.name for path in Path("/run/netns").glob(f"labkit-{os.getpid()}-*"))
    assert not left, f"labs that were not taken down: {left}"


@pytest.fixture(scope="module")
def farm() -> Iterator[XenFarm]:
    """macbind and a dhcpd that serve in domain 0."""
    with ExitStack() as opened:
        place = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="macbind-xen-")))
        xen = opened.enter_context(Xen(opened.enter_context(Lab()), place))
        farm = opened.enter_context(XenFarm(xen, POOLS, transition_s=TRANSITION_S))
        yield farm
        assert farm.defects() == []
