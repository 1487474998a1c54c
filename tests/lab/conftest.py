"""Fixtures of the laboratory: a network, and the certainty that nothing of it remains."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.net import Lab


@pytest.fixture(scope="session", autouse=True)
def nothing_remains() -> Iterator[None]:
    """After the last test no namespace of this process is left."""
    yield
    left = sorted(path.name for path in Path("/run/netns").glob(f"labkit-{os.getpid()}-*"))
    assert not left, f"labs that were not taken down: {left}"


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A network of this test's own, without clients and without a server."""
    with Lab() as lab:
        yield lab
