"""Releasing: by command, or because time is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import (
    bindparam,
    update,
)

from macbind.core.allocation import Allocation, State, place_of
from macbind.core.domain import Phase
from macbind.core.errors import (
    Conflict,
)
from macbind.core.evidence import Evidence, Source
from macbind.core.mac_address import MacAddress
from macbind.core.release_cause import ReleaseCause
from macbind.registry import evidence
from macbind.registry.fast_sql import Statement
from macbind.registry.free_space import chunks
from macbind.registry.queries import (
    OVERDUE,
    allocations,
    find,
    renumberings,
)
from macbind.registry.tables import allocation as al
from macbind.registry.transaction import ASKED, Transaction
from macbind.registry.under_way import Begun

_UPDATE = (
    update(al)
    .where(al.c.ip.in_(bindparam("ips", expanding=True)), al.c.free_at.is_(None))
    .values(
        released_at=bindparam("at"),
        free_at=bindparam("rests_until"),
        renumbers_from=None,
        lease_token=None,
        lease_until=None,
    )
)
_RELEASE = Statement(_UPDATE)
_RELEASE_USED = Statement(_UPDATE.returning(al.c.ip, al.c.mac, al.c.hypervisor, al.c.domain, al.c.phase))
_MAY_RUN = frozenset({Phase.DEFINED, Phase.EXPECTED, Phase.RUNNING, Phase.HELD, Phase.MIGRATED})
"""While its domain is recorded so, a machine may go on with its address when that is released."""
_AWAY = (Phase.HELD, Phase.MIGRATED)
"""While its domain is recorded so, nothing may be seen of a machine that goes on later, or elsewhere."""


def release(
    txn: Transaction,
    *,
    name: str | None = None,
    group: str | None = None,
    address: IPv4Address | None = None,
    generation: int | None = None,
    pinned: bool = False,
    reason: str = ASKED,
    still_used: bool = True,
    cause: ReleaseCause = ReleaseCause.ASKED,
    since: float | None = None,
) -> list[Allocation]:
    """Releases by name, group or address; what is gone already is no error and not returned.

    Args:
        txn: The open transaction.
        name: The allocation's name.
        group: All allocations of this group.
        address: The allocation of this address.
        generation: Only if the allocation is of this generation (a fence for late callers).
        pinned: Whether reservations are meant; allocations are then refused, and the other way round.
        reason: Why, for the audit log.
        still_used: Whether a domain that used them may still run; False where its end was seen.
        cause: Why, for numbers.
        since: When there was a reason (monotonic, in seconds); by default, when the change was asked for.

    Returns:
        The allocations released now, or released before and not confirmed gone by every dhcpd. An address that
        the released one was renumbered to is released with it.

    Raises:
        Conflict: The allocation is a reservation (or is not, when ``pinned``), or is only renumbered to.
    """
    found = find(
        txn,
        names=None if name is None else [name],
        group=group,
        addresses=None if address is None else [address],
        released=True,
    )
    if generation is not None:
        found = [one for one in found if one.generation == generation]
    live = [one for one in found if one.released_at is None]
    for one in live:
        if one.renumbers_from is not None:
            raise Conflict(
                f"'{one.name}' is being renumbered from {one.renumbers_from} to {one.address}.",
                hint=f"End that with `macbind renumber {one.name} --abort`, or release '{one.name}'.",
                name=one.name,
            )
        if one.pinned != pinned:
            raise Conflict(
                f"'{one.name}' ({one.address}) is a reservation."
                if one.pinned
                else f"'{one.name}' ({one.address}) is an ordinary allocation, not a reservation.",
                hint="Use `macbind unreserve`." if one.pinned else "Use `macbind release`.",
                name=one.name,
            )
    live += targets(txn, live)
    action = "unreserve" if pinned else "release"
    release_rows(txn, action, live, reason, still_used=still_used, cause=cause, since=since)
    if (
        pinned and reason == ASKED
    ):  # an admin has had the address by hand, and knows that nobody comes back to it
        evidence.withdraw_all(txn, Source.AWAY, [one.address for one in live])
    # Every dhcpd has to look at what is released now, so none of it is gone yet.
    now = [as_released(txn, one) for one in live]
    waiting = [one for one in found if one.state is State.RELEASING and txn.may_use(one.pool)]
    return sorted([*now, *waiting], key=lambda one: one.address)


def expire(txn: Transaction) -> list[Allocation]:
    """Releases allocations whose time is over, those first whose time was over first; of many only some."""
    rows = txn.db.execute(
        OVERDUE.with_only_columns(al).order_by(al.c.expires_at).limit(txn.sizes.chores),
        {"now": txn.now.timestamp()},
    ).all()
    due = allocations(txn, rows)
    due += targets(txn, due)
    release_rows(txn, "release", due, "expired", cause=ReleaseCause.EXPIRED)
    return due


def targets(txn: Transaction, live: Sequence[Allocation]) -> list[Allocation]:
    """What these are renumbered to."""
    return [one.new for one in renumberings(txn, of=[old.address for old in live])]


def as_released(txn: Transaction, one: Allocation) -> Allocation:
    """An allocation as it is right after its release."""
    return replace(one, state=State.RELEASING, released_at=txn.now, renumbers_from=None)


def release_rows(
    txn: Transaction,
    action: str,
    live: Sequence[Allocation],
    reason: str,
    *,
    still_used: bool = True,
    cause: ReleaseCause,
    since: float | None = None,
) -> None:
    """Releases.

    Args:
        txn: The open transaction.
        action: What the audit log calls it.
        live: What to release.
        reason: Why.
        still_used: Whether a domain that used them may still have their MACs: their addresses are then passed over
            until it is seen not to.
        cause: Why, for numbers.
        since: When there was a reason (monotonic, in seconds); by default, when the change was asked for.
    """
    used: list[Any] = []
    begun = Begun(txn.asked_at if since is None else since, cause)
    for one in live:
        txn.under_way.begin(int(one.address), one.generation, begun)
    for pool_name in sorted({one.pool for one in live}):
        pool = txn.pools[pool_name]
        generation = txn.next_generation(pool)
        mine = [one for one in live if one.pool == pool_name]
        at = txn.now.timestamp()
        was_used = still_used and any(one.domain_uuid is not None for one in mine)
        for some in chunks([int(one.address) for one in mine], txn.sizes.rows):
            values = {"ips": some, "at": at, "rests_until": at + pool.cooldown_s}
            if was_used:
                used += _RELEASE_USED.all(txn.db, values)
            else:
                _RELEASE.run(txn.db, values)
        txn.mark(pool.dhcpds, [int(one.address) for one in mine], generation)
        txn.log(
            (
                action,
                int(one.address),
                one.generation,
                one.name,
                place_of(one)
                | {"reason": reason}
                | ({"domain_uuid": one.domain_uuid} if one.domain_uuid and still_used else {}),
            )
            for one in mine
        )
    if used:
        evidence.add(txn, [_evidence_of(txn, row) for row in used if _may_still_run(txn, row)])


def _may_still_run(txn: Transaction, row: Any) -> bool:
    """Whether a released address has a domain that may still run, and that a tracker will see."""
    return row.phase in _MAY_RUN and row.hypervisor in txn.ids.hypervisors


def _evidence_of(txn: Transaction, row: Any) -> Evidence:
    return Evidence(
        source=Source.AWAY if row.phase in _AWAY else Source.DOMAIN,
        origin=row.hypervisor,
        address=IPv4Address(row.ip),
        mac=MacAddress(row.mac),
        holder=row.domain,
        since=txn.now,
        seen_at=txn.now,
    )
