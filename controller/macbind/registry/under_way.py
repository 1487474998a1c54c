"""Releases under way: since when and why, until every DHCP server has confirmed them. For numbers only."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from macbind.core.release_cause import ReleaseCause

_MOST = 1 << 17
"""More than are ever under way. Of a release that another controller completes, nobody here hears the end."""


@dataclass(frozen=True, slots=True)
class Begun:
    """When a release began (monotonic, in seconds), and why."""

    at: float
    cause: ReleaseCause


class UnderWay:
    """Remembers releases by address and generation. Any thread may call it; forgetting one costs a number only.

    Args:
        most: How many are remembered at a time.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._begun: dict[tuple[int, int], Begun] = {}

    def begin(self, ip: int, generation: int, begun: Begun) -> None:
        """Notes a release, before it is committed: a confirmation may come at once. One that fails is forgotten."""
        if len(self._begun) >= self._most:
            for key in list(islice(self._begun.copy(), self._most // 16)):
                self._begun.pop(key, None)
        self._begun[ip, generation] = begun

    def end(self, ip: int, generation: int) -> Begun | None:
        """Forgets a release that is complete; None if nothing is known of it here."""
        return self._begun.pop((ip, generation), None)
