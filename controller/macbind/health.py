"""Whether a dhcpd really serves, and what threatens that it goes on to.

The writer knows what dhcpd says over OMAPI. A monitor looks from other sides: it asks by DHCP as a machine does,
reads dhcpd's log, measures the space its lease file needs, and sees who else is connected to its OMAPI port. It
changes nothing; what it finds is for an admin.
"""

from __future__ import annotations

import ipaddress
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from macbind.config import DhcpdSettings
from macbind.dhcpd.intruders import Connection, describe, intruders, read_connections
from macbind.dhcpd.log import Log, follow, read_sign
from macbind.dhcpd.probe import has_carrier, probe
from macbind.errors import MacbindError
from macbind.model import Finding, probe_mac

_log = structlog.get_logger()

TICK_S = 1.0
"""How often the log is read."""
CHECK_S = 5.0
"""How often space and connections are looked at."""
SILENT_PROBES = 3
"""So many probes in a row must stay unanswered: one may be lost, and a restart takes a moment. After the first
silent one dhcpd is asked every tick."""
SIGN_KEPT_S = 3600.0
"""How long a line of dhcpd's log stays a finding; a state that lasts writes it again, or is found otherwise."""
_SPARE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Health:
    """What a monitor knows.

    Attributes:
        is_deaf: Whether dhcpd does not answer DHCP; False also while nobody asks.
        answered_at: When it last answered (UTC).
        findings: What an admin should look at.
    """

    is_deaf: bool = False
    answered_at: datetime | None = None
    findings: tuple[Finding, ...] = ()


class Monitor:
    """Watches one dhcpd in a thread of its own.

    Args:
        settings: The dhcpd.
        own_port: The local port of our OMAPI connection, if there is one now.
        on_defect: Called with a defect of ours; the monitor has stopped.
    """

    def __init__(
        self,
        settings: DhcpdSettings,
        own_port: Callable[[], int | None],
        *,
        on_defect: Callable[[BaseException], None] = lambda _: None,
    ) -> None:
        self._settings, self._own_port, self._on_defect = settings, own_port, on_defect
        self._silent = 0
        self._answered_at: datetime | None = None
        self._signs: dict[str, tuple[float, Finding]] = {}
        self._seen: dict[str, tuple[Finding, ...]] = {}  # by the name of the check
        self._strangers: set[Connection] = set()
        self._reported: frozenset[str] = frozenset()
        self._health = Health()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"monitor-{settings.name}", daemon=True)

    def start(self) -> None:
        """Starts watching."""
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        self._stop.set()
        self._thread.join()

    @property
    def health(self) -> Health:
        """What is known now."""
        return self._health

    # -- the loop --------------------------------------------------------------------------------------

    def _run(self) -> None:
        log: Log | None = None if self._settings.log is None else follow(self._settings.log)
        probe_at = check_at = time.monotonic()
        try:
            while not self._stop.wait(TICK_S):
                now = time.monotonic()
                if log is not None:
                    self._check("log", lambda: self._read(log))
                if self._settings.probe is not None and now >= probe_at:
                    self._check("probe", self._ask)
                    probe_at = now + (0 if self._silent else self._settings.probe_interval_s)
                if now >= check_at:
                    self._check("disk", self._measure)
                    self._check("connections", self._look_who_is_there)
                    check_at = now + CHECK_S
                self._conclude()
        except BaseException as error:  # noqa: BLE001  # a defect: loud, and the end of this monitor
            _log.critical("monitor stopped", dhcpd=self._settings.name, exc_info=error)
            self._on_defect(error)
        finally:
            if log is not None:
                log.close()

    def _check(self, name: str, look: Callable[[], list[Finding]]) -> None:
        """Makes one check; that it cannot be made is a finding, too."""
        try:
            self._seen[name] = tuple(look())
        except MacbindError as error:
            self._seen[name] = (Finding(error.code, error.message, error.hint),)

    def _conclude(self) -> None:
        horizon = time.monotonic() - SIGN_KEPT_S
        self._signs = {code: sign for code, sign in self._signs.items() if sign[0] >= horizon}
        signs = [finding for _, finding in self._signs.values()]
        found = [finding for findings in self._seen.values() for finding in findings] + signs
        self._health = Health(self._silent >= SILENT_PROBES, self._answered_at, tuple(found))
        for finding in found:
            if finding.code not in self._reported:  # the sentence may have a number in it that changes
                _log.warning("finding", dhcpd=self._settings.name, code=finding.code, finding=str(finding))
        self._reported = frozenset(finding.code for finding in found)

    # -- the checks ------------------------------------------------------------------------------------

    def _read(self, log: Log) -> list[Finding]:
        for line in log.lines():
            sign = read_sign(self._settings.name, line)
            if sign is not None:
                self._signs[sign.code] = (time.monotonic(), sign)
        return []

    def _ask(self) -> list[Finding]:
        name, interface = self._settings.name, self._settings.probe
        assert interface is not None
        silent, self._silent = self._silent, 0  # where nobody can be asked, nobody is silent
        if not has_carrier(interface):
            return []
        if probe(interface, probe_mac(name)) is not None:
            self._answered_at = datetime.now(UTC)
            self._signs.pop("dhcpd_deaf", None)  # whatever its log said
            return []
        self._silent = silent + 1
        if self._silent < SILENT_PROBES:
            return []
        return [
            Finding(
                "dhcpd_deaf",
                f"dhcpd '{name}' does not answer DHCP on {interface}: machines get no address.",
                "Restart it if its interface was made anew, or if 'macbind render' has set the probe up since it "
                "started; its log says more.",
            )
        ]

    def _measure(self) -> list[Finding]:
        path = self._settings.leases_file
        if path is None:
            return []
        try:
            needed, free = path.stat().st_size + _SPARE_BYTES, _free_bytes(path.parent)
        except OSError as error:
            return [
                Finding(
                    "lease_file_missing",
                    f"The lease file {path} of dhcpd '{self._settings.name}' cannot be looked at: {error.strerror}.",
                    "Correct leases_file. If it was deleted, restart dhcpd: it writes into a file that is gone.",
                )
            ]
        if free >= needed:
            return []
        return [
            Finding(
                "disk_low",
                f"The file system of {path} has {free >> 20} MiB left; dhcpd '{self._settings.name}' needs "
                f"{-(-needed >> 20)} to rewrite its lease file.",
                "Free space there: what dhcpd cannot write down is lost when it restarts.",
            )
        ]

    def _look_who_is_there(self) -> list[Finding]:
        """Who is connected to the OMAPI port of a dhcpd of this machine, now and at the last look."""
        if not _is_local(self._settings.host):
            return []
        try:
            connections = read_connections()
        except OSError as error:
            return [
                Finding(
                    "connections_unknown",
                    f"Who is connected to the OMAPI port of dhcpd '{self._settings.name}' cannot be seen: "
                    f"{error.strerror}.",
                    "Let macbind read /proc/self/net/tcp.",
                )
            ]
        own = self._own_port()
        if own is None:  # ours may be among them, on its way
            self._strangers = set()
            return []
        present = set(intruders(connections, self._settings.port, (own,)))
        lasting, self._strangers = present & self._strangers, present
        return [
            Finding(
                "foreign_omapi_client",
                f"{describe(one)} is connected to the OMAPI port of dhcpd '{self._settings.name}'.",
                "Close the port to all but macbind, as dhcpd/README.md says: whoever reaches it controls dhcpd.",
            )
            for one in sorted(lasting)[:1]
        ]


def _free_bytes(directory: Path) -> int:
    """What an unprivileged program may still write there."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
