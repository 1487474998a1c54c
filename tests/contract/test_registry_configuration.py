"""One configuration for all controllers of a registry: who may change it, and who waits until he has read it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from contract.book import ip, make_pool
from labkit.wait import until
from macbind.core.errors import ConfigError, RegistryUnavailable
from macbind.core.pool import Pool
from macbind.core.shared_configuration import SharedConfiguration
from macbind.registry import migrations
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.configuration import GIVES_UP, Offer, OutdatedFile
from macbind.registry.database import open_engine
from macbind.registry.queries import find
from macbind.registry.store import Registry
from macbind.registry.sync import Changes

OLD, NEW = "10.1.1.1-10.1.1.6", "10.1.1.8-10.1.1.14"
DEADLINE_S = 60.0


def pool_of(ranges: str) -> Pool:
    """A pool that hands out this range."""
    return make_pool(ranges=[ranges])


def shared(ranges: str) -> SharedConfiguration:
    """What is recorded of that pool."""
    return SharedConfiguration({"pool": {"farm": {"subnet": "10.1.1.0/28", "ranges": [ranges]}}})


Start = Callable[[str], Registry]


@pytest.fixture
def start(url: str) -> Iterator[Start]:
    """Starts controllers' registries with a range; all end with the test."""
    made: list[Registry] = []

    def start(ranges: str) -> Registry:
        registry = Registry(url, busy_timeout_s=DEADLINE_S)
        made.append(registry)
        try:
            apply(registry, ranges)
        except (ConfigError, OutdatedFile):
            registry.close()  # as a controller does that cannot start
            raise
        return registry

    yield start
    for one in made:
        one.close()


def apply(registry: Registry, ranges: str, *, is_meant: bool = False) -> Changes:
    """Applies a configuration as a controller does."""
    return registry.apply(
        {"farm": pool_of(ranges)}, ["d1"], (), Offer(shared(ranges), "test", is_meant=is_meant)
    )


def one(registry: Registry, name: str) -> str:
    """Allocates, and returns the address."""
    with registry.write("test") as txn:
        return str(allocate(txn, Wanted("farm", (name,)))[0].address)


@contextmanager
def at_once() -> Iterator[None]:
    """Nobody waits in the block for a configuration to be read."""
    token = GIVES_UP.set(lambda: True)
    yield
    GIVES_UP.reset(token)


def test_whoever_is_alone_uses_his_file(start: Start, url: str) -> None:
    """A configuration is changed, also back again, by opening the registry with it."""
    registry = start(OLD)
    assert (registry.revision, one(registry, "a")) == (1, "10.1.1.1")
    apply(registry, NEW)
    assert (registry.revision, one(registry, "b")) == (2, "10.1.1.8")
    registry.close()
    again = start(OLD)
    assert (again.revision, one(again, "c")) == (3, "10.1.1.2")


def test_another_file_is_refused_while_others_live(start: Start, url: str) -> None:
    """Both values are named, and neither the tables nor what the others do change."""
    first = start(OLD)
    with pytest.raises(ConfigError) as refused:
        start(NEW)
    assert refused.value.message == (
        "Other controllers use this registry with another configuration. "
        f'[pool.farm] ranges: ["{NEW}"] in the file, ["{OLD}"] in use.'
    )
    assert "macbind config apply FILE" in refused.value.hint
    assert one(first, "a") == "10.1.1.1"
    second = start(OLD)
    assert (first.revision, second.revision) == (1, 1)
    assert one(second, "b") == "10.1.1.2"
    with pytest.raises(ConfigError, match="Other controllers"):
        apply(first, NEW)
    with pytest.raises(ConfigError, match="Other controllers"):
        first.preview({"farm": pool_of(NEW)}, ["d1"], Offer(shared(NEW)))
    assert one(first, "c") == "10.1.1.3"
    second.close()
    apply(first, NEW)
    assert one(first, "d") == "10.1.1.8"


def test_nobody_reads_or_writes_with_an_old_one(start: Start) -> None:
    """A controller that has not read the new one does nothing; it goes on as soon as it has."""
    first, second = start(OLD), start(OLD)
    apply(first, NEW, is_meant=True)
    assert second.is_outdated()
    with at_once():
        with pytest.raises(RegistryUnavailable, match="does not use the new one yet"):
            one(second, "a")
        with pytest.raises(RegistryUnavailable, match="does not use the new one yet"), second.read():
            pass
    second.outdated.clear()
    with ThreadPoolExecutor(2) as threads:
        writing = threads.submit(one, second, "b")
        assert second.outdated.wait(DEADLINE_S)
        with first.read() as view:
            assert find(view) == []
        apply(second, NEW)
        assert writing.result(DEADLINE_S) == "10.1.1.8"
    assert not second.is_outdated()


def test_why_it_cannot_be_read_is_said(start: Start) -> None:
    """A controller that cannot use the new one says so to everybody who asks, at once."""
    first, second = start(OLD), start(OLD)
    apply(first, NEW, is_meant=True)
    second.not_read = ConfigError("No such key file.", hint="Make it.")
    with pytest.raises(RegistryUnavailable, match=r"yet\. No such key file\. Make it\."):
        one(second, "a")


def test_a_file_from_before_is_outdated(start: Start) -> None:
    """After one was applied, the file that was in use before is no other configuration, but an old one."""
    first, second = start(OLD), start(OLD)
    apply(first, NEW, is_meant=True)
    apply(second, NEW)
    for registry in (first, second):
        with pytest.raises(OutdatedFile) as found:
            apply(registry, OLD)
        assert found.value.recorded.shared.fingerprint == shared(NEW).fingerprint
    second.close()
    with pytest.raises(OutdatedFile):
        apply(first, OLD)
    apply(first, OLD, is_meant=True)
    assert one(first, "a") == "10.1.1.1"


def test_what_others_renewed_is_known(start: Start) -> None:
    """Whoever reads a configuration learns which generations it has given to bindings."""
    first, second = start(OLD), start(OLD)
    changes = apply(first, NEW, is_meant=True)
    read = apply(second, NEW)
    assert changes.generation in read.generations
    assert read.generation not in changes.generations


def test_a_registry_of_an_older_version_gets_the_present_one(start: Start, url: str) -> None:
    """Where none is recorded, the first one that is offered is in use."""
    engine = open_engine(url)
    with engine.begin() as db:
        migrations.upgrade(db, to="0011")
    engine.dispose()
    registry = start(OLD)
    recorded = registry.configuration()
    assert recorded is not None
    assert (recorded.revision, recorded.is_applied, recorded.actor) == (1, False, "test")
    assert recorded.shared.tables == shared(OLD).tables


def test_one_of_many_that_start_at_once_is_the_first(url: str) -> None:
    """Of controllers with two files that start together, all that are not refused have the same one."""
    ranges = [OLD, NEW] * 2
    engine = open_engine(url)
    with engine.begin() as db:
        migrations.upgrade(db)
    engine.dispose()
    registries = [Registry(url) for _ in ranges]
    together = threading.Barrier(len(ranges))

    def begin(registry: Registry, mine: str) -> str | None:
        together.wait(DEADLINE_S)
        try:
            apply(registry, mine)
        except (ConfigError, RegistryUnavailable):
            return None
        return mine

    with ThreadPoolExecutor(len(ranges)) as threads:
        used = set(threads.map(begin, registries, ranges)) - {None}
    for registry in registries:
        registry.close()
    assert len(used) == 1


def test_a_file_that_was_away_is_not_made_anew(tmp_path: Path) -> None:
    """Looking for a configuration, and recording one, leave a missing SQLite file missing."""
    file = tmp_path / "registry.db"
    registry = Registry(f"sqlite:///{file}")
    apply(registry, OLD)
    aside = file.rename(tmp_path / "aside.db")
    for ask in (registry.is_outdated, registry.configuration, lambda: apply(registry, NEW)):
        with pytest.raises(RegistryUnavailable, match="was removed or replaced"):
            ask()
        assert not file.exists()
    aside.rename(file)
    assert one(registry, "a") == "10.1.1.1"
    registry.close()


def test_a_lost_session_is_made_anew(start: Start, url: str) -> None:
    """A controller whose connection broke says again that it is there, at its next look."""
    first = start(OLD)
    if url.startswith("sqlite"):
        first.presence.leave()
    else:
        with first.engine.begin() as db:
            db.exec_driver_sql(
                "SELECT pg_terminate_backend(pid, 20000) FROM pg_locks "  # returns when it is gone
                "WHERE locktype = 'advisory' AND mode = 'ShareLock'"
            )

    def is_there() -> bool:
        first.presence.show()
        try:
            start(NEW)
        except ConfigError:
            return True
        return False

    assert is_there()


def test_pools_that_are_read_later_are_known(start: Start, url: str) -> None:
    """An allocation of a pool that a controller does not know yet is shown once it has read of it."""
    first, second = start(OLD), start(OLD)
    more = {"farm": pool_of(OLD), "more": make_pool("more", subnet="10.1.2.0/28")}
    offer = Offer(SharedConfiguration({"pool": {"farm": {}, "more": {}}}), "test", is_meant=True)
    first.apply(more, ["d1"], (), offer)
    with first.write("test") as txn:
        allocate(txn, Wanted("more", ("a",)))

    def look() -> list[str]:
        with second.read() as view:
            return [str(found.address) for found in find(view)]

    with ThreadPoolExecutor(1) as threads:
        looking = threads.submit(look)
        until(second.outdated.is_set, DEADLINE_S, "the look")
        second.apply(more, ["d1"], (), Offer(offer.shared))
        assert looking.result(DEADLINE_S) == [str(ip("10.1.2.1"))]
