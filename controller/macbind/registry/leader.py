"""Who writes to a dhcpd when several controllers share a registry: exactly one, and soon another if it dies.

A lock, not a vote: the session that holds it writes. With PostgreSQL it is a session advisory lock on a
connection of its own; with SQLite, whose controllers share a machine, a lock on a file. A leader that was
stopped and continues does no harm beyond a repeated look: bindings are named by generation, so its
late messages cannot touch a successor's.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, text
from typing_extensions import override

from macbind.core.errors import RegistryUnavailable
from macbind.registry.database import READ_ONLY, open_engine, sqlite_path, translated

_HEARTBEAT_S = 1.0
_TRUSTED_S = 3.0
"""A leader writes only if a heartbeat it sent less than this long ago succeeded; less than the time after which the
server ends the session of a leader that went silent."""
_SILENT_MS = 5000
"""That time: what a frozen or unplugged leader costs the others."""
_CLASS = 0x6D61  # the first half of the advisory lock's key: "ma"
_TRY_LOCK = text("SELECT pg_try_advisory_lock(:class, :number)")
_HEARTBEAT = text("SELECT 1")


class Leader(Protocol):
    """The right to write to one dhcpd."""

    def acquire(self) -> bool:
        """Takes the right if it is free; True if it is ours now."""

    def check(self) -> None:
        """Makes sure it is still ours.

        Raises:
            RegistryUnavailable: It may not be; nothing more may be written.
        """

    def keep(self) -> None:
        """Says that it is still wanted, if it is ours: to be called in the middle of long work.

        Raises:
            RegistryUnavailable: It was ours, and may not be any more.
        """

    def release(self) -> None:
        """Gives it up."""


class FileLeader(Leader):
    """A lock on a file beside the SQLite database; the kernel frees it when its holder ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    @override
    def acquire(self) -> bool:
        if self._fd is not None:
            return True
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise RegistryUnavailable(
                f"The lock file {self._path} cannot be opened: {error.strerror}.",
                hint="Make its directory writable for macbind's user.",
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    @override
    def check(self) -> None:
        if self._fd is None:
            raise RegistryUnavailable("The lock file is not held.")

    @override
    def keep(self) -> None:
        """Nothing is needed."""

    @override
    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class AdvisoryLeader(Leader):
    """A PostgreSQL session advisory lock with a heartbeat."""

    def __init__(self, url: str, number: int) -> None:
        # The server ends a session that is silent, e.g. of a stopped process, and with it the lock.
        engine = open_engine(url, idle_session_timeout=_SILENT_MS)
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT", **{READ_ONLY: True})
        self._url, self._number = url, number
        self._session: Connection | None = None
        self._proved_at = 0.0

    @override
    def acquire(self) -> bool:
        if self._session is not None:
            self.check()
            return True
        sent_at = time.monotonic()
        with translated(self._url), ExitStack() as undo:
            session = undo.enter_context(self._engine.connect())
            if not session.scalar(_TRY_LOCK, {"class": _CLASS, "number": self._number}):
                return False
            undo.pop_all()
        self._session, self._proved_at = session, sent_at
        return True

    @override
    def check(self) -> None:
        sent_at = time.monotonic()
        if self._session is None:
            raise RegistryUnavailable("The registry's lock is not held.")
        if sent_at - self._proved_at < _HEARTBEAT_S:
            return
        try:
            with translated(self._url):
                self._session.execute(_HEARTBEAT)
            if time.monotonic() - sent_at > _TRUSTED_S:
                raise RegistryUnavailable("The registry answered too late to be sure of its lock.")
        except RegistryUnavailable:
            self.release()
            raise
        self._proved_at = sent_at

    @override
    def keep(self) -> None:
        if self._session is not None:
            self.check()

    @override
    def release(self) -> None:
        if self._session is not None:
            self._session.invalidate()  # whatever its state is, the session ends, and with it the lock
            self._session.close()
            self._session = None
        self._engine.dispose()


def leader_for(url: str, number: int) -> Leader:
    """The kind of leader this registry supports.

    Args:
        url: The registry's URL.
        number: The dhcpd's number in the registry.
    """
    path = sqlite_path(url)
    if path is not None:
        return FileLeader(path.with_name(f"{path.name}.writer-{number}.lock"))
    return AdvisoryLeader(url, number)
