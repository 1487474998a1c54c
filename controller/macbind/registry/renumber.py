"""Renumbering in the registry: a name gets another address, and holds both until its machine answers there.

::

    begin ──► two allocations: the old one has the name, the new one ``renumbers_from`` it
                │
                ├─ finish ──► the new one has the name and all that goes with it; the old one is released
                ├─ abort ───► the new one is released; the name has the address it had
                └─ the old one is released, whoever asks and why ──► both are

Each of the three is one change. Whoever begins holds a lease: a random token, and a time that the token prolongs.
While the lease lives, only its token goes on, finishes or aborts. After that anybody may, with a token of his own.
What nobody ends is settled by what the machine has: see :mod:`macbind.core.release_policy`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address

from sqlalchemy import select, update

from macbind.core.allocation import SETTLE_AFTER_S, Allocation, Renumbering, check_name, place_of
from macbind.core.dhcp_options import NO_OPTIONS
from macbind.core.errors import Conflict, NotFound, NotInPool
from macbind.core.pool import Pool
from macbind.core.release_cause import ReleaseCause
from macbind.registry.allocate import Wanted, insert_rows, occupy, row_of
from macbind.registry.gateway_checks import check_gateways
from macbind.registry.queries import find, named, renumberings
from macbind.registry.release import as_released, release_rows
from macbind.registry.reserve import check_reservation
from macbind.registry.tables import allocation as al
from macbind.registry.transaction import Transaction

_INHERITED = (
    *(
        "grp",
        "domain",
        "hypervisor",
        "domain_uuid",
        "phase",
        "doubted_at",
        "pinned",
        "created_at",
        "expires_at",
    ),
)


# -- the lease -----------------------------------------------------------------------------------------------


def begin_renumber(txn: Transaction, name: str, to: IPv4Address, token: str, lease_s: float) -> Renumbering:
    """Takes the address a name is renumbered to, and the lease; repeated, it finds what it took.

    Args:
        txn: The open transaction.
        name: The name.
        to: The address, of the same pool or of another one on the same network.
        token: The lease's token, chosen by the caller.
        lease_s: How long the lease lives from now on.

    Returns:
        The renumbering with its lease; with one allocation twice if the name has the address already.

    Raises:
        NotFound, NotInPool, AddressInUse, Conflict: See :mod:`macbind.core.errors`.
    """
    old = named(txn, [check_name(name)]).get(name)
    if old is None:
        raise NotFound(f"There is no allocation '{name}'.", hint="`macbind list` shows all.", name=name)
    for one in renumberings(txn, of=[old.address]):
        if one.new.address != to:
            raise Conflict(
                f"'{name}' is being renumbered from {old.address} to {one.new.address} already.",
                hint=f"Finish that first, or end it with `macbind renumber {name} --abort`.",
                name=name,
                address=str(one.new.address),
            )
        return _take_lease(txn, one, token, lease_s)
    if old.address == to:
        return Renumbering(old, old)
    pool = _pool_for(txn, old, to)
    generation = txn.next_generation(pool)
    check_gateways(txn, pool, old.options, to)
    ip = occupy(txn, pool, to)
    mac = pool.plan.scheme.encode(to)
    row = row_of(txn, pool, ip, mac, name, generation, Wanted(pool.name, (name,)), old.options.to_dict())
    row |= {"renumbers_from": int(old.address)}
    new = insert_rows(txn, "renumber", pool, [row], generation, old.labels)[0]
    return _take_lease(txn, Renumbering(old, new), token, lease_s)


def lease_renumber(txn: Transaction, name: str, token: str, lease_s: float) -> Renumbering:
    """Prolongs the lease of a renumbering under way, or takes it over when it has expired.

    Raises:
        Conflict: Another token holds it, or there is no such renumbering any more.
    """
    for one in renumberings(txn, name=name):
        return _take_lease(txn, one, token, lease_s)
    raise _none_under_way(name)


def _take_lease(txn: Transaction, one: Renumbering, token: str, lease_s: float) -> Renumbering:
    holder = _token_of(txn, one.new)
    if token != holder:
        _refuse_leased(one, txn.now)
    if holder not in (None, token):
        detail = place_of(one.new) | {"from": str(one.old.address)}
        txn.log([("renumber_lease", int(one.new.address), one.new.generation, one.new.name, detail)])
    until = txn.now + timedelta(seconds=lease_s)
    settled_at = until + timedelta(seconds=SETTLE_AFTER_S)
    txn.db.execute(
        update(al)
        .where(al.c.ip == int(one.new.address))
        .values(lease_token=token, lease_until=until.timestamp(), expires_at=settled_at.timestamp())
    )
    (leased,) = renumberings(txn, of=[one.old.address])
    return replace(leased, token=token)


def _token_of(txn: Transaction, one: Allocation) -> str | None:
    """The token an allocation was renumbered to with, or is being."""
    return txn.db.scalar(select(al.c.lease_token).where(al.c.ip == int(one.address)))


def _check_token(txn: Transaction, one: Renumbering, token: str | None) -> None:
    """Lets pass the token of the lease; and whoever has none, if the lease has expired.

    Raises:
        Conflict: The lease is another's.
    """
    if token is None:
        _refuse_leased(one, txn.now)
    elif token != _token_of(txn, one.new):
        raise _none_under_way(one.old.name)


# -- where to ------------------------------------------------------------------------------------------------


def _pool_for(txn: Transaction, old: Allocation, to: IPv4Address) -> Pool:
    """The pool the address is taken from: the one the name is in, or another on its network.

    Raises:
        NotInPool, Conflict: It cannot be taken.
    """
    mine = txn.pools[old.pool]
    _check_target(old, to, mine)
    neighbours = [pool for pool in txn.pools.values() if pool.plan.subnet == mine.plan.subnet]
    pool = next((pool for pool in neighbours if to in pool.plan), mine)
    txn.check_pool(pool.name, str(to))
    mac = pool.plan.scheme.encode(to)
    if old.pinned:
        check_reservation(txn, pool, to, mac, mac, old.options)
    elif to not in pool.plan:
        ranges = ", ".join(str(item) for one in neighbours for item in one.plan.assignable[:3])
        raise NotInPool(
            f"No pool on {mine.plan.subnet} hands out {to}.",
            hint=f"They hand out {ranges}.",
            pool=old.pool,
            address=str(to),
        )
    if old.options != NO_OPTIONS and not pool.needs_binding(to):
        raise Conflict(
            f"The pool '{pool.name}' is in static mode, and '{old.name}' has DHCP options of its own.",
            hint="Renumber it within a pool in live mode.",
            name=old.name,
        )
    if pool.needs_binding(to):
        pool.check_binding(to, old.options)
    return pool


# -- how it ends ---------------------------------------------------------------------------------------------


def finish_renumber(txn: Transaction, name: str, token: str | None = None) -> Renumbering:
    """Gives the name its new address only, with its group, domain, expiry and pin.

    Args:
        txn: The open transaction.
        name: The name.
        token: Of the lease; may be left out when that has expired.

    Returns:
        The renumbering; repeated, with the old allocation while a dhcpd has yet to confirm its release.

    Raises:
        Conflict: There is no such renumbering (any more), or the lease is another's.
    """
    for one in renumberings(txn, name=name):
        _check_token(txn, one, token)
        return end_renumber(txn, one)
    there = named(txn, [name]).get(name)
    if there is None or token is None or token != _token_of(txn, there):
        raise _none_under_way(name)
    rows = find(txn, names=[name], released=True)
    gone = [one for one in rows if one.released_at is not None and one.created_at == there.created_at]
    return Renumbering(gone[0] if gone else there, there)


def end_renumber(txn: Transaction, one: Renumbering) -> Renumbering:
    """Finishes a renumbering that is under way, whoever has its lease."""
    old, new = one.old, one.new
    values = txn.db.execute(
        select(*(al.c[name] for name in _INHERITED)).where(al.c.ip == int(old.address))
    ).one()
    # No domain has its MAC any more, so it may become the user of the address again.
    reason = f"renumbered to {new.address}"
    release_rows(txn, "release", [old], reason, still_used=False, cause=ReleaseCause.RENUMBERED)
    inherited = {name: getattr(values, name) for name in _INHERITED}
    # The token stays, so that the same call finds what it has done.
    txn.db.execute(
        update(al)
        .where(al.c.ip == int(new.address))
        .values(**inherited, renumbers_from=None, lease_until=None)
    )
    ended = named(txn, [new.name])[new.name]
    detail = place_of(ended) | {"from": str(old.address)}
    txn.log([("renumbered", int(new.address), new.generation, new.name, detail)])
    return Renumbering(as_released(txn, old), ended)


def abort_renumber(txn: Transaction, name: str, token: str | None = None) -> list[Allocation]:
    """Releases the address a name is renumbered to; what is gone already is no error and not returned.

    Args:
        txn: The open transaction.
        name: The name.
        token: Of the lease; may be left out when that has expired.

    Raises:
        Conflict: It is renumbered already, or the lease is another's.
    """
    there = named(txn, [check_name(name)]).get(name)
    under_way = renumberings(txn, name=name)
    for one in under_way:
        _check_token(txn, one, token)
    if not under_way and there is not None and token is not None and token == _token_of(txn, there):
        raise Conflict(
            f"'{name}' is renumbered to {there.address} already.",
            hint="Renumber it back with another `macbind renumber`.",
            name=name,
            address=str(there.address),
        )
    return [drop_renumber(txn, one, "asked") for one in under_way]


def drop_renumber(txn: Transaction, one: Renumbering, reason: str) -> Allocation:
    """Aborts a renumbering that is under way, whoever has its lease."""
    said = f"renumbering aborted: {reason}"
    release_rows(txn, "release", [one.new], said, cause=ReleaseCause.WITHDRAWN)
    return as_released(txn, one.new)


def _check_target(old: Allocation, to: IPv4Address, mine: Pool) -> None:
    """Refuses an address that the machine could not use, wherever it was taken from."""
    if old.mac != mine.plan.scheme.encode(old.address):
        raise Conflict(
            f"'{old.name}' is pinned to a MAC of its own, {old.mac}, and a MAC has one address at a time.",
            hint=f"`macbind unreserve {old.name}` and `macbind reserve {old.name} {to} --mac {old.mac}`; the "
            "machine gets the new address when it asks again.",
            name=old.name,
        )
    if to not in mine.plan.subnet:
        raise NotInPool(
            f"{to} is not on the network of '{old.name}', {mine.plan.subnet}.",
            hint="A machine cannot get an address of a network on which it has no NIC.",
            address=str(to),
        )
    if mine.plan.forbids(to):
        raise NotInPool(
            f"{to} is the network, broadcast or gateway address of {mine.plan.subnet}.",
            hint="Choose the address of a machine.",
            address=str(to),
        )


def _refuse_leased(one: Renumbering, now: datetime) -> None:
    """Refuses anybody while the lease lives.

    Raises:
        Conflict: It does.
    """
    if one.lease_until is None or one.lease_until <= now:
        return
    raise Conflict(
        f"'{one.old.name}' is being renumbered from {one.old.address} to {one.new.address} by somebody else, "
        f"whose lease lives until {one.lease_until:%H:%M:%S} UTC.",
        hint="Wait until it is finished. If whoever began it has ended, ask again when the lease has expired.",
        name=one.old.name,
        lease_until=one.lease_until.isoformat(),
    )


def _none_under_way(name: str) -> Conflict:
    return Conflict(
        f"No such renumbering of '{name}' is under way any more.",
        hint=f"`macbind show {name}` tells what became of it.",
        name=name,
    )
