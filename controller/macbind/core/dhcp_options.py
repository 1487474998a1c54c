"""DHCP options a machine may be given: one table.

Everything about an option follows from its line in :class:`DhcpOptions`: parsing, checks, the TOML key, the flag of
the command line, and the statements of each DHCP server. A new option is a new line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, ClassVar

from macbind.core.errors import InvalidOption
from macbind.core.option_checks import check
from macbind.core.option_kinds import (
    MAX_FILENAME,
    MAX_HOSTNAME,
    MAX_OPTION_BYTES,
    Kind,
    Option,
    fill,
    is_pattern,
    parse,
    poisons,
)
from macbind.core.static_route import StaticRoute, default_route
from macbind.core.texts import TextMap, Texts


def _option(
    kind: Kind,
    isc_name: str,
    kea_name: str,
    flag: str,
    usage: str,
    max_bytes: int = MAX_OPTION_BYTES,
    code: int = 0,
    reaches_guests: bool = True,
) -> Any:
    return field(
        default=kind.empty,
        metadata={"option": (kind, isc_name, kea_name, flag, usage, max_bytes, code, reaches_guests)},
    )


@dataclass(frozen=True, slots=True)
class DhcpOptions:
    """What DHCP tells a machine beside its address; empty values are not sent.

    Attributes:
        hostname: One label, at most 63 characters; or a pattern with ``{n}``, the number of a machine in its
            group, and ``{name}``, the name of its allocation.
        routers: Default gateways, best first.
        domain_name_servers: DNS servers, best first.
        domain_name: The DNS domain.
        domain_search: Domains in which names are looked up, first one first.
        ntp_servers: Time servers, best first.
        mtu: How many bytes one packet has at most, from 576.
        next_server: Boot (TFTP) server.
        filename: Boot file, at most 127 characters.
        boot: Boot files by who asks: ``bios``, ``efi32``, ``efi64``, ``arm64``, ``http`` (UEFI by HTTP: an address
            of the web) and ``ipxe``. Everybody else gets ``filename``.
        static_routes: Classless static routes. A client that gets these ignores ``routers`` (RFC 3442), so
            the first router is sent as the default route among them. Old Windows gets them as option 249.
        raw: Other options by number, as ``hex:0a000001``.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    hostname: str | None = _option(
        Kind.LABEL,
        "option host-name",
        "host-name",
        "hostname",
        "Host name sent by DHCP; {n}: its number in the group, {name}: its name.",
        MAX_HOSTNAME,
        12,
    )
    routers: tuple[IPv4Address, ...] = _option(
        Kind.ADDRESSES, "option routers", "routers", "router", "Default gateway; may be repeated.", code=3
    )
    domain_name_servers: tuple[IPv4Address, ...] = _option(
        Kind.ADDRESSES,
        "option domain-name-servers",
        "domain-name-servers",
        "dns",
        "DNS server; may be repeated.",
        code=6,
    )
    domain_name: str | None = _option(
        Kind.DOMAIN,
        "option domain-name",
        "domain-name",
        "domain-name",
        "DNS domain.",
        MAX_OPTION_BYTES - 2,
        15,
    )
    domain_search: tuple[str, ...] = _option(
        Kind.DOMAINS,
        "option domain-search",
        "domain-search",
        "search",
        "Domain in which names are looked up; may be repeated.",
        code=119,
    )
    ntp_servers: tuple[IPv4Address, ...] = _option(
        Kind.ADDRESSES,
        "option ntp-servers",
        "ntp-servers",
        "ntp",
        "Time server; may be repeated.",
        code=42,
        reaches_guests=False,
    )
    mtu: int | None = _option(  # it makes a field
        Kind.MTU, "option interface-mtu", "interface-mtu", "mtu", "Bytes of one packet at most.", 2, 26
    )
    next_server: IPv4Address | None = _option(  # noqa: RUF009  # it makes a field
        Kind.ADDRESS, "next-server", "next-server", "next-server", "Boot (TFTP) server.", 4
    )
    filename: str | None = _option(
        Kind.FILENAME, "filename", "boot-file-name", "filename", "Boot file.", MAX_FILENAME
    )
    boot: TextMap = _option(  # noqa: RUF009  # it makes a field
        Kind.BOOT,
        "filename",
        "boot-file-name",
        "boot",
        "Boot file of one kind of client, 'efi64=FILE'; may be repeated.",
        MAX_FILENAME,
    )
    # dhcpd has no name for option 121 unless the site declares one; its number always works.
    static_routes: tuple[StaticRoute, ...] = _option(
        Kind.ROUTES,
        "option unknown-121",
        "classless-static-route",
        "route",
        "Static route, 'NETWORK via GATEWAY'; may be repeated.",
        code=121,
    )
    raw: TextMap = _option(  # noqa: RUF009  # it makes a field
        Kind.RAW,
        "option unknown-",
        "",
        "raw",
        "Another option by its number, '252=hex:68740a'; may be repeated.",
    )

    def __post_init__(self) -> None:
        for option in OPTIONS:
            value = getattr(self, option.field)
            if option.kind.is_table and not isinstance(value, Texts):
                value = parse(option, value)
                object.__setattr__(self, option.field, value)
            if value is not None and value != option.kind.empty:
                check(option, value)
        if self.raw:
            self._check_raw()
        classless_routes(self)

    def _check_raw(self) -> None:
        for option in OPTIONS:
            if str(option.code) in self.raw and (option.reaches_guests or getattr(self, option.field)):
                raise InvalidOption(
                    f"raw: {option.code} is {option.field}, which has a key of its own.",
                    hint=f"Write {option.field} instead.",
                    option="raw",
                )
        if "249" in self.raw:
            raise InvalidOption(
                "raw: 249 is what old Windows reads static_routes from, and is always sent with them.",
                hint="Write static_routes instead.",
                option="raw",
            )

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
            option.field: _plain(option.kind, value)
            for option in OPTIONS
            if (value := getattr(self, option.field))
        }

    def over(self, base: DhcpOptions) -> DhcpOptions:
        """These options, completed by those of ``base`` that are not set here.

        Tables are completed key by key. A boot file here counts more than every boot file by client in ``base``, and
        an option counts once, whether it has a key of its own or a number.
        """
        values = {
            option.field: getattr(self, option.field)
            or (option.kind.empty if str(option.code) in self.raw else getattr(base, option.field))
            for option in OPTIONS
        }
        values["boot"] = self.boot if self.filename else Texts({**base.boot, **self.boot})
        if base.raw:
            mine = {str(option.code) for option in OPTIONS if getattr(self, option.field)}
            hers = {code: text for code, text in base.raw.items() if code not in mine}
            values["raw"] = Texts({**hers, **self.raw})
        return DhcpOptions(**values)

    @property
    def gateway(self) -> IPv4Address | None:
        """The default gateway of a machine that is told these options."""
        return default_route(self.static_routes) or next(iter(self.routers), None)

    def beyond(self, base: DhcpOptions) -> DhcpOptions:
        """The options that differ from ``base``, i.e. what a DHCP server must be told on top of it.

        Routes and routers are one thing on the wire (see ``static_routes``), so a difference in either
        repeats both. So are the boot files.
        """
        different = {
            option.field: value
            for option in OPTIONS
            if (value := getattr(self, option.field)) != getattr(base, option.field)
        }
        if {"routers", "static_routes"} & different.keys():
            different |= {"routers": self.routers, "static_routes": self.static_routes}
        if {"filename", "boot"} & different.keys():
            different |= {"filename": self.filename, "boot": self.boot}
        if "raw" in different:
            different["raw"] = Texts(dict(self.raw.items() - base.raw.items()))
        return DhcpOptions(**different)

    def named(self, name: str, number: int = 1) -> DhcpOptions:
        """These options for the machine of this name: a pattern is filled in, or nothing if that is no host name."""
        if not is_pattern(self.hostname):
            return self
        return replace(self, hostname=fill(self.hostname or "", name, number))


def _plain(kind: Kind, value: Any) -> Any:
    if kind.is_list:
        return [str(one) for one in value]
    if kind.is_table:
        return dict(value)
    return value if kind is Kind.MTU else str(value)


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
