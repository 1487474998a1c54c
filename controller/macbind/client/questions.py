"""The calls that only ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any

from macbind.client import codec
from macbind.client.caller import Caller, segment
from macbind.core.address_map import MapBlocks, MapRun
from macbind.core.address_range import parse_address
from macbind.core.allocation import Allocation, AuditEntry, NetworkSettings
from macbind.core.findings import ControllerStatus, Status
from macbind.core.free_range import FreeRange
from macbind.core.labels import NO_LABELS, Wanted, written
from macbind.core.mac_address import MacAddress
from macbind.core.pool import PoolUsage
from macbind.core.why import Why


class QuestionCalls(Caller):
    """Asks for allocations, pools, the audit log, and the service itself."""

    def get(self, name: str) -> Allocation:
        """The allocation of that name.

        Raises:
            NotFound: There is none.
        """
        found = self._answers.read(codec.ALLOCATION, self._get(f"/v1/allocations/{segment(name)}"))
        self._answers.check([found], name=name)
        return found

    def network_settings(self, name: str) -> NetworkSettings:
        """What the machine of that name needs to know of its network: mask, gateway, DNS servers and the rest.

        Raises:
            NotFound: There is no such allocation.
        """
        found = self._answers.read(codec.NETWORK_SETTINGS, self._get(f"/v1/network-settings/{segment(name)}"))
        self._answers.check([found], name=name)
        return found

    def list(
        self,
        *,
        pool: str | None = None,
        group: str | None = None,
        address: IPv4Address | None = None,
        mac: MacAddress | None = None,
        released: bool = False,
        unclaimed: bool = False,
        labels: Wanted = NO_LABELS,
        idle_s: float | None = None,
        search: str | None = None,
    ) -> Iterator[Allocation]:
        """Allocations in the order of their addresses, fetched in pages.

        Each page is as its own moment was: a name that gets another address meanwhile may come twice or not at all.

        Args:
            pool: Only of this pool.
            group: Only of this group.
            address: Only this address.
            mac: Only this MAC.
            released: Whether released ones that are not gone yet are included.
            unclaimed: Only those that no domain was seen to use: what a core left that has ended meanwhile.
            labels: Only those that have all of these labels; None stands for any value.
            idle_s: Only those of whose machines nothing was seen for so many seconds.
            search: Only those with this text in name, group, domain, address or MAC, which may have any spelling.
        """
        params: dict[str, Any] = {"released": released, "unclaimed": unclaimed, "limit": 1000}
        filters = {"pool": pool, "group": group, "address": address, "mac": mac}
        params |= {key: str(value) for key, value in filters.items() if value is not None}
        params |= {"label": written(labels)} | ({} if idle_s is None else {"idle_s": idle_s})
        params |= {} if search is None else {"q": search}
        last: IPv4Address | None = None
        while True:
            page = self._answers.read(codec.PAGE, self._get("/v1/allocations", params))
            self._answers.check(page.allocations, **filters)
            self._answers.check_labels(page.allocations, labels)
            yield from page.allocations
            if page.next is None:
                return
            if last is not None and page.next <= last:
                raise self._transport.not_macbind()  # it would never end
            last = page.next
            params["after"] = str(last)

    def pools(self) -> Sequence[PoolUsage]:
        """All pools in numbers."""
        return self._answers.read(codec.POOLS, self._get("/v1/pools"))

    def free(self, pool: str) -> Iterator[FreeRange]:
        """The free space of a pool in the order of its addresses, fetched in pages.

        Raises:
            NotFound: There is no such pool.
        """
        params: dict[str, Any] = {"limit": 1000}
        last: IPv4Address | None = None
        while True:
            page = self._answers.read(codec.FREE, self._get(f"/v1/pools/{segment(pool)}/free", params))
            self._answers.check(page.ranges, pool=pool)
            yield from page.ranges
            if page.next is None:
                return
            if last is not None and page.next <= last:
                raise self._transport.not_macbind()  # it would never end
            last = page.next
            params["after"] = str(last)

    def map(self, pool: str) -> Iterator[MapRun]:
        """What the addresses of a pool are, as runs in the order of their addresses, fetched in pages.

        Raises:
            NotFound: There is no such pool.
        """
        params: dict[str, Any] = {}
        following: IPv4Address | None = None
        while True:
            page = self._answers.read(codec.MAP, self._get(f"/v1/pools/{segment(pool)}/map", params))
            self._answers.check([page], pool=pool)
            yield from page.runs
            if page.next is None:
                return
            if following is not None and page.next <= following:
                raise self._transport.not_macbind()  # it would never end
            following = page.next
            params["first"] = str(following)

    def map_blocks(self, pool: str, *, most: int = 4096) -> MapBlocks:
        """What the addresses of a pool are, counted by blocks of equal size.

        Args:
            pool: The pool.
            most: At most so many blocks, 2 to 65,536.

        Raises:
            NotFound: There is no such pool.
        """
        found = self._answers.read(
            codec.BLOCKS, self._get(f"/v1/pools/{segment(pool)}/blocks", {"most": most})
        )
        self._answers.check([found], pool=pool)
        return found

    def status(self) -> Status:
        """The service at a glance."""
        return self._answers.read(codec.STATUS, self._get("/v1/status"))

    def controllers(self) -> Sequence[ControllerStatus]:
        """All controllers that share the registry, by host and socket."""
        return self._answers.read(codec.CONTROLLERS, self._get("/v1/controllers"))

    def history(
        self,
        *,
        address: IPv4Address | str | None = None,
        name: str | None = None,
        pool: str | None = None,
        actor: str | None = None,
        action: str | None = None,
        request: str | None = None,
        labels: Wanted = NO_LABELS,
        since: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[AuditEntry]:
        """The latest changes, newest first.

        Args:
            address: Only of this address.
            name: Only of this name.
            pool: Only of this pool.
            actor: Only by this actor; the name of a user stands for all its processes.
            action: Only this action.
            request: Only of the request with this id.
            labels: Only of allocations that had all of these labels; None stands for any value.
            since: Only from this time on; with a time zone.
            limit: At most so many.
        """
        params: dict[str, Any] = {"limit": limit, "label": written(labels)}
        if address is not None:
            params["address"] = str(parse_address(str(address)))
        if since is not None:
            params["since"] = since.isoformat()
        which = {"name": name, "pool": pool, "actor": actor, "action": action, "request": request}
        params |= {key: value for key, value in which.items() if value is not None}
        return self._answers.read(codec.HISTORY, self._get("/v1/history", params))

    def why(self, query: IPv4Address | MacAddress | str) -> Sequence[Why]:
        """Why an address, MAC, name, IPv6 address or domain is as it is; a domain may have several answers.

        Raises:
            NotFound: Nobody has or had this name.
        """
        return self._answers.read(codec.WHY, self._get("/v1/why", {"q": str(query)}))

    def metrics(self) -> str:
        """The service in numbers, as Prometheus reads them."""
        return self._transport.text("/metrics")
