"""The use case of imports."""

from __future__ import annotations

from collections.abc import Sequence

from macbind.core.allocation import Allocation
from macbind.core.import_plan import ImportEntry, ImportPlan
from macbind.registry.imports import import_entries
from macbind.registry.transaction import Transaction
from macbind.service.changes import Changes
from macbind.service.waiting import Deadline

_LATE = (
    "All that was imported is recorded, and becomes bound when dhcpd is back: import again to wait for it."
)


class Imports:
    """Takes over what other programs have.

    Args:
        changes: Changes the registry.
    """

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    async def make(
        self,
        entries: Sequence[ImportEntry],
        actor: str,
        deadline: Deadline,
        *,
        apply: bool = False,
        skip_conflicts: bool = False,
    ) -> ImportPlan:
        """Says what becomes of each entry. If that is meant, it is done, and every DHCP server holds the bindings."""
        plans: list[ImportPlan] = []

        def take(txn: Transaction) -> list[Allocation]:
            plan, made = import_entries(txn, entries, apply=apply, skip_conflicts=skip_conflicts)
            plans.append(plan)  # of the last run, if a transaction has failed before
            return made

        if apply:
            await self._changes.bind(actor, take, deadline, _LATE)
        else:
            await self._changes.rehearse(actor, take)
        return plans[-1]
