"""Who a machine is, as lines of text that any guest can read.

Every channel carries the same lines, ``key=value``, in this order:

======================  ====================================================================================
``mac``                 of the interface the rest is about, lower case with colons
``address``             with prefix length: ``10.1.1.3/16``
``gateway``             the default gateway; absent if there is none
``dns``                 DNS servers with spaces between; absent if there are none
``search``              the DNS domain; absent if there is none
``hostname``            one label
``data.KEY``            whatever else the machine is to know; ``KEY`` is letters, digits, ``_``, ``.`` and ``-``
======================  ====================================================================================

Values are printable ASCII, so a line can be read by a shell without any unescaping. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface
from types import MappingProxyType

from macbind.core.errors import InvalidRequest
from macbind.core.mac_address import MacAddress

IDENTITY_LINES = 6
"""So many lines say who a machine is, at most; the others are its data."""
MAX_KEY = 64
MAX_VALUE = 1024
MAX_DATA = 64
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_VALUE = re.compile(r"[ -~]*")


def check_data(data: Mapping[str, str]) -> Mapping[str, str]:
    """Returns ``data`` if every channel can carry it.

    Raises:
        InvalidRequest: There are too many entries, or a key or a value cannot be carried.
    """
    if len(data) > MAX_DATA:
        raise InvalidRequest(
            f"{len(data)} entries are too many for a machine.", hint=f"Give it at most {MAX_DATA}."
        )
    for key, value in data.items():
        if not _is_text(key, _KEY, MAX_KEY):
            raise InvalidRequest(
                f"{key!r} cannot be a key of a machine's data.",
                hint=f"Use 1 to {MAX_KEY} letters, digits and . _ -, beginning with a letter or digit.",
            )
        if not _is_text(value, _VALUE, MAX_VALUE) or value != value.strip():
            raise InvalidRequest(
                f"The value of {key!r} cannot be handed to a machine.",
                hint=f"Give text: at most {MAX_VALUE} printable ASCII characters on one line, no spaces around.",
            )
    return data


def _is_text(given: object, pattern: re.Pattern[str], longest: int) -> bool:
    return isinstance(given, str) and len(given) <= longest and pattern.fullmatch(given) is not None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a machine is.

    Attributes:
        mac: Of its interface.
        interface: Its address and the subnet's mask.
        gateway: Its default gateway.
        dns: DNS servers, best first.
        search: The DNS domain.
        hostname: One label.
        data: Whatever else it is to know.
    """

    mac: MacAddress
    interface: IPv4Interface
    gateway: IPv4Address | None = None
    dns: tuple[IPv4Address, ...] = ()
    search: str | None = None
    hostname: str | None = None
    data: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def lines(self) -> Iterator[str]:
        """The lines described above."""
        yield from (f"{key}={value}" for key, value in self._pairs() if value or key.startswith("data."))

    def _pairs(self) -> Iterable[tuple[str, str]]:
        yield "mac", str(self.mac)
        yield "address", str(self.interface)
        yield "gateway", str(self.gateway or "")
        yield "dns", " ".join(map(str, self.dns))
        yield "search", self.search or ""
        yield "hostname", self.hostname or ""
        for key, value in check_data(self.data).items():
            yield f"data.{key}", value
