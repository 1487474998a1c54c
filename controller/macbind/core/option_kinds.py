"""The kinds of values of DHCP options, and how they are read from text."""

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
from macbind.core.texts import Texts

LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
DOMAIN = rf"{LABEL}(?:\.{LABEL})*"
FILENAME = r"[A-Za-z0-9 !#$%&'()*+,./:;<=>?@\[\\\]^_`{|}~-]+"
PLACES = re.compile(r"\{(?:n|name)\}")
_PRINTABLE = range(0x20, 0x7F)

# One option carries at most 255 bytes (RFC 2132 section 2); the BOOTP file field holds 127 and a NUL.
MAX_OPTION_BYTES = 255
MAX_FILENAME = 127
MAX_HOSTNAME = 63
MIN_MTU, MAX_MTU = 576, 65_535
"""RFC 791 wants every machine to take 576 bytes; the option has two bytes."""

BOOT_CLIENTS = ("ipxe", "http", "efi64", "efi32", "arm64", "bios")
"""Who asks for a boot file, in the order in which they are told apart."""

NEVER_RAW = frozenset({0, 1, *range(50, 60), 61, 81, 82, 118, 255})
"""Options by which the DHCP server and the machine talk to each other."""


class Kind(Enum):
    """What an option's value is."""

    LABEL = "a host name"
    DOMAIN = "a domain name"
    FILENAME = "a file name"
    ADDRESS = "an address"
    ADDRESSES = "addresses"
    ROUTES = "routes"
    MTU = "a number of bytes"
    DOMAINS = "domain names"
    BOOT = "boot files"
    RAW = "raw options"

    @property
    def is_list(self) -> bool:
        """Whether an option of this kind has several values."""
        return self in (Kind.ADDRESSES, Kind.ROUTES, Kind.DOMAINS)

    @property
    def is_table(self) -> bool:
        """Whether an option of this kind has values by keys."""
        return self in (Kind.BOOT, Kind.RAW)

    @property
    def empty(self) -> Any:
        """The value of an option that is not set."""
        return () if self.is_list else Texts() if self.is_table else None

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
        code: Its number (RFC 2132); 0 if it is no single option.
        reaches_guests: Whether scripts and channels tell it, too, so that it must not be hidden in ``raw``.
    """

    field: str
    kind: Kind
    isc_name: str
    kea_name: str
    flag: str
    usage: str
    max_bytes: int = MAX_OPTION_BYTES
    code: int = 0
    reaches_guests: bool = True


def is_label(text: str) -> bool:
    """Whether a text can be a host name: one label of at most 63 letters, digits and inner hyphens."""
    return re.fullmatch(LABEL, text) is not None


def is_pattern(text: str | None) -> bool:
    """Whether a host name is to be made of a machine's name or number."""
    return text is not None and PLACES.search(text) is not None


def fill(pattern: str, name: str, number: int = 1) -> str | None:
    """The host name of a machine by its name and its number in its group; None if that cannot be one."""
    made = pattern.replace("{name}", name).replace("{n}", str(number))
    return made if is_label(made) else None


def raw_bytes(text: str) -> bytes:
    """The value of a raw option.

    Raises:
        ValueError: It is not written as ``hex:0a000001``.
    """
    head, _, digits = text.partition(":")
    if head != "hex" or not re.fullmatch(r"[0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2})*", digits):
        raise ValueError(text)
    return bytes.fromhex(digits.replace(":", ""))


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
    if option.kind is Kind.MTU:
        return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value) else value
    if option.kind.is_table:
        return _parse_table(option, value)
    read: Callable[[str], Any] = lambda text: _parse_address(option, text)  # noqa: E731
    if option.kind is not Kind.ADDRESSES and option.kind is not Kind.ADDRESS:
        read = StaticRoute.parse if option.kind is Kind.ROUTES else str
    if not option.kind.is_list:
        return read(str(value))
    several = value if isinstance(value, list | tuple) else [value] if value else []
    if len(several) > MAX_OPTION_BYTES // 4:  # before any of them is read
        raise too_many(option, len(several))
    return tuple(read(str(one)) for one in several)


def _parse_table(option: Option, value: Any) -> Texts:
    """A table; on the command line each entry is ``KEY=VALUE``."""
    parts = value if isinstance(value, list | tuple) else [value] if isinstance(value, str) else None
    if parts is not None:
        if not all(isinstance(one, str) and "=" in one for one in parts):
            raise InvalidOption(
                f"{option.field}: {value!r} is not a table.",
                hint="Write each entry as KEY=VALUE.",
                option=option.field,
            )
        value = dict(one.split("=", 1) for one in parts)
    if not isinstance(value, Mapping) or not all(isinstance(one, str) for one in (*value, *value.values())):
        raise InvalidOption(
            f"{option.field}: {value!r} is not a table of texts.",
            hint="Put every value in quotes.",
            option=option.field,
        )
    if option.kind is Kind.RAW:
        value = {_canonical_code(code): _canonical_hex(text) for code, text in value.items()}
    return Texts(value)


def _canonical_code(code: str) -> str:
    return str(int(code)) if re.fullmatch("[0-9]{1,3}", code, re.ASCII) else code


def _canonical_hex(text: str) -> str:
    with suppress(ValueError):
        return f"hex:{raw_bytes(text).hex()}"
    return text


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


def too_many(option: Option, count: int) -> InvalidOption:
    """The error for more addresses, routes or domains than an option carries."""
    return InvalidOption(
        f"{option.field}: {count} of them do not fit into one DHCP option.",
        hint=f"Give at most {option.max_bytes // 4}.",
        option=option.field,
    )
