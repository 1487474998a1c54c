"""Fixtures of the whole system: Debian machines with systemd, on which macbind is installed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.installed import Installed, Parts, prepare
from labkit.net import Lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test of all waits until a Debian has been fetched, which is the mirror's matter."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session", autouse=True)
def nothing_remains() -> Iterator[None]:
    """After the last test no namespace of this process is left."""
    yield
    left = sorted(path.name for path in Path("/run/netns").glob(f"labkit-{os.getpid()}-*"))
    assert not left, f"labs that were not taken down: {left}"


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """What machines are made of."""
    return prepare(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, parts: Parts) -> Iterator[Installed]:
    """A machine of this module, with a network of its own (10.0.0.1/8 on br0): macbind is installed, not set up."""
    with Lab() as lab, Installed(lab, parts, tmp_path_factory.mktemp("machine")) as machine:
        machine.make("install")
        yield machine
