"""Fixtures of the laboratory: a network, farms in it, and the certainty that nothing of them remains."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from labkit.farm import Farm
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


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory with a short path, as sockets need, that every user may look into."""
    with tempfile.TemporaryDirectory(prefix="macbind-", ignore_cleanup_errors=True) as name:
        place = Path(name)
        place.chmod(0o755)
        yield place


@contextmanager
def whole_farm(lab: Lab, **tables: Any) -> Iterator[Farm]:
    """A serving farm; fails at the end if the service's log shows a defect, or the OMAPI secret."""
    with open_directory() as place:
        with Farm(lab, place, **tables) as farm:
            yield farm
        assert farm.defects() == []
        assert farm.dhcpd.key is not None
        assert farm.dhcpd.key.secret not in farm.log()


@pytest.fixture
def make_farm(lab: Lab) -> Iterator[Callable[..., Farm]]:
    """Makes a serving farm of this test's own; takes the arguments of `Farm`."""
    with ExitStack() as farms:
        yield lambda **tables: farms.enter_context(whole_farm(lab, **tables))


@pytest.fixture(scope="module")
def farm(request: pytest.FixtureRequest) -> Iterator[Farm]:
    """A serving farm that the tests of a module share, with the module's POOLS; each uses a pool of its own.

    The module may say more of it in FARM, the other arguments of `Farm`.
    """
    tables = getattr(request.module, "FARM", {})
    with Lab() as lab, whole_farm(lab, pools=request.module.POOLS, **tables) as farm:
        yield farm
