"""DHCP options a machine may be given, checked so that dhcpd can neither be tricked nor poisoned by them.

Every value ends up inside a dhcpd statement, in the configuration file or sent over OMAPI, and from there in
dhcpd's lease file. dhcpd writes printable values between quotes *without* escaping them and drops everything
after a value it cannot read back, so a quote or a backslash in one machine's host name would silently take
the reservations of other machines with it at the next restart. Therefore: addresses are addresses, never
names (dhcpd would resolve a name and stop serving meanwhile); texts are checked against the characters they
need; and nothing reaches dhcpd that did not pass this file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from ipaddress import IPv4Address, IPv4Network
from typing import Any, ClassVar

from macbind.addressing import parse_address, parse_network
from macbind.errors import InvalidAddress, InvalidOption
from macbind.gateway import GatewayRule

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_FILENAME = re.compile(r"[A-Za-z0-9 !#$%&'()*+,./:;<=>?@\[\]^_`{|}~-]+")
_PRINTABLE = range(0x20, 0x7F)

# One option carries at most 255 bytes (RFC 2132 section 2); the BOOTP file field holds 127 and a NUL.
MAX_OPTION_BYTES = 255
MAX_FILENAME = 127
MAX_HOSTNAME = 63


def is_label(text: str) -> bool:
    """Whether a text can be a host name: one label of at most 63 letters, digits and inner hyphens."""
    return re.fullmatch(_LABEL, text) is not None


@dataclass(frozen=True, slots=True)
class StaticRoute:
    """A classless static route (RFC 3442), written ``10.9.0.0/16 via 10.1.0.2``."""

    destination: IPv4Network
    gateway: IPv4Address

    @classmethod
    def parse(cls, text: str) -> StaticRoute:
        """Reads ``NETWORK via GATEWAY``.

        Raises:
            InvalidOption: The text is not one.
        """
        match = re.fullmatch(r"\s*(\S+)\s+via\s+(\S+)\s*", text)
        if match is None:
            raise InvalidOption(
                f"{text!r} is not a static route.", hint="Write it as '10.9.0.0/16 via 10.1.0.2'."
            )
        try:
            return cls(parse_network(match[1]), parse_address(match[2]))
        except InvalidAddress as error:
            raise InvalidOption(
                f"The static route {text!r} is not usable: {error.message}", hint=error.hint
            ) from error

    def __str__(self) -> str:
        return f"{self.destination} via {self.gateway}"

    def to_bytes(self) -> bytes:
        """The route as RFC 3442 puts it on the wire: width, significant octets, gateway."""
        width = self.destination.prefixlen
        significant = self.destination.network_address.packed[: (width + 7) // 8]
        return bytes([width]) + significant + self.gateway.packed

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        """Tells pydantic to read and write the text form."""
        from pydantic_core import core_schema as cs

        return cs.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(str(value)),
            serialization=cs.to_string_ser_schema(),
            json_schema_input_schema=cs.str_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> dict[str, Any]:
        """The route's entry in the OpenAPI document."""
        return {"type": "string", "examples": ["10.9.0.0/16 via 10.1.0.2"]}


@dataclass(frozen=True, slots=True)
class DhcpOptions:
    """What DHCP tells a machine beside its address; empty values are not sent.

    Attributes:
        hostname: One label, at most 63 characters.
        routers: Default gateways, best first.
        domain_name_servers: DNS servers, best first.
        domain_name: The DNS domain.
        next_server: Boot (TFTP) server.
        filename: Boot file, at most 127 characters.
        static_routes: Classless static routes. A client that gets these ignores ``routers`` (RFC 3442), so
            the first router is sent as the default route among them.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    hostname: str | None = None
    routers: tuple[IPv4Address, ...] = ()
    domain_name_servers: tuple[IPv4Address, ...] = ()
    domain_name: str | None = None
    next_server: IPv4Address | None = None
    filename: str | None = None
    static_routes: tuple[StaticRoute, ...] = ()

    def __post_init__(self) -> None:
        if self.hostname is not None and not is_label(self.hostname):
            raise InvalidOption(
                f"hostname {self.hostname!r} is not a host name.",
                hint=f"Use at most {MAX_HOSTNAME} letters, digits and inner hyphens; "
                "the domain goes into domain_name.",
                option="hostname",
            )
        if self.domain_name is not None and (
            len(self.domain_name) > MAX_OPTION_BYTES - 2 or not _DOMAIN.fullmatch(self.domain_name)
        ):
            raise InvalidOption(
                f"domain_name {self.domain_name!r} is not a domain name.",
                hint="Use letters, digits, hyphens and dots, as farm.example.org.",
                option="domain_name",
            )
        if self.filename is not None and (
            len(self.filename) > MAX_FILENAME or not _FILENAME.fullmatch(self.filename)
        ):
            raise InvalidOption(
                f"filename {self.filename!r} cannot be given to dhcpd.",
                hint=f'Use 1 to {MAX_FILENAME} printable ASCII characters other than " and \\, '
                "which would corrupt dhcpd's lease file.",
                option="filename",
            )
        self._check_addresses("routers", self.routers)
        self._check_addresses("domain_name_servers", self.domain_name_servers)
        self._check_addresses("next_server", (self.next_server,) if self.next_server else ())
        for address in (*self.routers, *self.domain_name_servers, self.next_server):
            if address is not None and poisons(address.packed):
                raise InvalidOption(
                    f"The address {address} would corrupt dhcpd's lease file (all its bytes are printable "
                    "characters and one is a quote or backslash).",
                    hint="Reach this server under another address.",
                )
        self._check_addresses("static_routes", tuple(route.gateway for route in self.static_routes))
        _route_bytes(self.static_routes, self.routers)

    @staticmethod
    def _check_addresses(option: str, addresses: tuple[IPv4Address, ...]) -> None:
        for address in addresses:
            if address.is_unspecified or address.is_multicast or int(address) == 0xFFFFFFFF:
                raise InvalidOption(
                    f"{option}: {address} is not the address of a host.",
                    hint="Use a unicast address.",
                    option=option,
                )
        if len(addresses) > MAX_OPTION_BYTES // 4:
            raise InvalidOption(
                f"{option}: {len(addresses)} addresses do not fit into one DHCP option.",
                hint=f"Give at most {MAX_OPTION_BYTES // 4}.",
                option=option,
            )

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> DhcpOptions:
        """Reads the textual form used by the configuration file and the command line.

        Raises:
            InvalidOption: An option is unknown or its value unusable.
        """
        known = {item.name for item in fields(cls)}
        for name in values:
            if name not in known:
                raise InvalidOption(
                    f"There is no DHCP option '{name}'.", hint=f"Known are {', '.join(sorted(known))}."
                )

        def address(name: str, text: Any) -> IPv4Address:
            try:
                return parse_address(str(text))
            except InvalidAddress as error:
                hint = "dhcpd needs addresses here: it would stop serving while it resolves a name."
                if name == "routers":
                    with suppress(InvalidAddress):
                        rule = GatewayRule.parse(str(text))
                        hint = f'A rule for gateways is not a list: write gateway = "{rule}" in a subnet or a pool.'
                raise InvalidOption(
                    f"{name}: {error.message}",
                    hint=hint,
                    option=name,
                ) from error

        def text(name: str) -> str | None:
            value = values.get(name)
            if value is None or isinstance(value, str):
                return value
            raise InvalidOption(f"{name}: {value!r} is not a text.", hint="Put it in quotes.", option=name)

        def several(name: str) -> list[Any]:
            value = values.get(name) or ()
            return list(value) if isinstance(value, list | tuple) else [value]

        next_server = values.get("next_server")
        return cls(
            hostname=text("hostname"),
            routers=tuple(address("routers", one) for one in several("routers")),
            domain_name_servers=tuple(
                address("domain_name_servers", one) for one in several("domain_name_servers")
            ),
            domain_name=text("domain_name"),
            next_server=None if next_server is None else address("next_server", next_server),
            filename=text("filename"),
            static_routes=tuple(StaticRoute.parse(str(one)) for one in several("static_routes")),
        )

    def to_dict(self) -> dict[str, Any]:
        """The set options in their textual form; :meth:`parse` reads it back."""
        plain: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple):
                if value:
                    plain[item.name] = [str(one) for one in value]
            elif value is not None:
                plain[item.name] = str(value)
        return plain

    def over(self, base: DhcpOptions) -> DhcpOptions:
        """These options, completed by those of ``base`` that are not set here."""
        return DhcpOptions(
            **{item.name: getattr(self, item.name) or getattr(base, item.name) for item in fields(self)}
        )

    @property
    def gateway(self) -> IPv4Address | None:
        """The default gateway of a machine that is told these options."""
        return default_route(self.static_routes) or next(iter(self.routers), None)

    def beyond(self, base: DhcpOptions) -> DhcpOptions:
        """The options that differ from ``base``, i.e. what dhcpd must be told on top of it.

        Routes and routers are one thing on the wire (see ``static_routes``), so a difference in either
        repeats both.
        """
        different = {
            item.name: getattr(self, item.name)
            for item in fields(self)
            if getattr(self, item.name) != getattr(base, item.name)
        }
        if {"routers", "static_routes"} & different.keys():
            different |= {"routers": self.routers, "static_routes": self.static_routes}
        return DhcpOptions(**different)

    def statements(self) -> list[str]:
        """The options as dhcpd statements, each ending in a semicolon (dhcp-options(5))."""
        out = []
        if self.hostname:
            out.append(f'option host-name "{self.hostname}";')
        if self.routers:
            out.append(f"option routers {_comma(self.routers)};")
        if self.domain_name_servers:
            out.append(f"option domain-name-servers {_comma(self.domain_name_servers)};")
        if self.domain_name:
            out.append(f'option domain-name "{self.domain_name}";')
        if self.next_server:
            out.append(f"next-server {self.next_server};")
        if self.filename:
            out.append(f'filename "{self.filename}";')
        if self.static_routes:
            # dhcpd has no name for option 121 unless the site declares one; its number always works.
            out.append(f"option unknown-121 {_route_bytes(self.static_routes, self.routers).hex(':')};")
        return out


def default_route(routes: Iterable[StaticRoute]) -> IPv4Address | None:
    """The gateway of the default route among static routes, which counts more than any router (RFC 3442)."""
    return next((one.gateway for one in routes if one.destination.prefixlen == 0), None)


def _comma(addresses: Iterable[IPv4Address]) -> str:
    return ", ".join(map(str, addresses))


def poisons(raw: bytes) -> bool:
    """Whether a binary value (each address of a list is one) cannot be read back from dhcpd's lease file.

    dhcpd writes a value whose bytes are all printable between quotes without escaping, so such a value must
    hold no quote and no backslash.
    """
    return all(byte in _PRINTABLE for byte in raw) and (b'"' in raw or b"\\" in raw)


def _route_bytes(routes: tuple[StaticRoute, ...], routers: tuple[IPv4Address, ...]) -> bytes:
    """Option 121 with the default route added, refused where it would corrupt dhcpd's lease file."""
    if not routes:
        return b""
    everything = routes
    if routers and not any(route.destination.prefixlen == 0 for route in routes):
        everything = (*routes, StaticRoute(IPv4Network("0.0.0.0/0"), routers[0]))
    raw = b"".join(route.to_bytes() for route in everything)
    if len(raw) > MAX_OPTION_BYTES:
        raise InvalidOption(
            f"static_routes: {len(routes)} routes need {len(raw)} bytes, a DHCP option has "
            f"{MAX_OPTION_BYTES}.",
            hint="Give fewer routes, or let a router know them.",
            option="static_routes",
        )
    if poisons(raw):
        raise InvalidOption(
            "static_routes: this list of routes would corrupt dhcpd's lease file (all its bytes are "
            "printable and one is a quote or backslash).",
            hint="Add a default route (0.0.0.0/0 via ...) or a route with a shorter prefix.",
            option="static_routes",
        )
    return raw
