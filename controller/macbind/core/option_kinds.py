"""The kinds of values of DHCP options: reading them from text, and checks that keep a DHCP server safe from them.

dhcpd writes printable values between quotes into its lease file *without* escaping them. It drops everything after
a value that it cannot read back, other machines' bindings included. Therefore addresses are addresses, never names,
and texts have only the characters they need. Nothing reaches a DHCP server that did not pass this file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from typing import Any

from macbind.core.address_range import parse_address
from macbind.core.errors import InvalidAddress, InvalidOption
from macbind.core.gateway_rule import GatewayRule
from macbind.core.static_route import StaticRoute

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_FILENAME = r"[A-Za-z0-9 !#$%&'()*+,./:;<=>?@\[\]^_`{|}~-]+"
_PRINTABLE = range(0x20, 0x7F)

# One option carries at most 255 bytes (RFC 2132 section 2); the BOOTP file field holds 127 and a NUL.
MAX_OPTION_BYTES = 255
MAX_FILENAME = 127
MAX_HOSTNAME = 63


class Kind(Enum):
    """What an option's value is."""

    LABEL = "a host name"
    DOMAIN = "a domain name"
    FILENAME = "a file name"
    ADDRESS = "an address"
    ADDRESSES = "addresses"
    ROUTES = "routes"

    @property
    def is_list(self) -> bool:
        """Whether an option of this kind has several values."""
        return self in (Kind.ADDRESSES, Kind.ROUTES)

    @property
    def is_text(self) -> bool:
        """Whether an option of this kind is written between quotes."""
        return self in (Kind.LABEL, Kind.DOMAIN, Kind.FILENAME)


@dataclass(frozen=True, slots=True)
class Option:
    """One DHCP option.

    Attributes:
        field: The attribute of :class:`~macbind.core.dhcp_options.DhcpOptions`, and the key in TOML and JSON.
        kind: What its value is.
        isc_name: The words before its value in ISC dhcpd's configuration (dhcp-options(5)).
        kea_name: Its name in Kea's ``option-data``, or the key of a reservation.
        flag: The option of the command line, without dashes.
        usage: What the command line says of it.
        max_bytes: How many bytes its value has at most on the wire.
    """

    field: str
    kind: Kind
    isc_name: str
    kea_name: str
    flag: str
    usage: str
    max_bytes: int = MAX_OPTION_BYTES


def is_label(text: str) -> bool:
    """Whether a text can be a host name: one label of at most 63 letters, digits and inner hyphens."""
    return re.fullmatch(_LABEL, text) is not None


def poisons(raw: bytes) -> bool:
    """Whether a binary value (each address of a list is one) cannot be read back from dhcpd's lease file.

    dhcpd writes a value whose bytes are all printable between quotes without escaping, so such a value must
    hold no quote and no backslash.
    """
    return all(byte in _PRINTABLE for byte in raw) and (b'"' in raw or b"\\" in raw)


# -- parsing ---------------------------------------------------------------------------------------------------


def parse(option: Option, value: Any) -> Any:
    """An option's value from its textual form: a text, or a list of texts."""
    if option.kind.is_text:
        if isinstance(value, str):
            return value
        raise InvalidOption(
            f"{option.field}: {value!r} is not a text.", hint="Put it in quotes.", option=option.field
        )
    read = StaticRoute.parse if option.kind is Kind.ROUTES else lambda text: _parse_address(option, text)
    if not option.kind.is_list:
        return read(str(value))
    several = value if isinstance(value, list | tuple) else [value] if value else []
    if len(several) > MAX_OPTION_BYTES // 4:  # before any of them is read
        raise _too_many(option, len(several))
    return tuple(read(str(one)) for one in several)


def _parse_address(option: Option, text: str) -> IPv4Address:
    try:
        return parse_address(text)
    except InvalidAddress as error:
        hint = "dhcpd needs addresses here: it would stop serving while it resolves a name."
        if option.field == "routers":
            with suppress(InvalidAddress):
                rule = GatewayRule.parse(text)
                hint = f'A rule for gateways is not a list: write gateway = "{rule}" in a subnet or a pool.'
        raise InvalidOption(f"{option.field}: {error.message}", hint=hint, option=option.field) from error


# -- checks ----------------------------------------------------------------------------------------------------


def _check_text(option: Option, text: str) -> None:
    pattern = {Kind.LABEL: _LABEL, Kind.DOMAIN: _DOMAIN, Kind.FILENAME: _FILENAME}[option.kind]
    if len(text) > option.max_bytes or not re.fullmatch(pattern, text):
        raise unusable(option, text)


def unusable(option: Option, text: str) -> InvalidOption:
    """The error for a text that an option cannot have."""
    what, hint = {
        Kind.LABEL: (
            "is not a host name",
            f"Use at most {MAX_HOSTNAME} letters, digits and inner hyphens; the domain goes into domain_name.",
        ),
        Kind.DOMAIN: (
            "is not a domain name",
            "Use letters, digits, hyphens and dots, as farm.example.org.",
        ),
        Kind.FILENAME: (
            "cannot be given to dhcpd",
            f"Use 1 to {MAX_FILENAME} printable ASCII characters; \" and \\ would corrupt dhcpd's lease file.",
        ),
    }[option.kind]
    return InvalidOption(f"{option.field} {text!r} {what}.", hint=hint, option=option.field)


def _check_addresses(option: Option, addresses: tuple[IPv4Address, ...]) -> None:
    for address in addresses:
        if address.is_unspecified or address.is_multicast or int(address) == 0xFFFFFFFF:
            raise InvalidOption(
                f"{option.field}: {address} is not the address of a host.",
                hint="Use a unicast address.",
                option=option.field,
            )
    if 4 * len(addresses) > option.max_bytes:
        raise _too_many(option, len(addresses))


def _too_many(option: Option, count: int) -> InvalidOption:
    return InvalidOption(
        f"{option.field}: {count} of them do not fit into one DHCP option.",
        hint=f"Give at most {option.max_bytes // 4}.",
        option=option.field,
    )


def _check_written_addresses(option: Option, addresses: tuple[IPv4Address, ...]) -> None:
    _check_addresses(option, addresses)
    for address in addresses:
        if poisons(address.packed):
            raise InvalidOption(
                f"The address {address} would corrupt dhcpd's lease file (all its bytes are printable "
                "characters and one is a quote or backslash).",
                hint="Reach this server under another address.",
            )


_CHECKS: Mapping[Kind, Callable[[Option, Any], None]] = {
    Kind.LABEL: _check_text,
    Kind.DOMAIN: _check_text,
    Kind.FILENAME: _check_text,
    Kind.ADDRESS: lambda option, address: _check_written_addresses(option, (address,)),
    Kind.ADDRESSES: _check_written_addresses,
    Kind.ROUTES: lambda option, routes: _check_addresses(option, tuple(route.gateway for route in routes)),
}


def check(option: Option, value: Any) -> None:
    """Checks a value that is not empty.

    Raises:
        InvalidOption: A DHCP server must not be told this value.
    """
    _CHECKS[option.kind](option, value)
