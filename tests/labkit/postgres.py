"""A PostgreSQL of the tests' own: initialised in a temporary directory, reachable over a Unix socket.

In a lab it listens at an address as well, so that a controller can be unplugged from it.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

from labkit.wait import until

_USER = "nobody" if os.geteuid() == 0 else None
"""PostgreSQL refuses to run as root."""
_USER_GROUP = pwd.getpwnam("nobody").pw_gid


def _bin(name: str) -> str:
    found = shutil.which(name) or max(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), default="")
    assert found, f"{name} is not installed: apt-get install postgresql"
    return found


class Postgres:
    """One cluster with one superuser, ``macbind``; as a context manager it is gone afterwards.

    Args:
        address: Where it listens beside its Unix socket.
        inside: Makes a command run where that address is.
    """

    password = secrets.token_hex(16)
    """Of all clusters of this process. Another process has another: one that is found somewhere is our own leak."""

    def __init__(self, address: str = "", inside: Callable[[Sequence[str]], list[str]] = list) -> None:
        self._address, self._inside = address, inside
        self.directory = Path(tempfile.mkdtemp(prefix="macbind-pg-"))
        self._data, self.log_file = self.directory / "data", self.directory / "log"
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        password = self.directory / "password"
        password.write_text(self.password)
        if _USER is not None:
            account = pwd.getpwnam(_USER)
            for path in (self.directory, password):
                os.chown(path, account.pw_uid, account.pw_gid)
        init = [_bin("initdb"), "-D", str(self._data), "-U", "macbind", "-A", "scram-sha-256", "--no-sync"]
        init.append(f"--pwfile={password}")
        subprocess.run(init, user=_USER, cwd=self.directory, check=True, capture_output=True)
        password.unlink()
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet scram-sha-256\n")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(signal.SIGQUIT)  # nobody will need what it would write down
        shutil.rmtree(self.directory)

    def start(self) -> None:
        """Starts the server and waits until it answers. It flushes to disk as a real one does."""
        settings = {
            "listen_addresses": self._address,
            "unix_socket_directories": self.directory,
            "max_connections": 60,
            "shared_buffers": "32MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log_file.open("ab") as log:
            command = [_bin("postgres"), "-D", str(self._data), *options]
            if _USER is not None:
                command = [
                    "setpriv",
                    f"--reuid={_USER}",
                    f"--regid={_USER_GROUP}",
                    "--clear-groups",
                    *command,
                ]
            self._server = subprocess.Popen(
                self._inside(command),
                cwd=self.directory,
                stdout=log,
                stderr=log,
            )
        until(self._answers, 60, "PostgreSQL to answer")

    @property
    def alive(self) -> bool:
        """Whether the server runs."""
        return self._server is not None and self._server.poll() is None

    def _answers(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, f"PostgreSQL ended: {self.log_file.read_text()[-2000:]}"
        try:
            self.run("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Ends every session and the server: SIGINT is ``pg_ctl stop -m fast``, SIGQUIT a crash."""
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(60)
            self._server = None

    def run(self, *statements: str) -> None:
        """Executes statements outside of any transaction."""
        with self.connected() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def value(self, query: str) -> Any:
        """The first value that a query finds."""
        with self.connected() as connection:
            row = connection.execute(query.encode()).fetchone()
        return None if row is None else row[0]

    def connected(self) -> psycopg.Connection[Any]:
        """A connection on which each statement is a transaction."""
        return psycopg.connect(
            host=str(self.directory),
            user="macbind",
            password=self.password,
            dbname="postgres",
            autocommit=True,
            connect_timeout=30,
        )

    def emptied(self) -> str:
        """Removes everything that the last test left; returns the SQLAlchemy URL, with the password in it."""
        self.run("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        return (
            f"postgresql+psycopg://macbind:{self.password}@/postgres?host={self._address or self.directory}"
        )
