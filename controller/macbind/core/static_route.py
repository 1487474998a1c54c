"""Classless static routes (RFC 3442)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from macbind.core.address_range import parse_address, parse_network
from macbind.core.errors import InvalidAddress, InvalidOption


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


def default_route(routes: Iterable[StaticRoute]) -> IPv4Address | None:
    """The gateway of the default route among static routes, which counts more than any router (RFC 3442)."""
    return next((one.gateway for one in routes if one.destination.prefixlen == 0), None)
