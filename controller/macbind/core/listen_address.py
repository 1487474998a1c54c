"""Where a TCP listener is: an IP address of this machine and a port."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

_PORTS = range(1, 65_536)


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address and a port to listen at.

    Attributes:
        address: An address of this machine; 0.0.0.0 or :: for all of them.
        port: The TCP port.
    """

    address: IPv4Address | IPv6Address
    port: int

    @classmethod
    def parse(cls, text: str) -> ListenAddress:
        """Reads ``127.0.0.1:9547`` or ``[::1]:9547``.

        Raises:
            ValueError: It is nothing of the kind.
        """
        host, colon, port = text.rpartition(":")
        if not (colon and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) in _PORTS):
            raise ValueError(text)
        if host.startswith("[") and host.endswith("]") and "%" not in host:
            return cls(IPv6Address(host[1:-1]), int(port))
        return cls(IPv4Address(host), int(port))

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"
