"""Services that listen over TLS, with certificates of a test's own authority and a file of tokens."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from typer.testing import CliRunner

from labkit.certificates import Authority
from labkit.lone import Lone
from macbind.cli.commands import app
from macbind.client.client import Client

HOST = "127.0.0.1"


def free_port() -> int:
    """A TCP port that nobody has now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@dataclass
class ApiSite:
    """Services of one registry. A context manager: they answer inside.

    Attributes:
        place: Where its files are.
        count: How many services there are.
        registry: The registry's URL.
        clients: Whether clients may have certificates.
    """

    place: Path
    count: int = 1
    registry: str | None = None
    clients: bool = False
    more: str = ""
    ports: list[int] = field(default_factory=list)
    services: list[Lone] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.authority = Authority(self.place)
        self.tokens = self.place / "tokens"
        self.tokens.write_text("")
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _start(self) -> None:
        self.server = self.authority.issue("server", f"IP:{HOST}", "DNS:localhost")
        for _ in range(self.count):
            port = free_port()
            lines = [
                f'[api]\nlisten = "{HOST}:{port}"\ntokens = "{self.tokens}"',
                f'certificate = "{self.server.certificate}"\nkey = "{self.server.key}"',
            ]
            if self.clients:
                lines.append(f'client_ca = "{self.authority.certificate}"')
            registry = self.registry or f"sqlite:///{self.place}/registry.db"
            made = Lone(registry, "\n".join([*lines, self.more]))
            self.services.append(self._stack.enter_context(made))
            self.ports.append(port)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def urls(self) -> list[str]:
        """Where the services are."""
        return [f"https://{HOST}:{port}" for port in self.ports]

    def token(self, name: str, *words: str) -> str:
        """Makes a token."""
        config = str(self.services[0].config)
        done = CliRunner().invoke(app, ["token", "add", name, *words, "--config", config])
        assert done.exit_code == 0, done.output
        return done.stdout.strip()

    def client(
        self, token: str | None = None, urls: Sequence[str] | None = None, timeout_s: float = 20.0
    ) -> Client:
        """The Python API, over TLS."""
        return Client(urls or self.urls, token=token, ca=self.authority.certificate, timeout_s=timeout_s)
