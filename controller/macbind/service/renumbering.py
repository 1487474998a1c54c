"""The use cases of renumbering: another address for a name, in two steps that can be taken back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

from macbind.core.allocation import Allocation, Released, Renumbering
from macbind.registry.queries import renumberings
from macbind.registry.renumber import abort_renumber, begin_renumber, finish_renumber, lease_renumber
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction
from macbind.service.changes import Changes
from macbind.service.search import ahead_of
from macbind.service.waiting import Deadline


class Renumberings:
    """What whoever renumbers a machine asks for.

    Args:
        registry: The truth.
        changes: Changes it.
    """

    def __init__(self, registry: Registry, changes: Changes) -> None:
        self._registry, self._changes = registry, changes

    async def begin(
        self,
        name: str,
        to: IPv4Address,
        actor: str,
        deadline: Deadline,
        *,
        token: str,
        lease_s: float,
    ) -> Renumbering:
        """Takes another address for a name; returns when every required DHCP server holds it.

        Args:
            name: The name.
            to: The address.
            actor: Who asked, for the audit log.
            deadline: Until when the caller waits.
            token: The lease's token.
            lease_s: How long the lease lives from now on.
        """
        begun: list[Renumbering] = []

        def take(txn: Transaction) -> list[Allocation]:
            begun[:] = [begin_renumber(txn, name, to, token, lease_s)]
            return [begun[0].old, begun[0].new]

        late_hint = (
            f"{to} is held for '{name}' and becomes bound when dhcpd is back: ask again in the same way, or give "
            f"{to} back with `macbind renumber {name} --abort`."
        )
        old, new = await self._changes.bind(
            actor, take, deadline, late_hint, look=lambda used: ahead_of(self._registry, to, used)
        )
        return replace(begun[0], old=old, new=new)

    async def lease(self, name: str, actor: str, *, token: str, lease_s: float) -> Renumbering:
        """Prolongs the lease of a renumbering, or takes it over when it has expired; waits for no DHCP server."""
        return await self._changes.commit(actor, lambda txn: lease_renumber(txn, name, token, lease_s))

    async def finish(
        self, name: str, actor: str, deadline: Deadline, *, token: str | None = None
    ) -> Renumbering:
        """Ends it at the new address; returns when the old one is gone from every DHCP server."""

        def give(txn: Transaction) -> tuple[Renumbering, list[Allocation]]:
            ended = finish_renumber(txn, name, token)
            return ended, [] if ended.old.released_at is None else [ended.old]

        late_hint = "The renumbering is recorded; the old address becomes free when dhcpd is back."
        return await self._changes.give_back(actor, give, deadline, late_hint)

    async def abort(self, name: str, actor: str, deadline: Deadline, *, token: str | None = None) -> Released:
        """Ends it at the old address; returns when the new one is gone from every DHCP server."""

        def give(txn: Transaction) -> tuple[Released, list[Allocation]]:
            gone = abort_renumber(txn, name, token)
            return Released(tuple(gone), already_gone=not gone), gone

        late_hint = (
            "The release of the new address is recorded; it becomes free when dhcpd is back. "
            "Abort again to wait for it."
        )
        return await self._changes.give_back(actor, give, deadline, late_hint)

    def under_way(self) -> list[Renumbering]:
        """The renumberings that have begun and not ended."""
        with self._registry.read() as view:
            return renumberings(view)
