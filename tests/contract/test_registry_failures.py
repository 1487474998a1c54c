"""A database that is locked, gone, read-only or something else: what callers are told, and how it ends."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from contract import workers
from contract.book import Book, addresses, make_pool
from labkit.cut import Cut
from labkit.postgres import Postgres
from labkit.wait import until
from macbind.core.errors import ConfigError, RegistryUnavailable
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.database import place
from macbind.registry.store import Registry


def _refused(work: Callable[[], object]) -> RegistryUnavailable:
    with pytest.raises(RegistryUnavailable) as caught:
        work()
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    assert Postgres.password not in str(caught.value)
    return caught.value


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Book]:
    """A registry in a SQLite file that is not there yet."""
    book = Book(f"sqlite:///{tmp_path}/registry.db")
    yield book
    book.abandon()


@pytest.fixture
def hall(postgres: Postgres) -> Iterator[Book]:
    """A registry in an empty PostgreSQL."""
    book = Book(postgres.emptied())
    yield book
    book.abandon()


def test_a_locked_database_is_reported_in_time(book: Book) -> None:
    """While another process holds the write lock changes fail with a hint, looks go on; then all is well."""
    book.open(make_pool(), busy_timeout_s=0.3)
    book.one("a")
    with workers.process(workers.hold_write_lock, book.url) as (_, pipe):
        assert workers.say(pipe) == "held"
        began = time.monotonic()
        error = _refused(lambda: book.one("b"))
        assert time.monotonic() - began > 0.2
        assert "holds its write lock" in error.hint
        assert [one.name for one in book.find()] == ["a"]

    def made() -> list[str]:
        try:
            return addresses(book.allocate("b"))
        except RegistryUnavailable:
            return []  # PostgreSQL has not seen yet that the process is gone

    assert until(made, 60, "the lock to be free") == ["10.1.1.2"]


@pytest.fixture
def new_file(site: Book) -> Iterator[sqlite3.Connection]:
    """Somebody who is writing into the SQLite file before any controller has made a registry of it."""
    with closing(sqlite3.connect(site.url.removeprefix("sqlite:///"), isolation_level=None)) as writer:
        writer.execute("CREATE TABLE made_by_somebody (what)")
        writer.execute("BEGIN IMMEDIATE")
        yield writer


def test_a_new_file_that_another_writes_into_is_waited_for(site: Book, new_file: sqlite3.Connection) -> None:
    """Several controllers that make one registry at once wait for each other, as for every later change."""
    with ThreadPoolExecutor(1) as pool:
        opening = pool.submit(site.open, make_pool(), busy_timeout_s=60)
        with pytest.raises(TimeoutError):
            opening.result(0.3)
        new_file.execute("COMMIT")
        opening.result(60)
    assert addresses(site.allocate("a")) == ["10.1.1.1"]
    site.close()


def test_a_new_file_that_another_keeps_is_reported_in_time(site: Book, new_file: sqlite3.Connection) -> None:
    """Such a wait ends after the time a change waits, with a hint."""
    began = time.monotonic()
    error = _refused(lambda: site.open(make_pool(), busy_timeout_s=0.3))
    assert time.monotonic() - began > 0.2
    assert "holds its write lock" in error.hint


def test_a_lock_that_is_released_in_time_is_waited_for(book: Book) -> None:
    """A change waits for another one's end instead of failing."""
    book.open(make_pool(), busy_timeout_s=60)
    with workers.process(workers.hold_write_lock, book.url) as (holder, pipe):
        assert workers.say(pipe) == "held"
        holder.kill()
        assert addresses(book.allocate("a")) == ["10.1.1.1"]


def test_a_file_that_is_replaced_is_noticed(site: Book, tmp_path: Path) -> None:
    """Nothing is written to, or read from, a file that is no longer the registry's; it may be put back."""
    site.open(make_pool())
    site.one("a")
    (tmp_path / "registry.db").rename(tmp_path / "away.db")
    for work in (lambda: site.one("b"), site.find, lambda: site.one("c")):
        assert "was removed or replaced while it was in use" in _refused(work).message
    assert not (tmp_path / "registry.db").exists()
    (tmp_path / "registry.db").write_bytes((tmp_path / "away.db").read_bytes())
    assert "restart macbind to go on with what is there now" in _refused(site.find).hint
    (tmp_path / "away.db").replace(tmp_path / "registry.db")
    assert addresses(site.find()) == ["10.1.1.1"]
    assert addresses(site.allocate("b")) == ["10.1.1.2"]
    site.close()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """A registry in a missing directory says which file, and what to do."""
    error = _refused(lambda: Book(f"sqlite:///{tmp_path}/missing/registry.db").open(make_pool()))
    assert f"{tmp_path}/missing/registry.db cannot be used: unable to open database file" in error.message
    assert error.hint == "Create its directory and make it writable for macbind's user."


def test_a_file_that_is_something_else(site: Book, tmp_path: Path) -> None:
    """A file that is no database is named and left alone."""
    other = tmp_path / "registry.db"
    other.write_text("option domain-name-servers 10.1.0.1;\n" * 100)
    error = _refused(lambda: site.open(make_pool()))
    assert error.hint == "Check the url in [registry]: this file is something else."
    assert other.read_text().startswith("option domain-name-servers")


def test_a_damaged_file(site: Book, tmp_path: Path) -> None:
    """A registry whose file was overwritten in the middle is reported as damaged or as no database."""
    site.open(make_pool())
    site.allocate(*(f"m{number}" for number in range(14)))
    site.close()
    whole = (tmp_path / "registry.db").read_bytes()
    (tmp_path / "registry.db").write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    error = _refused(lambda: site.open(make_pool()))
    assert error.hint == "Restore it from a backup; the file is damaged."


def test_a_file_that_is_damaged_further_down(site: Book, tmp_path: Path) -> None:
    """Damage that a look meets only after its first rows is reported like any other."""
    site.open(make_pool(subnet="10.1.0.0/20"))
    site.allocate(*(f"machine-{number:04}" for number in range(2000)))
    site.registry.engine.dispose()  # what it has read already is forgotten
    file = tmp_path / "registry.db"
    whole = file.read_bytes()
    pages = [whole[start : start + 4096] for start in range(0, len(whole), 4096)]
    damaged = [b"\xff" * 4096 if b"machine-1200" in page else page for page in pages]
    assert damaged != pages
    file.write_bytes(b"".join(damaged))
    assert len(site.find(limit=500)) == 500
    assert _refused(site.find).hint == "Restore it from a backup; the file is damaged."
    site.abandon()


def test_a_read_only_file(site: Book, tmp_path: Path) -> None:
    """A registry that cannot be written says so when it is opened."""
    site.open(make_pool())
    site.close()
    reader = Book(f"sqlite:///file:{tmp_path}/registry.db?mode=ro&uri=true")
    assert "writable for macbind's user" in _refused(lambda: reader.open(make_pool())).hint


def test_a_read_only_server(hall: Book, postgres: Postgres) -> None:
    """A PostgreSQL that takes no changes, as a standby, says so when the registry is opened."""
    postgres.run("ALTER ROLE macbind SET default_transaction_read_only = on")
    try:
        assert "standby" in _refused(lambda: hall.open(make_pool())).hint
    finally:
        postgres.run("SET default_transaction_read_only = off", "ALTER ROLE macbind RESET ALL")
    hall.open(make_pool())
    hall.close()


def test_a_server_that_stops_and_returns(hall: Book, postgres: Postgres) -> None:
    """While PostgreSQL is down everything fails with a hint; when it is back, nothing has to be restarted."""
    hall.open(make_pool())
    hall.one("a")
    with hall.read(), hall.read():
        pass  # several connections wait in the pool
    postgres.stop()
    try:
        for work in (lambda: hall.one("b"), hall.find, lambda: Registry.open(hall.url, {}, [])):
            error = _refused(work)
            assert error.hint == "Check that the database server runs and is reachable."
            assert place(hall.url) in error.message
    finally:
        postgres.start()
    assert addresses(hall.allocate("b")) == ["10.1.1.2"]
    assert addresses(hall.find()) == ["10.1.1.1", "10.1.1.2"]
    hall.close()


def test_a_server_that_restarts_unnoticed(hall: Book, postgres: Postgres) -> None:
    """A request after a restart of PostgreSQL succeeds at once, though its connection is a dead one."""
    hall.open(make_pool())
    hall.one("a")
    postgres.stop()
    postgres.start()
    assert addresses(hall.allocate("b")) == ["10.1.1.2"]
    hall.close()


def test_a_commit_without_an_answer_is_unknown(hall: Book, postgres: Postgres, tmp_path: Path) -> None:
    """PostgreSQL has committed, and its answer is lost: the error says that it is unknown; a repeat finds it made."""
    socket = ".s.PGSQL.5432"
    relayed = Book(hall.url.replace(str(postgres.directory), str(tmp_path)))
    with Cut(tmp_path / socket, postgres.directory / socket) as cut:
        relayed.open(make_pool())
        cut.lose(b"COMMIT")
        error = _refused(lambda: relayed.one("a"))
        assert "did not say whether the change was made" in error.message
        assert error.hint.startswith("Ask again with the same name")
        assert error.details["outcome"] == "unknown"
        # Nobody waits for the answer any more, so PostgreSQL may be at it still.
        until(lambda: addresses(relayed.find()) == ["10.1.1.1"], 30, "PostgreSQL to commit")
        assert addresses(relayed.allocate("a")) == ["10.1.1.1"]
        assert addresses(relayed.allocate("b")) == ["10.1.1.2"]
        relayed.abandon()


@pytest.mark.parametrize("ports", [":5432", ""])
def test_several_hosts_in_the_spelling_of_libpq(hall: Book, postgres: Postgres, ports: str) -> None:
    """``HOST,HOST`` before the database, as in libpq's own URLs: the one that answers is used."""
    start, _, end = hall.url.partition("@")
    database, _, _ = end.removeprefix("/").partition("?")
    there = str(postgres.directory).replace("/", "%2F")
    url = f"{start}@%2Fnowhere{ports},{there}{ports}/{database}"
    registry = Registry.open(url, {"farm": make_pool()}, ["d1"])
    with registry.write("test") as txn:
        assert addresses(allocate(txn, Wanted("farm", ("a",)))) == ["10.1.1.1"]
    registry.close()


def test_a_wrong_password_is_not_shown(hall: Book) -> None:
    """Refused credentials are a hint about the url; neither password appears."""
    url = hall.url.replace(Postgres.password, "another-secret")
    error = _refused(lambda: Book(url).open(make_pool()))
    assert error.hint == "Check user and password in the url in [registry]."
    assert "another-secret" not in str(error)


def test_a_missing_database(hall: Book) -> None:
    """A database that does not exist is a hint about the url."""
    error = _refused(lambda: Book(hall.url.replace("/postgres?", "/missing?")).open(make_pool()))
    assert 'database "missing" does not exist' in error.message
    assert "Check the url" in error.hint


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:s3cret@h/db",
        "s3cret",
        "oracle://u:s3cret@h/db",
        "postgresql+psycopg://u:s3cret@a:1,b:x/db",
        "postgresql+psycopg://u:s3cret@a:x/db",
    ],
)
def test_other_databases_are_refused(url: str) -> None:
    """A url of another kind, or none, is a fault of the configuration; it is not repeated."""
    with pytest.raises(ConfigError, match="Use a sqlite: or postgresql: URL") as caught:
        Registry.open(url, {}, [])
    assert "s3cret" not in str(caught.value)


def test_changes_are_on_disk_when_they_are_committed_and_lazy_ones_with_the_next(book: Book) -> None:
    """Ordinary changes are flushed, lazy ones are not, however they follow each other on one connection."""
    book.open(make_pool())
    registry = book._registry
    assert registry is not None
    question = "PRAGMA synchronous" if book.url.startswith("sqlite") else "SHOW synchronous_commit"
    answers = []
    for lazy in (False, True, True, False):
        with registry.write("test", lazy=lazy) as txn:
            answers.append(str(txn.db.exec_driver_sql(question).scalar()))
    assert answers in (["2", "1", "1", "2"], ["on", "off", "off", "on"])


def test_root_follows_no_link_of_another_user(tmp_path: Path) -> None:
    """Whoever owns the registry's directory does not choose which file root opens there."""
    victim, path = tmp_path / "other.db", tmp_path / "registry.db"
    with closing(sqlite3.connect(victim)) as other:
        other.execute("CREATE TABLE mine (x)")
    before = victim.read_bytes()
    path.symlink_to(victim)
    os.chown(path, 65534, 65534, follow_symlinks=False)
    error = _refused(lambda: Book(f"sqlite:///{path}").open(make_pool()))
    assert "is a symbolic link of user 65534, which root does not follow" in error.message
    assert victim.read_bytes() == before
