"""Follows dhcpd's log in a file or the journal, and finds the lines that an admin must know."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from typing_extensions import override

from macbind.core.errors import LogUnavailable
from macbind.core.findings import Finding
from macbind.dhcp.isc.exchanges import own_words

JOURNAL = "journal:"
"""What a log that is kept by systemd's journal begins with in the configuration; the unit's name follows."""
_CHUNK, _MAX_LINE = 65536, 4096
_RESTART_S, _BELIEVED_S = 30.0, 5.0
"""How long to wait before journalctl is run again, and how long it must then live to be working, in seconds."""


@dataclass(frozen=True, slots=True)
class _Sign:
    """Words of dhcpd's that mean trouble."""

    code: str
    words: re.Pattern[str]
    meaning: str
    hint: str


_SIGNS = [
    _Sign(
        "lease_file_damaged",
        re.compile(r"possible data loss|\.leases~? line \d+:"),
        "could not read all of its lease file and has dropped the rest",
        "macbind has made its own bindings again; the file it started from is kept with a ~ at its end until the "
        "next rewrite: look there for leases and hosts of others.",
    ),
    _Sign(
        "lease_file_unwritable",
        re.compile(
            r"No space left on device|[Cc]an't (?:write|create|open) (?:new )?lease|write_\w+: unable to write"
        ),
        "cannot write its lease file",
        "Free space on the file system of its lease file; do not restart dhcpd before its next hourly rewrite.",
    ),
    _Sign(
        "dhcpd_deaf",
        re.compile(r"receive_packet failed on|Network is down"),
        "has lost its network interface",
        "If the interface was made anew, restart dhcpd; else set it down and up again.",
    ),
    _Sign(
        "two_dhcpds",
        re.compile(r"Can't start OMAPI protocol|already a DHCP server running"),
        "found another dhcpd on this machine",
        "Run one dhcpd: the other one may answer machines, and holds the OMAPI port.",
    ),
    _Sign(
        "leased_address",
        re.compile(r"Dynamic and static leases present"),
        "has a reserved address inside one of its ranges",
        "Take the pool's addresses out of every range of dhcpd's configuration.",
    ),
    _Sign(
        "address_declined",
        re.compile(r"DHCPDECLINE of .* via [^ ]+: abandoned|Abandoning IP address"),
        "was told that an address it gave is in use by somebody else",
        "Find the machine that has the address without having been given it.",
    ),
]


def read_sign(dhcpd: str, line: str) -> Finding | None:
    """The finding that a line of dhcpd's log is a sign of; None for all that is ordinary."""
    own = own_words(line)
    for sign in _SIGNS:
        if sign.words.search(own):
            said = own[-200:].rstrip(".!")
            return Finding(sign.code, f"dhcpd '{dhcpd}' {sign.meaning}; it says: {said}.", sign.hint, dhcpd)
    return None


def read_start(line: str, before: str | None) -> str | None:
    """Why dhcpd has ended at its start, after this line of its log; None if it serves, or nothing is known.

    Args:
        line: The line.
        before: What was known before.
    """
    if _STARTED.search(line):
        return None
    return own_words(line)[-200:].rstrip(".!*") if _FATAL.search(line) else before


_STARTED = re.compile(r"Server starting service\.$")
_FATAL = re.compile(
    r"matches multiple shared networks|^No subnet declaration for|^Not configured to listen on any interfaces"
    r"|^Configuration file errors encountered|^Can't open .*\.(?:conf|leases)|^Can't bind to dhcp address"
)


class Log(Protocol):
    """A log that is being followed."""

    def lines(self) -> list[str]:
        """What was written since the last call.

        Raises:
            LogUnavailable: It cannot be read now; a later call may succeed.
        """

    def close(self) -> None:
        """Ends following it."""


def follow(place: str) -> Log:
    """Follows the log at a place as the configuration names it: from now on, nothing that is old."""
    if place.startswith(JOURNAL):
        return FollowedJournal(place.removeprefix(JOURNAL))
    return FollowedFile(Path(place))


class _Splitter:
    """Lines out of bytes that arrive in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-_MAX_LINE:]  # a line without an end must not fill the memory
        return [line.decode(errors="replace") for line in whole]


class FollowedFile(Log):
    """A file, also when it is rotated, truncated, or not there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._splitter = _Splitter()
        self._file: int | None = None
        self._is_old = path.exists()  # what is in it already is none of our business
        with contextlib.suppress(OSError):  # lines() will tell the reason
            self._open()

    @override
    def lines(self) -> list[str]:
        found: list[str] = []
        try:
            if self._file is not None:
                found = self._read(self._file)  # also what the old one got before it was replaced
                if self._is_replaced(self._file):
                    self.close()
            if self._file is None and self._path.exists():
                found += self._read(self._open())
        except OSError as error:
            raise LogUnavailable(
                f"dhcpd's log {self._path} cannot be read: {error.strerror}.",
                hint="Correct log in the [dhcpd.…] table, or let macbind's user read the file.",
            ) from error
        return found

    @override
    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file, self._splitter = None, _Splitter()

    def _open(self) -> int:
        file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(0, "it is no ordinary file")
            if self._is_old:
                os.lseek(file, 0, os.SEEK_END)
        except OSError:
            os.close(file)
            raise
        self._file, self._is_old = file, False
        return file

    def _is_replaced(self, file: int) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        return not os.path.samestat(os.fstat(file), there)

    def _read(self, file: int) -> list[str]:
        if os.fstat(file).st_size < os.lseek(file, 0, os.SEEK_CUR):  # truncated: it begins anew
            os.lseek(file, 0, os.SEEK_SET)
            self._splitter = _Splitter()
        found: list[str] = []
        while chunk := os.read(file, _CHUNK):
            found += self._splitter.feed(chunk)
        return found


class FollowedJournal(Log):
    """A unit's messages in systemd's journal, by journalctl(1)."""

    def __init__(self, unit: str, believed_s: float = _BELIEVED_S) -> None:
        self._unit, self._believed_s = unit, believed_s
        self._splitter = _Splitter()
        self._reader: subprocess.Popen[bytes] | None = None
        self._problem: LogUnavailable | None = None  # until a reader has lived long enough to be believed
        self._started_at, self._read_at = 0.0, time.time()
        self._start()

    @override
    def lines(self) -> list[str]:
        age_s = time.monotonic() - self._started_at
        if self._reader is None and age_s >= _RESTART_S:
            self._start()
        found = [] if self._reader is None else self._read(self._reader)
        if self._problem is not None and not found:
            if self._reader is None or age_s < self._believed_s:
                raise self._problem
            self._problem = None
        return found

    def _read(self, reader: subprocess.Popen[bytes]) -> list[str]:
        assert reader.stdout is not None
        found: list[str] = []
        while (data := self._receive(reader.stdout.fileno())) is not None:
            if not data:
                status = reader.wait()
                self.close()
                if time.monotonic() - self._started_at >= self._believed_s:
                    # It worked, and somebody ended it, as systemd does with all of us when the service stops.
                    self._start(since=self._read_at)
                    return found
                self._problem = LogUnavailable(
                    f"journalctl ended with status {status} while it followed '{self._unit}'.",
                    hint="Let macbind's user read the journal: it must be in the group systemd-journal.",
                )
                return found
            found += self._splitter.feed(data)
            self._read_at = time.time()
        return found

    @override
    def close(self) -> None:
        if self._reader is not None:
            self._reader.kill()
            self._reader.communicate()
            self._reader, self._splitter = None, _Splitter()

    def _start(self, since: float | None = None) -> None:
        """Runs journalctl: from now on, or from a moment on (UTC), whose lines may be read a second time."""
        begin = ["--lines=0"] if since is None else [f"--since=@{int(since)}", "--no-tail"]
        command = ["journalctl", f"--unit={self._unit}", "--output=cat", "--follow", "--quiet", *begin]
        self._started_at = time.monotonic()
        try:
            self._reader = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            self._problem = LogUnavailable(
                f"journalctl cannot be run: {error.strerror}.", hint="Install systemd, or name a file as log."
            )
            return
        assert self._reader.stdout is not None
        os.set_blocking(self._reader.stdout.fileno(), False)

    @staticmethod
    def _receive(descriptor: int) -> bytes | None:
        """What has arrived; None for nothing, an empty text at the end."""
        try:
            return os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return None
