"""Whether other controllers use a registry now.

Each holds a lock that all of them may hold; who could have it for himself is alone. A controller that ends, is killed
or falls silent loses it. The lock only decides whether a file may differ. What keeps the registry right is the
revision, which every change compares.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, text
from typing_extensions import override

from macbind.core.errors import RegistryUnavailable
from macbind.registry.database import READ_ONLY, open_engine, sqlite_path, translated

_CLASS = 0x6D62  # the first half of the advisory lock's key: "mb"
_HERE = text("SELECT pg_advisory_lock_shared(:class, 0)").bindparams(**{"class": _CLASS})
_ALONE = text("SELECT pg_try_advisory_lock(:class, 0)").bindparams(**{"class": _CLASS})
_NO_LONGER_ALONE = text("SELECT pg_advisory_unlock(:class, 0)").bindparams(**{"class": _CLASS})
_LEAVES = text("SELECT pg_advisory_unlock_shared(:class, 0)").bindparams(**{"class": _CLASS})
_HEARTBEAT = text("SELECT 1")


class Presence(Protocol):
    """Says that this controller is there."""

    def show(self) -> None:
        """Says so, or goes on saying so; call it every few seconds.

        Raises:
            RegistryUnavailable: It cannot be said now.
        """

    def is_alone(self) -> bool:
        """Whether no other controller says so. To be asked within a transaction that changes the registry.

        Raises:
            RegistryUnavailable: It cannot be found out now.
        """

    def leave(self) -> None:
        """Says so no longer."""


class FilePresence(Presence):
    """A lock on a file beside the SQLite database; the kernel frees it when its holder ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    @override
    def show(self) -> None:
        if self._fd is not None:
            return
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            fcntl.flock(fd, fcntl.LOCK_SH)
        except OSError as error:
            raise RegistryUnavailable(
                f"The lock file {self._path} cannot be used: {error.strerror}.",
                hint="Make its directory writable for macbind's user.",
            ) from error
        self._fd = fd

    @override
    def is_alone(self) -> bool:
        self.show()
        assert self._fd is not None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_SH)  # also where the attempt has cost it
        return True

    @override
    def leave(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class SessionPresence(Presence):
    """A PostgreSQL session advisory lock; the server ends a session that is silent for 6 s, and with it the lock."""

    def __init__(self, url: str) -> None:
        engine = open_engine(url, idle_session_timeout=6000)
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT", **{READ_ONLY: True})
        self._url = url
        self._session: Connection | None = None
        self._lock = threading.Lock()

    @override
    def show(self) -> None:
        with self._lock:
            self._show()

    def _show(self) -> Connection:
        if self._session is not None:
            try:
                with translated(self._url):
                    self._session.execute(_HEARTBEAT)
            except RegistryUnavailable:
                self._end()
            else:
                return self._session
        with translated(self._url), ExitStack() as undo:
            session = undo.enter_context(self._engine.connect())
            session.execute(_HERE)  # at most for a moment somebody has it for himself, to find out
            undo.pop_all()
        self._session = session
        return session

    @override
    def is_alone(self) -> bool:
        with self._lock, translated(self._url):
            session = self._show()
            is_alone = bool(session.scalar(_ALONE))
            if is_alone:
                session.execute(_NO_LONGER_ALONE)
            return is_alone

    @override
    def leave(self) -> None:
        with self._lock:
            if self._session is not None:
                # The end of a session is noticed a moment later; who starts now should not have to wait for it.
                with suppress(RegistryUnavailable), translated(self._url):
                    self._session.execute(_LEAVES)
            self._end()
            self._engine.dispose()

    def _end(self) -> None:
        if self._session is not None:
            self._session.invalidate()
            self._session.close()
            self._session = None


def presence_for(url: str) -> Presence:
    """The kind of presence that this registry supports."""
    path = sqlite_path(url)
    if path is not None:
        return FilePresence(path.with_name(f"{path.name}.controllers.lock"))
    return SessionPresence(url)
