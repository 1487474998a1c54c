"""`macbind serve` alone: a registry and its API, and no DHCP server that could confirm anything.

Its pool is static, so that an allocation needs no confirmation. A release stays unconfirmed.
"""

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from labkit import bounded
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.errors import DhcpdUnavailable, RegistryUnavailable, ServiceUnavailable

POOLS = """
[subnet."10.0.0.0/8"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.0.0/16"]
mode = "static"

[pool.other]
subnet = "10.0.0.0/8"
ranges = ["10.2.0.0/24"]
mode = "static"
"""


class Lone:
    """The service. A context manager: it answers inside.

    Args:
        registry: The registry's URL; a SQLite file by default.
        tables: More tables of the configuration.
        **limits: Other limits for its clients.
    """

    def __init__(self, registry: str | None = None, tables: str = "", **limits: float) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="macbind-")
        here = self.directory = Path(self._directory.name)
        self.socket, self.log_file, self.config = here / "s", here / "log", here / "macbind.toml"
        self._command = [*bounded.command({}, **limits), "serve", "--config", str(self.config)]
        self.config.write_text(
            f'[registry]\nurl = "{registry or f"sqlite:///{here}/registry.db"}"\n\n'
            f'[service]\nsocket = "{self.socket}"\nlog_format = "json"\n\n'
            f'[dhcpd.main]\nport = 1\nkey_file = "{here}/key"\nconfig_file = "{here}/dhcpd.conf"\n{tables}\n{POOLS}'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
        self._directory.cleanup()

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until(self._answers, 90, "macbind to answer")

    def kill(self) -> None:
        """Kills it without a warning."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(60)

    @property
    def pid(self) -> int:
        """The process id of the service."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """What it has logged."""
        return self.log_file.read_text()

    def client(self, timeout_s: float = 30.0) -> Client:
        """The Python API."""
        return Client(self.socket, timeout_s=timeout_s)

    def release(self, name: str) -> None:
        """Releases an allocation; nobody waits for the confirmation that never comes."""
        self._until_recorded(lambda client: client.release(name), name)

    def release_group(self, group: str) -> None:
        """Releases a group, in the same way."""
        self._until_recorded(lambda client: client.release_group(group), group)

    def _until_recorded(self, release: Callable[[Client], object], what: str) -> None:
        def is_recorded() -> bool:
            with self.client(timeout_s=0.001) as client:
                try:
                    release(client)
                except (RegistryUnavailable, ServiceUnavailable):
                    return False  # a slow machine: the release was not committed yet, or nothing was said
                except DhcpdUnavailable:
                    return True
            return True

        until(is_recorded, 60, f"the release of {what}")

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"macbind serve ended:\n{self.log()}")
        try:
            with self.client() as client:
                client.pools()
        except ServiceUnavailable:
            return False
        return True
