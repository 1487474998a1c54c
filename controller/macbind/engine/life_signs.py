"""Signs of life: when a MAC was last seen to use an address.

Whoever listens to the network notes what it hears. Whoever is about to give up an allocation asks. The memory is
bounded; the oldest signs are forgotten first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address

from macbind.core.mac_address import MacAddress

MAX_SIGNS = 200_000
"""More machines than one controller serves."""


@dataclass(frozen=True, slots=True)
class LifeSign:
    """A machine was seen.

    Attributes:
        mac: Its MAC.
        address: The address it asked for, or uses.
        at: When (UTC).
        what: What it did, in the words of the one who saw it: "DHCPREQUEST", "answers ARP".
    """

    mac: MacAddress
    address: IPv4Address
    at: datetime
    what: str


class LifeSigns:
    """The last sign of each MAC. Safe to use from any thread."""

    def __init__(self, most: int = MAX_SIGNS) -> None:
        self._most = most
        self._last: OrderedDict[MacAddress, LifeSign] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, sign: LifeSign) -> None:
        """Remembers a sign, unless a newer one of that MAC is known."""
        with self._lock:
            known = self._last.get(sign.mac)
            if known is not None and known.at > sign.at:
                return
            self._last[sign.mac] = sign
            self._last.move_to_end(sign.mac)
            if len(self._last) > self._most:
                self._last.popitem(last=False)

    def last(self, mac: MacAddress) -> LifeSign | None:
        """The last sign of a MAC; None if there is none."""
        with self._lock:
            return self._last.get(mac)
