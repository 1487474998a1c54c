"""Which DHCP servers are in use: what admins have taken out, for all controllers at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Connection, exists, func, select, update

from macbind.core.dhcp_servers import Server, Use
from macbind.core.errors import ConfigError, Conflict, NotFound
from macbind.core.pool import Pool
from macbind.registry.configuration import renew
from macbind.registry.tables import confirmed as co
from macbind.registry.tables import dhcpd as dhcpd_table
from macbind.registry.tables import pending as pe
from macbind.registry.transaction import Transaction, View


def uses(db: Connection) -> dict[str, Use]:
    """The DHCP servers that were taken out, and how."""
    rows = db.execute(select(dhcpd_table.c.name, dhcpd_table.c.out).where(dhcpd_table.c.out.is_not(None)))
    return {row.name: Use(row.out) for row in rows}


def in_force(pools: Mapping[str, Pool], taken: Mapping[str, Use]) -> dict[str, Pool]:
    """The configured pools, each with the DHCP servers that are in use.

    Raises:
        ConfigError: A pool has none that was not forgotten.
    """
    out = frozenset(taken)
    found = {}
    for name, pool in pools.items():
        left = tuple(one for one in pool.dhcpds if taken.get(one) is not Use.FORGOTTEN)
        if not left:
            raise ConfigError(
                f"The pool '{name}' has no DHCP server but {' and '.join(pool.dhcpds)}, which was forgotten.",
                hint=f"`macbind dhcp in {pool.dhcpds[0]}` takes it into use again.",
                pool=name,
            )
        found[name] = replace(pool, dhcpds=left, out=out & set(left))
    return found


def refuse_leaving(db: Connection, wanted: Collection[str]) -> None:
    """Refuses that a DHCP server leaves the configuration while it holds bindings.

    Raises:
        ConfigError: It does.
    """
    query = (
        select(dhcpd_table.c.name, func.count().label("held"))
        .join(co, co.c.dhcpd_id == dhcpd_table.c.id)
        .where(dhcpd_table.c.name.not_in(list(wanted)))
        .group_by(dhcpd_table.c.name)
        .order_by(dhcpd_table.c.name)
    )
    row = db.execute(query.limit(1)).first()
    if row is not None:
        raise ConfigError(
            f"[dhcpd.{row.name}] is no longer configured, but holds {row.held} bindings.",
            hint=f"Take it out of its pools and keep its table until `macbind dhcp list` shows that it holds none. "
            f"If it is gone for good: `macbind dhcp out {row.name} --forget`.",
            dhcpd=row.name,
        )


def rename(db: Connection, renamed: Mapping[str, str]) -> None:
    """Gives DHCP servers other names, with all that they hold and have yet to do.

    Args:
        db: The registry.
        renamed: The new name of each; a name that was never used, or of one that holds nothing.
    """
    for old, new in renamed.items():
        rows = {row.name: row.id for row in db.execute(select(dhcpd_table.c.name, dhcpd_table.c.id))}
        if old not in rows:
            continue
        if new in rows:
            used = any(db.scalar(select(exists().where(table.c.dhcpd_id == rows[new]))) for table in (co, pe))
            if used:
                continue
            db.execute(dhcpd_table.delete().where(dhcpd_table.c.id == rows[new]))
        db.execute(update(dhcpd_table).where(dhcpd_table.c.id == rows[old]).values(name=new))


def servers(view: View, configured: Mapping[str, Collection[str]]) -> list[Server]:
    """The DHCP servers by name.

    Args:
        view: The open transaction.
        configured: Each with the pools that it serves by the configuration.
    """
    counts = [
        {
            row.dhcpd_id: row.n
            for row in view.db.execute(select(t.c.dhcpd_id, func.count().label("n")).group_by(t.c.dhcpd_id))
        }
        for t in (co, pe)
    ]
    rows = view.db.execute(select(dhcpd_table).order_by(dhcpd_table.c.name))
    return [
        Server(
            row.name,
            Use(row.out or Use.IN),
            None if row.out_at is None else datetime.fromtimestamp(row.out_at, UTC),
            row.out_by,
            tuple(sorted(configured.get(row.name, ()))),
            *(some.get(row.id, 0) for some in counts),
        )
        for row in rows
        if row.name in configured or row.id in counts[0]
    ]


def taken_out(view: View) -> Mapping[str, tuple[datetime, str]]:
    """Since when each DHCP server that is not in is out (UTC), and who has taken it out."""
    t = dhcpd_table.c
    rows = view.db.execute(select(t.name, t.out_at, t.out_by).where(t.out.is_not(None)))
    return {row.name: (datetime.fromtimestamp(row.out_at, UTC), row.out_by) for row in rows}


def take_out(txn: Transaction, name: str, pools: Iterable[Pool], *, forget: bool) -> None:
    """Takes a DHCP server out for all controllers; they know it when they have read the configuration anew.

    Args:
        txn: The open transaction.
        name: The server.
        pools: The pools as they are configured.
        forget: Whether what it holds is not waited for any more, either.

    Raises:
        NotFound: There is no such server.
        Conflict: A pool would have no other one.
    """
    _check_known(txn, name)
    taken = uses(txn.db)
    for pool in pools:
        others = [one for one in pool.dhcpds if one != name and one not in taken]
        if name in pool.dhcpds and not others:
            raise Conflict(
                f"The pool '{pool.name}' has no other DHCP server that is in.",
                hint="Give the pool another one first, or take one in with `macbind dhcp in NAME`.",
                pool=pool.name,
            )
    use = Use.FORGOTTEN if forget else Use.OUT
    if taken.get(name) is use:
        return
    number = txn.ids.dhcpds[name]
    if forget:
        for table in (co, pe):
            txn.db.execute(table.delete().where(table.c.dhcpd_id == number))
    _set(txn, name, {"out": use, "out_at": txn.now.timestamp(), "out_by": str(txn.actor)}, f"dhcp {use}")


def take_in(txn: Transaction, name: str) -> None:
    """Takes a DHCP server in again; it is told all that it should hold.

    Raises:
        NotFound: There is no such server.
    """
    _check_known(txn, name)
    if name in uses(txn.db):
        _set(txn, name, {"out": None, "out_at": None, "out_by": None}, "dhcp in")


def _set(txn: Transaction, name: str, values: Mapping[str, object], action: str) -> None:
    txn.db.execute(update(dhcpd_table).where(dhcpd_table.c.name == name).values(values))
    txn.log([(action, None, None, None, {"dhcpd": name})])
    renew(txn.db, str(txn.actor))


def _check_known(txn: Transaction, name: str) -> None:
    if name not in txn.ids.dhcpds:
        raise NotFound(
            f"There is no DHCP server '{name}'.", hint="`macbind dhcp list` shows all.", dhcpd=name
        )
