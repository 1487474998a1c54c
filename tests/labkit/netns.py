"""One network namespace: make it, run code and commands in it, remove it with everything that lives there.

Code runs inside through a dedicated thread: setns(2) moves only the calling thread, so the caller's own
thread never leaves its namespace, and a socket stays for ever in the namespace it was created in.
"""

import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from labkit.wait import until

T = TypeVar("T")

_RUN = Path("/run/netns")  # where iproute2 keeps its named namespaces
_CLONE_NEWNET = 0x40000000
_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_PACKET_ADD_MEMBERSHIP = 1
_PACKET_MR_PROMISC = 1
_PACKET_IGNORE_OUTGOING = 23
_libc = ctypes.CDLL(None, use_errno=True)


class CommandFailed(RuntimeError):
    """A command in the lab ended with a status other than 0; the message carries all it wrote."""


class Namespace:
    """A named network namespace of our own, with loopback up and IPv6 off."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Namespace({self.name!r})"

    def create(self) -> None:
        """Make the namespace; the caller removes it, also when this fails half-way."""
        run_command(["ip", "netns", "add", self.name])
        self.call(_disable_ipv6)
        self.ip("link set lo up")

    def remove(self) -> None:
        """End every process that still lives inside, then remove the namespace. Harmless when it is gone."""
        if not (_RUN / self.name).exists():
            return
        until(self._is_empty_after_kill, 60, f"the processes in {self.name} to end")
        run_command(["ip", "netns", "del", self.name])

    def pids(self) -> frozenset[int]:
        """The processes living inside. Threads that are only visiting (see `call`) do not count."""
        return frozenset(map(int, run_command(["ip", "netns", "pids", self.name]).stdout.split()))

    def _is_empty_after_kill(self) -> bool:
        alive = {pid for pid in self.pids() if not has_ended(pid)}
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not alive

    def argv(self, command: Sequence[str]) -> list[str]:
        """The command line that runs `command` inside. It execs: the process id is that of the command."""
        return ["ip", "netns", "exec", self.name, *command]

    def run(
        self, argv: Sequence[str], *, stdin: str | None = None, deadline_s: float = 60.0, check: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command inside to its end, at most `deadline_s` seconds."""
        return run_command(self.argv(argv), stdin=stdin, deadline_s=deadline_s, check=check)

    def ip(self, *lines: str) -> None:
        """Run `ip` command lines inside, all in one process."""
        run_command(["ip", "-n", self.name, "-batch", "-"], stdin="\n".join(lines) + "\n")

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` inside, in a thread of its own, and return or raise what it returned or raised."""
        values: list[T] = []
        errors: list[BaseException] = []

        def visit() -> None:
            try:
                self._enter()
                values.append(function())
            except BaseException as error:  # noqa: BLE001 -- handed over to the caller's thread
                errors.append(error)

        thread = threading.Thread(target=visit, name=f"in {self.name}")
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return values[0]

    def _enter(self) -> None:
        descriptor = os.open(_RUN / self.name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {self.name}")
        finally:
            os.close(descriptor)

    def open_tcp(self, host: str, port: int, timeout_s: float) -> socket.socket:
        """A TCP socket connected from inside; `timeout_s` holds for connecting and for all later use."""
        return self.call(lambda: socket.create_connection((host, port), timeout=timeout_s))

    def open_packet(self, interface: str) -> socket.socket:
        """A promiscuous AF_PACKET socket that is receiving from `interface` when this returns."""
        return self.call(lambda: _packet_socket(interface))

    def open_icmp(self) -> socket.socket:
        """A raw ICMP socket."""
        return self.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))


def run_command(
    argv: Sequence[str], *, stdin: str | None = None, deadline_s: float = 60.0, check: bool = True
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, at most `deadline_s` seconds, and capture what it writes."""
    done = subprocess.run(
        list(argv),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=deadline_s,
        check=False,
    )
    if check and done.returncode != 0:
        said = (done.stdout + done.stderr).strip() or "nothing"
        raise CommandFailed(f"{' '.join(argv)}: status {done.returncode}, it said: {said}")
    return done


def _packet_socket(interface: str) -> socket.socket:
    # Protocol 0 receives nothing; only bind() starts the flow, so no frame of another interface slips in.
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        request = struct.pack("iHH8s", socket.if_nametoindex(interface), _PACKET_MR_PROMISC, 0, b"")
        sock.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
        sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        sock.bind((interface, _ETH_P_ALL))
    except BaseException:
        sock.close()
        raise
    return sock


def _disable_ipv6() -> None:
    # /proc/sys/net shows the namespace of the thread that looks.
    for scope in ("all", "default"):
        (Path("/proc/sys/net/ipv6/conf") / scope / "disable_ipv6").write_text("1")


def has_ended(pid: int) -> bool:
    """Whether no process of this number runs; one that its parent has not yet reaped runs no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True
