"""How much a DHCP server is told of one machine: bounded before anybody tells it.

A message of OMAPI must stay below dhcpd's buffer of 4048 bytes. Options that are allowed one by one may be too much
together, and would be refused again and again when the service tells them.
"""

from __future__ import annotations

from macbind.core.dhcp_options import OPTIONS, DhcpOptions, classless_routes
from macbind.core.errors import InvalidOption
from macbind.core.option_kinds import Kind, Option

MAX_STATEMENTS = 3600
"""Bytes of statements; with the longest name and signature the message has 3,882."""
_AROUND = 30  # what every binding says, and the spaces and semicolons of one statement
_ROUTES_AGAIN = 54
_CONDITION = 150


def size_of(options: DhcpOptions) -> int:
    """How many bytes these options take at most, as dhcpd is told them."""
    return _AROUND + sum(_bytes_of(option, options) for option in OPTIONS if getattr(options, option.field))


def _bytes_of(option: Option, options: DhcpOptions) -> int:
    value = getattr(options, option.field)
    head = len(option.isc_name) + 5
    match option.kind:
        case Kind.FILENAME:
            return head + _file_bytes(value)
        case Kind.BOOT:
            return sum(_CONDITION + _file_bytes(name) for name in value.values())
        case Kind.ROUTES:
            return head + 3 * len(classless_routes(options)) + _ROUTES_AGAIN
        case Kind.RAW:
            return sum(head + 5 + 3 * len(text) // 2 for text in value.values())
        case _ if option.kind.is_list:
            return head + sum(len(str(one)) + (4 if option.kind is Kind.DOMAINS else 2) for one in value)
        case _:
            return head + len(str(value)) + 2


def _file_bytes(name: str) -> int:
    return 3 * len(name) + 30 if "\\" in name else len(name) + 12


def check_size(options: DhcpOptions, what: str) -> None:
    """Refuses options that are too much together.

    Args:
        options: What a binding says.
        what: Whose they are, for the sentence.

    Raises:
        InvalidOption: They take more than :data:`MAX_STATEMENTS` bytes.
    """
    size = size_of(options)
    if size > MAX_STATEMENTS:
        raise InvalidOption(
            f"The DHCP options of {what} take {size} bytes together; "
            f"dhcpd can be told {MAX_STATEMENTS} of one machine.",
            hint="Give fewer or shorter options, or give those of all machines to the subnet: dhcpd reads these in "
            "its own configuration.",
        )
