"""Changes of many allocations at once, each of which is answered for by itself."""

from __future__ import annotations

from macbind.core.allocation import Allocation, BulkItem
from macbind.core.errors import Conflict, InvalidLabel
from macbind.core.labels import Wanted
from macbind.core.release_cause import ReleaseCause
from macbind.registry.queries import find
from macbind.registry.release import as_released, release_rows, targets
from macbind.registry.transaction import ASKED, Transaction


def release_labelled(txn: Transaction, labels: Wanted, *, pool: str | None = None) -> list[BulkItem]:
    """Releases all allocations that have these labels; reservations are refused and stay.

    Args:
        txn: The open transaction.
        labels: The labels they must have, at least one.
        pool: Only those of this pool.

    Returns:
        One item for each, in the order of their addresses; addresses that one of them was being renumbered to
        included.

    Raises:
        InvalidLabel: No label is given.
        NotFound: There is no such pool.
    """
    if not labels:
        raise InvalidLabel("Say which labels they have.", hint="No label would mean every allocation.")
    found = [one for one in find(txn, labels=labels, pool=pool) if one.renumbers_from is None]
    refused = [one for one in found if one.pinned]
    live = [one for one in found if not one.pinned]
    live += targets(txn, live)
    release_rows(txn, "release", live, ASKED, cause=ReleaseCause.ASKED)
    items = [BulkItem(as_released(txn, one)) for one in live]
    items += [BulkItem(one, _refusal(one).to_dict()) for one in refused]
    return sorted(items, key=lambda item: item.allocation.address)


def _refusal(one: Allocation) -> Conflict:
    return Conflict(
        f"'{one.name}' ({one.address}) is a reservation.",
        hint=f"Use `macbind unreserve {one.name}`.",
        name=one.name,
    )
