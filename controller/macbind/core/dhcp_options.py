"""DHCP options a machine may be given: one table.

Everything about an option follows from its line in :class:`DhcpOptions`: parsing, checks, the TOML key, the flag of
the command line, and the statements of each DHCP server. A new option is a new line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Address, IPv4Network
from typing import Any, ClassVar

from macbind.core.errors import InvalidOption
from macbind.core.option_kinds import (
    MAX_FILENAME,
    MAX_HOSTNAME,
    MAX_OPTION_BYTES,
    Kind,
    Option,
    check,
    parse,
    poisons,
    unusable,
)
from macbind.core.static_route import StaticRoute, default_route


def _option(
    kind: Kind, isc_name: str, kea_name: str, flag: str, usage: str, max_bytes: int = MAX_OPTION_BYTES
) -> Any:
    return field(
        default=() if kind.is_list else None,
        metadata={"option": (kind, isc_name, kea_name, flag, usage, max_bytes)},
    )


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

    hostname: str | None = _option(
        Kind.LABEL, "option host-name", "host-name", "hostname", "Host name sent by DHCP.", MAX_HOSTNAME
    )
    routers: tuple[IPv4Address, ...] = _option(
        Kind.ADDRESSES, "option routers", "routers", "router", "Default gateway; may be repeated."
    )
    domain_name_servers: tuple[IPv4Address, ...] = _option(
        Kind.ADDRESSES,
        "option domain-name-servers",
        "domain-name-servers",
        "dns",
        "DNS server; may be repeated.",
    )
    domain_name: str | None = _option(
        Kind.DOMAIN, "option domain-name", "domain-name", "domain-name", "DNS domain.", MAX_OPTION_BYTES - 2
    )
    next_server: IPv4Address | None = _option(  # noqa: RUF009  # it makes a field
        Kind.ADDRESS, "next-server", "next-server", "next-server", "Boot (TFTP) server.", 4
    )
    filename: str | None = _option(
        Kind.FILENAME, "filename", "boot-file-name", "filename", "Boot file.", MAX_FILENAME
    )
    # dhcpd has no name for option 121 unless the site declares one; its number always works.
    static_routes: tuple[StaticRoute, ...] = _option(
        Kind.ROUTES,
        "option unknown-121",
        "classless-static-route",
        "route",
        "Static route, 'NETWORK via GATEWAY'; may be repeated.",
    )

    def __post_init__(self) -> None:
        for option in OPTIONS:
            value = getattr(self, option.field)
            if value:
                check(option, value)
            elif value is not None and not option.kind.is_list:
                raise unusable(option, value)
        classless_routes(self)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> DhcpOptions:
        """Reads the textual form used by the configuration file and the command line.

        Raises:
            InvalidOption: An option is unknown or its value unusable.
        """
        for name in values:
            if name not in BY_FIELD:
                raise InvalidOption(
                    f"There is no DHCP option '{name}'.", hint=f"Known are {', '.join(sorted(BY_FIELD))}."
                )
        return cls(
            **{name: parse(BY_FIELD[name], value) for name, value in values.items() if value is not None}
        )

    def to_dict(self) -> dict[str, Any]:
        """The set options in their textual form; :meth:`parse` reads it back."""
        return {
            option.field: [str(one) for one in value] if option.kind.is_list else str(value)
            for option in OPTIONS
            if (value := getattr(self, option.field))
        }

    def over(self, base: DhcpOptions) -> DhcpOptions:
        """These options, completed by those of ``base`` that are not set here."""
        return DhcpOptions(
            **{option.field: getattr(self, option.field) or getattr(base, option.field) for option in OPTIONS}
        )

    @property
    def gateway(self) -> IPv4Address | None:
        """The default gateway of a machine that is told these options."""
        return default_route(self.static_routes) or next(iter(self.routers), None)

    def beyond(self, base: DhcpOptions) -> DhcpOptions:
        """The options that differ from ``base``, i.e. what a DHCP server must be told on top of it.

        Routes and routers are one thing on the wire (see ``static_routes``), so a difference in either
        repeats both.
        """
        different = {
            option.field: value
            for option in OPTIONS
            if (value := getattr(self, option.field)) != getattr(base, option.field)
        }
        if {"routers", "static_routes"} & different.keys():
            different |= {"routers": self.routers, "static_routes": self.static_routes}
        return DhcpOptions(**different)


OPTIONS = tuple(Option(item.name, *item.metadata["option"]) for item in fields(DhcpOptions))
"""Every option, in the order in which it is written."""
BY_FIELD = {option.field: option for option in OPTIONS}


def classless_routes(options: DhcpOptions) -> bytes:
    """Option 121 of these options, with the first router as default route (RFC 3442); empty without routes.

    Raises:
        InvalidOption: The routes do not fit into an option, or would corrupt dhcpd's lease file.
    """
    routes = options.static_routes
    if not routes:
        return b""
    if options.routers and default_route(routes) is None:
        routes = (*routes, StaticRoute(IPv4Network("0.0.0.0/0"), options.routers[0]))
    raw = b"".join(route.to_bytes() for route in routes)
    if len(raw) > MAX_OPTION_BYTES:
        raise InvalidOption(
            f"static_routes: {len(options.static_routes)} routes need {len(raw)} bytes, a DHCP option has "
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


NO_OPTIONS = DhcpOptions()
