"""Events: what changed, in the order in which it did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any

from macbind.core.findings import Finding
from macbind.core.labels import Wanted, match


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the audit log. Whoever knows its ``id`` can go on from there.

    Attributes:
        id: Its number; those of later changes are greater.
        at: When (UTC).
        actor: Who made it.
        action: What it is: ``allocate``, ``reserve``, ``renew``, ``release``, ``unreserve``, ``renumber`` (a name
            gets a second address), ``renumber_lease`` (somebody else goes on with that), ``renumbered`` (it has
            only that one), ``label``, ``remark``, ``put aside``; of a DHCP server, without an allocation:
            ``dhcp out``, ``dhcp forgotten``, ``dhcp in``.
        address, generation, name, pool, group: Of the allocation.
        detail: What else is known, such as ``mac``, ``labels`` or ``reason``.
        request: The id of the request that it was part of; None if nobody asked.
    """

    id: int
    at: datetime
    actor: str
    action: str
    address: IPv4Address | None
    generation: int | None
    name: str | None
    pool: str | None
    group: str | None
    detail: dict[str, Any]
    request: str | None = None

    def has_labels(self, wanted: Wanted) -> bool:
        """Whether the allocation had these labels, before the change or after it."""
        sides = (self.detail.get("labels", {}), self.detail.get("before", {}))
        return any(match(labels, wanted) for labels in sides)


@dataclass(frozen=True, slots=True)
class Gap:
    """Changes that are no longer in the audit log: what was known before has to be asked for anew.

    Attributes:
        after: The last change that was seen.
        oldest: The first one that is still there.
    """

    after: int
    oldest: int


@dataclass(frozen=True, slots=True)
class FindingsNow:
    """All findings of the service, at the beginning and whenever one has appeared or gone.

    Attributes:
        findings: The findings.
    """

    findings: tuple[Finding, ...]


Event = Change | Gap | FindingsNow
