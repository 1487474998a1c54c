"""Labels of allocations in the registry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import bindparam, delete, insert, update

from macbind.core.allocation import Allocation, check_name, place_of
from macbind.core.errors import NotFound
from macbind.core.labels import Labels, changed, check_key, check_labels
from macbind.registry.fast_sql import Statement
from macbind.registry.queries import find, named, renumberings
from macbind.registry.tables import allocation as al
from macbind.registry.tables import label as la
from macbind.registry.transaction import Transaction

_INSERT = Statement(insert(la), keys=("ip", "key", "value"))
_DELETE = Statement(delete(la).where(la.c.ip == bindparam("a")))


def put_labels(txn: Transaction, ips: Sequence[int], labels: Labels) -> None:
    """Gives each of these addresses, which have none, the labels."""
    rows = [{"ip": ip, "key": key, "value": value} for ip in ips for key, value in labels.items()]
    _INSERT.run_each(txn.db, rows)


def relabel(txn: Transaction, name: str, labels: Labels, removed: Iterable[str] = ()) -> Allocation:
    """Sets labels of an allocation, and removes others; what is so already is no error and no change.

    Args:
        txn: The open transaction.
        name: The name; an address that it is being renumbered to has the same labels.
        labels: The labels to set.
        removed: The keys of those to remove; a label that it has not is no error.

    Raises:
        NotFound: There is no such allocation.
        InvalidLabel: One of them is no label, or they would be too many.
    """
    one = named(txn, [check_name(name)]).get(name)
    if one is None:
        raise NotFound(f"There is no allocation '{name}'.", hint="`macbind list` shows all.", name=name)
    given, gone = check_labels(labels), [check_key(key) for key in removed]
    after = changed(one.labels, given, gone)
    if after == one.labels:
        return one
    both = [one, *(other.new for other in renumberings(txn, of=[one.address]))]
    for each in both:
        _replace(txn, int(each.address), after)
    (labelled,) = find(txn, addresses=[one.address])
    txn.log([("label", int(one.address), one.generation, name, place_of(labelled) | {"before": one.labels})])
    return labelled


def _replace(txn: Transaction, ip: int, labels: Mapping[str, str]) -> None:
    _DELETE.run(txn.db, {"a": ip})
    put_labels(txn, [ip], labels)
    txn.db.execute(update(al).where(al.c.ip == ip).values(labels=len(labels)))
