"""Opening the database, and telling its failures apart. The only place that knows two dialects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from macbind.errors import ConfigError, InvariantViolation, RegistryUnavailable

READ_ONLY = "macbind_read_only"
"""Execution option of connections that only read, so that SQLite need not give them its one writer lock."""

# PostgreSQL's defaults keep a lock for hours after the holder's host was unplugged, and a stopped process
# keeps it for ever. These are set by the session itself, so no server configuration is needed.
_PG_SERVER = {
    "tcp_keepalives_idle": 3,
    "tcp_keepalives_interval": 1,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 5000,
    "idle_in_transaction_session_timeout": 5000,
    "lock_timeout": 5000,
    "statement_timeout": 30000,
}
_PG_CLIENT = {
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 5000,
    "connect_timeout": 3,
}


def open_engine(url: str, *, busy_timeout_s: float = 5.0, **session: int) -> Engine:
    """Opens SQLite or PostgreSQL with the settings the registry's guarantees need.

    Args:
        url: SQLAlchemy URL, ``sqlite:////path`` or ``postgresql+psycopg://…``.
        busy_timeout_s: How long SQLite waits for another process's write lock, in seconds.
        **session: More PostgreSQL session settings, in its own units.

    Raises:
        ConfigError: Another kind of database, or its driver is not installed.
    """
    parsed = make_url(url)
    try:
        match parsed.get_backend_name():
            case "sqlite":
                engine = create_engine(parsed, connect_args={"timeout": busy_timeout_s})
                event.listen(engine, "connect", _set_up_sqlite)
                event.listen(engine, "begin", _begin_sqlite)
            case "postgresql":
                settings = {**_PG_SERVER, **session}
                options = " ".join(f"-c {name}={value}" for name, value in settings.items())
                engine = create_engine(parsed, connect_args={**_PG_CLIENT, "options": options})
            case other:
                raise ConfigError(
                    f"The registry cannot live in '{other}'.", hint="Use a sqlite: or postgresql: URL."
                )
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The registry's database driver is not installed: {error.name}.",
            hint="Install macbind[postgresql].",
        ) from error
    return engine


def _set_up_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    # The driver must not open transactions by itself: _begin_sqlite does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # FULL costs one flush per commit; NORMAL could forget an allocation after power loss that a machine
    # has been started with.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA cache_size = -65536")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turns the database's exceptions into ours, once, here.

    Raises:
        RegistryUnavailable: Locked, full, unreachable: the transaction was rolled back.
        InvariantViolation: A constraint was hit, which the code above must never do.
    """
    try:
        yield
    except IntegrityError as error:
        raise InvariantViolation(f"The registry refused an impossible change: {error.orig}.") from error
    except (OperationalError, DBAPIError) as error:
        text = str(error.orig)
        raise RegistryUnavailable(
            f"The registry {_place(url)} did not take the change: {text.strip()}.", hint=_hint(text)
        ) from error
    except SQLAlchemyError as error:
        raise RegistryUnavailable(f"The registry {_place(url)} failed: {error}.") from error


def _place(url: str) -> str:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return str(parsed.database)
    return parsed.render_as_string(hide_password=True)


def _hint(text: str) -> str:
    known = {
        "locked": "Another process holds its write lock; end that process or ask again.",
        "full": "Free space on its disk.",
        "unable to open": "Create its directory and make it writable for macbind's user.",
        "readonly": "Make the file and its directory writable for macbind's user.",
        "connection": "Check that the database server runs and is reachable.",
        "malformed": "Restore it from a backup; the file is damaged.",
        "not a database": "Check the url in [registry]: this file is something else.",
    }
    return next((hint for word, hint in known.items() if word in text), "Nothing was changed; ask again.")


def sqlite_path(url: str) -> Path | None:
    """The database file of a SQLite URL, else None."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    return Path(parsed.database)
