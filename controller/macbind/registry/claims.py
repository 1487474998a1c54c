"""Which libvirt domain uses which allocation: questions and changes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import Row, Select, select, update

from macbind.addressing import MacAddress
from macbind.model import Claim, Domain, Phase
from macbind.registry.extents import chunks
from macbind.registry.schema import allocation as al
from macbind.registry.schema import audit, pool
from macbind.registry.transaction import Transaction
from macbind.registry.view import HELD, View

_CLAIMS = (
    select(
        al.c.ip,
        al.c.mac,
        al.c.gen,
        al.c.name,
        al.c.hypervisor,
        al.c.domain_uuid,
        al.c.phase,
        al.c.pinned,
        al.c.created_at,
        pool.c.name.label("pool"),
    )
    .join(pool, pool.c.id == al.c.pool_id)
    .where(HELD)
    .order_by(al.c.ip)
)
_MOVES = select(al.c.moves_from, al.c.mac).where(al.c.moves_from.is_not(None))


def of_hypervisor(view: View, hypervisor: str, uuid: str | None = None) -> list[Claim]:
    """Allocations used by the domains of a hypervisor, or by one of them."""
    query = _CLAIMS.where(al.c.hypervisor == hypervisor)
    return _read(view, query if uuid is None else query.where(al.c.domain_uuid == uuid))


def of_macs(view: View, macs: Sequence[MacAddress]) -> list[Claim]:
    """The live allocations that have these MACs, or are moving to an address that has."""
    found = [
        claim
        for some in chunks([mac.value for mac in macs])
        for claim in _read(view, _CLAIMS.where(al.c.mac.in_(some)))
    ]
    wanted, known = {mac.value for mac in macs}, {int(claim.address) for claim in found}
    moving = [left for left, mac in _moves(view).items() if mac in wanted and left not in known]
    return found + (_read(view, _CLAIMS.where(al.c.ip.in_(moving))) if moving else [])


def _moves(view: View) -> dict[int, int]:
    """The MAC each address that is being left is moving to; hardly ever any."""
    return {row.moves_from: row.mac for row in view.db.execute(_MOVES)}


def unused_since(view: View, before: datetime) -> list[Claim]:
    """Allocations made before a moment that no domain was seen to use."""
    return _read(
        view,
        _CLAIMS.where(
            al.c.hypervisor.is_(None), al.c.pinned.is_(False), al.c.created_at < before.timestamp()
        ),
    )


def was_last_used_by(view: View, address: IPv4Address, uuid: str) -> bool:
    """Whether the address's previous allocation was released while this domain used it.

    Such a domain may still run, with the MAC of an address that is somebody else's by now.
    """
    query = (
        select(audit.c.detail)
        .where(audit.c.ip == int(address), audit.c.action.in_(("release", "unreserve")))
        .order_by(audit.c.id.desc())
        .limit(1)
    )
    detail = view.db.scalar(query)
    return detail is not None and detail.get("domain_uuid") == uuid


def _read(view: View, query: Select[Any]) -> list[Claim]:
    moves = _moves(view)
    return [_claim(row, moves.get(row.ip)) for row in view.db.execute(query)]


def _claim(row: Row[Any], moves_to: int | None) -> Claim:
    return Claim(
        address=IPv4Address(row.ip),
        mac=MacAddress(row.mac),
        generation=row.gen,
        pool=row.pool,
        name=row.name,
        hypervisor=row.hypervisor,
        uuid=row.domain_uuid,
        phase=None if row.phase is None else Phase(row.phase),
        pinned=row.pinned,
        created_at=datetime.fromtimestamp(row.created_at, UTC),
        moves_to=None if moves_to is None else MacAddress(moves_to),
    )


def record(txn: Transaction, claim: Claim, domain: Domain, phase: Phase) -> bool:
    """Records that a domain uses an allocation; False if the allocation is no longer what was seen."""
    return _update(
        txn, claim, hypervisor=domain.hypervisor, domain_uuid=domain.uuid, domain=domain.name, phase=phase
    )


def note(txn: Transaction, claim: Claim, phase: Phase) -> bool:
    """Records how far its domain has come; False if the allocation is no longer what was seen."""
    return _update(txn, claim, phase=phase)


def _update(txn: Transaction, claim: Claim, **values: str) -> bool:
    done = txn.db.execute(update(al).where(*is_still(claim)).values(values))
    return bool(done.rowcount)


def is_still(claim: Claim) -> list[Any]:
    """Conditions that hold only while an allocation has the generation and domain of ``claim``."""
    return [
        al.c.ip == int(claim.address),
        al.c.gen == claim.generation,
        al.c.free_at.is_(None),
        al.c.hypervisor.is_not_distinct_from(claim.hypervisor),
        al.c.domain_uuid.is_not_distinct_from(claim.uuid),
    ]


def holds(txn: Transaction, claim: Claim) -> bool:
    """Whether an allocation still has the generation and domain of ``claim``."""
    return txn.db.scalar(select(al.c.ip).where(*is_still(claim))) is not None
