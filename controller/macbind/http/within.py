"""What a caller may see who is limited to pools: results cut to these.

Changes need nothing here: the registry refuses what is in another pool, in the transaction that would change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from macbind.core.allocation import Allocation, Page, Renumbering
from macbind.core.errors import NotFound
from macbind.core.findings import Status
from macbind.core.pool import PoolUsage
from macbind.http.operation import Asked


def _has(asked: Asked[Any], pool: str | None) -> bool:
    return asked.peer.pools is None or pool in asked.peer.pools


def page(found: Page, asked: Asked[Any]) -> Page:
    """The allocations in these pools."""
    return Page([one for one in found.allocations if _has(asked, one.pool)], found.next)


def allocation(found: Allocation, asked: Asked[Any]) -> Allocation:
    """The allocation, if it is in one of these pools.

    Raises:
        NotFound: It is in another one; nothing more is said of that.
    """
    if not _has(asked, found.pool):
        raise NotFound(
            f"There is no allocation '{found.name}' in your pools.",
            hint="`macbind list` shows all that you may see.",
            name=found.name,
        )
    return found


def itself(found: Any, _: Asked[Any]) -> Any:
    """A result that is cut to the pools where it is made, or is about the one that was asked for."""
    return found


def pools(found: Sequence[PoolUsage], asked: Asked[Any]) -> list[PoolUsage]:
    """The numbers of these pools."""
    return [one for one in found if _has(asked, one.pool)]


def renumberings(found: Sequence[Renumbering], asked: Asked[Any]) -> list[Renumbering]:
    """The renumberings from one of these pools to one of them."""
    return [one for one in found if _has(asked, one.old.pool) and _has(asked, one.new.pool)]


def status(found: Status, asked: Asked[Any]) -> Status:
    """Whether DHCP servers answer, and what is found about these pools.

    Nothing of hypervisors, controllers and the database.
    """
    return replace(
        found,
        registry="",
        dhcpds=tuple(replace(one, problem="", findings=()) for one in found.dhcpds),
        pools=tuple(pools(found.pools, asked)),
        findings=tuple(one for one in found.findings if _has(asked, one.subject)),
        hypervisors=(),
        rates=None,
        controllers=(),
    )
