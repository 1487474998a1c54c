"""What an admin says of a DHCP server: it is in, or taken out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Use(StrEnum):
    """Whether a DHCP server is waited for, and whether what it holds keeps addresses from being free."""

    IN = "in"
    """Callers wait for it."""
    OUT = "out"
    """It is kept up to date where it can be reached, and nobody waits for it. What it holds is not free."""
    FORGOTTEN = "forgotten"
    """It serves no pool, and what it held is free without it: it is gone for good, or holds nothing."""


@dataclass(frozen=True, slots=True)
class Server:
    """A DHCP server as all controllers see it.

    Attributes:
        name: Its name in the configuration.
        use: Whether it is in.
        since: Since when it is out (UTC); None if it is in.
        by: Who has taken it out; None if it is in.
        pools: The pools that it serves by the configuration.
        holds: How many bindings it has confirmed to hold.
        due: How many addresses it has yet to look at.
    """

    name: str
    use: Use
    since: datetime | None
    by: str | None
    pools: tuple[str, ...]
    holds: int
    due: int
