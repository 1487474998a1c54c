"""Opening the database, and telling its failures apart. The only place that knows two dialects.

Both give every change the same guarantee: one transaction writes at a time, and what it reads is what the one
before it left. SQLite has one writer lock; PostgreSQL is given one. Names and MACs are unique across pools,
and a batch changes several pools in any order, so locks of a finer grain would need an order, and a second
look after each of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from macbind.errors import ConfigError, InvariantViolation, RegistryUnavailable
from macbind.registry.statement import execute

READ_ONLY = "macbind_read_only"
"""Execution option of connections that only read: they take no write lock and wait for none."""
LAZY = "macbind_lazy"
"""Execution option of changes that need not be on disk when they are committed. They are no later than the next
change that must, because both databases write one log: a power failure loses the last of them, never one before
another."""
_WRITE_LOCK = f"SELECT pg_advisory_xact_lock({0x6D616362})"  # any constant of ours: "macb"
_LAZY_WRITE_LOCK = f"{_WRITE_LOCK}, set_config('synchronous_commit', 'off', true)"

# PostgreSQL's defaults keep a lock for hours after the holder's host was unplugged, and a stopped process
# keeps it for ever. These are set by the session itself, so no server configuration is needed.
_PG_SERVER = {
    "tcp_keepalives_idle": 3,
    "tcp_keepalives_interval": 1,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 5000,
    "idle_in_transaction_session_timeout": 4000,  # less than others wait for its lock
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
        busy_timeout_s: How long a change waits for another one's lock, in seconds.
        **session: More PostgreSQL session settings, in its own units.

    Raises:
        ConfigError: Another kind of database, or its driver is not installed.
    """
    try:
        parsed = make_url(url)
        match parsed.get_backend_name():
            case "sqlite":
                engine = create_engine(parsed, connect_args={"timeout": busy_timeout_s})
                event.listen(engine, "connect", _set_up_sqlite)
                file = _SqliteFile(parsed.database or "")
                event.listen(engine, "do_connect", file.connect)
                event.listen(engine, "begin", file.begin)
            case "postgresql":
                waits = {"lock_timeout": round(busy_timeout_s * 1000)}
                settings = {**_PG_SERVER, **waits, **session}
                options = " ".join(f"-c {name}={value}" for name, value in settings.items())
                connect_args = {**_PG_CLIENT, "options": options}
                # The ping finds out about a restarted server before a request does.
                engine = create_engine(parsed, connect_args=connect_args, pool_pre_ping=True)
                event.listen(engine, "begin", _begin_postgresql)
            case other:
                raise ConfigError(
                    f"The registry cannot live in '{other}'.", hint="Use a sqlite: or postgresql: URL."
                )
    except ArgumentError as error:  # it may hold a password, so it is not repeated
        raise ConfigError(
            "The registry's url is not a database URL.", hint="Use a sqlite: or postgresql: URL."
        ) from error
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"The registry's database driver is not installed: {error.name}.",
            hint="Install macbind[postgresql].",
        ) from error
    return engine


def reading(engine: Engine) -> Engine:
    """The same database for transactions that only look, each at one state of it."""
    options: dict[str, Any] = {READ_ONLY: True}
    if engine.dialect.name == "postgresql":  # SQLite's transactions are like this by themselves
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    return engine.execution_options(**options)


def _set_up_sqlite(connection: Any, _entry: ConnectionPoolEntry) -> None:
    # The driver must not open transactions by itself: _SqliteFile does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA cache_size = -65536")
    cursor.close()


class _SqliteFile:
    """The file of a registry: SQLite goes on with one that was removed or replaced, and all of it would be lost."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._opened: tuple[int, int] | None = None

    def connect(self, *_: object) -> None:
        """Before a connection: a file that is missing now must not be made anew."""
        if self._opened is not None:
            self._check()

    def begin(self, connection: Connection) -> None:
        """Begins a transaction."""
        self._opened = self._opened or self._identity()
        self._check()
        options = connection.get_execution_options()
        if options.get(READ_ONLY, False):
            execute(connection, "BEGIN")
            return
        # FULL costs one flush per commit; NORMAL could forget an allocation after power loss that a machine has been
        # started with.
        wanted = "NORMAL" if options.get(LAZY, False) else "FULL"
        if connection.info.get("synchronous") != wanted:
            execute(connection, f"PRAGMA synchronous = {wanted}")
            connection.info["synchronous"] = wanted
        execute(connection, "BEGIN IMMEDIATE")

    def _check(self) -> None:
        if self._identity() != self._opened:
            raise RegistryUnavailable(
                f"The registry {self._path} was removed or replaced while it was in use.",
                hint="Put it back, or restart macbind to go on with what is there now.",
            )

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)  # noqa: PTH116  # in every transaction: a Path costs more than the call
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _begin_postgresql(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get(READ_ONLY, False):  # the lock is held to the end of the transaction
        execute(connection, _LAZY_WRITE_LOCK if options.get(LAZY, False) else _WRITE_LOCK)


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
    except SQLAlchemyError as error:
        cause = " ".join(str(error.orig if isinstance(error, DBAPIError) else error).split())
        raise RegistryUnavailable(
            f"The registry {_place(url)} cannot be used: {cause}.", hint=_hint(cause)
        ) from error


def _place(url: str) -> str:
    return str(sqlite_path(url) or make_url(url).render_as_string(hide_password=True))


def _hint(cause: str) -> str:
    known = {
        "locked": "Another process holds its write lock; end that process or ask again.",
        "lock timeout": "Another controller holds its write lock; ask again.",
        "full": "Free space on its disk.",
        "No space left": "Free space on the database server's disk.",
        "unable to open": "Create its directory and make it writable for macbind's user.",
        "readonly": "Make the file and its directory writable for macbind's user.",
        "read-only": "The database server takes no changes: is it a standby?",
        "authentication": "Check user and password in the url in [registry].",
        "does not exist": "Check the url in [registry], and restart macbind if the database is new.",
        "connection": "Check that the database server runs and is reachable.",
        "malformed": "Restore it from a backup; the file is damaged.",
        "not a database": "Check the url in [registry]: this file is something else.",
    }
    return next((hint for word, hint in known.items() if word in cause), "Nothing was changed; ask again.")


def sqlite_path(url: str) -> Path | None:
    """The database file of a SQLite URL, else None."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    return Path(parsed.database)
