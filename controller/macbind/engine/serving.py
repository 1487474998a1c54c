"""Whether a DHCP server answers machines, and who else does: asked by DHCP, as a machine asks."""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from datetime import UTC, datetime
from ipaddress import IPv4Address

from macbind.core.binding import probe_mac
from macbind.core.errors import NetworkUnavailable
from macbind.core.findings import RESTART_DHCPD, Finding
from macbind.core.mac_address import MacAddress
from macbind.probes.dhcp import Answer, Probe, has_carrier

SILENT_PROBES = 3
"""So many probes in a row must stay unanswered: one may be lost, and a restart takes a moment. After the first
silent one the server is asked every tick."""
OTHERS_KEPT_S = 300.0
"""How long a second server that has answered stays a finding."""
MAX_OTHERS = 64
"""More servers than any network has; one liar may pretend to be many."""


class Serving:
    """Asks one DHCP server on one interface. One thread uses it.

    Args:
        name: The server's name in the configuration.
        interface: Where it is asked.
        own: Says which addresses it offers to our probe.
        is_here: Says whether it runs on this machine.

    Attributes:
        answered_at: When it last answered (UTC).
        silent: How many questions in a row it has not answered.
    """

    def __init__(
        self,
        name: str,
        interface: str,
        own: Callable[[], Container[IPv4Address]],
        is_here: Callable[[], bool],
    ) -> None:
        self._name, self._interface, self._own, self._is_here = name, interface, own, is_here
        self._probe: Probe | None = None
        self._others: dict[tuple[IPv4Address | None, MacAddress], tuple[float, Answer]] = {}
        self.answered_at: datetime | None = None
        self.silent = 0

    @property
    def is_deaf(self) -> bool:
        """Whether it does not answer machines."""
        return self.silent >= SILENT_PROBES

    def close(self) -> None:
        """Ends asking."""
        if self._probe is not None:
            self._probe.close()
            self._probe = None

    def ask(self) -> list[Finding]:
        """Asks for an address; the server is deaf when it stays silent several times.

        Raises:
            NetworkUnavailable: The interface cannot be used.
        """
        silent, self.silent = self.silent, 0  # where nobody can be asked, nobody is silent
        if not has_carrier(self._interface):
            return []
        try:
            answer = self._open().ask()
        except NetworkUnavailable:  # the interface was made anew
            self.close()
            answer = self._open().ask()
        if answer is not None:
            self.answered_at = datetime.now(UTC)
            return []
        self.silent = silent + 1
        if not self.is_deaf:
            return []
        return [
            Finding(
                "dhcpd_deaf",
                f"dhcpd '{self._name}' does not answer DHCP on {self._interface}: machines get no address.",
                "Restart it if its interface was made anew, or if 'macbind render' has set the probe up since it "
                "started; its log says more.",
                self._name,
                RESTART_DHCPD if self._is_here() else (),
            )
        ]

    def others(self) -> list[Finding]:
        """Who else answers machines here.

        Raises:
            NetworkUnavailable: The interface cannot be used.
        """
        now = time.monotonic()
        try:
            heard = [] if self._probe is None else self._probe.others()
        except NetworkUnavailable:
            self.close()
            raise
        for one in heard:
            key = (one.server, one.sender_mac)
            if key in self._others or len(self._others) < MAX_OTHERS:
                self._others[key] = (now, one)
        self._others = {key: one for key, one in self._others.items() if now - one[0] < OTHERS_KEPT_S}
        return self._found([one for _, one in self._others.values()])

    def _found(self, others: list[Answer]) -> list[Finding]:
        if not others:
            return []
        one = others[0]
        more = f" There are {len(others)} such servers." if len(others) > 1 else ""
        return [
            Finding(
                "second_dhcp_server",
                f"Another DHCP server than dhcpd '{self._name}' answers on {self._interface}: {one.sender} with MAC "
                f"{one.sender_mac} offered {one.address} to macbind's probe in the name of {one.server}.{more}",
                "Stop it, or keep its answers off this network: machines take whichever answer comes first.",
                str(one.server or one.sender),
            )
        ]

    def _open(self) -> Probe:
        if self._probe is None:
            self._probe = Probe(
                self._interface, probe_mac(self._name), _Own(self._own), is_remote=not self._is_here()
            )
        return self._probe


class _Own(Container[IPv4Address]):
    """The addresses that our server offers at this moment; another configuration may have others."""

    def __init__(self, now: Callable[[], Container[IPv4Address]]) -> None:
        self._now = now

    def __contains__(self, address: object) -> bool:
        return address in self._now()
