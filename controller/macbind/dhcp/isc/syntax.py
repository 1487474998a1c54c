"""DHCP options as ISC dhcpd's configuration language writes them (dhcp-options(5))."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from macbind.core.dhcp_options import OPTIONS, DhcpOptions, classless_routes
from macbind.core.option_kinds import BOOT_CLIENTS, Kind, Option, raw_bytes

NO_HOST_NAME = "use-host-decl-names off;"
"""Within a host, it counts more than what is said around it."""


# Who asks (RFC 4578): its architecture by option 93, a UEFI that loads by HTTP by option 60, iPXE by option 77.
_ASKS = {
    "ipxe": 'suffix(option user-class, 4) = "iPXE"',
    "http": 'substring(option vendor-class-identifier, 0, 10) = "HTTPClient"',
    "efi64": "{arch} = 00:07 or {arch} = 00:09",
    "efi32": "{arch} = 00:06",
    "arm64": "{arch} = 00:0b",
    "bios": "{arch} = 00:00",
}
_ARCHITECTURE = "substring(option pxe-system-type, 0, 2)"
# A UEFI that loads by HTTP takes only an answer that says the same of itself.
_HTTP = 'option vendor-class-identifier "HTTPClient"; '


def statements(options: DhcpOptions) -> list[str]:
    """The options as statements; options that are not set have none."""
    return [
        statement
        for option in OPTIONS
        if getattr(options, option.field)
        for statement in _statements(option, options)
    ]


def _statements(option: Option, options: DhcpOptions) -> list[str]:
    value = getattr(options, option.field)
    match option.kind:
        case Kind.FILENAME:
            return [_filename(value)]
        case Kind.BOOT:
            return [
                " els".join(
                    f"if {_ASKS[client].format(arch=_ARCHITECTURE)} "
                    f"{{ {_HTTP * (client == 'http')}{_filename(value[client])} }}"
                    for client in BOOT_CLIENTS
                    if client in value
                )
            ]
        case Kind.ROUTES:
            # The form with "=" fits whatever type a site has declared for the option.
            return [
                f"{option.isc_name} = {classless_routes(options).hex(':')};",
                "option unknown-249 = config-option unknown-121;",
            ]
        case Kind.RAW:
            return [f"{option.isc_name}{code} = {raw_bytes(text).hex(':')};" for code, text in value.items()]
        case _:
            return [f"{option.isc_name} {_value(option, value)};"]


def _filename(name: str) -> str:
    """A boot file. dhcpd escapes no backslash in its lease file, but writes in hex what ends in a zero byte."""
    if "\\" not in name:
        return f'filename "{name}";'
    return f"option server.filename = {name.encode().hex(':')}:00;"


@lru_cache(maxsize=1024)
def line(options: DhcpOptions) -> str:
    """All statements in one line. Most machines of a pool have the same, so the last ones are kept."""
    return " ".join(statements(options))


def of_host(options: DhcpOptions) -> str:
    """What a host of ours says: its options, and that the name of a host is not the name of the machine.

    A configuration around it may say ``use-host-decl-names on``, also later.
    """
    said = line(options)
    return said if options.hostname else f"{said} {NO_HOST_NAME}".lstrip()


def _value(option: Option, value: Any) -> str:
    if option.kind.is_text:
        return f'"{value}"'
    if option.kind is Kind.DOMAINS:
        return ", ".join(f'"{one}"' for one in value)
    return ", ".join(map(str, value)) if option.kind.is_list else str(value)
