"""Which libvirt domain uses which allocation: questions and changes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import Row, Select, select, update

from macbind.core.domain import Claim, Domain, Phase
from macbind.core.mac_address import MacAddress
from macbind.registry.free_space import chunks
from macbind.registry.queries import HELD
from macbind.registry.tables import allocation as al
from macbind.registry.tables import pool
from macbind.registry.transaction import Transaction, View

_CLAIMS = (
    select(
        al.c.ip,
        al.c.mac,
        al.c.gen,
        al.c.name,
        al.c.hypervisor,
        al.c.domain_uuid,
        al.c.domain,
        al.c.phase,
        al.c.doubted_at,
        al.c.pinned,
        al.c.created_at,
        pool.c.name.label("pool"),
    )
    .join(pool, pool.c.id == al.c.pool_id)
    .where(HELD)
    .order_by(al.c.ip)
)
_RENUMBERINGS = select(al.c.renumbers_from, al.c.mac).where(al.c.renumbers_from.is_not(None))


def of_hypervisor(view: View, hypervisor: str, uuid: str | None = None) -> list[Claim]:
    """Allocations used by the domains of a hypervisor, or by one of them."""
    query = _CLAIMS.where(al.c.hypervisor == hypervisor)
    return _read(view, query if uuid is None else query.where(al.c.domain_uuid == uuid))


def doubted(view: View) -> list[Claim]:
    """Allocations whose domain is missing without an event that says why, or has stopped; hardly ever any."""
    return _read(view, _CLAIMS.where(al.c.doubted_at.is_not(None), al.c.hypervisor.is_not(None)))


def of_macs(view: View, macs: Sequence[MacAddress]) -> list[Claim]:
    """The live allocations that have these MACs, or are renumbered to an address that has."""
    found = [
        claim
        for some in chunks([mac.value for mac in macs])
        for claim in _read(view, _CLAIMS.where(al.c.mac.in_(some)))
    ]
    wanted, known = {mac.value for mac in macs}, {int(claim.address) for claim in found}
    renumbered = [left for left, mac in _targets(view).items() if mac in wanted and left not in known]
    return found + (_read(view, _CLAIMS.where(al.c.ip.in_(renumbered))) if renumbered else [])


def _targets(view: View) -> dict[int, int]:
    """The new MAC of each address whose holder is being renumbered; hardly ever any."""
    return {row.renumbers_from: row.mac for row in view.db.execute(_RENUMBERINGS)}


def unused_since(view: View, before: datetime) -> list[Claim]:
    """Allocations made before a moment that no domain was seen to use."""
    return _read(
        view,
        _CLAIMS.where(
            al.c.hypervisor.is_(None), al.c.pinned.is_(False), al.c.created_at < before.timestamp()
        ),
    )


def _read(view: View, query: Select[Any]) -> list[Claim]:
    rows = view.db.execute(query).all()
    targets = _targets(view) if rows else {}
    return [_claim(row, targets.get(row.ip)) for row in rows]


def _claim(row: Row[Any], renumbers_to: int | None) -> Claim:
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
        domain=row.domain,
        renumbers_to=None if renumbers_to is None else MacAddress(renumbers_to),
        doubted_at=None if row.doubted_at is None else datetime.fromtimestamp(row.doubted_at, UTC),
    )


def record(txn: Transaction, claim: Claim, domain: Domain, phase: Phase) -> bool:
    """Records that a domain uses an allocation; False if the allocation is no longer what was seen."""
    return _update(
        txn,
        claim,
        hypervisor=domain.hypervisor,
        domain_uuid=domain.uuid,
        domain=domain.name,
        phase=phase,
        doubted_at=None,
    )


def note(txn: Transaction, claim: Claim, phase: Phase) -> bool:
    """Records how far its domain has come, without a doubt; False if the allocation is no longer what was seen."""
    return _update(txn, claim, phase=phase, doubted_at=None)


def rename(txn: Transaction, claim: Claim, domain: str) -> bool:
    """Records the name that its domain has by now; False if the allocation is no longer what was seen."""
    return _update(txn, claim, domain=domain)


def let_go(txn: Transaction, claim: Claim) -> bool:
    """Records that nobody uses it (yet), since now; False if the allocation is no longer what was seen."""
    return _update(
        txn,
        claim,
        hypervisor=None,
        domain_uuid=None,
        domain=claim.domain if claim.phase is Phase.EXPECTED else None,
        phase=None,
        doubted_at=txn.now.timestamp(),
    )


def rest(txn: Transaction, claim: Claim) -> bool:
    """Records that its domain has stopped now; False if the allocation is no longer what was seen."""
    return _update(txn, claim, phase=Phase.STOPPED, doubted_at=txn.now.timestamp())


def doubt(txn: Transaction, claim: Claim, phase: Phase | None) -> bool:
    """Records that its domain is missing since now; False if the allocation is no longer what was seen."""
    return _update(txn, claim, phase=phase, doubted_at=txn.now.timestamp())


def _update(txn: Transaction, claim: Claim, **values: str | float | None) -> bool:
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


def is_still_doubted(txn: Transaction, claim: Claim) -> bool:
    """Whether nobody, in another process either, has seen its domain since it was missing."""
    at = txn.db.scalar(select(al.c.doubted_at).where(*is_still(claim)))
    return at is not None and datetime.fromtimestamp(at, UTC) == claim.doubted_at
