"""The DHCP servers and hypervisors that the configuration names, and what the service knows of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from macbind.core.findings import DhcpdState, DhcpdStatus
from macbind.engine.dhcp_writer import DhcpWriter
from macbind.engine.monitor import Health, Monitor

if TYPE_CHECKING:  # it needs libvirt-python
    from macbind.engine.domain_tracker import DomainTracker


@dataclass(frozen=True, slots=True)
class Peers:
    """All of them at one moment. A question that needs several takes all from one of these.

    Attributes:
        writers: One per DHCP server, by name.
        monitors: What watches the DHCP servers from other sides, by name.
        machines: What watches libvirt, if anything does.
    """

    writers: Mapping[str, DhcpWriter] = field(default_factory=dict)
    monitors: Mapping[str, Monitor] = field(default_factory=dict)
    machines: DomainTracker | None = None

    def status(self, name: str) -> DhcpdStatus:
        """What writer and monitor know of a DHCP server."""
        status, health = self.writers[name].status(), self._health(name)
        return replace(
            status,
            state=self.state(name),
            answered_at=health.answered_at,
            findings=tuple(dict.fromkeys((*status.findings, *health.findings))),
        )

    def state(self, name: str) -> DhcpdState:
        """How macbind gets on with a DHCP server."""
        state = self.writers[name].state
        return DhcpdState.DEAF if state is DhcpdState.SERVING and self._health(name).is_deaf else state

    def _health(self, name: str) -> Health:
        monitor = self.monitors.get(name)
        return Health() if monitor is None else monitor.health


CurrentPeers = Callable[[], Peers]
"""Says which they are now: a new configuration exchanges them."""
