"""Importing: many reservations and allocations in one transaction, all of them or none.

The plan is what the import would do: it is done within the transaction, and undone. So a plan and what follows it
cannot differ by anything but what others have changed in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from macbind.core.allocation import Allocation
from macbind.core.errors import Conflict, NotInPool, RequestError
from macbind.core.import_decision import Wish, planned, wishes
from macbind.core.import_plan import ImportEntry, ImportPlan, ImportVerdict
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.labels import relabel
from macbind.registry.queries import named
from macbind.registry.reserve import change_options, reserve
from macbind.registry.transaction import Transaction


def import_entries(
    txn: Transaction, entries: Sequence[ImportEntry], *, apply: bool = False, skip_conflicts: bool = False
) -> tuple[ImportPlan, list[Allocation]]:
    """Says what becomes of each entry, and does it if that is meant.

    Args:
        txn: The open transaction.
        entries: The entries.
        apply: Whether to do it. Nothing is done if one of the entries is in conflict or impossible.
        skip_conflicts: Whether to do all others then.

    Returns:
        The plan, and the allocations of all entries that are done or were there already; none if nothing was done.
    """
    found = wishes(entries, (pool.plan.subnet for pool in txn.pools.values()))
    names = [one.entry.name for one in found if one.verdict is ImportVerdict.NEW]
    found = planned(found, named(txn, names))
    if not apply:
        with txn.undone():
            found, _ = _carried_out(txn, found)
        return ImportPlan(tuple(one.row for one in found)), []
    made: list[Allocation] = []
    applied = False
    with suppress(Conflict), txn.undone_if_refused():
        found, made = _carried_out(txn, found)
        if not skip_conflicts and not all(one.verdict.is_done for one in found):
            raise Conflict("An entry cannot be imported.")
        applied = True
    return ImportPlan(tuple(one.row for one in found), applied), made if applied else []


def _carried_out(txn: Transaction, found: Sequence[Wish]) -> tuple[list[Wish], list[Allocation]]:
    """Does what is new or changed; what the registry refuses is judged so."""
    done: list[Wish] = []
    made: list[Allocation] = []
    for one in found:
        if not one.verdict.is_done:
            done.append(one)
            continue
        try:
            with txn.undone_if_refused():
                made.append(_one_carried_out(txn, one))
        except RequestError as error:
            done.append(one.refused(error))
        else:
            done.append(one)
    return done, made


def _one_carried_out(txn: Transaction, wish: Wish) -> Allocation:
    entry, held, address = wish.entry, wish.held, wish.address
    if held is not None:
        if wish.options != held.options:
            held = change_options(txn, held, wish.options)
        labels = {**held.labels, **entry.labels}
        return held if labels == held.labels else relabel(txn, held.name, entry.labels)
    assert address is not None, "it is judged already"
    if entry.pinned:
        return reserve(txn, entry.name, address, mac=wish.mac, options=entry.options, labels=entry.labels)
    pool = next((one for one in txn.pools.values() if address in one.plan), None)
    if pool is None:
        raise NotInPool(
            f"No pool hands out {address}.", hint="Give a pool its range, or import it as a reservation."
        )
    own = pool.plan.scheme.encode(address)
    if wish.mac not in (None, own):
        raise Conflict(
            f"An allocation of {address} has the MAC {own}, not {wish.mac}.",
            hint="Leave its MAC out, or import it as a reservation.",
        )
    wanted = Wanted(
        pool.name,
        (entry.name,),
        group=entry.group,
        address=address,
        options=entry.options,
        labels=entry.labels,
    )
    return allocate(txn, wanted)[0]
