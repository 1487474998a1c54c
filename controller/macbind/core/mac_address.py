"""MAC addresses: one value, every common spelling."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering
from typing import Any

from macbind.core.errors import InvalidAddress

_GROUPED = re.compile(r"[0-9a-f]{1,2}(?:([:-])[0-9a-f]{1,2})(?:\1[0-9a-f]{1,2}){4}")
_DOTTED = re.compile(r"[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}")
_BARE = re.compile(r"[0-9a-f]{12}")


@total_ordering
@dataclass(frozen=True, slots=True, repr=False)
class MacAddress:
    """An Ethernet hardware address, ordered by its 48-bit value.

    Reads ``00:16:3E:01:01:03``, ``0:16:3e:1:1:3``, ``00-16-3e-01-01-03``, ``0016.3e01.0103`` and
    ``00163e010103``; writes lower case with colons, as ``ip``, ``virsh`` and dhcpd do, so that one ``grep``
    finds a MAC everywhere.
    """

    value: int

    def __post_init__(self) -> None:
        if not 0 <= self.value < 1 << 48:
            raise InvalidAddress(f"{self.value:#x} is not a 48-bit MAC address.")

    @classmethod
    def parse(cls, text: str) -> MacAddress:
        """Reads any common spelling.

        Raises:
            InvalidAddress: The text is none of the spellings above.
        """
        low = text.strip().lower()
        if _GROUPED.fullmatch(low):
            return cls(int("".join(part.zfill(2) for part in re.split("[:-]", low)), 16))
        if _DOTTED.fullmatch(low) or _BARE.fullmatch(low):
            return cls(int(low.replace(".", ""), 16))
        raise InvalidAddress(
            f"{text!r} is not a MAC address.", hint="Write six bytes in hexadecimal, as 00:16:3e:01:01:03."
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> MacAddress:
        """Reads exactly six bytes in network order."""
        if len(raw) != 6:
            raise InvalidAddress(f"A MAC address has 6 bytes, not {len(raw)}.")
        return cls(int.from_bytes(raw))

    def __bytes__(self) -> bytes:
        return self.value.to_bytes(6)

    def __str__(self) -> str:
        return bytes(self).hex(":")

    def __repr__(self) -> str:
        return f"MacAddress.parse({str(self)!r})"

    def __lt__(self, other: MacAddress) -> bool:
        return self.value < other.value

    @property
    def is_unicast(self) -> bool:
        """Whether it may be a network card's: not a group address, and not zero."""
        return not self.value >> 40 & 1 and self.value != 0

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        """Tells pydantic to read and write the text form, so that this type can stand in API models."""
        from pydantic_core import core_schema as cs

        return cs.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(str(value)),
            serialization=cs.to_string_ser_schema(),
            json_schema_input_schema=cs.str_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> dict[str, Any]:
        """The MAC's entry in the OpenAPI document."""
        return {"type": "string", "format": "mac", "examples": ["00:16:3e:01:01:03"]}
