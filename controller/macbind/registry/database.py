"""Opening the database, and telling its failures apart. The only place that knows two dialects.

Both give every change the same guarantee: one transaction writes at a time, and what it reads is what the one
before it left. SQLite has one writer lock; PostgreSQL is given one. Names and MACs are unique across pools,
and a batch changes several pools in any order, so locks of a finer grain would need an order, and a second
look after each of them.
"""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import tenacity
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from macbind.core.errors import ConfigError, InvariantViolation, RegistryUnavailable
from macbind.registry.fast_sql import execute

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


_SECRET = frozenset({"password", "sslpassword"})
"""What of a URL's query is secret."""


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
        parsed = parse_url(url)
        match parsed.get_backend_name():
            case "sqlite":
                engine = create_engine(parsed, connect_args={"timeout": busy_timeout_s})
                event.listen(engine, "connect", partial(_set_up_sqlite, busy_timeout_s))
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
    except ArgumentError as error:
        raise _no_url() from error
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


def _set_up_sqlite(busy_timeout_s: float, connection: Any, _entry: ConnectionPoolEntry) -> None:
    try:
        # The driver must not open transactions by itself: _SqliteFile does.
        connection.isolation_level = None
        # SQLite waits for every lock but the one to change this mode, which several controllers may do at once.
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_busy),
            stop=tenacity.stop_after_delay(busy_timeout_s),
            wait=tenacity.wait_random(0.005, 0.02),
            reraise=True,
        ):
            with attempt:
                connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -65536")
    except BaseException:
        connection.close()  # nobody else knows of it yet
        raise


def _is_busy(error: BaseException) -> bool:
    code = error.sqlite_errorcode if isinstance(error, sqlite3.OperationalError) else sqlite3.SQLITE_OK
    return code & 0xFF == sqlite3.SQLITE_BUSY  # the rest of it says where


class _SqliteFile:
    """The file of a registry: SQLite goes on with one that was removed or replaced, and all of it would be lost."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._opened: tuple[int, int] | None = None

    def connect(self, *_: object) -> None:
        """Before a connection: a file that is missing now must not be made anew, and is nobody else's to read."""
        if self._path:
            _refuse_link(self._path)
        if self._opened is not None:
            self._check()
        elif self._path:
            _keep_private(self._path)

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


def _refuse_link(path: str) -> None:
    """Root follows no link that another user made: it would change what that user may not.

    Raises:
        RegistryUnavailable: The file is such a link.
    """
    with suppress(OSError):  # SQLite says why it cannot be opened
        found = Path(path).lstat()
        if os.geteuid() == 0 and stat.S_ISLNK(found.st_mode) and found.st_uid != 0:
            raise RegistryUnavailable(
                f"The registry {path} is a symbolic link of user {found.st_uid}, which root does not follow.",
                hint="Name the file itself in [registry] url, or let the link belong to root.",
            )


def _keep_private(path: str) -> None:
    """Makes the file, for this user alone, or takes from others what they may do with it, whatever the umask is.

    SQLite gives the files beside it the same mode. Where it cannot be done, SQLite says why it cannot be opened. No
    link is followed beside it. A descriptor for reading is not used: its close would end this process's locks.
    """
    file = os.path.realpath(path)
    with suppress(OSError):
        os.close(os.open(file, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    for one in (file, f"{file}-wal", f"{file}-shm"):
        with suppress(OSError):
            number = os.open(one, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                mode = os.fstat(number).st_mode
                if stat.S_ISREG(mode) and mode & 0o007:
                    Path(f"/proc/self/fd/{number}").chmod(mode & 0o770)
            finally:
                os.close(number)


def _begin_postgresql(connection: Connection) -> None:
    options = connection.get_execution_options()
    if not options.get(READ_ONLY, False):  # the lock is held to the end of the transaction
        execute(connection, _LAZY_WRITE_LOCK if options.get(LAZY, False) else _WRITE_LOCK)


def parse_url(url: str) -> URL:
    """A URL; several hosts may be written as libpq has them, ``HOST:PORT,HOST:PORT``.

    Everybody who wants to know something of a registry's URL asks here: SQLAlchemy itself takes no such hosts.

    Raises:
        ConfigError: It is none.
    """
    start, _, rest = url.partition("://")
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    login, at, hosts = authority.rpartition("@")
    try:
        if "," not in hosts:
            return make_url(url)
        places = [re.fullmatch(r"(\[.*\]|[^:]*)(?::(\d+))?", one) for one in hosts.split(",")]
        if not all(places):
            raise ArgumentError("a host and its port are HOST:PORT")
        names = ",".join(unquote(one[1].strip("[]")) for one in places if one)
        ports = ",".join(one[2] or "5432" for one in places if one)
        one = make_url(f"{start}://{login}{at}{rest[len(authority) :]}")
        return one.update_query_dict({"host": names, "port": ports})
    except (ArgumentError, ValueError) as error:  # a port that is no number
        raise _no_url() from error


def _no_url() -> ConfigError:
    """The URL may hold a password, so it is not repeated."""
    return ConfigError("The registry's url is not a database URL.", hint="Use a sqlite: or postgresql: URL.")


def has_password(url: str) -> bool:
    """Whether a URL holds a secret."""
    parsed = parse_url(url)
    return bool(parsed.password) or not _SECRET.isdisjoint(parsed.query)


def without_password(url: str) -> str:
    """The URL of a PostgreSQL as its own programs take it, without what is secret."""
    given = parse_url(url)
    query = {key: value for key, value in given.query.items() if key not in _SECRET}
    bare = URL.create("postgresql", given.username, None, given.host, given.port, given.database, query)
    return bare.render_as_string()


@dataclass
class Phase:
    """How far a transaction has come.

    Attributes:
        is_committing: Whether the database was told to commit, or is told now.
    """

    is_committing: bool = False


@contextmanager
def translated(url: str) -> Iterator[Phase]:
    """Turns the database's exceptions into ours, once, here.

    Raises:
        RegistryUnavailable: Locked, full, unreachable: the transaction was rolled back. Or the connection broke when
            it was committed: then nobody knows, and the error says so.
        InvariantViolation: A constraint was hit, which the code above must never do.
    """
    phase = Phase()
    try:
        yield phase
    except IntegrityError as error:
        raise InvariantViolation(f"The registry refused an impossible change: {error.orig}.") from error
    except SQLAlchemyError as error:
        cause = _without_secrets(str(error.orig if isinstance(error, DBAPIError) else error), url)
        if phase.is_committing and isinstance(error, DBAPIError) and error.connection_invalidated:
            raise RegistryUnavailable(
                f"The registry {place(url)} did not say whether the change was made: {cause}.",
                hint="Ask again with the same name; a change that was made is found, and not made twice.",
                outcome="unknown",
            ) from error
        raise RegistryUnavailable(
            f"The registry {place(url)} cannot be used: {cause}.", hint=_hint(cause)
        ) from error


def place(url: str) -> str:
    """Where a registry is, for everybody to read: its file, or driver, host and database, and nothing else."""
    parsed = parse_url(url)
    path = sqlite_path(url)
    if path is not None:
        return str(path)
    hosts = [parsed.host, *_values(parsed, "host"), *_values(parsed, "hostaddr")]
    where = next(filter(None, hosts), "")
    port = f":{parsed.port}" if parsed.port else ""
    database = parsed.database or next(iter(_values(parsed, "dbname")), "")
    return f"{parsed.drivername}://{where}{port}/{database}"


def _values(url: URL, key: str) -> tuple[str, ...]:
    found = url.query.get(key, ())
    return (found,) if isinstance(found, str) else tuple(found)


def _without_secrets(text: str, url: str) -> str:
    """One line, without the password and without whatever else the URL says that :func:`place` does not show."""
    parsed, shown = parse_url(url), place(url)
    values = [parsed.password, *(one for key in parsed.query for one in _values(parsed, key))]
    for secret in values:
        if secret and str(secret) not in shown:
            text = text.replace(str(secret), "…")
    return " ".join(text.split())


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
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    return Path(parsed.database)
