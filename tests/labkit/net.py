"""A network of our own: a server and any number of clients on one bridge, far from the host's network.

      server namespace labkit-PID-N             client namespaces labkit-PID-N-NAME

    ┌───────────────────────────────┐                 ┌─────────────────┐
    │  lo                ┌─ to-web ─┼───── veth ──────┼─ eth0   (web)   │
    │  br0 10.0.0.1/8 ───┤          │                 └─────────────────┘
    │   │                │          │                 ┌─────────────────┐
    │  dhcpd             └─ to-db ──┼───── veth ──────┼─ eth0   (db)    │
    └───────────────────────────────┘                 └─────────────────┘
      br0: no STP, no forward delay

No cable leads out, nothing appears in the root namespace, and names carry the pid, so several labs live side
by side. Everything inside a lab belongs to the lab: leaving it ends all processes in its namespaces, and no
other process.
"""

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from labkit.icmp import ping
from labkit.netns import Namespace, run_command
from labkit.wait import until

_numbers = itertools.count(1)
_PORT_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,11}")  # "to-" + 12 = 15, the longest interface name
_BRIDGE_MAC = "02:6c:61:62:00:01"
_MOST_FRAMES = 1000  # more than a socket's receive buffer holds
_TERM_GRACE_S = 3.0
_GONE_S = 60.0


class Port:
    """One client on the bridge: a namespace of its own with the interface `eth0`. Made by `Lab.port`."""

    interface = "eth0"

    def __init__(self, lab: "Lab", name: str) -> None:
        self.lab = lab
        self.name = name
        self.namespace = Namespace(f"{lab.name}-{name}")
        self._idle_sockets: list[socket.socket] = []

    def __repr__(self) -> str:
        return f"Port({self.name!r})"

    @property
    def mac(self) -> str:
        """The MAC address of `eth0`, lower case with colons. Setting it keeps link and addresses.

        Peers that have talked to the machine know the old one until their ARP entries age.
        """
        return str(self._show("link")["address"])

    @mac.setter
    def mac(self, mac: str) -> None:
        self.namespace.ip(f"link set {self.interface} address {mac}")

    def addresses(self) -> tuple[IPv4Interface, ...]:
        """The IPv4 addresses of `eth0`, with their prefix lengths."""
        entries = self._show("addr").get("addr_info", [])
        return tuple(
            IPv4Interface(f"{e['local']}/{e['prefixlen']}") for e in entries if e["family"] == "inet"
        )

    def add_address(self, address: IPv4Interface | str) -> None:
        """Give `eth0` an address such as 10.20.0.3/8. Harmless when it has it."""
        self.namespace.ip(f"addr replace {address} brd + dev {self.interface}")

    def flush(self) -> None:
        """Take all addresses, routes and neighbours away, as if the machine had just been switched on."""
        self.namespace.ip(f"addr flush dev {self.interface}", f"neigh flush dev {self.interface}")

    def ping(self, address: IPv4Address | str, deadline_s: float = 15.0) -> bool:
        """Whether `address` answers a ping from here within `deadline_s` seconds."""
        return ping(self.namespace, address, deadline_s)

    def open_packet_socket(self) -> socket.socket:
        """A raw AF_PACKET socket on `eth0`, already receiving, for use anywhere in this process."""
        return self.namespace.open_packet(self.interface)

    @contextmanager
    def packet_socket(self) -> Iterator[socket.socket]:
        """Borrow such a socket, without old frames. To close one of your own takes the kernel some 10 ms."""
        sock = self._idle_sockets.pop() if self._idle_sockets else self.open_packet_socket()
        try:
            _forget_frames(sock)
            yield sock
        finally:
            self._idle_sockets.append(sock)

    def close_sockets(self) -> None:
        """Close the sockets that were lent. The lab does that."""
        while self._idle_sockets:
            self._idle_sockets.pop().close()

    def _show(self, what: str) -> Any:
        command = ["ip", "-n", self.namespace.name, "-json", what, "show", "dev", self.interface]
        return json.loads(run_command(command).stdout)[0]


class Lab:
    """The server namespace with its bridge, and the ports plugged into it. A context manager.

    `addresses` are those of the bridge. Entering makes the network; leaving ends what runs in it and removes
    the network.
    """

    bridge = "br0"

    def __init__(self, addresses: Sequence[str] = ("10.0.0.1/8",)) -> None:
        self.addresses = tuple(IPv4Interface(a) for a in addresses)
        self.name = f"labkit-{os.getpid()}-{next(_numbers)}"
        self.server = Namespace(self.name)
        self.ports: dict[str, Port] = {}
        self._teardown = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._add_namespace(self.server)
            self.server.ip(
                f"link add {self.bridge} type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
                # A bridge without a MAC of its own changes it with every port, and dhcpd remembers the first.
                f"link set {self.bridge} address {_BRIDGE_MAC}",
                *(f"addr add {a} brd + dev {self.bridge}" for a in self.addresses),
                f"link set {self.bridge} up",
            )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes of the lab and remove its namespaces. Every step is tried; can be repeated."""
        self.ports.clear()
        self._teardown.close()

    def port(self, name: str, mac: str | None = None) -> Port:
        """Plug a new client into the bridge; returns when frames can pass. `name`: up to 12 of [a-z0-9-]."""
        if not _PORT_NAME.fullmatch(name) or name in self.ports:
            raise ValueError(f"not a new port name of at most 12 characters a-z, 0-9 and '-': {name!r}")
        port = Port(self, name)
        self._add_namespace(port.namespace)
        self._teardown.callback(port.close_sockets)
        outer, wanted_mac = f"to-{name}", f"address {mac} " if mac else ""
        self.server.ip(
            f"link add {outer} type veth peer name {port.interface} {wanted_mac}netns {port.namespace.name}",
            f"link set {outer} master {self.bridge} up",
        )
        port.namespace.ip(f"link set {port.interface} up")
        until(lambda: self._forwards(outer), 30, f"the bridge to forward frames of port {name}")
        self.ports[name] = port
        return port

    def run(
        self,
        argv: Sequence[str],
        port: Port | None = None,
        *,
        stdin: str | None = None,
        deadline_s: float = 60.0,
        check: bool = True,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in the server's or the port's namespace to its end, at most `deadline_s` seconds."""
        return self._at(port).run(argv, stdin=stdin, deadline_s=deadline_s, check=check)

    def popen(
        self, argv: Sequence[str], port: Port | None = None, *, output: Path, **options: Any
    ) -> "Process":
        """Start a command in the server's or the port's namespace; both its outputs are appended to a file.

        A file and not a pipe: a server whose pipe nobody reads freezes. It leads a process group of its own
        and is ended with the lab at the latest. `options` go to subprocess.Popen.
        """
        with output.open("ab") as sink:
            process = Process(self._at(port).argv(argv), sink, options)
        self._teardown.callback(process.end)
        return process

    def open_socket(self, host: str, port: int, timeout_s: float = 20.0) -> socket.socket:
        """A TCP socket connected from inside the server namespace, for use anywhere in this process."""
        return self.server.open_tcp(host, port, timeout_s)

    def ping(self, address: IPv4Address | str, deadline_s: float = 15.0) -> bool:
        """Whether `address` answers a ping from the server within `deadline_s` seconds."""
        return ping(self.server, address, deadline_s)

    def _at(self, port: Port | None) -> Namespace:
        return port.namespace if port else self.server

    def _add_namespace(self, namespace: Namespace) -> None:
        self._teardown.callback(namespace.remove)  # first, so that a half-made one is removed as well
        namespace.create()

    def _forwards(self, outer: str) -> bool:
        """Whether frames pass in both directions: the kernel starts the bridge itself after its first port."""
        port = ["bridge", "-n", self.server.name, "-json", "link", "show", "dev", outer]
        bridge = ["ip", "-n", self.server.name, "-json", "link", "show", "dev", self.bridge]
        return all(
            json.loads(run_command(command).stdout)[0].get(key) == value
            for command, key, value in ((port, "state", "forwarding"), (bridge, "operstate", "UP"))
        )


def _forget_frames(sock: socket.socket) -> None:
    with suppress(BlockingIOError):
        for _ in range(_MOST_FRAMES):
            sock.recv(1, socket.MSG_DONTWAIT)


class Process(subprocess.Popen[bytes]):
    """A process of the lab: the leader of a process group, which ends as a whole. Made by `Lab.popen`."""

    def __init__(self, argv: Sequence[str], output: IO[bytes], options: dict[str, Any]) -> None:
        self.started_at = time.monotonic()
        super().__init__(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )

    @property
    def alive(self) -> bool:
        """Whether the process runs, or is stopped by a signal, but has not ended."""
        return self.poll() is None

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the process and its descendants. Nothing happens once the process has ended."""
        if self.alive:  # while it is unreaped its number belongs to no one else
            os.killpg(self.pid, number)

    def kill_now(self) -> None:
        """End the group as a power cut would: it can clean nothing up and say nothing to anyone."""
        self.signal_group(signal.SIGKILL)
        self.wait(_GONE_S)

    def end(self) -> None:
        """End the group: politely, and by force after 3 seconds. A stopped one is woken for it."""
        self.signal_group(signal.SIGTERM)
        self.signal_group(signal.SIGCONT)
        try:
            self.wait(_TERM_GRACE_S)
        except subprocess.TimeoutExpired:
            self.kill_now()
