"""News for the other controllers: hints, over PostgreSQL, that something in the registry has changed.

A hint says what kind of thing it was, and nothing else: whoever hears it reads the tables. One that is lost costs
time, because everybody also looks now and then. SQLite has no hints.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from macbind.registry.database import open_engine, translated
from macbind.registry.fast_sql import execute

CHANNEL = "macbind"
_TELL = f"SELECT pg_notify('{CHANNEL}', %s)"


class News(StrEnum):
    """What may have changed."""

    DUE = "due"
    """A DHCP server has something to do, or the audit log says something new."""
    DONE = "done"
    """A DHCP server has confirmed something."""
    WHO = "who"
    """A controller has come or gone, or leads something else."""


_KNOWN = frozenset(News)
"""A newer controller may have others."""


def tell(db: Connection, origin: str, news: Collection[News]) -> None:
    """Tells all other controllers when the transaction of a connection is committed.

    Args:
        db: The connection.
        origin: Who tells it, so that he can pass over his own.
        news: What it is; nothing is told if there is none.
    """
    if news and db.dialect.name == "postgresql":
        execute(db, _TELL, (" ".join((origin, *sorted(news))),))


class Ear:
    """A connection of its own on which news are heard, and no pool's. Used by one thread.

    Args:
        url: The registry's URL.
        origin: Whose own news are passed over.

    Raises:
        RegistryUnavailable: It cannot be opened now.
    """

    def __init__(self, url: str, origin: str) -> None:
        self._url, self._origin = url, origin
        engine = open_engine(url)
        self._error: type[Exception] = engine.dialect.loaded_dbapi.Error
        with self._translated():  # the pool's own errors are the driver's
            pooled = engine.raw_connection()
            connection: Any = pooled.driver_connection
            pooled.detach()
            self._connection = connection
        try:
            with self._translated():
                self._connection.autocommit = True
                self._connection.execute(f"LISTEN {CHANNEL}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def fileno(self) -> int:
        """Readable when there may be news, or when the connection has broken."""
        return int(self._connection.fileno())

    def heard(self) -> set[News]:
        """What others have told since the last call; waits for nothing.

        Raises:
            RegistryUnavailable: The connection has broken; what is told meanwhile is not known.
        """
        found: set[News] = set()
        with self._translated():
            for one in self._connection.notifies(timeout=0):
                origin, *words = one.payload.split()
                if origin != self._origin:
                    found.update(News(word) for word in words if word in _KNOWN)
        return found

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with translated(self._url):
            try:
                yield
            except self._error as error:
                raise DBAPIError.instance(None, None, error, self._error) from error


def can_hear(url: str) -> bool:
    """Whether a registry has news: PostgreSQL, with the driver that they need."""
    dialect = open_engine(url).dialect
    return dialect.name == "postgresql" and dialect.driver == "psycopg"
