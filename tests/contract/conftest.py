"""Fixtures of the contract suite: every test of a registry runs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.book import Book
from contract.domain_site import Bench
from labkit.postgres import Postgres
from macbind.core.pool import ReleasePolicy


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests; each begins with an empty database and leaves the server running."""
    with Postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/registry.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.emptied()


@pytest.fixture
def book(url: str) -> Iterator[Book]:
    """A registry that is not open yet; the invariant is checked after the test."""
    book = Book(url)
    yield book
    book.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A warden whose pool releases on destroy."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[Bench]:
    """A warden whose pool releases on undefine."""
    bench = Bench(tmp_path, ReleasePolicy.UNDEFINE)
    yield bench
    bench.close()


@pytest.fixture
def doubting(tmp_path: Path) -> Iterator[Bench]:
    """A warden that looks again after an hour only."""
    bench = Bench(tmp_path, transition_s=3600)
    yield bench
    bench.close()
