"""DHCP options as ISC dhcpd's configuration language writes them (dhcp-options(5))."""

from __future__ import annotations

from functools import lru_cache

from macbind.core.dhcp_options import OPTIONS, DhcpOptions, classless_routes
from macbind.core.option_kinds import Kind, Option

NO_HOST_NAME = "use-host-decl-names off;"
"""Within a host, it counts more than what is said around it."""


def statements(options: DhcpOptions) -> list[str]:
    """The options as statements, each ending in a semicolon; options that are not set have none."""
    return [
        f"{option.isc_name} {_value(option, options)};"
        for option in OPTIONS
        if getattr(options, option.field)
    ]


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


def _value(option: Option, options: DhcpOptions) -> str:
    value = getattr(options, option.field)
    if option.kind.is_text:
        return f'"{value}"'
    if option.kind is Kind.ROUTES:
        return classless_routes(options).hex(":")
    return ", ".join(map(str, value)) if option.kind.is_list else str(value)
