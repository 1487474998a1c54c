"""Keeps the addresses of this machine's own interfaces from being handed out."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address

import structlog

from macbind.core.evidence import Evidence, Source
from macbind.core.mac_address import MacAddress
from macbind.probes.interfaces import Interfaces, interfaces, macs
from macbind.registry import evidence
from macbind.registry.store import Registry

_log = structlog.get_logger()

EVERY_S = 60.0
"""How often the interfaces are looked at."""


class OwnAddresses:
    """Keeps the evidence of this machine's interfaces true. Used in one thread at a time.

    Args:
        registry: Has the evidence.
        look: Says which addresses the interfaces have.
        macs_of: Says which MACs they have.
        clock: Tells the time in seconds; never goes back.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        look: Callable[[], Interfaces] = interfaces,
        macs_of: Callable[[], Mapping[str, MacAddress]] = macs,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry, self._look, self._macs_of, self._clock = registry, look, macs_of, clock
        self._due_at = clock()

    def tend(self) -> None:
        """Looks, if it is time. Call often."""
        if self._clock() < self._due_at:
            return
        self._due_at = self._clock() + EVERY_S
        try:
            found = self._look()
            having = self._macs_of()
        except OSError as error:
            _log.warning("interfaces", problem=str(error))
            return
        self._take(found, having)

    def _take(self, found: Interfaces, having: Mapping[str, MacAddress]) -> None:
        now, origin = datetime.now(UTC), socket.gethostname()
        flat = [one for item in found.items() for one in _evidence(origin, *item, having, now)]
        with self._registry.read() as view:
            changed = evidence.difference(view, Source.INTERFACE, origin, flat, now)
        if changed:
            with self._registry.write("macbind") as txn:
                evidence.replace(txn, Source.INTERFACE, origin, flat)


def _evidence(
    origin: str,
    interface: str,
    addresses: tuple[IPv4Address, ...],
    having: Mapping[str, MacAddress],
    now: datetime,
) -> list[Evidence]:
    """Evidence of one interface. It ends within two days if this machine, or its name, goes away."""
    until = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=2)
    return [
        Evidence(Source.INTERFACE, origin, address, having.get(interface), interface, now, now, until)
        for address in addresses
    ]
