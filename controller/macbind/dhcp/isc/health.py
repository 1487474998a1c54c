"""What threatens an ISC dhcpd: words in its log, a full disk under its lease file, strangers at its OMAPI port."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from typing_extensions import override

from macbind.core.findings import RESTART_DHCPD, Finding
from macbind.core.mac_address import MacAddress
from macbind.dhcp.isc.conf_look import is_local
from macbind.dhcp.isc.exchanges import read_asker, read_exchange
from macbind.dhcp.isc.files import commands_to_read, how_to_read, open_ordinary
from macbind.dhcp.isc.log import Log, read_sign, read_start
from macbind.dhcp.isc.omapi_clients import Connection, describe, intruders, listeners, read_connections
from macbind.dhcp.port import Exchange, HealthWatch

_MOST_EXCHANGES = 20_000
"""Of one look at the log; more than a dhcpd has in a second."""
_SPARE_BYTES = 1 << 20
"""Free space that dhcpd needs beside a second copy of its lease file."""


@dataclass
class IscHealth(HealthWatch):
    """A watch over one dhcpd.

    Attributes:
        own_port: Tells the local port of our own OMAPI connection, if there is one.
        name: The dhcpd's name in the configuration.
        log: Its log, which is being followed; None: it is not read.
        leases_file: Its lease file, where macbind can see it.
        omapi: Host and port of its OMAPI server; None: nobody looks who is connected there.
    """

    own_port: Callable[[], int | None]
    name: str = ""
    log: Log | None = None
    leases_file: Path | None = None
    omapi: tuple[str, int] | None = None
    _ended: str | None = field(default=None, init=False, repr=False)
    _exchanges: list[Exchange] = field(default_factory=list, init=False, repr=False)
    _askers: set[MacAddress] = field(default_factory=set, init=False, repr=False)
    _strangers: set[Connection] = field(default_factory=set, init=False, repr=False)

    @override
    def signs(self) -> list[Finding]:
        lines = [] if self.log is None else self.log.lines()
        for line in lines:
            self._ended = read_start(line, self._ended)
            asker = read_asker(line)
            if asker is not None and len(self._askers) < _MOST_EXCHANGES:
                self._askers.add(asker)
            exchange = read_exchange(line)
            if exchange is not None and len(self._exchanges) < _MOST_EXCHANGES:
                self._exchanges.append(exchange)
        return [sign for line in lines if (sign := read_sign(self.name, line)) is not None]

    @override
    def exchanges(self) -> list[Exchange]:
        found, self._exchanges = self._exchanges, []
        return found

    @override
    def askers(self) -> list[MacAddress] | None:
        found, self._askers = sorted(self._askers), set()
        return None if self.log is None else found

    @override
    def findings(self) -> list[Finding]:
        return [*self._why_it_ended(), *self._measure(), *self._look_who_is_there()]

    @override
    def is_here(self) -> bool:
        if self.omapi is None or not is_local(self.omapi[0]):
            return self.omapi is None
        try:
            listening = listeners(self.omapi[1])
        except OSError:
            return True
        # dhcpd listens on every address; what listens on the loopback alone is a tunnel to another machine.
        return not listening or any(ip_address(one).is_unspecified for one in listening)

    @override
    def close(self) -> None:
        if self.log is not None:
            self.log.close()

    def _is_local(self) -> bool:
        return self.omapi is None or is_local(self.omapi[0])

    def _why_it_ended(self) -> list[Finding]:
        """What dhcpd said when it ended at its start, until it serves."""
        if self._ended is None:
            return []
        return [
            Finding(
                "dhcpd_ended",
                f"dhcpd '{self.name}' does not start; it says: {self._ended}.",
                "Mend its configuration or its interfaces, run `macbind render`, and start it.",
                self.name,
            )
        ]

    def _measure(self) -> list[Finding]:
        """Whether dhcpd has the space to rewrite its lease file."""
        path = self.leases_file
        if path is None:
            return []
        try:
            with open_ordinary(path) as file:
                size = os.fstat(file.fileno()).st_size
            needed, free = size + _SPARE_BYTES, _free_bytes(path.parent)
        except FileNotFoundError:
            return [
                Finding(
                    "lease_file_missing",
                    f"dhcpd '{self.name}' has no lease file {path}.",
                    "Correct leases_file. If it was deleted, restart dhcpd: it writes into a file that is gone.",
                    str(path),
                    RESTART_DHCPD if self._is_local() else (),
                )
            ]
        except OSError as error:
            return [
                Finding(
                    "lease_file_unreadable",
                    f"macbind cannot read the lease file {path} of dhcpd '{self.name}': {error.strerror}. "
                    "What others have of its pools is known from earlier looks only.",
                    how_to_read(path),
                    str(path),
                    commands_to_read(path),
                )
            ]
        if free >= needed:
            return []
        return [
            Finding(
                "disk_low",
                f"The file system of {path} has {free >> 20} MiB left; dhcpd '{self.name}' needs "
                f"{-(-needed >> 20)} to rewrite its lease file.",
                "Free space there: dhcpd loses what it cannot write down when it restarts.",
                str(path),
            )
        ]

    def _look_who_is_there(self) -> list[Finding]:
        """Who is connected to the OMAPI port of a dhcpd of this machine, now and at the last look."""
        if self.omapi is None or not self._is_local():
            return []
        try:
            connections = read_connections()
        except OSError as error:
            return [
                Finding(
                    "connections_unknown",
                    f"macbind cannot list the clients of the OMAPI port of dhcpd '{self.name}': {error.strerror}.",
                    "Let macbind read /proc/self/net/tcp.",
                    self.name,
                )
            ]
        own = self.own_port()
        if own is None:  # ours may be among them, on its way
            self._strangers = set()
            return []
        present = set(intruders(connections, self.omapi[1], (own,)))
        lasting, self._strangers = present & self._strangers, present
        return [
            Finding(
                "foreign_omapi_client",
                f"{describe(one)} is connected to the OMAPI port of dhcpd '{self.name}'.",
                "Close the port to all but macbind: whoever reaches it controls dhcpd. The documentation of the "
                "installation says how.",
                self.name,
            )
            for one in sorted(lasting)[:1]
        ]


def _free_bytes(directory: Path) -> int:
    """What an unprivileged program may still write there."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
