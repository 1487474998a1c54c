"""Recovering: machines that others show and the registry does not know become allocations again.

The MAC of an address is made of the address. So whatever shows both says all that an allocation needs: a binding of a
DHCP server, a domain, an answer on the network. Only the name is lost; a domain may say it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import IPv4Address

from sqlalchemy import select

from macbind.core.allocation import Allocation, check_name
from macbind.core.binding import owner_of
from macbind.core.errors import RequestError
from macbind.core.evidence import Evidence, Source
from macbind.core.import_decision import Wish
from macbind.core.import_plan import MAX_ENTRIES, ImportEntry, ImportPlan, ImportRow, ImportVerdict
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.evidence import as_evidence
from macbind.registry.imports import import_entries
from macbind.registry.queries import named
from macbind.registry.tables import allocation as al
from macbind.registry.tables import evidence as ev
from macbind.registry.transaction import Transaction, View

_DOMAINS = (Source.DOMAIN, Source.AWAY)


@dataclass(frozen=True, slots=True)
class Lost:
    """An allocation that others show and the registry does not have.

    Attributes:
        pool: The pool that hands the address out.
        address: The address.
        shown: What shows it, in any order; not empty.
    """

    pool: str
    address: IPv4Address
    shown: Sequence[Evidence]

    @property
    def since(self) -> datetime:
        """Since when it is seen (UTC)."""
        return min(one.since for one in self.shown)

    @property
    def domains(self) -> list[str]:
        """The names of its domains. More than one is a MAC that stands twice."""
        return sorted({one.holder for one in self.shown if one.source in _DOMAINS})

    @property
    def described(self) -> str:
        """What shows it, in a sentence."""
        return f"Seen: {'; '.join(dict.fromkeys(map(_described, self.shown)))}."


def lost(view: View) -> list[Lost]:
    """The allocations that others show and the registry does not have, by address; the first :data:`MAX_ENTRIES`.

    Whoever has the address of a pool with another MAC than the pool makes of it is no allocation of ours.
    """
    rows = view.db.execute(
        select(ev)
        .select_from(ev.outerjoin(al, al.c.ip == ev.c.ip))
        .where(al.c.ip.is_(None), ev.c.mac.is_not(None))
        .order_by(ev.c.ip, ev.c.source, ev.c.origin)
    )
    found: dict[IPv4Address, Lost] = {}
    for one in map(as_evidence, rows):
        pool = _pool_of(view, one)
        if pool is None:
            continue
        if one.address not in found and len(found) == MAX_ENTRIES:
            break
        before = found.get(one.address, Lost(pool, one.address, ()))
        found[one.address] = replace(before, shown=(*before.shown, one))
    return list(found.values())


def recover(
    txn: Transaction, *, apply: bool = False, skip_conflicts: bool = False
) -> tuple[ImportPlan, list[Allocation]]:
    """Says what can be allocated again of what is seen, and does it if that is meant; see :func:`import_entries`."""
    found = lost(txn)
    by_address = {one.address: one for one in found}

    def allocated(txn: Transaction, wish: Wish) -> Allocation:
        assert wish.address is not None, "it is judged already"
        one = by_address[wish.address]
        domain = one.domains[0] if one.domains else None
        wanted = Wanted(
            one.pool, (wish.entry.name,), address=one.address, domain=domain, seen_since=one.since
        )
        return allocate(txn, wanted)[0]

    plan, made = import_entries(
        txn, list(_entries(txn, found)), apply=apply, skip_conflicts=skip_conflicts, allocated=allocated
    )
    rows = tuple(_explained(row, one) for row, one in zip(plan.rows, found, strict=True))
    return replace(plan, rows=rows), made


def _pool_of(view: View, one: Evidence) -> str | None:
    """The pool that hands out an address with this very MAC, if the caller may use it."""
    for pool in view.pools.values():
        if one.mac is not None and pool.plan.assignable_of(one.mac) == one.address:
            return pool.name if view.may_use(pool.name) else None
    return None


def _entries(view: View, found: Sequence[Lost]) -> Iterator[ImportEntry]:
    """What an import would be given of them: each has the name of its domain, or of its address."""
    count = Counter(one.domains[0] for one in found if one.domains)
    wanted = [name for name, times in count.items() if times == 1 and _is_name(name)]
    free = set(wanted).difference(named(view, wanted))
    for number, one in enumerate(found, 1):
        name = next(
            (name for name in one.domains if name in free), f"host-{str(one.address).replace('.', '-')}"
        )
        entry = ImportEntry(name, (str(one.address),), line=number, pinned=False)
        if len(one.domains) > 1:
            entry = replace(
                entry,
                problem=f"The domains {', '.join(map(repr, one.domains))} have its MAC.",
                mend="Let one of them have it.",
            )
        yield entry


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except RequestError:
        return False
    return True


def _described(one: Evidence) -> str:
    if one.source is Source.HOST and owner_of(one.holder) is not None:
        return f"the binding '{one.holder}' of dhcpd '{one.origin}'"
    return one.described


def _explained(row: ImportRow, one: Lost) -> ImportRow:
    return replace(row, why=one.described) if row.verdict is ImportVerdict.NEW else row
