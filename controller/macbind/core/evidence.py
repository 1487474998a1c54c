"""Evidence: what is seen of an address or a MAC outside the registry.

The registry knows what macbind has promised. A real site has other servers, other hosts and older machines. Evidence
is what they show: a host or lease of a DHCP server, a domain, an answer on the network. Evidence is never proof of
absence: a look that could not be made withdraws nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address

from macbind.core.mac_address import MacAddress


class Source(StrEnum):
    """Where evidence comes from."""

    HOST = "host"
    """A host of a DHCP server that macbind did not make."""
    RANGE = "range"
    """A dynamic range in the configuration that a DHCP server runs with."""
    LEASE = "lease"
    """A lease that a DHCP server has given by itself."""
    DOMAIN = "domain"
    """A domain of a watched hypervisor, in any state, that has the MAC of the address."""
    AWAY = "away"
    """A domain with the MAC of the address was saved to a file or migrated, and nothing shows it now."""
    ANSWER = "answer"
    """A machine answered for the address on the network."""
    EXCHANGE = "exchange"
    """A DHCP exchange in a server's log."""
    INTERFACE = "interface"
    """An interface of a machine on which macbind runs."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One sign that an address is in use.

    Attributes:
        source: Where it comes from.
        origin: Who saw it: the name of the DHCP server or hypervisor, or the interface.
        address: The address that is in use.
        mac: The MAC that uses it, if it is known.
        holder: Who uses it, as an admin would call it: a host's name, a domain's name, a MAC.
        since: When it was first seen (UTC).
        seen_at: When it was last seen (UTC).
        until: When it ends by itself (UTC); None: it counts until a look shows that it is gone.
    """

    source: Source
    origin: str
    address: IPv4Address
    mac: MacAddress | None
    holder: str
    since: datetime
    seen_at: datetime
    until: datetime | None = None

    def counts_at(self, moment: datetime) -> bool:
        """Whether it still counts at a moment (UTC)."""
        return self.until is None or self.until > moment

    @property
    def described(self) -> str:
        """What the holder is, as the end of a sentence."""
        match self.source:
            case Source.HOST:
                return f"a host of dhcpd '{self.origin}' that macbind did not make"
            case Source.RANGE:
                return f"a dynamic range that dhcpd '{self.origin}' hands out by itself"
            case Source.LEASE:
                return f"a lease that dhcpd '{self.origin}' has given by itself"
            case Source.DOMAIN:
                return f"a domain of the hypervisor '{self.origin}' that has its MAC"
            case Source.AWAY:
                return (
                    f"a domain of the hypervisor '{self.origin}' that was saved or migrated and may come back"
                )
            case Source.ANSWER:
                return f"it answers for the address on {self.origin}"
            case Source.EXCHANGE:
                return f"it asked dhcpd '{self.origin}' for the address"
            case Source.INTERFACE:
                return f"an interface of '{self.origin}', where macbind runs"
