"""One transaction of the registry, and what every change is made of: generations, marks, the audit log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    insert,
    update,
)
from typing_extensions import override

from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import (
    InvariantViolation,
    NotFound,
    NotPermitted,
    RequestError,
)
from macbind.core.origin import Origin
from macbind.core.pool import Pool
from macbind.core.sizes import Sizes
from macbind.registry.fast_sql import Statement, execute
from macbind.registry.news import News
from macbind.registry.tables import audit
from macbind.registry.tables import pending as pe
from macbind.registry.tables import pool as pool_table
from macbind.registry.under_way import UnderWay

_COUNT_UP = Statement(
    update(pool_table)
    .where(pool_table.c.id == bindparam("p"))
    .values(rev=pool_table.c.rev + 1)
    .returning(pool_table.c.rev)
)


DELETE_PENDING = Statement(delete(pe).where(pe.c.dhcpd_id == bindparam("d"), pe.c.ip == bindparam("a")))
_INSERT_PENDING = Statement(insert(pe), keys=("dhcpd_id", "ip", "seq"))
_INSERT_AUDIT = Statement(
    insert(audit).inline(), keys=("at", "actor", "action", "ip", "gen", "name", "detail", "request")
)


ASKED = "asked"
"""The reason of a change by command."""

Entry = tuple[str, int | None, int | None, str | None, dict[str, Any]]
"""What the audit log says of one change: action, address, generation, name, detail."""


@dataclass(frozen=True, slots=True)
class Ids:
    """What is configured, with the database's numbers.

    Attributes:
        pools: The number of each pool.
        dhcpds: The number of each dhcpd that was ever known.
        hypervisors: Those that are watched; they have no numbers.
    """

    pools: Mapping[str, int]
    dhcpds: Mapping[str, int]
    hypervisors: frozenset[str] = frozenset()


class View:
    """One transaction that only looks, at a single state of the registry.

    Args:
        db: A connection with an open transaction.
        pools: The configured pools by name.
        ids: The numbers the database has for pools and dhcpds.
        sizes: How much is asked at a time.
    """

    def __init__(self, db: Connection, pools: Mapping[str, Pool], ids: Ids, sizes: Sizes) -> None:
        self.db, self.pools, self.ids, self.sizes = db, pools, ids, sizes
        self.pool_of = {ids.pools[name]: pool for name, pool in pools.items()}
        # What bindings say of machines without options of their own, by pool and gateway: nothing else differs.
        self.plain_options: dict[tuple[int, IPv4Address | None], DhcpOptions] = {}

    def pool(self, name: str) -> Pool:
        """The configured pool of that name.

        Raises:
            NotFound: There is none; the hint names those there are.
        """
        try:
            return self.pools[name]
        except KeyError:
            raise NotFound(
                f"There is no pool '{name}'.", hint=f"Pools are: {', '.join(sorted(self.pools))}.", pool=name
            ) from None

    def may_use(self, pool: str) -> bool:  # noqa: ARG002  # a change asks
        """Whether the caller may use a pool. Who only looks is asked for that elsewhere."""
        return True

    def check_pool(self, pool: str, what: str) -> None:
        """Lets pass what lies in a pool that the caller may use.

        Raises:
            NotPermitted: It lies in another one.
        """
        if not self.may_use(pool):
            raise NotPermitted(
                f"The caller may not use {what}: it is in none of the caller's pools.",
                hint="`macbind token list` on the service's host says which they are.",
            )


class Transaction(View):
    """One transaction that changes things: all of it happens, durably, or nothing.

    The use cases are functions on it. Each looks first, then changes rows, then marks the addresses for every DHCP
    server concerned, and then writes the audit log. Nothing in a transaction asks a clock, a DHCP server or libvirt.

    Args:
        db, pools, ids, sizes: As in :class:`View`.
        now: The time of every change in it (UTC).
        actor: Who asked, for the audit log.
        under_way: Takes note of releases.
        asked_at: When its change was asked for (monotonic, in seconds).

    Attributes:
        has_news: Whether a DHCP server has something to do after it, or the audit log says something new.
        has_confirmed: Whether it records what a DHCP server has confirmed.
    """

    def __init__(
        self,
        db: Connection,
        pools: Mapping[str, Pool],
        ids: Ids,
        sizes: Sizes,
        now: datetime,
        actor: str,
        *,
        under_way: UnderWay,
        asked_at: float,
    ) -> None:
        super().__init__(db, pools, ids, sizes)
        self.now, self.actor = now, actor
        self.has_news = self.has_confirmed = False
        self.under_way, self.asked_at = under_way, asked_at

    @override
    def may_use(self, pool: str) -> bool:
        return not isinstance(self.actor, Origin) or self.actor.pools is None or pool in self.actor.pools

    @property
    def news(self) -> list[News]:
        """What other controllers should look at after it."""
        return [News.DUE] * self.has_news + [News.DONE] * self.has_confirmed

    @contextmanager
    def undone_if_refused(self) -> Iterator[None]:
        """A part of the transaction; a RequestError in it undoes only this part."""
        execute(self.db, "SAVEPOINT part")
        try:
            yield
        except RequestError:
            execute(self.db, "ROLLBACK TO SAVEPOINT part")
            execute(self.db, "RELEASE SAVEPOINT part")  # else the next part would be within this one
            raise
        execute(self.db, "RELEASE SAVEPOINT part")

    @contextmanager
    def undone(self) -> Iterator[None]:
        """A part of the transaction that leaves nothing behind: what it finds out is what a change would do."""
        execute(self.db, "SAVEPOINT rehearsal")
        try:
            yield
        finally:
            execute(self.db, "ROLLBACK TO SAVEPOINT rehearsal")
            execute(self.db, "RELEASE SAVEPOINT rehearsal")

    def next_generation(self, pool: Pool) -> int:
        """Begins a change of a pool; returns a generation that no address of it ever had.

        Raises:
            NotPermitted: The caller may not change this pool.
        """
        self.check_pool(pool.name, f"the pool '{pool.name}'")
        row = _COUNT_UP.first(self.db, {"p": self.ids.pools[pool.name]})
        if row is None:
            raise InvariantViolation(f"The registry has no row for the pool '{pool.name}'.")
        return int(row.rev)

    def mark(self, dhcpds: Iterable[str], ips: Sequence[int], seq: int, *, unmarked: bool = False) -> None:
        """Makes changes of these addresses pending, with a number that no earlier mark of theirs had.

        Args:
            dhcpds: Who has to look at them.
            ips: The addresses; each has an allocation.
            seq: A generation from :meth:`next_generation`.
            unmarked: Whether none of them can have a mark yet.
        """
        self.has_news = True
        for name in dhcpds:
            number = self.ids.dhcpds[name]
            if not unmarked:
                DELETE_PENDING.run_each(self.db, [{"d": number, "a": ip} for ip in ips])
            _INSERT_PENDING.run_each(self.db, [{"dhcpd_id": number, "ip": ip, "seq": seq} for ip in ips])

    def log(self, entries: Iterable[Entry]) -> None:
        """Writes the audit log. What the caller gave as his reason stands where nothing else is the reason.

        Nothing is changed without an entry here, so nobody changes anything outside of his pools.

        Raises:
            NotPermitted: It is in a pool that the caller may not use.
        """
        entries = list(entries)
        for _, _, _, name, detail in entries:
            self.check_pool(detail.get("pool", ""), f"'{name}'")
        origin = self.actor if isinstance(self.actor, Origin) else Origin(self.actor)
        said = {} if origin.reason is None else {"reason": origin.reason}
        rows = [
            {
                "at": self.now.timestamp(),
                "actor": self.actor,
                "action": action,
                "ip": ip,
                "gen": gen,
                "name": name,
                "detail": detail | said if detail.get("reason", ASKED) == ASKED else detail,
                "request": origin.request,
            }
            for action, ip, gen, name, detail in entries
        ]
        self.has_news |= bool(rows)
        _INSERT_AUDIT.run_each(self.db, rows)
