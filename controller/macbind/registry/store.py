"""Opening a registry and its transactions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy import Engine

from macbind.errors import MacbindError, RegistryUnavailable
from macbind.model import Pool
from macbind.registry import migrations
from macbind.registry.engine import LAZY, open_engine, reading, translated
from macbind.registry.sync import synchronise
from macbind.registry.transaction import Transaction
from macbind.registry.turn import Turn
from macbind.registry.view import View


class Registry:
    """The truth: which address is held by whom, and what each dhcpd has confirmed of it.

    Opening it brings the database's schema up to date and the tables in line with the configuration.

    Args:
        url: SQLAlchemy URL of SQLite or PostgreSQL.
        pools: The configured pools by name.
        dhcpds: The names of the configured dhcpds.
        busy_timeout_s: How long a change waits for another process's lock, in seconds.

    Raises:
        ConfigError: The configuration contradicts allocations that exist.
        RegistryUnavailable: The database cannot be opened.
    """

    def __init__(
        self, url: str, pools: Mapping[str, Pool], dhcpds: Iterable[str], *, busy_timeout_s: float = 5.0
    ) -> None:
        self.url, self.pools = url, dict(pools)
        self.engine: Engine = open_engine(url, busy_timeout_s=busy_timeout_s)
        self._reader = reading(self.engine)
        self._lazy = self.engine.execution_options(**{LAZY: True})
        # Threads of this process queue here: SQLite's own waiting is polling, and unfair.
        self._turn, self._patience_s = Turn(), busy_timeout_s
        try:
            with translated(url), self.engine.begin() as db:  # several controllers may start at once
                migrations.upgrade(db)
                self.ids = synchronise(db, self.pools, list(dhcpds))
        except MacbindError:
            self.engine.dispose()
            raise

    def close(self) -> None:
        """Closes every connection."""
        self.engine.dispose()

    @contextmanager
    def write(self, actor: str, *, now: datetime | None = None, lazy: bool = False) -> Iterator[Transaction]:
        """One transaction that changes things: all of it happens, durably, or nothing.

        Args:
            actor: Who asked, for the audit log.
            now: The time of its changes (UTC); the clock's by default.
            lazy: Whether it may be undone by a power failure, together with every lazy change after it, until the
                next change that is not. For what can be found out anew, as what a dhcpd holds.

        Raises:
            RegistryUnavailable: The database did not take it; nothing happened.
        """
        if not self._turn.take(self._patience_s):
            raise RegistryUnavailable("The registry is busy with another change.", hint="Ask again.")
        try:
            with translated(self.url), (self._lazy if lazy else self.engine).begin() as db:
                yield Transaction(db, self.pools, self.ids, now or datetime.now(UTC), actor)
        finally:
            self._turn.give()

    @contextmanager
    def read(self) -> Iterator[View]:
        """One transaction that only looks, at a single state of the registry."""
        with translated(self.url), self._reader.begin() as db:
            yield View(db, self.pools, self.ids)
