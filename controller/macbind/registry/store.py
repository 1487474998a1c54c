"""Opening a registry and its transactions."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Self
from uuid import uuid4

from sqlalchemy import Connection, Engine

from macbind.core.errors import MacbindError, RegistryUnavailable
from macbind.core.pool import Pool
from macbind.core.shared_configuration import Recorded
from macbind.core.sizes import Sizes
from macbind.registry import migrations
from macbind.registry.configuration import (
    GIVES_UP,
    Offer,
    agree,
    generations_since,
    note_generation,
    recorded,
    revision_of,
)
from macbind.registry.database import LAZY, READ_ONLY, open_engine, reading, sqlite_path, translated
from macbind.registry.fast_sql import execute
from macbind.registry.gate import Gate
from macbind.registry.news import tell
from macbind.registry.presence import presence_for
from macbind.registry.servers import in_force, rename, uses
from macbind.registry.sync import Changes, synchronise
from macbind.registry.transaction import Ids, Transaction, View
from macbind.registry.under_way import UnderWay

_LOOK_S = 0.05
"""How often somebody who waits for another configuration looks whether to go on waiting, in seconds."""


class Registry:
    """The truth: which address is held by whom, and what each dhcpd has confirmed of it.

    Making one connects to nothing. :meth:`apply` brings the database's schema up to date, and the tables in line with
    a configuration; then the registry can be used. It can be applied again, while the registry is used.

    Where a configuration was offered, everything is done with the one in use: who asks while another one is in use
    already waits until :meth:`apply` was called with that one.

    Args:
        url: SQLAlchemy URL of SQLite or PostgreSQL.
        busy_timeout_s: How long a change waits for another process's lock, in seconds.
        sizes: How much is done at a time by all who work on it.

    Raises:
        ConfigError: The URL is of another kind of database.

    Attributes:
        origin: Stands for this process where several use the registry; made anew at each start.
        presence: Says to other controllers that this one is there.
        revision: Of the configuration that was offered and is used; 0 if none was.
        outdated: Set when somebody waits for another configuration to be read.
        taken_out: The DHCP servers that nobody waits for, because an admin has taken them out.
        not_read: Why the configuration in use cannot be used here; None if it can, or was not tried.
    """

    def __init__(
        self,
        url: str,
        *,
        busy_timeout_s: float = 5.0,
        sizes: Sizes = Sizes(),  # noqa: B008  # it is frozen
    ) -> None:
        self.url, self.sizes = url, sizes
        self.origin = uuid4().hex
        self.under_way = UnderWay()
        self.pools: dict[str, Pool] = {}
        self.ids = Ids({}, {})
        self.engine: Engine = open_engine(url, busy_timeout_s=busy_timeout_s)
        self._reader = reading(self.engine)
        self._lazy = self.engine.execution_options(**{LAZY: True})
        self._unlocked = self.engine.execution_options(**{READ_ONLY: True})
        # Threads of this process wait here: SQLite's own waiting is polling.
        self._turn, self._patience_s = threading.Lock(), busy_timeout_s
        self._gate = Gate()
        self.presence = presence_for(url)
        self.revision, self._applied = 0, threading.Condition()
        self.outdated = threading.Event()
        self.not_read: MacbindError | None = None
        self.taken_out = frozenset[str]()

    @classmethod
    def open(
        cls,
        url: str,
        pools: Mapping[str, Pool],
        dhcpds: Iterable[str],
        hypervisors: Iterable[str] = (),
        **how: Any,
    ) -> Self:
        """A registry to which a configuration was applied; ``how`` is as for the registry itself.

        Raises:
            ConfigError: The configuration contradicts allocations that exist.
            RegistryUnavailable: The database cannot be opened.
        """
        registry = cls(url, **how)
        try:
            registry.apply(pools, dhcpds, hypervisors)
        except MacbindError:
            registry.close()
            raise
        return registry

    def apply(
        self,
        pools: Mapping[str, Pool],
        dhcpds: Iterable[str],
        hypervisors: Iterable[str] = (),
        offer: Offer | None = None,
    ) -> Changes:
        """Takes a configuration into use: all of it or, if it is refused, nothing.

        Args:
            pools: The configured pools by name.
            dhcpds: The names of the configured dhcpds.
            hypervisors: The names of the hypervisors that are watched.
            offer: The part of it that other controllers share; None if there are none to be asked.

        Raises:
            ConfigError: The configuration contradicts allocations that exist, or what other controllers use.
            OutdatedFile: Another one was applied after it.
            RegistryUnavailable: The database did not take it.
        """
        with self._my_turn(), translated(self.url), self.engine.connect() as db:
            if offer is not None:
                self.presence.show()
            with db.begin() as change:
                migrations.upgrade(db)  # several controllers may start at once
                revision, renewed = self._agreed(db, offer)
                taken = uses(db)
                used = in_force(pools, taken)
                ids, changes = synchronise(db, used, dhcpds, self.sizes, hypervisors)
                note_generation(db, revision, changes.generation)
                # Nobody may see the new tables with the old pools, or the other way round.
                with self._gate.closed(self._patience_s):
                    change.commit()
                    self.pools, self.ids, self.revision, self.not_read = used, ids, revision, None
                    self.taken_out = frozenset(taken)
        with self._applied:
            self._applied.notify_all()
        return replace(changes, generations=renewed | {changes.generation})

    def _agreed(self, db: Connection, offer: Offer | None) -> tuple[int, frozenset[int]]:
        """The revision to be used, and the generations of bindings made anew since the one that was."""
        if offer is None:
            return 0, frozenset()
        renewed = generations_since(db, self.revision) if self.revision else frozenset[int]()
        before = recorded(db)
        revision = agree(db, offer, self.presence.is_alone)
        if before is not None:
            rename(db, offer.shared.renamed_from(before.shared))
        return revision, renewed

    def preview(
        self, pools: Mapping[str, Pool], dhcpds: Iterable[str], offer: Offer | None = None
    ) -> Changes:
        """What :meth:`apply` would change; nothing is changed, and no database is made where there is none.

        Raises:
            ConfigError: The configuration contradicts allocations that exist, or what other controllers use.
            OutdatedFile: Another one was applied after it.
            RegistryUnavailable: The database cannot be opened.
        """
        path = sqlite_path(self.url)
        is_new = path is not None and not path.exists()
        engine = open_engine("sqlite://") if is_new else self.engine
        try:
            with self._my_turn(), translated(self.url), engine.connect() as db, db.begin() as change:
                migrations.upgrade(db)
                if not is_new:
                    self._agreed(db, offer)
                _, changes = synchronise(db, in_force(pools, uses(db)), dhcpds, self.sizes)
                change.rollback()
        finally:
            if is_new:
                engine.dispose()
        return changes

    def configuration(self) -> Recorded | None:
        """The configuration that all controllers share now; None if none was recorded.

        Raises:
            RegistryUnavailable: The database cannot be asked.
        """
        with translated(self.url), self._reader.begin() as db:
            return recorded(db)

    def is_outdated(self) -> bool:
        """Whether another configuration is in use by now than the one applied here.

        Raises:
            RegistryUnavailable: The database cannot be asked.
        """
        with translated(self.url), self._reader.begin() as db:
            return not self._is_current(db)

    def _is_current(self, db: Connection) -> bool:
        return not self.revision or revision_of(db) == self.revision

    def _await_current(self, until: float) -> None:
        """Waits for :meth:`apply`: what is in use is not what we know.

        Raises:
            RegistryUnavailable: It was not called in time, or cannot be.
        """
        self.outdated.set()
        before = self.revision
        with self._applied:
            while self.revision == before:
                if self.not_read is not None or GIVES_UP.get()() or time.monotonic() >= until:
                    reason = "" if self.not_read is None else f" {self.not_read.message}"
                    raise RegistryUnavailable(
                        f"The configuration was changed, and this controller does not use the new one yet.{reason}",
                        hint="Ask again." if self.not_read is None else self.not_read.hint,
                    )
                self._applied.wait(_LOOK_S)

    @contextmanager
    def _my_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=self._patience_s):
            raise RegistryUnavailable("The registry is busy with another change.", hint="Ask again.")
        try:
            yield
        finally:
            self._turn.release()

    def close(self) -> None:
        """Closes every connection."""
        self.presence.leave()
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
            RegistryUnavailable: The database did not take it; nothing happened, unless the error says that it is
                unknown.
        """
        engine, until = self._lazy if lazy else self.engine, time.monotonic() + self._patience_s
        while True:
            with self._my_turn(), translated(self.url) as phase, engine.begin() as db:
                if self._is_current(db):
                    txn = Transaction(
                        db,
                        self.pools,
                        self.ids,
                        self.sizes,
                        now or datetime.now(UTC),
                        actor,
                        under_way=self.under_way,
                        asked_at=time.monotonic(),
                    )
                    yield txn
                    tell(db, self.origin, txn.news)
                    phase.is_committing = True
                    return
            self._await_current(until)

    @contextmanager
    def aside(self) -> Iterator[Connection]:
        """One transaction beside the truth, which a power failure may undo: who is there, and what he says.

        In PostgreSQL it waits for no other change, however long that takes.

        Raises:
            RegistryUnavailable: The database did not take it.
        """
        with translated(self.url), ExitStack() as stack:
            if self.engine.dialect.name == "sqlite":  # it has one lock for everything
                stack.enter_context(self._my_turn())
                yield stack.enter_context(self._lazy.begin())
            else:
                db = stack.enter_context(self._unlocked.begin())
                execute(db, "SELECT set_config('synchronous_commit', 'off', true)")
                yield db

    @contextmanager
    def read(self) -> Iterator[View]:
        """One transaction that only looks, at a single state of the registry."""
        until = time.monotonic() + self._patience_s
        while True:
            with self._gate.passing(), translated(self.url), self._reader.begin() as db:
                if self._is_current(db):
                    yield View(db, self.pools, self.ids, self.sizes)
                    return
            self._await_current(until)
