"""The schema's versions lead to what the code expects, on both databases, whoever upgrades."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, event, text

from labkit.postgres import Postgres
from macbind.core.errors import ConfigError
from macbind.registry import migrations
from macbind.registry.database import open_engine
from macbind.registry.store import Registry
from macbind.registry.tables import metadata


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """An empty database."""
    engine = open_engine(url)
    yield engine
    engine.dispose()


def upgrade_from_the_first(db: Connection) -> None:
    """Makes the schema by all versions, one after another."""
    migrations.upgrade(db, migrations.VERSIONS[0])
    migrations.upgrade(db)


def _tables(engine: Engine) -> dict[str, str]:
    with engine.connect() as db:
        rows = db.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
        return {name: sql for name, sql in rows if name != "alembic_version"}


def test_upgrading_makes_the_schema_the_code_expects(engine: Engine) -> None:
    """Tables, columns, types, indexes and constraints after all migrations are those of the metadata."""
    with engine.begin() as db:
        upgrade_from_the_first(db)
    with engine.connect() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_a_slow_machine_may_take_its_time(postgres: Postgres) -> None:
    """PostgreSQL ends a change that rests for seconds, but not that of the schema, which reads scripts meanwhile."""
    rests: list[str] = []
    url = postgres.emptied()
    engine = open_engine(url)
    with engine.begin() as db:
        migrations.upgrade(db, migrations.VERSIONS[0])
    engine.dispose()

    def ask(db: Connection) -> None:
        rests.append(str(db.scalar(text("SHOW idle_in_transaction_session_timeout"))))

    with closing(Registry(url)) as registry:
        event.listen(registry.engine, "commit", ask)
        registry.apply({}, [])
        with registry.write("test"):
            pass
    assert rests == ["1min", "4s"]


def test_sqlites_tables_are_made_alike(tmp_path: Path) -> None:
    """What Alembic does not compare is the same too: tables without row ids, checks, partial indexes."""

    def described(engine: Engine) -> dict[tuple[str, str], list[str]]:
        with closing(engine.raw_connection()) as db:
            rows = db.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        engine.dispose()
        return {
            (kind, name): sorted(part.strip(" ()").lower() for part in sql.replace("\n", " ").split(","))
            for kind, name, sql in rows
            if name != "alembic_version"
        }

    migrated, made = (open_engine(f"sqlite:///{tmp_path}/{name}.db") for name in ("migrated", "made"))
    with migrated.begin() as db:
        upgrade_from_the_first(db)
    with made.begin() as db:
        migrations.upgrade(db)
    without = {name for name, sql in _tables(migrated).items() if sql.rstrip().endswith("WITHOUT ROWID")}
    added = {"evidence", "muted", "label", "seen", "configuration", "controller", "request"}
    assert without == {"allocation", "free_extent", "confirmed", "pending"} | added
    left, right = described(migrated), described(made)
    assert left.keys() == right.keys()
    for (kind, name), parts in left.items():
        if kind == "index":
            assert parts == right[kind, name]


def test_upgrading_again_changes_nothing(engine: Engine) -> None:
    """An upgrade of a current schema is a no-op that keeps what is stored."""
    with engine.begin() as db:
        migrations.upgrade(db)
        db.execute(text("INSERT INTO dhcpd (name) VALUES ('kept')"))
    with engine.begin() as db:
        migrations.upgrade(db)
        assert db.scalar(text("SELECT name FROM dhcpd")) == "kept"


def test_a_newer_schema_is_refused(url: str, engine: Engine) -> None:
    """A registry that a newer macbind wrote is left alone, and the error says what to install."""
    with engine.begin() as db:
        migrations.upgrade(db)
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigError) as caught:
        Registry.open(url, {}, [])
    assert str(caught.value) == (
        "The registry's schema '9999' is unknown to this version of macbind. "
        "Install the version that wrote it, or a newer one."
    )
    with engine.connect() as db:
        assert db.scalar(text("SELECT version_num FROM alembic_version")) == "9999"


def test_an_upgrade_that_fails_leaves_nothing(engine: Engine) -> None:
    """Schema and versions are changed in one transaction: an error undoes every table."""
    with pytest.raises(ZeroDivisionError):
        _upgrade_and_fail(engine)
    plain = create_engine(engine.url)
    with plain.connect() as db:
        context = MigrationContext.configure(db)
        assert context.get_current_revision() is None
        assert not plain.dialect.has_table(db, "allocation")
    plain.dispose()


def _upgrade_and_fail(engine: Engine) -> None:
    with engine.begin() as db:
        migrations.upgrade(db)
        _ = 1 // 0


def test_several_upgrade_at_once(url: str) -> None:
    """Of several connections that find an empty database one makes the schema and the others find it."""
    engines = [open_engine(url, busy_timeout_s=30) for _ in range(4)]
    start, errors = threading.Barrier(len(engines)), list[Any]()

    def upgrade(engine: Engine) -> None:
        start.wait()
        try:
            with engine.begin() as db:
                migrations.upgrade(db)
        except Exception as error:  # noqa: BLE001  # shown by the test
            errors.append(error)

    threads = [threading.Thread(target=upgrade, args=(engine,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for engine in engines:
        engine.dispose()
    assert errors == []


def test_a_renumbering_under_way_is_taken_over(engine: Engine) -> None:
    """What an older macbind has begun is held by nobody, and who was migrated away is still known to be."""
    row = (
        "INSERT INTO allocation (ip, mac, pool_id, name, gen, options, phase, pinned, created_at, moves_from, mover) "
        "VALUES ({0}, {0}, 1, 'vm', 1, '{{}}', {1}, false, 1, {2}, {3})"
    )
    with engine.begin() as db:
        migrations.upgrade(db, "0005")
        db.execute(text("INSERT INTO pool (id, name, layout, extra) VALUES (1, 'p', '', '')"))
        db.execute(text(row.format(1, "'moved'", "NULL", "NULL")))
        db.execute(text(row.format(2, "NULL", "1", "'host/7'")))
    with engine.begin() as db:
        migrations.upgrade(db)
        found = db.execute(
            text("SELECT ip, phase, renumbers_from, lease_token, lease_until FROM allocation ORDER BY ip")
        )
        assert list(found) == [(1, "migrated", None, None, None), (2, None, 1, None, 0.0)]
