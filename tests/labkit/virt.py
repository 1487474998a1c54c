"""A real libvirtd with real QEMU guests, of which the host's own libvirt knows nothing.

      the test's process            mount and process namespace, in the server's network namespace
                                  ┌───────────────────────────────────────────────────────────────┐
    DIRECTORY/run/libvirt-sock ───┼── libvirtd ── starts ──┐                                      │
    DIRECTORY/run ················│   /run                 ├── qemu (web) ── vnet0 ── br0         │
    DIRECTORY/{etc,lib,cache,log} │   /{etc,var/…}/libvirt ├── qemu (db)  ── vnet1 ── br0         │
                                  │   process 1: sleeps ◄──┘ adopts and reaps them                │
                                  └───────────────────────────────────────────────────────────────┘

libvirtd's paths are compiled in, so each one sees its own directories in these places. Process 1 outlives
libvirtd: guests go on when libvirtd is killed, and the next one finds them, as in production. It also reaps
what it adopts, at once and whatever the init of this machine does; libvirt takes a guest for running until
somebody has. When process 1 is killed, the kernel ends libvirtd, guests and helpers together.
"""

import os
import shutil
import signal
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from labkit.net import Lab, Process
from labkit.netns import CommandFailed, run_command
from labkit.wait import until

CACHE = Path(__file__).parents[2] / ".cache" / "labkit"
"""Where things are kept that are the same in every run; git ignores it."""

_QEMU_CONF = """\
user = "root"
group = "root"
dynamic_ownership = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""
_LIBVIRTD_CONF = """\
unix_sock_dir = "/run"
auth_unix_rw = "none"
log_outputs = "3:stderr"
host_uuid = "{host}"
"""
# A process that ignores SIGCHLD has its children reaped by the kernel, adopted ones included.
_FIRST_PROCESS = """
mount --no-mtab --bind "$1/run" /run
for part in etc lib cache log; do
  case $part in etc) place=/etc/libvirt ;; *) place=/var/$part/libvirt ;; esac
  mount --no-mtab --bind "$1/$part" "$place"
done
touch /run/mounted
exec env --ignore-signal=CHLD sleep infinity
"""
_UNSHARE = [
    "unshare",
    "--mount",
    "--propagation",
    "private",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
]
_LONGEST_SOCKET_PATH = 107
_TAIL_LINES = 25


class LibvirtdDied(RuntimeError):
    """libvirtd ended when it should run; the message carries the end of its log."""


@dataclass(frozen=True)
class Console:
    """What a guest has written to its serial port, over all its starts, after QEMU's own command line."""

    path: Path

    def text(self) -> str:
        """All of it."""
        return self.path.read_text(errors="replace") if self.path.exists() else ""

    def tail(self) -> str:
        """The last lines, for error messages."""
        return "\n".join(self.text().splitlines()[-_TAIL_LINES:]) or "(empty)"

    def leases(self) -> int:
        """How often a guest of `labkit.guest` got an address, not counting renewals."""
        return self.text().count(" bound ")

    def boots(self, deadline_s: float = 60.0) -> int:
        """The same for a guest that answers: what it says of its first lease may come after its first answer."""
        return until(self.leases, deadline_s, "the guest to say that it has an address")


class Libvirtd:
    """One libvirtd in the server's namespace. A context manager: leaving it ends libvirtd and all its guests.

    `directory` gets everything that libvirt writes. It must not lie below /run, and its path be short: that
    of a Unix socket has at most 107 bytes. Several can run at once, in one lab or in many.
    """

    def __init__(self, lab: Lab, directory: Path, *, deadline_s: float = 60.0) -> None:
        self.lab = lab
        self.directory = directory
        self.socket = directory / "run" / "libvirt-sock"
        self.log_file = directory / "libvirtd.log"
        self.deadline_s = deadline_s
        self._namespaces: Process | None = None
        self._process: Process | None = None
        if len(bytes(self.socket)) > _LONGEST_SOCKET_PATH:
            raise ValueError(f"a Unix socket's path has at most {_LONGEST_SOCKET_PATH} bytes: {self.socket}")

    def __enter__(self) -> Self:
        try:
            self._make_directories()
            self._make_namespaces()
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def uri(self) -> str:
        """How to connect, from any network namespace: the socket is a file."""
        return f"qemu+unix:///system?socket={self.socket}"

    @property
    def alive(self) -> bool:
        """Whether libvirtd exists; a frozen one does."""
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int:
        """The process id of the running libvirtd."""
        self._running()
        return self._pid_in_file(self.directory / "run" / "libvirtd.pid")

    def guest_pid(self, name: str) -> int:
        """The process id of a running guest's QEMU."""
        return self._pid_in_file(self.directory / "run" / "libvirt" / "qemu" / f"{name}.pid")

    def log(self) -> str:
        """All that libvirtd has logged, over all its starts."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def console(self, name: str) -> Console:
        """What the guest of this name has written to its serial port."""
        return Console(self.directory / "log" / "qemu" / f"{name}.log")

    def start(self) -> None:
        """Start libvirtd and wait until it answers; it finds the guests that are running."""
        if self.alive:
            raise RuntimeError(f"libvirtd runs already, with pid {self.pid}")
        process = self._namespaces_of()
        here = Path("/proc") / str(process.pid) / "ns"
        # Two processes: nsenter stays outside and waits for libvirtd, whose end is its own.
        enter = ["nsenter", f"--mount={here / 'mnt'}", f"--pid={here / 'pid_for_children'}", "--"]
        self._process = self.lab.popen(
            [*enter, "libvirtd", "--pid-file", "/run/libvirtd.pid"], output=self.log_file
        )
        until(self._answers, self.deadline_s, "libvirtd to answer")

    def stop(self) -> None:
        """End libvirtd with SIGTERM; its guests go on. Harmless when it is down."""
        if self._process is not None and self._process.alive:
            process = self._process
            self._signal(signal.SIGTERM)
            process.signal_group(signal.SIGCONT)
            process.wait(self.deadline_s)

    def kill(self) -> None:
        """End libvirtd with SIGKILL, as a crash would; its guests go on."""
        process = self._running()
        self._signal(signal.SIGKILL)
        process.wait(self.deadline_s)

    def kill_guest(self, name: str) -> None:
        """End a running guest's QEMU with SIGKILL, as a crash would."""
        os.kill(self.guest_pid(name), signal.SIGKILL)

    def restart(self) -> None:
        """Stop it if it runs, start it, wait until it answers; guests go on all the time."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop the clock for libvirtd (SIGSTOP): connections open, nothing answers. Returns once frozen."""
        # nsenter follows libvirtd when it is stopped, so both have to be woken. Stopped by us, it would stop again.
        pids = [self._running().pid, self.pid]
        self._signal(signal.SIGSTOP)
        until(lambda: all(map(_is_stopped, pids)), self.deadline_s, "libvirtd to freeze")

    def thaw(self) -> None:
        """Let a frozen libvirtd go on (SIGCONT)."""
        self._running().signal_group(signal.SIGCONT)

    def virsh(self, *arguments: str, stdin: str | None = None, deadline_s: float = 60.0) -> str:
        """Run virsh and return what it printed; CommandFailed carries its words when libvirt refuses."""
        command = ["virsh", "--quiet", "--connect", self.uri, *arguments]
        return run_command(command, stdin=stdin, deadline_s=deadline_s).stdout

    def close(self) -> None:
        """End libvirtd and its guests as a power cut would; the files stay. Can be repeated."""
        if self._namespaces is None:
            return
        if self._process is not None:
            self._process.kill_now()
        if self._namespaces.alive:
            # It ends when process 1 has, and the kernel lets that happen after all others.
            os.kill(self._host_pid(1), signal.SIGKILL)
            self._namespaces.wait(self.deadline_s)
        _copy_new(self._capabilities(), CACHE / "capabilities")

    def _make_directories(self) -> None:
        for part in ("etc", "run", "lib", "cache", "log"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)
        (self.directory / "etc" / "qemu.conf").write_text(_QEMU_CONF)
        (self.directory / "etc" / "libvirtd.conf").write_text(_LIBVIRTD_CONF.format(host=uuid.uuid4()))
        # To find out what QEMU can do takes libvirt some 4 s. It checks itself whether it is still true.
        _copy_new(CACHE / "capabilities", self._capabilities())

    def _make_namespaces(self) -> None:
        mounted = self.directory / "run" / "mounted"
        mounted.unlink(missing_ok=True)
        command = [*_UNSHARE, "sh", "-euc", _FIRST_PROCESS, "labkit", str(self.directory)]
        self._namespaces = self.lab.popen(command, output=self.log_file)

        def ready() -> bool:
            self._namespaces_of()
            return mounted.exists()

        until(ready, self.deadline_s, "the mounts of libvirtd's namespace")

    def _namespaces_of(self) -> Process:
        if self._namespaces is None or not self._namespaces.alive:
            raise LibvirtdDied(f"libvirtd's namespaces do not exist; the log ends:\n{self._tail()}")
        return self._namespaces

    def _running(self) -> Process:
        if self._process is None:
            raise RuntimeError("libvirtd was never started")
        if not self._process.alive:
            raise LibvirtdDied(
                f"libvirtd has ended, status {self._process.returncode}; its log ends:\n{self._tail()}"
            )
        return self._process

    def _answers(self) -> bool:
        self._running()
        try:
            self.virsh("list", deadline_s=self.deadline_s)
        except CommandFailed:
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def _pid_in_file(self, file: Path) -> int:
        return self._host_pid(int(file.read_text()))

    def _host_pid(self, inner: int) -> int:
        """The number by which we know the process that is `inner` to libvirtd."""
        ours = (Path("/proc") / str(self._namespaces_of().pid) / "ns/pid_for_children").readlink()
        for pid in self.lab.server.pids():
            if _numbers_of(pid)[-1:] == (inner,) and _process_namespace(pid) == ours:
                return pid
        raise ProcessLookupError(f"no process {inner} beside libvirtd")

    def _capabilities(self) -> Path:
        return self.directory / "cache" / "qemu" / "capabilities"

    def _tail(self) -> str:
        return "\n".join(self.log().strip().splitlines()[-_TAIL_LINES:]) or "(empty)"


def _numbers_of(pid: int) -> Sequence[int]:
    """The process ids of one process, from the outermost process namespace to its own."""
    try:
        status = (Path("/proc") / str(pid) / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ()
    return tuple(map(int, status.partition("\nNSpid:")[2].partition("\n")[0].split()))


def _process_namespace(pid: int) -> Path | None:
    try:
        return (Path("/proc") / str(pid) / "ns/pid").readlink()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _is_stopped(pid: int) -> bool:
    return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "T"


def _copy_new(source: Path, target: Path) -> None:
    """Copy the files that `target` lacks; each appears there whole."""
    target.mkdir(parents=True, exist_ok=True)
    for file in source.glob("*.xml"):
        if not (target / file.name).exists():
            half_made = target / f"{file.name}.{uuid.uuid4()}"
            shutil.copyfile(file, half_made)
            half_made.replace(target / file.name)
