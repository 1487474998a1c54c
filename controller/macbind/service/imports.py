"""The use cases of imports, and of what is recovered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet

from macbind.core.allocation import Allocation
from macbind.core.import_plan import ImportEntry, ImportPlan
from macbind.core.mac_address import MacAddress
from macbind.registry.imports import import_entries
from macbind.registry.recovery import recover
from macbind.registry.transaction import Transaction
from macbind.service.changes import Changes
from macbind.service.waiting import Deadline

_LATE = (
    "All that was imported is recorded, and becomes bound when dhcpd is back: import again to wait for it."
)
_LATE_RECOVERED = "All that was recovered is recorded, and becomes bound when dhcpd is back."


class Imports:
    """Takes over what other programs have.

    Args:
        changes: Changes the registry.
        look_again: Has the domains with these MACs looked at again.
    """

    def __init__(self, changes: Changes, look_again: Callable[[AbstractSet[MacAddress]], object]) -> None:
        self._changes, self._look_again = changes, look_again

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

        def take(txn: Transaction) -> tuple[ImportPlan, list[Allocation]]:
            return import_entries(txn, entries, apply=apply, skip_conflicts=skip_conflicts)

        return await self._carry_out(actor, take, deadline, _LATE, apply=apply)

    async def recover(
        self, actor: str, deadline: Deadline, *, apply: bool = False, skip_conflicts: bool = False
    ) -> ImportPlan:
        """Says which machines that are seen can be allocated again; if that is meant, they are, and are bound."""
        made: list[Allocation] = []

        def take(txn: Transaction) -> tuple[ImportPlan, list[Allocation]]:
            plan, made[:] = recover(txn, apply=apply, skip_conflicts=skip_conflicts)
            return plan, made

        try:
            return await self._carry_out(actor, take, deadline, _LATE_RECOVERED, apply=apply)
        finally:  # also where dhcpd is away: it is recorded
            self._look_again({one.mac for one in made})

    async def _carry_out(
        self,
        actor: str,
        take: Callable[[Transaction], tuple[ImportPlan, list[Allocation]]],
        deadline: Deadline,
        late: str,
        *,
        apply: bool,
    ) -> ImportPlan:
        plans: list[ImportPlan] = []

        def work(txn: Transaction) -> list[Allocation]:
            plan, made = take(txn)
            plans.append(plan)  # of the last run, if a transaction has failed before
            return made

        if apply:
            await self._changes.bind(actor, work, deadline, late)
        else:
            await self._changes.rehearse(actor, work)
        return plans[-1]
