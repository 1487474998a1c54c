"""The use cases of DHCP servers: which are in, and taking one out or in for all controllers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping

from macbind.core.dhcp_servers import Server
from macbind.core.errors import NotFound
from macbind.core.pool import Pool
from macbind.registry.servers import servers, take_in, take_out
from macbind.registry.store import Registry
from macbind.service.changes import Changes


class DhcpServers:
    """What admins ask for who look after a DHCP server.

    Args:
        registry: The truth.
        changes: Changes it.
        pools: The pools as they are configured.
    """

    def __init__(self, registry: Registry, changes: Changes, pools: Callable[[], Mapping[str, Pool]]) -> None:
        self._registry, self._changes, self._pools = registry, changes, pools

    def all(self) -> list[Server]:
        """All of them, by name."""
        configured: dict[str, set[str]] = defaultdict(set)
        for pool in self._pools().values():
            for name in pool.dhcpds:
                configured[name].add(pool.name)
        with self._registry.read() as view:
            return servers(view, configured)

    async def out(self, name: str, actor: str, *, forget: bool) -> Server:
        """Takes one out; returns when this controller knows it."""
        pools = list(self._pools().values())
        await self._changes.commit(actor, lambda txn: take_out(txn, name, pools, forget=forget))
        return await asyncio.to_thread(self._one, name)

    async def in_(self, name: str, actor: str) -> Server:
        """Takes one in again; returns when this controller knows it."""
        await self._changes.commit(actor, lambda txn: take_in(txn, name))
        return await asyncio.to_thread(self._one, name)

    def _one(self, name: str) -> Server:
        found = next((one for one in self.all() if one.name == name), None)
        if found is None:
            raise NotFound(f"No pool has the DHCP server '{name}' any more.", dhcpd=name)
        return found
