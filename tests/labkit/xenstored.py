"""Debian's own xenstored, without Xen beneath it.

What a client of its socket sees is the real thing: protocol, transactions, permissions, limits. What it would ask of
the hypervisor is answered by `hypercalls.c`, so there are no domains: a domain's directory is one by its name only.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from labkit.netns import run_command
from labkit.wait import until

_SOURCE = Path(__file__).with_name("hypercalls.c")
_PLACES = "/usr/lib/xen-*/bin/xenstored"
_DEADLINE_S = 60.0


class Xenstored:
    """One xenstored with everything it writes in `directory`. A context manager: leaving it ends it."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "socket"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            FileNotFoundError: It is not installed; the message names the package.
        """
        found = sorted(Path("/").glob(_PLACES.lstrip("/")))
        if not found:
            raise FileNotFoundError(f"no {_PLACES}: the package xen-utils-4.* is missing")
        shim = self._directory / "hypercalls.so"
        run_command(["gcc", "-shared", "-fPIC", "-o", str(shim), str(_SOURCE)])
        log = self._directory / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [found[-1], "--no-fork", "--pid-file", self._directory / "pid"],
                env={**os.environ, **self.environment, "LD_PRELOAD": str(shim)},
                stdout=output,
                stderr=output,
            )
        try:
            until(self._is_listening, _DEADLINE_S, "xenstored to listen")
        except TimeoutError as error:
            self.close()
            raise TimeoutError(f"{error}; its log: {log.read_text()}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def environment(self) -> Mapping[str, str]:
        """What tells Xen's programs where it is."""
        return {"XENSTORED_RUNDIR": str(self._directory), "XENSTORED_PATH": str(self.socket)}

    def listing(self) -> list[str]:
        """All nodes with their values and permissions, as Xen's own client shows them."""
        return self.ask("xenstore-ls", "-f", "-p").splitlines()

    def ask(self, *command: str) -> str:
        """Run one of Xen's own clients and return what it printed."""
        environment = [f"{name}={value}" for name, value in self.environment.items()]
        return run_command(["env", *environment, *command]).stdout

    def freeze(self) -> None:
        """Stop its clock: it takes connections and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def _is_listening(self) -> bool:
        """Whether it takes connections: its socket is there a moment earlier."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def close(self) -> None:
        """End it. Can be repeated."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_DEADLINE_S)
            self._process = None
