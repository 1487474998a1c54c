"""A whole farm in the lab: macbind's configuration, the dhcpd it renders for, and `macbind serve`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labkit.dhcpd import Dhcpd
from labkit.net import Lab, Port, Process
from labkit.omshell import OmapiKey
from labkit.users import as_user
from labkit.wait import until
from macbind.client.client import Client
from macbind.config import Settings, load
from macbind.core.errors import DhcpdUnavailable, RegistryUnavailable, ServiceUnavailable
from macbind.core.findings import Status
from macbind.dhcp.isc.key import read_key

OMAPI_PORT = 7911

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
domain_name_servers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]
"""

MACBIND = [sys.executable, "-c", "from macbind.cli import main; main()"]
"""The command line of the package under test, wherever it is installed."""


class Farm:
    """macbind and its dhcpd in the server's namespace of a lab. A context manager: everything serves inside.

    Args:
        lab: The network; its server has 10.0.0.1.
        directory: Where configuration, key, leases, registry, socket and logs go. Keep its path short: a
            Unix socket's has at most 107 bytes.
        pools: The TOML of subnets and pools.
        registry: The registry's URL; a SQLite file in the directory by default.
        service: More lines for the [service] table.
        dhcpd: More lines for the [dhcpd.main] table.
        command: How to call macbind.
        leases: dhcpd's lease file; one in the directory by default.
        deadline_s: How long it may take until everything serves; a large population is compared before.

    Attributes:
        at: Where the service runs; None for the server's namespace.
    """

    def __init__(
        self,
        lab: Lab,
        directory: Path,
        *,
        pools: str = POOLS,
        registry: str | None = None,
        service: str = "",
        dhcpd: str = "",
        command: Sequence[str] = MACBIND,
        leases: Path | None = None,
        deadline_s: float = 60.0,
    ) -> None:
        self.deadline_s = deadline_s
        self.lab, self.directory, self.command = lab, directory, list(command)
        self.port = OMAPI_PORT
        self.config = directory / "macbind.toml"
        self.socket = directory / "macbind.sock"
        self.log_file = directory / "macbind.log"
        self.leases = leases or directory / "dhcpd.leases"
        self.registry = registry or f"sqlite:///{directory / 'registry.db'}"
        self._tables = {"pools": pools, "service": service, "dhcpd": dhcpd}
        self._process: Process | None = None
        self.at: Port | None = None
        self.configure()
        self.macbind("render", "--config", str(self.config))
        key = read_key(directory / "macbind.key", "macbind")
        stanza = OmapiKey(key.name, key.stanza.split('secret "')[1].split('"')[0], key.algorithm)
        self.dhcpd = Dhcpd(lab, directory / "macbind.conf", self.leases, key=stanza, omapi_port=OMAPI_PORT)

    def configure(self, **tables: str) -> None:
        """Writes macbind.toml anew, with other `pools`, `service` or `dhcpd` lines where given.

        `port` is where macbind finds dhcpd: the OMAPI port, or that of somebody in between.
        """
        self._tables |= tables
        here = self.directory
        self.config.write_text(
            f'[registry]\nurl = "{self.registry}"\n\n'
            f'[service]\nsocket = "{self.socket}"\nlog_format = "json"\n{self._tables["service"]}\n\n'
            f'[dhcpd.main]\nport = {self.port}\nkey_file = "{here / "macbind.key"}"\n'
            f'config_file = "{here / "macbind.conf"}"\nleases_file = "{self.leases}"\n'
            f"{self._tables['dhcpd']}\n{self._tables['pools']}"
        )

    @property
    def settings(self) -> Settings:
        """The configuration as macbind reads it."""
        return load(self.config)

    def __enter__(self) -> Self:
        self.dhcpd.start()
        self.dhcpd.wait_ready()
        self.start()
        self.wait_serving(self.deadline_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.dhcpd.stop()

    # -- the service -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Starts `macbind serve` in the server's namespace."""
        self.adopt(self.spawn())

    def spawn(self) -> Process:
        """A process of `macbind serve` in the server's namespace, which is not this farm's service yet."""
        command = [*self.command, "serve", "--config", str(self.config)]
        return self.lab.popen(command, self.at, output=self.log_file, env=self._env())

    def beside(self, name: str, at: Port | None = None) -> "Farm":
        """One more controller for the same registry and dhcpd, which is not started yet.

        Args:
            name: Of its files.
            at: Where it runs, if not in the server's namespace.
        """
        other = copy(self)
        other._process, other.at, other._tables = None, at, dict(self._tables)
        other.config, other.socket, other.log_file = (
            self.directory / f"{name}.{kind}" for kind in ("toml", "sock", "log")
        )
        other.configure()
        return other

    def adopt(self, process: Process) -> None:
        """Makes a process this farm's service."""
        self._process = process

    def wait_serving(self, deadline_s: float = 60.0) -> None:
        """Waits until the service answers and every dhcpd is served."""
        until(
            lambda: (now := self.status()) and all(one.state == "serving" for one in now.dhcpds),
            deadline_s,
            "macbind to serve",
        )

    @contextmanager
    def compared_anew(self, deadline_s: float = 60.0) -> Iterator[None]:
        """Inside, dhcpd is started anew; on leaving, macbind has compared everything with it since.

        The state alone does not say so: macbind hears of dhcpd's end a moment later.
        """
        before = self._compared_at()
        yield
        until(lambda: self._compared_at() != before, deadline_s, "macbind to compare anew")
        self.wait_serving(deadline_s)

    def _compared_at(self) -> list[datetime | None]:
        now = self.status()
        assert now is not None
        return [one.compared_at for one in now.dhcpds]

    def wait_answering(self, deadline_s: float = 60.0) -> None:
        """Waits until the service answers, however it gets on with dhcpd."""
        until(self.status, deadline_s, "macbind to answer")

    def status(self) -> Status | None:
        """How things stand; None while the service does not say so yet. Fails when it has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise RuntimeError(f"macbind serve ended with {self._process.returncode}:\n{self.log()}")
        try:
            with self.client() as client:
                return client.status()
        except (ServiceUnavailable, RegistryUnavailable):
            return None

    def stop(self) -> int:
        """Ends the service as a service manager does; returns its exit status."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        return process.wait(60)

    def reload(self, **tables: str) -> None:
        """Has the service load its configuration again, after :meth:`configure` with these tables."""
        self.configure(**tables)
        os.kill(self.pid, signal.SIGHUP)

    def wait_loaded(self, loads: int, deadline_s: float = 60.0) -> None:
        """Waits until the service has loaded a configuration so many times since its log began."""
        until(lambda: self.log().count('"configuration loaded"') >= loads, deadline_s, "the configuration")

    def findings(self) -> dict[str, str]:
        """The sentence of each finding, by its code."""
        with self.client() as client:
            return {one.code: one.message for one in client.status().findings}

    def kill(self) -> None:
        """Kills the service without a warning."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(60)
        self._process = None

    @property
    def process(self) -> Process | None:
        """The service's process; None while it was not started, or was stopped or killed from here."""
        return self._process

    @property
    def pid(self) -> int:
        """The service's process id."""
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """What the service has logged, over all its starts."""
        return self.log_file.read_text() if self.log_file.exists() else ""

    def defects(self) -> list[str]:
        """Lines of the log that a service without defects never writes: no JSON, critical, or a traceback."""
        return defects_in(self.log())

    # -- its users -------------------------------------------------------------------------------------

    def client(self, timeout_s: float = 30.0) -> Client:
        """The Python API; works from outside the namespace, because the socket is a file."""
        return Client(self.socket, timeout_s=timeout_s)

    def macbind(self, *arguments: str, status: int = 0) -> str:
        """Runs the command line and returns what it printed; fails unless it exits with `status`."""
        done = self.run(*arguments)
        if done.returncode != status:
            raise AssertionError(
                f"macbind {' '.join(arguments)} exited with {done.returncode}, not {status}:\n"
                f"{done.stdout}{done.stderr}"
            )
        return done.stdout

    def macbind_json(self, *arguments: str) -> Any:
        """Runs the command line with --json and returns the value."""
        return json.loads(self.macbind(*arguments, "--json"))

    def run(self, *arguments: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs the command line in the server's namespace, whatever its exit status; as another user if given."""
        command = self.command if user is None else as_user(user, *self.command)
        return subprocess.run(
            self.lab.server.argv([*command, *arguments]),
            capture_output=True,
            text=True,
            env=self._env(),
            timeout=120,
            check=False,
        )

    def _env(self) -> dict[str, str]:
        return {**os.environ, "MACBIND_SOCKET": str(self.socket), "MACBIND_CONFIG": str(self.config)}


def unconfirmed(call: Callable[[], object]) -> DhcpdUnavailable:
    """The error of a call that a DHCP server does not confirm in its caller's time; the call may be repeated.

    On a busy machine the registry may take longer than a caller without patience waits: that says nothing yet.
    """

    def refused() -> DhcpdUnavailable | None:
        try:
            call()
        except RegistryUnavailable:
            return None
        except DhcpdUnavailable as error:
            return error
        raise AssertionError("a DHCP server has confirmed the call")

    error = until(refused, 60, "the registry to take the change in time")
    assert error is not None
    return error


def defects_in(log: str) -> list[str]:
    """The lines of such a log of `macbind serve`; the last one may not be whole yet."""
    return [line for line in log[: log.rfind("\n") + 1].splitlines() if _is_defect(line)]


def _is_defect(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return True
    return not isinstance(entry, dict) or entry.get("level") == "critical" or "Traceback" in line
