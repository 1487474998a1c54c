"""When machines were last seen, and by what.

It is told to people, and decides nothing: who may lose an address is asked of :mod:`macbind.engine.life_signs` and
of libvirt.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from macbind.core.mac_address import MacAddress
from macbind.engine.life_signs import MAX_SIGNS


class By(StrEnum):
    """By what a machine is seen."""

    DHCP = "dhcp"
    """It has asked a DHCP server, as that one's log says."""
    LIBVIRT = "libvirt"
    """A domain with its MAC runs."""
    NEIGHBOURS = "neighbours"
    """It has answered this host, as the kernel's neighbour table says."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A machine was seen: when (UTC), and by what."""

    at: datetime
    by: By


class LastSeen:
    """The last time of each MAC, by each way. Bounded: what is oldest is forgotten. Safe to use from any thread."""

    def __init__(self, most: int = MAX_SIGNS) -> None:
        self._most = most
        self._times: OrderedDict[MacAddress, dict[By, datetime]] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, mac: MacAddress, by: By, at: datetime) -> None:
        """Remembers that a machine was seen, unless a later time is known."""
        with self._lock:
            times = self._times.setdefault(mac, {})
            known = times.get(by)
            if known is not None and known >= at:
                return
            times[by] = at
            self._times.move_to_end(mac)
            if len(self._times) > self._most:
                self._times.popitem(last=False)

    def of(self, mac: MacAddress, since: datetime) -> Seen | None:
        """When a machine was last seen, if it was since then: before, another one may have had its MAC."""
        with self._lock:
            times = self._times.get(mac)
            if not times:
                return None
            by, at = max(times.items(), key=lambda item: item[1])
        return Seen(at, by) if at >= since else None

    def by(self, mac: MacAddress, by: By) -> datetime | None:
        """When a machine was last seen in this way; None if it never was."""
        with self._lock:
            return self._times.get(mac, {}).get(by)

    def all(self) -> dict[MacAddress, Seen]:
        """The last time of each MAC that is known."""
        with self._lock:
            latest = {mac: max(times.items(), key=lambda item: item[1]) for mac, times in self._times.items()}
        return {mac: Seen(at, by) for mac, (by, at) in latest.items()}
