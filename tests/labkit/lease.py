"""What a DHCP server answered, as values: built from a reply's bytes, independent of any socket."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType

_PAD, _END = 0, 255
_OVERLOAD = 52


@dataclass(frozen=True)
class Route:
    """One classless static route (option 121)."""

    network: IPv4Network
    gateway: IPv4Address


@dataclass(frozen=True)
class Lease:
    """The terms a server grants or offers. `elapsed_s` seconds lie between our first packet and the reply."""

    address: IPv4Address
    server: IPv4Address
    mask: IPv4Address | None
    routers: tuple[IPv4Address, ...]
    dns: tuple[IPv4Address, ...]
    domain: str | None
    hostname: str | None
    lease_time_s: int | None
    next_server: IPv4Address
    filename: str
    routes: tuple[Route, ...]
    elapsed_s: float
    options: Mapping[int, bytes] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Offer:
    """A DHCPOFFER; `xid` ties the request to it."""

    lease: Lease
    xid: int

    @property
    def address(self) -> IPv4Address:
        """The address offered."""
        return self.lease.address


@dataclass(frozen=True)
class Ack:
    """A DHCPACK and the terms it grants."""

    lease: Lease


@dataclass(frozen=True)
class Nak:
    """A DHCPNAK."""

    server: IPv4Address
    message: str
    elapsed_s: float


@dataclass(frozen=True)
class Silence:
    """Nothing that was meant for us arrived although we listened for `waited_s` seconds."""

    waited_s: float


Answer = Ack | Nak | Silence


@dataclass(frozen=True)
class Reply:
    """The fields of a BOOTP reply that matter, before they are interpreted."""

    yiaddr: IPv4Address
    ciaddr: IPv4Address
    siaddr: IPv4Address
    file: bytes
    options: Mapping[int, bytes]

    @property
    def kind(self) -> int:
        """The DHCP message type: 2 OFFER, 5 ACK, 6 NAK."""
        return int.from_bytes(self.options.get(53, b""), "big")

    @property
    def server(self) -> IPv4Address:
        """The server identifier."""
        return _addresses(self.options.get(54, bytes(4)))[0]

    @property
    def message(self) -> str:
        """The server's words on a refusal."""
        return self.options.get(56, b"").decode(errors="replace")

    def lease(self, elapsed_s: float) -> Lease:
        """The terms in this reply. The answer to an INFORM carries the address the client named."""
        get = self.options.get
        masks, lease_time = _addresses(get(1, b"")), get(51)
        return Lease(
            address=self.yiaddr if int(self.yiaddr) else self.ciaddr,
            server=self.server,
            mask=masks[0] if masks else None,
            routers=_addresses(get(3, b"")),
            dns=_addresses(get(6, b"")),
            domain=_text(get(15)),
            hostname=_text(get(12)),
            lease_time_s=int.from_bytes(lease_time, "big") if lease_time else None,
            next_server=self.siaddr,
            filename=_text(get(67, b"" if self._file_holds_options else self.file)) or "",
            routes=_routes(get(121, b"")),
            elapsed_s=elapsed_s,
            options=self.options,
        )

    @property
    def _file_holds_options(self) -> bool:
        return bool(_overload(self.options) & 1)


def parse_options(data: bytes, file: bytes = b"", sname: bytes = b"") -> Mapping[int, bytes]:
    """The options by number; parts of one option are joined, `file` and `sname` read when overloaded."""
    options: dict[int, bytes] = {}
    _collect(data, options)
    overload = _overload(options)
    if overload & 1:
        _collect(file, options)
    if overload & 2:
        _collect(sname, options)
    return MappingProxyType(options)


def _overload(options: Mapping[int, bytes]) -> int:
    return int.from_bytes(options.get(_OVERLOAD, b""), "big")


def _collect(data: bytes, options: dict[int, bytes]) -> None:
    at = 0
    while at < len(data) and data[at] != _END:
        if data[at] == _PAD:
            at += 1
            continue
        code, length = data[at], data[at + 1]
        options[code] = options.get(code, b"") + data[at + 2 : at + 2 + length]
        at += 2 + length


def _addresses(data: bytes) -> tuple[IPv4Address, ...]:
    return tuple(IPv4Address(quad) for (quad,) in struct.iter_unpack("4s", data))


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.rstrip(b"\0").decode(errors="replace")


def _routes(data: bytes) -> tuple[Route, ...]:
    routes: list[Route] = []
    while data:
        prefix = data[0]
        used = 1 + (prefix + 7) // 8
        network = IPv4Network((data[1:used].ljust(4, b"\0"), prefix))
        routes.append(Route(network, IPv4Address(data[used : used + 4])))
        data = data[used + 4 :]
    return tuple(routes)
