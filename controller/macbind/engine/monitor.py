"""A monitor per DHCP server: asks it by DHCP as a machine does, and watches what threatens it.

The writer knows what the server says on its control channel. A monitor looks from other sides. A probe asks for an
address by real DHCP. The engine's :class:`~macbind.dhcp.port.HealthWatch` reads the server's log and looks at what
the server needs. A monitor changes nothing; what it finds is for an admin.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address

import structlog

from macbind.core.errors import MacbindError
from macbind.core.findings import Finding
from macbind.dhcp.port import DhcpServer, HealthWatch
from macbind.engine.exchange_check import ExchangeCheck
from macbind.engine.hearing import Hearing
from macbind.engine.last_seen import LastSeen
from macbind.engine.serving import Serving
from macbind.engine.supervised import OnDefect, Supervised

_log = structlog.get_logger()

TICK_S = 1.0
"""How often the server's log is read."""
CHECK_S = 5.0
"""How often the rest of its health is looked at."""
SIGN_KEPT_S = 3600.0
"""How long a line of the log stays a finding; a state that lasts writes it again, or is found otherwise."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a monitor knows.

    Attributes:
        is_deaf: Whether the server does not answer DHCP; False also while nobody asks.
        answered_at: When it last answered (UTC).
        findings: What an admin should look at.
    """

    is_deaf: bool = False
    answered_at: datetime | None = None
    findings: tuple[Finding, ...] = ()


class Monitor:
    """Watches one DHCP server in a thread of its own.

    Args:
        dhcpd: The server.
        interface: The network interface on which it is asked for an address by DHCP; None: it is not asked.
        probe_interval_s: How often it is asked, in seconds.
        own: Says which addresses it offers to the probe.
        check: Compares what it gives to machines with the registry; None: nothing does.
        on_defect: Called with a defect of ours; the monitor has stopped.
        last_seen: Takes which machines have asked it.
    """

    def __init__(
        self,
        dhcpd: DhcpServer,
        interface: str | None,
        probe_interval_s: float,
        *,
        own: Callable[[], Container[IPv4Address]] = tuple,
        check: ExchangeCheck | None = None,
        on_defect: OnDefect = lambda _: None,
        last_seen: LastSeen | None = None,
    ) -> None:
        self._name, self._probe_interval_s = dhcpd.name, probe_interval_s
        self._exchanges = check
        self._watch = dhcpd.health()  # not in the thread: what the log says before its first turn counts, too
        self._serving = (
            None if interface is None else Serving(dhcpd.name, interface, own, self._watch.is_here)
        )
        self._signs: dict[str, tuple[float, Finding]] = {}
        self._seen: dict[str, tuple[Finding, ...]] = {}  # by the name of the check
        self._reported: frozenset[str] = frozenset()
        self._health = Health()
        self._probe_at = self._check_at = 0.0
        self._hearing = Hearing(LastSeen() if last_seen is None else last_seen)
        self._thread = Supervised(
            f"monitor-{self._name}", self._look, on_defect, every_s=TICK_S, at_end=self._end_watch
        )

    def start(self) -> None:
        """Starts watching."""
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        self._thread.close()

    @property
    def health(self) -> Health:
        """What is known now."""
        return self._health

    @property
    def hearing(self) -> Hearing:
        """What it hears of machines."""
        return self._hearing

    # -- the loop --------------------------------------------------------------------------------------

    def _look(self) -> None:
        now, watch = time.monotonic(), self._watch
        self._check("log", lambda: self._read(watch))
        self._check("exchanges", lambda: self._compare(watch))
        if self._serving is not None:
            self._probe(self._serving, now)
        if now >= self._check_at:
            self._check("health", watch.findings)
            self._check_at = now + CHECK_S
        self._conclude()

    def _end_watch(self) -> None:
        self._watch.close()
        if self._serving is not None:
            self._serving.close()

    def _probe(self, serving: Serving, now: float) -> None:
        if now >= self._probe_at:
            self._check("probe", serving.ask)
            self._probe_at = now + (0 if serving.silent else self._probe_interval_s)
            if not serving.silent and serving.answered_at is not None:
                self._signs.pop("dhcpd_deaf", None)  # whatever its log said
        self._check("others", serving.others)

    def _check(self, name: str, look: Callable[[], list[Finding]]) -> None:
        """Makes one check; that it cannot be made is a finding, too."""
        try:
            self._seen[name] = tuple(look())
        except MacbindError as error:
            self._seen[name] = (Finding(error.code, error.message, error.hint, self._name),)

    def _conclude(self) -> None:
        horizon = time.monotonic() - SIGN_KEPT_S
        self._signs = {code: sign for code, sign in self._signs.items() if sign[0] >= horizon}
        signs = [finding for _, finding in self._signs.values()]
        found = [finding for findings in self._seen.values() for finding in findings] + signs
        serving = self._serving
        self._health = (
            Health(findings=tuple(found))
            if serving is None
            else Health(serving.is_deaf, serving.answered_at, tuple(found))
        )
        for finding in found:
            if finding.code not in self._reported:  # the sentence may have a number in it that changes
                _log.warning("finding", dhcpd=self._name, code=finding.code, finding=str(finding))
        self._reported = frozenset(finding.code for finding in found)

    # -- the checks ------------------------------------------------------------------------------------

    def _read(self, watch: HealthWatch) -> list[Finding]:
        """Remembers the last sign of each kind, for longer than a tick."""
        try:
            signs = watch.signs()
        except MacbindError:
            self._hearing.fails()
            raise
        self._hearing.take(watch.askers())
        return self._remember(signs)

    def _compare(self, watch: HealthWatch) -> list[Finding]:
        heard = watch.exchanges()
        return [] if self._exchanges is None else self._remember(self._exchanges.findings(heard))

    def _remember(self, signs: Sequence[Finding]) -> list[Finding]:
        for sign in signs:
            self._signs[sign.code] = (time.monotonic(), sign)
        return []
