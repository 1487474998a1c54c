"""Importing: many reservations and allocations in one transaction, all of them or none.

The plan is what the import would do: it is done within the transaction, and undone. So a plan and what follows it
cannot differ by anything but what others have changed in between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from macbind.core.allocation import Allocation
from macbind.core.errors import Conflict, NotInPool, RequestError
from macbind.core.import_decision import Wish, planned, wishes
from macbind.core.import_plan import ImportEntry, ImportPlan, ImportVerdict
from macbind.registry.allocate import Wanted, allocate, insert_rows
from macbind.registry.labels import relabel
from macbind.registry.queries import named
from macbind.registry.reserve import change_options, checked, take
from macbind.registry.transaction import Transaction


def allocate_entry(txn: Transaction, wish: Wish) -> Allocation:
    """Makes a new allocation of the address that the list has.

    Raises:
        NotInPool, AddressInUse, Conflict: See :mod:`macbind.core.errors`.
    """
    entry, address = wish.entry, wish.address
    assert address is not None, "it is judged already"
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


def import_entries(
    txn: Transaction,
    entries: Sequence[ImportEntry],
    *,
    apply: bool = False,
    skip_conflicts: bool = False,
    allocated: Callable[[Transaction, Wish], Allocation] = allocate_entry,
) -> tuple[ImportPlan, list[Allocation]]:
    """Says what becomes of each entry, and does it if that is meant.

    Args:
        txn: The open transaction.
        entries: The entries.
        apply: Whether to do it. Nothing is done if one of the entries is in conflict or impossible.
        skip_conflicts: Whether to do all others then.
        allocated: Makes a new allocation.

    Returns:
        The plan, and the allocations of all entries that are done or were there already; none if nothing was done.
    """
    found = wishes(entries, (pool.plan.subnet for pool in txn.pools.values()))
    names = [one.entry.name for one in found if one.verdict is ImportVerdict.NEW]
    found = planned(found, named(txn, names))
    if not apply:
        with txn.undone():
            found, _ = _carried_out(txn, found, allocated)
        return ImportPlan(tuple(one.row for one in found)), []
    made: list[Allocation] = []
    applied = False
    with suppress(Conflict), txn.undone_if_refused():
        found, made = _carried_out(txn, found, allocated)
        if not skip_conflicts and not all(one.verdict.is_done for one in found):
            raise Conflict("An entry cannot be imported.")
        applied = True
    return ImportPlan(tuple(one.row for one in found), applied), made if applied else []


def _carried_out(
    txn: Transaction, found: Sequence[Wish], allocated: Callable[[Transaction, Wish], Allocation]
) -> tuple[list[Wish], list[Allocation]]:
    """Does what is new or changed; what the registry refuses is judged so."""
    done, made, new = list(found), list[Allocation](), _Reservations(txn)
    for number in sorted(range(len(found)), key=lambda number: found[number].has_gateways):
        one = found[number]
        if not one.verdict.is_done:
            continue
        try:
            if one.held is None and one.entry.pinned:
                if one.has_gateways:  # which may be reserved by another entry
                    made += new.write()
                new.take(one)
            else:
                with txn.undone_if_refused():
                    made.append(_changed(txn, one) if one.held is not None else allocated(txn, one))
        except RequestError as error:
            done[number] = one.refused(error)
    return done, made + new.write()


class _Reservations:
    """New reservations. They are written together, and those of one pool have one generation.

    Args:
        txn: The open transaction.
    """

    def __init__(self, txn: Transaction) -> None:
        self._txn, self._generations = txn, dict[str, int]()
        self._rows: dict[tuple[str, tuple[tuple[str, str], ...]], list[dict[str, Any]]] = defaultdict(list)

    def take(self, wish: Wish) -> None:
        """Takes one.

        Raises:
            RequestError: It is not possible; nothing of it was done.
        """
        entry, txn = wish.entry, self._txn
        assert wish.address is not None, "it is judged already"
        pool, mac, options = checked(txn, entry.name, wish.address, wish.mac, entry.options)
        if pool.name not in self._generations:  # outside of what may be undone
            self._generations[pool.name] = txn.next_generation(pool)
        with txn.undone_if_refused():
            row = take(txn, pool, entry.name, wish.address, mac, options, self._generations[pool.name])
        self._rows[pool.name, tuple(sorted(entry.labels.items()))].append(row)

    def write(self) -> list[Allocation]:
        """Writes those that were taken since it was last called."""
        rows, self._rows = self._rows, defaultdict(list)
        return [
            one
            for (name, labels), some in rows.items()
            for one in insert_rows(
                self._txn, "reserve", self._txn.pools[name], some, self._generations[name], dict(labels)
            )
        ]


def _changed(txn: Transaction, wish: Wish) -> Allocation:
    """What a name holds, with the options and labels that it gets."""
    held = wish.held
    assert held is not None, "nothing is to be changed"
    if wish.options != held.options:
        held = change_options(txn, held, wish.options)
    labels = {**held.labels, **wish.entry.labels}
    return held if labels == held.labels else relabel(txn, held.name, wish.entry.labels)
