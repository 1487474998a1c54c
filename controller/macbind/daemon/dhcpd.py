"""What runs for one dhcpd: its writer and its monitor."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container
from ipaddress import IPv4Address

from macbind.config import DhcpdSettings
from macbind.daemon.watchdog import Heartbeat, Task
from macbind.dhcp.isc.build import isc_dhcpd
from macbind.dhcp.isc.server import OPERATIONS
from macbind.engine.confirmations import Confirmations
from macbind.engine.dhcp_writer import DhcpWriter
from macbind.engine.exchange_check import ExchangeCheck, holders_in, taken_by
from macbind.engine.last_seen import LastSeen
from macbind.engine.lead import Others
from macbind.engine.life_signs import LifeSigns
from macbind.engine.monitor import Monitor
from macbind.engine.supervised import OnDefect
from macbind.registry.leader import leader_for
from macbind.registry.store import Registry
from macbind.service.meters import Meters

HANGS_S = 120.0
"""A part of the service that shows no progress for longer than this hangs. Far more than any wait of ours may take:
5 s for an answer of dhcpd or for SQLite's lock, 30 s for a statement of PostgreSQL."""


class DhcpdParts:
    """The parts that run for one dhcpd.

    Attributes:
        writer: Keeps it as the registry says.
        monitor: Watches it from other sides.
        task: Its progress, for the watchdog.
    """

    def __init__(
        self,
        name: str,
        settings: DhcpdSettings,
        registry: Registry,
        confirmations: Confirmations,
        on_defect: OnDefect,
        own: Callable[[], Container[IPv4Address]],
        servers: Callable[[], Collection[IPv4Address]],
        life_signs: LifeSigns,
        last_seen: LastSeen,
        meters: Meters,
        others: Others,
    ) -> None:
        beat = Heartbeat()
        measure = meters.omapi(name, OPERATIONS)
        leader = leader_for(registry.url, registry.ids.dhcpds[name])

        def goes_on() -> None:
            beat()
            leader.keep()

        dhcpd = isc_dhcpd(name, settings, goes_on, registry.sizes.window, measure)
        self.writer = DhcpWriter(
            dhcpd,
            registry,
            leader,
            confirmations,
            resync_s=settings.resync_s,
            beat=beat,
            on_defect=on_defect,
            meter=meters,
            others=others,
        )
        check = ExchangeCheck(
            name,
            lambda: [pool for pool in registry.pools.values() if name in pool.dhcpds],
            holders_in(registry),
            servers,
            life_signs,
            taken_by(registry),
        )
        self.monitor = Monitor(
            dhcpd,
            settings.probe,
            settings.probe_interval_s,
            own=own,
            check=check,
            on_defect=on_defect,
            last_seen=last_seen,
        )
        self.task = Task(f"writer {name}", HANGS_S, beat.silent_s)

    def start(self) -> None:
        """Starts both; dhcpd need not be there yet."""
        self.writer.start()
        self.monitor.start()

    def close(self) -> None:
        """Ends both; what is left to do stays in the registry."""
        self.monitor.close()
        self.writer.close()
