"""A real ISC dhcpd on the lab's bridge: started, watched, frozen, killed, and asked what it knows."""

import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from labkit.net import Lab, Process
from labkit.omshell import OmapiKey, omshell, omshell_host
from labkit.wait import until

_OMAPI_PORT = re.compile(r"^\s*omapi-port\s+(\d+)\s*;", re.MULTILINE)
_SERVING = "Server starting service."
_BOILERPLATE = "If you think you have received this message due to a bug"  # 15 lines under every fatal error
_TAIL_LINES = 25


class DhcpdDied(RuntimeError):
    """dhcpd ended when it should run; the message carries the end of its log."""


class Dhcpd:
    """One dhcpd in the server's namespace. A context manager: entering starts it, leaving stops it.

    `config` is a file, or the text of one (written beside the lease file, as `dhcpd.conf`). `leases` is the
    lease file, made when missing; the log is beside it, with the suffix `.log`. `omapi_port` is read from the
    config unless given (do that when it stands in an included file). `key` is what omshell signs with. `prefix`
    is a command that runs dhcpd by exec, such as `env NAME=value`.
    """

    def __init__(
        self,
        lab: Lab,
        config: Path | str,
        leases: Path,
        *,
        key: OmapiKey | None = None,
        omapi_port: int | None = None,
        options: Sequence[str] = (),
        deadline_s: float = 60.0,
    ) -> None:
        self.lab = lab
        self.leases = leases
        self.config = _as_file(config, leases.with_name("dhcpd.conf"))
        self.log_file = leases.with_suffix(".log")
        self.key = key
        self.omapi_port = omapi_port or _omapi_port(self.config)
        self.deadline_s = deadline_s
        self.prefix: Sequence[str] = ()
        self._options = tuple(options)
        self._process: Process | None = None
        self._log_start = 0

    def __enter__(self) -> Self:
        self.start()
        self.wait_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def alive(self) -> bool:
        """Whether the process exists; a frozen one does."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int:
        """The process id of the running dhcpd."""
        return self._running().pid

    def log(self) -> str:
        """All that dhcpd has logged, over all its starts."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self) -> None:
        """Start the process; `wait_ready` tells when it serves."""
        if self.alive:
            raise RuntimeError(f"dhcpd runs already, with pid {self.pid}")
        self.leases.touch()
        self._log_start = len(self.log())
        # -d: with -f alone dhcpd logs to stderr only until it serves, and then to syslog.
        command = [
            *self.prefix,
            "dhcpd",
            "-4",
            "-d",
            "-f",
            "-cf",
            str(self.config),
            "-lf",
            str(self.leases),
            "--no-pid",
        ]
        self._process = self.lab.popen([*command, *self._options, self.lab.bridge], output=self.log_file)

    def wait_ready(self) -> None:
        """Return when dhcpd serves DHCP and, if it has an OMAPI port, accepts connections there.

        Raises DhcpdDied as soon as it ends, and TimeoutError after `deadline_s` seconds, both with the log's
        end.
        """
        try:
            until(self._is_ready, self.deadline_s, "dhcpd to serve")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; its log ends:\n{self._tail()}") from None

    def stop(self) -> None:
        """End it with SIGTERM, by force after 3 seconds; wakes a frozen one. Harmless when it is down."""
        if self._process is not None:
            self._process.end()

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self._running().kill_now()

    def restart(self, *, keep_leases: bool = True) -> None:
        """Stop, forget leases and dynamic hosts unless told to keep them, start, wait until it serves."""
        self.stop()
        if not keep_leases:
            self.leases.unlink(missing_ok=True)
            self.leases.with_name(self.leases.name + "~").unlink(missing_ok=True)
        self.start()
        self.wait_ready()

    def freeze(self) -> None:
        """Stop the clock for dhcpd (SIGSTOP): connections open, nothing answers. Returns once frozen."""
        self._running().send_signal(signal.SIGSTOP)
        until(lambda: self._state() == "T", self.deadline_s, "dhcpd to freeze")

    def thaw(self) -> None:
        """Let a frozen dhcpd go on (SIGCONT); it then answers what has arrived meanwhile."""
        self._running().send_signal(signal.SIGCONT)

    def omshell(self, script: str) -> str:
        """Run one omshell session and return all it wrote; OmshellFailed when dhcpd refuses."""
        return omshell(self.lab, self._port(), script, self.key)

    def omshell_host(self, mac: str) -> dict[str, str] | None:
        """What dhcpd itself knows of the host with this MAC: `name`, `mac`, `ip`; None if it has none."""
        return omshell_host(self.lab, self._port(), mac, self.key)

    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError("dhcpd was never started")
        if not self._process.alive:
            raise DhcpdDied(
                f"dhcpd has ended, status {self._process.returncode}; its log ends:\n{self._tail()}"
            )
        return self._process

    def _port(self) -> int:
        if self.omapi_port is None:
            raise ValueError("this dhcpd has no omapi-port")
        return self.omapi_port

    def _is_ready(self) -> bool:
        self._running()
        return _SERVING in self.log()[self._log_start :] and (self.omapi_port is None or self._accepts())

    def _accepts(self) -> bool:
        try:
            self.lab.open_socket("127.0.0.1", self._port(), timeout_s=10.0).close()
        except OSError:
            return False
        return True

    def _state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def _tail(self) -> str:
        said = self.log()[self._log_start :].partition(_BOILERPLATE)[0].strip()
        return "\n".join(said.splitlines()[-_TAIL_LINES:]) or "(empty)"


def check_config(lab: Lab, config: Path, *, deadline_s: float = 60.0) -> "subprocess.CompletedProcess[str]":
    """What `dhcpd -t` says of a configuration file; its status is 0 when the file is good."""
    return lab.run(["dhcpd", "-4", "-t", "-cf", str(config)], deadline_s=deadline_s, check=False)


def _as_file(config: Path | str, place: Path) -> Path:
    if isinstance(config, Path):
        return config
    place.write_text(config)
    return place


def _omapi_port(config: Path) -> int | None:
    found = _OMAPI_PORT.search(config.read_text())
    return int(found[1]) if found else None
