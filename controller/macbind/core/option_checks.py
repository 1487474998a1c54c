"""Checks that keep a DHCP server safe from the values of DHCP options.

dhcpd writes printable values between quotes into its lease file *without* escaping them. It drops everything after
a value that it cannot read back, other machines' bindings included. Therefore addresses are addresses, never names,
and texts have only the characters they need. Nothing reaches a DHCP server that did not pass this file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from typing import Any

from macbind.core.errors import InvalidOption
from macbind.core.option_kinds import (
    BOOT_CLIENTS,
    DOMAIN,
    FILENAME,
    LABEL,
    MAX_FILENAME,
    MAX_HOSTNAME,
    MAX_MTU,
    MAX_OPTION_BYTES,
    MIN_MTU,
    NEVER_RAW,
    PLACES,
    Kind,
    Option,
    poisons,
    raw_bytes,
    too_many,
)


def _check_text(option: Option, text: str) -> None:
    pattern = {Kind.LABEL: LABEL, Kind.DOMAIN: DOMAIN, Kind.FILENAME: FILENAME}[option.kind]
    filled = PLACES.sub("0", text) if option.kind is Kind.LABEL else text
    if len(text) > option.max_bytes or not re.fullmatch(pattern, filled):
        raise _unusable(option, text)


def _unusable(option: Option, text: str) -> InvalidOption:
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
            f"Use 1 to {MAX_FILENAME} printable ASCII characters; \" would corrupt dhcpd's lease file.",
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
        raise too_many(option, len(addresses))


def _check_written_addresses(option: Option, addresses: tuple[IPv4Address, ...]) -> None:
    _check_addresses(option, addresses)
    for address in addresses:
        if poisons(address.packed):
            raise InvalidOption(
                f"The address {address} would corrupt dhcpd's lease file (all its bytes are printable "
                "characters and one is a quote or backslash).",
                hint="Reach this server under another address.",
            )


def _check_mtu(option: Option, mtu: Any) -> None:
    if type(mtu) is not int or not MIN_MTU <= mtu <= MAX_MTU:
        raise InvalidOption(
            f"{option.field}: {mtu!r} is not a number from {MIN_MTU} to {MAX_MTU}.",
            hint="Give the bytes that one packet has at most: 1450 in a VXLAN over Ethernet.",
            option=option.field,
        )
    if poisons(mtu.to_bytes(2)):
        raise InvalidOption(
            f"{option.field}: {mtu} would corrupt dhcpd's lease file (both its bytes are printable characters, "
            "and one is a quote or backslash).",
            hint=f"Use a number that is smaller: {next(n for n in range(mtu, 0, -1) if not poisons(n.to_bytes(2)))}.",
            option=option.field,
        )


def _check_domains(option: Option, domains: tuple[str, ...]) -> None:
    for one in domains:
        if len(one) > MAX_OPTION_BYTES - 2 or not re.fullmatch(DOMAIN, one):
            raise InvalidOption(
                f"{option.field}: {one!r} is not a domain name.",
                hint="Use letters, digits, hyphens and dots, as farm.example.org.",
                option=option.field,
            )
    size = sum(len(one) + 2 for one in domains)
    if size > option.max_bytes:
        raise InvalidOption(
            f"{option.field}: {len(domains)} domains need {size} bytes, a DHCP option has {option.max_bytes}.",
            hint="Give fewer or shorter domains.",
            option=option.field,
        )


def _check_boot(option: Option, files: Mapping[str, str]) -> None:
    for client, name in files.items():
        if client not in BOOT_CLIENTS:
            raise InvalidOption(
                f"{option.field}: There is no kind of client {client!r}.",
                hint=f"Known are {', '.join(sorted(BOOT_CLIENTS))}.",
                option=option.field,
            )
        if len(name) > MAX_FILENAME or not re.fullmatch(FILENAME, name):
            raise InvalidOption(
                f"{option.field}: {client} {name!r} cannot be given to dhcpd.",
                hint=f"Use 1 to {MAX_FILENAME} printable ASCII characters; \" would corrupt dhcpd's lease file.",
                option=option.field,
            )


def _check_raw(option: Option, values: Mapping[str, str]) -> None:
    for code, text in values.items():
        if not re.fullmatch("[1-9][0-9]{0,2}", code, re.ASCII) or int(code) > 254 or int(code) in NEVER_RAW:
            raise InvalidOption(
                f"{option.field}: {code!r} is not the number of an option that can be given.",
                hint="Use 2 to 254, without those of the protocol itself (50 to 59, 61, 81, 82 and 118).",
                option=option.field,
            )
        try:
            value = raw_bytes(text)
        except ValueError:
            raise InvalidOption(
                f"{option.field}: {code} {text!r} is not a value in hexadecimal digits.",
                hint='Write it as "hex:0a000001", two digits for each byte.',
                option=option.field,
            ) from None
        if len(value) > option.max_bytes:
            raise InvalidOption(
                f"{option.field}: {code} has {len(value)} bytes, a DHCP option has {option.max_bytes}.",
                hint="Give a shorter value.",
                option=option.field,
            )
        if poisons(value):
            raise InvalidOption(
                f"{option.field}: {code} would corrupt dhcpd's lease file (all its bytes are printable characters "
                "and one is a quote or backslash).",
                hint="End the value with a zero byte if its reader takes that: append 00.",
                option=option.field,
            )


_CHECKS: Mapping[Kind, Callable[[Option, Any], None]] = {
    Kind.LABEL: _check_text,
    Kind.DOMAIN: _check_text,
    Kind.FILENAME: _check_text,
    Kind.ADDRESS: lambda option, address: _check_written_addresses(option, (address,)),
    Kind.ADDRESSES: _check_written_addresses,
    Kind.ROUTES: lambda option, routes: _check_addresses(option, tuple(route.gateway for route in routes)),
    Kind.MTU: _check_mtu,
    Kind.DOMAINS: _check_domains,
    Kind.BOOT: _check_boot,
    Kind.RAW: _check_raw,
}


def check(option: Option, value: Any) -> None:
    """Checks a value that is not empty.

    Raises:
        InvalidOption: A DHCP server must not be told this value.
    """
    _CHECKS[option.kind](option, value)
