"""Evidence in the registry: which addresses others use, so that ``allocate`` passes over them.

An address with evidence is no free extent, so taking the lowest free address costs what it did. Free extents,
allocations, and addresses with evidence tile each pool. An address that is allocated may have evidence, too. Then the
evidence counts when the allocation ends.

A look that shows what is known already writes nothing. So ``seen_at`` is when a piece was last new or different.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, insert, or_, select

from macbind.core.evidence import Evidence, Source
from macbind.core.mac_address import MacAddress
from macbind.core.pool import Pool
from macbind.registry import free_space
from macbind.registry.fast_sql import Statement
from macbind.registry.free_space import chunks
from macbind.registry.tables import allocation as al
from macbind.registry.tables import evidence as ev
from macbind.registry.transaction import Transaction, View

UNSEEN_LEASE_S = 86_400.0
"""A lease whose time is over counts until its server can be looked at, but no longer than this, in seconds."""

_AT = ev.c.ip.in_(bindparam("ips", expanding=True))
_AT_ADDRESSES = Statement(select(ev).where(_AT))
_HAVING = Statement(select(ev.c.ip).where(_AT).distinct())
_OF_MAC = Statement(select(ev).where(ev.c.mac == bindparam("mac")).order_by(ev.c.ip))
_OF_ORIGIN = Statement(
    select(ev).where(ev.c.source == bindparam("source"), ev.c.origin == bindparam("origin")).order_by(ev.c.ip)
)
_OWN = al.c.ip.in_(bindparam("ips", expanding=True))
_ALLOCATED = Statement(select(al.c.ip).where(_OWN))
_MACS = Statement(select(al.c.ip, al.c.mac).where(_OWN))
_INSERT = Statement(insert(ev), keys=[column.key for column in ev.c])
_DELETE = Statement(
    delete(ev).where(ev.c.ip == bindparam("a"), ev.c.source == bindparam("s"), ev.c.origin == bindparam("o"))
)
_OVER = or_(
    and_(ev.c.source != Source.LEASE, ev.c.until <= bindparam("now")),
    and_(ev.c.source == Source.LEASE, ev.c.until <= bindparam("unseen")),
)

_Key = tuple[int, str, str]


# -- questions -----------------------------------------------------------------------------------------------


def of_addresses(view: View, addresses: Iterable[IPv4Address]) -> list[Evidence]:
    """All evidence of these addresses, in their order."""
    ips = sorted({int(one) for one in addresses})
    rows = [row for some in chunks(ips, view.sizes.rows) for row in _AT_ADDRESSES.all(view.db, {"ips": some})]
    return [as_evidence(row) for row in sorted(rows, key=lambda row: (row.ip, row.source, row.origin))]


def of_mac(view: View, mac: MacAddress) -> list[Evidence]:
    """All evidence that a MAC uses an address."""
    return [as_evidence(row) for row in _OF_MAC.all(view.db, {"mac": mac.value})]


def all_of(
    view: View, *, source: Source | None = None, origin: str | None = None, limit: int | None = None
) -> list[Evidence]:
    """Evidence in the order of its addresses.

    Args:
        view: The open transaction.
        source: Only from this source.
        origin: Only what this one saw.
        limit: At most so many.
    """
    query = select(ev).order_by(ev.c.ip, ev.c.source, ev.c.origin).limit(limit)
    if source is not None:
        query = query.where(ev.c.source == source)
    if origin is not None:
        query = query.where(ev.c.origin == origin)
    return [as_evidence(row) for row in view.db.execute(query)]


def having(view: View, ips: Sequence[int]) -> set[int]:
    """Those of the addresses that have evidence."""
    return _those(view, _HAVING, ips)


def of_others(view: View, found: Sequence[Evidence]) -> list[Evidence]:
    """Evidence without what shows the very MAC that has the address by an allocation."""
    ips = sorted({int(one.address) for one in found})
    own = {
        (row.ip, row.mac)
        for some in chunks(ips, view.sizes.rows)
        for row in _MACS.all(view.db, {"ips": some})
    }
    return [one for one in found if one.mac is None or (int(one.address), one.mac.value) not in own]


def has_ended(view: View, now: datetime) -> bool:
    """Whether there is evidence that has ended by itself."""
    return view.db.scalar(select(ev.c.ip).where(_OVER).limit(1), _moments(now)) is not None


# -- changes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Difference:
    """What a look shows that the registry does not have yet, and what it no longer shows."""

    new: Sequence[Evidence]
    gone: Sequence[IPv4Address]

    def __bool__(self) -> bool:
        return bool(self.new or self.gone)


def difference(
    view: View,
    source: Source,
    origin: str,
    found: Iterable[Evidence],
    now: datetime,
    *,
    ended: Iterable[IPv4Address] = (),
) -> Difference:
    """How what this source at this origin shows now differs from what is known of it.

    Of several pieces for one address the first counts. A lease that is no longer shown counts until its time is over:
    a server forgets the leases of a range that it no longer has.

    Args:
        view: The open transaction.
        source: The source.
        origin: Who looked.
        found: All that is shown.
        now: The time (UTC).
        ended: Addresses whose lease is over before its time.
    """
    over = {int(one) for one in ended}
    known = {row.ip: row for row in _OF_ORIGIN.all(view.db, {"source": source, "origin": origin})}
    shown: dict[int, Evidence] = {}
    for one in found:
        shown.setdefault(int(one.address), one)
    new = [
        one
        for ip, one in shown.items()
        if one.counts_at(now) and (ip not in known or _differs(known[ip], one))
    ]
    gone = [
        IPv4Address(ip)
        for ip, row in known.items()
        if (
            not shown[ip].counts_at(now)
            if ip in shown
            else source is not Source.LEASE or ip in over or not _lasts(row, now)
        )
    ]
    return Difference(new, gone)


def replace(txn: Transaction, source: Source, origin: str, found: Iterable[Evidence]) -> None:
    """Takes all that this source at this origin shows now; what it no longer shows is withdrawn.

    ``since`` of what stays is kept. See :func:`difference` for leases.
    """
    changes = difference(txn, source, origin, found, txn.now)
    add(txn, changes.new)
    withdraw(txn, source, origin, changes.gone)


def add(txn: Transaction, found: Sequence[Evidence]) -> None:
    """Takes evidence; ``since`` of what is known already is kept."""
    shown = {_key(one): one for one in reversed(found)}  # of several the first counts
    ips = sorted({ip for ip, _, _ in shown})
    known = {
        (row.ip, row.source, row.origin): row
        for some in chunks(ips, txn.sizes.rows)
        for row in _AT_ADDRESSES.all(txn.db, {"ips": some})
    }
    changed = {key: one for key, one in shown.items() if key not in known or _differs(known[key], one)}
    _delete(txn, [key for key in changed if key in known])
    rows = [
        _row(one if key not in known else dataclasses.replace(one, since=_moment(known[key].since)))
        for key, one in changed.items()
    ]
    _INSERT.run_each(txn.db, rows)
    had = {ip for ip, _, _ in known}
    for pool, mine in _by_pool(txn.pools, {ip for ip, _, _ in changed} - had).items():
        free_space.take_all(txn.db, txn.ids.pools[pool], mine, txn.sizes.rows)


def withdraw(txn: Transaction, source: Source, origin: str, addresses: Iterable[IPv4Address]) -> None:
    """Forgets what this source at this origin showed of these addresses; unused ones are free again."""
    ips = sorted({int(one) for one in addresses})
    _forget(txn, [(ip, str(source), origin) for ip in ips])


def withdraw_all(txn: Transaction, source: Source, addresses: Iterable[IPv4Address]) -> None:
    """Forgets what this source showed of these addresses, wherever it was seen."""
    found = [one for one in of_addresses(txn, addresses) if one.source is source]
    _forget(txn, [_key(one) for one in found])


def expire(txn: Transaction) -> None:
    """Forgets evidence that has ended by itself.

    A lease counts longer: it may have been renewed since its server was looked at. Only a look ends it, or a day in
    which none could be made.
    """
    rows = txn.db.execute(select(ev.c.ip, ev.c.source, ev.c.origin).where(_OVER), _moments(txn.now)).all()
    _forget(txn, [(row.ip, row.source, row.origin) for row in rows])


def _forget(txn: Transaction, keys: Sequence[_Key]) -> None:
    """Deletes evidence; what was there, and is unused and a pool's now, becomes a free extent."""
    ips = sorted({ip for ip, _, _ in keys})
    known = {
        (row.ip, row.source, row.origin)
        for some in chunks(ips, txn.sizes.rows)
        for row in _AT_ADDRESSES.all(txn.db, {"ips": some})
    }
    gone = [key for key in keys if key in known]
    _delete(txn, gone)
    freed = {ip for ip, _, _ in gone}
    freed -= _those(txn, _HAVING, sorted(freed))
    freed -= _those(txn, _ALLOCATED, sorted(freed))
    for pool, mine in _by_pool(txn.pools, freed).items():
        free_space.give_back(txn.db, txn.ids.pools[pool], mine, txn.sizes.rows)


def _delete(txn: Transaction, keys: Sequence[_Key]) -> None:
    _DELETE.run_each(txn.db, [{"a": ip, "s": source, "o": origin} for ip, source, origin in keys])


def _by_pool(pools: Mapping[str, Pool], ips: Iterable[int]) -> dict[str, list[int]]:
    """The addresses that pools hand out, sorted, by the name of the pool."""
    found: dict[str, list[int]] = defaultdict(list)
    for ip in sorted(ips):
        address = IPv4Address(ip)
        for name, pool in pools.items():
            if address in pool.plan:
                found[name].append(ip)
                break
    return found


def _those(view: View, question: Statement, ips: Sequence[int]) -> set[int]:
    return {row.ip for some in chunks(ips, view.sizes.rows) for row in question.all(view.db, {"ips": some})}


# -- configurations ------------------------------------------------------------------------------------------


def forget_origins(db: Connection, kept: Mapping[Source, Collection[str]]) -> set[int]:
    """Forgets all that was seen by those who are not configured any more, except what has an end of its own.

    Args:
        db: A connection with an open transaction.
        kept: The configured origins of each source.

    Returns:
        The addresses that have no evidence any more.
    """
    ips: set[int] = set()
    for source, origins in kept.items():
        of_others = and_(ev.c.source == source, ev.c.origin.not_in(list(origins)), ev.c.until.is_(None))
        ips.update(db.scalars(delete(ev).where(of_others).returning(ev.c.ip)))
    return ips.difference(db.scalars(select(ev.c.ip).distinct())) if ips else ips


# -- rows ----------------------------------------------------------------------------------------------------


def _key(one: Evidence) -> _Key:
    return int(one.address), str(one.source), one.origin


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _moments(now: datetime) -> dict[str, float]:
    return {"now": now.timestamp(), "unseen": (now - timedelta(seconds=UNSEEN_LEASE_S)).timestamp()}


def _lasts(row: Any, now: datetime) -> bool:
    """Whether evidence that ends by itself has not ended yet."""
    return row.until is not None and row.until > now.timestamp()


def _differs(row: Any, one: Evidence) -> bool:
    new = _row(one)
    return any(getattr(row, key) != new[key] for key in ("mac", "holder", "until"))


def _row(one: Evidence) -> dict[str, Any]:
    return {
        "ip": int(one.address),
        "source": str(one.source),
        "origin": one.origin,
        "mac": None if one.mac is None else one.mac.value,
        "holder": one.holder,
        "since": one.since.timestamp(),
        "seen_at": one.seen_at.timestamp(),
        "until": None if one.until is None else one.until.timestamp(),
    }


def as_evidence(row: Any) -> Evidence:
    """A row of the table as a value."""
    return Evidence(
        source=Source(row.source),
        origin=row.origin,
        address=IPv4Address(row.ip),
        mac=None if row.mac is None else MacAddress(row.mac),
        holder=row.holder,
        since=_moment(row.since),
        seen_at=_moment(row.seen_at),
        until=None if row.until is None else _moment(row.until),
    )
