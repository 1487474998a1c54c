"""Requests that were carried out, for callers who leave the name to the service and ask again after a lost answer.

A request of that kind comes with a key of its caller's making. The key is kept as long as a repeat may still be on
its way: for instance in a service that was frozen. So a late repeat allocates nothing that nobody would release.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import delete, insert, select

from macbind.core.allocation import Allocation
from macbind.core.errors import Conflict
from macbind.registry.tables import request as rq
from macbind.registry.transaction import Transaction

KEEP = timedelta(days=1)
"""For so long a key is known."""


def check_not_over(txn: Transaction, key: str, held: Collection[Allocation]) -> None:
    """Lets pass a request that is new, or whose allocations are all there still.

    Raises:
        Conflict: It was carried out already, and what it made is gone.
    """
    at = txn.db.scalar(select(rq.c.at).where(rq.c.key == key))
    if at is None or (held and all(one.created_at.timestamp() == at for one in held)):
        return
    raise Conflict(
        "This request was carried out already, and what it allocated is gone since.",
        hint="Ask with another Idempotency-Key for another allocation.",
    )


def note(txn: Transaction, key: str) -> None:
    """Remembers that a request is carried out with this transaction; in its place what it did before, if it did."""
    txn.db.execute(delete(rq).where(rq.c.key == key))
    txn.db.execute(insert(rq).values(key=key, at=txn.now.timestamp()))


def trim_requests(txn: Transaction) -> int:
    """Forgets the oldest requests, of many only some; returns how many."""
    before = (txn.now - KEEP).timestamp()
    old = select(rq.c.key).where(rq.c.at < before).order_by(rq.c.at).limit(txn.sizes.trim)
    return int(txn.db.execute(delete(rq).where(rq.c.key.in_(old))).rowcount)
