"""The Python API: what the program that runs the farm calls.

::

    with macbind.Client() as client:
        vm = client.allocate("farm", "build-7")   # dhcpd has confirmed: start the machine with vm.mac
        ...
        client.release("build-7")                 # gone from dhcpd: the address is free again

Values and exceptions are the ones the service itself uses. Every call may be repeated: the same name finds
the same allocation, and releasing what is gone succeeds and says so. Every answer is compared with its question.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

from macbind.client import codec
from macbind.client.answers import Answers
from macbind.client.connection import DEFAULT_SOCKET, NO_HEADERS, SOCKET_VARIABLE
from macbind.client.events import follow
from macbind.client.transport import Transport
from macbind.core.address_map import MapBlocks, MapRun
from macbind.core.address_range import parse_address
from macbind.core.allocation import (
    Allocation,
    AuditEntry,
    BulkItem,
    NetworkSettings,
    Released,
    Renumbering,
)
from macbind.core.dhcp_options import NO_OPTIONS, DhcpOptions
from macbind.core.errors import InvalidRequest, NotYet
from macbind.core.event import Event
from macbind.core.findings import ControllerStatus, Status
from macbind.core.free_range import FreeRange
from macbind.core.labels import NO_LABELS, Labels, Wanted, written
from macbind.core.mac_address import MacAddress
from macbind.core.pool import PoolUsage
from macbind.core.why import Why

_SHORTEST_WAIT_S = 0.01


class Client:
    """A connection to the macbind service.

    It may be used by several threads, after a fork in both processes, and be sent to another process.

    Args:
        socket: The service's Unix socket; by default $MACBIND_SOCKET or /run/macbind/macbind.sock.
        timeout_s: How long a change may wait for dhcpd, in seconds.
        reason: Why, for the audit log: of every change that has no reason of its own.
        request_id: What all its changes have in common in the audit log, at most 64 printable characters; without
            it the service gives an id to each call.
    """

    def __init__(
        self,
        socket: str | Path | None = None,
        *,
        timeout_s: float = 10.0,
        reason: str | None = None,
        request_id: str | None = None,
    ) -> None:
        self.socket = Path(socket or os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET)
        self.timeout_s = timeout_s
        self.reason, self.request_id = reason, request_id
        self._headers = NO_HEADERS if request_id is None else {"X-Request-ID": request_id}
        self._transport = Transport(self.socket, timeout_s)
        self._answers = Answers(distrust=self._transport.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; the next call would open another."""
        self._transport.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets a client of the same socket, and no connection."""
        return _client, (type(self), self.socket, self.timeout_s, self.reason, self.request_id)

    # -- changes ---------------------------------------------------------------------------------------

    def allocate(
        self,
        pool: str,
        name: str | None = None,
        *,
        address: IPv4Address | str | None = None,
        options: DhcpOptions = NO_OPTIONS,
        group: str | None = None,
        domain: str | None = None,
        ttl_s: float | None = None,
        labels: Labels = NO_LABELS,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> Allocation:
        """Takes the first unoccupied address of a pool; when this returns, the machine may be started.

        Args:
            pool: The pool.
            name: The key to find it again; made up if left out.
            address: This address and no other.
            options: DHCP options of this machine on top of the pool's.
            group: A group to release it with.
            domain: The libvirt domain it is for.
            ttl_s: Released by itself after so many seconds; asking again renews it.
            labels: Labels to find it by: values by keys.
            reason: Why, for the audit log.
            dry_run: Whether only to say what would be taken. No machine may be started with that.

        Raises:
            RequestError: It is not possible; asking again changes nothing.
            PeerError: dhcpd or the service is unavailable; the same call may succeed later.
        """
        name = f"vm-{uuid4().hex[:12]}" if name is None else name
        wanted = None if address is None else parse_address(str(address))
        body = {"name": name, "group": group, "labels": dict(labels), "reason": reason}
        made = self._allocate(pool, body, options, domain, ttl_s, wanted, dry_run=dry_run)
        self._answers.check_names(made, [name])
        self._answers.check(made, address=wanted)
        return made[0]

    def allocate_group(
        self,
        pool: str,
        group: str,
        count: int | None = None,
        *,
        names: Sequence[str] | None = None,
        options: DhcpOptions = NO_OPTIONS,
        domain: str | None = None,
        ttl_s: float | None = None,
        labels: Labels = NO_LABELS,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> list[Allocation]:
        """Takes several addresses, all or none.

        Args:
            pool: The pool.
            group: The group; release it as one with :meth:`release_group`.
            count: How many; the members are named ``group-1``, ``group-2`` …
            names: Their names, instead of a count.
            options: DHCP options of each of these machines.
            domain: The libvirt domain they are for.
            ttl_s: Released by themselves after so many seconds.
            labels: Labels of each of them.
            reason: Why, for the audit log.
            dry_run: Whether only to say what would be taken.

        Returns:
            The allocations in the order of their names as asked for.
        """
        asked = None if names is None else list(names)
        body = {"group": group, "count": count, "names": asked, "labels": dict(labels), "reason": reason}
        made = self._allocate(pool, body, options, domain, ttl_s, None, dry_run=dry_run)
        self._answers.check_names(
            made, asked or [f"{group}-{number}" for number in range(1, (count or 0) + 1)]
        )
        return made

    def _allocate(
        self,
        pool: str,
        body: dict[str, Any],
        options: DhcpOptions,
        domain: str | None,
        ttl_s: float | None,
        address: IPv4Address | None,
        *,
        dry_run: bool,
    ) -> list[Allocation]:
        request = body | {"pool": pool, "options": options.to_dict(), "domain": domain, "ttl_s": ttl_s}
        request |= _rehearsal(dry_run)
        if address is not None:
            request["address"] = str(address)
        made = self._answers.read(codec.PAGE, self._post("/v1/allocations", request)).allocations
        if not made:
            raise self._transport.not_macbind()
        self._answers.check(made, pool=pool, group=body["group"])
        self._answers.check_labels(made, body["labels"])
        return made

    def release(
        self,
        name: str | None = None,
        *,
        address: IPv4Address | str | None = None,
        generation: int | None = None,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> Released:
        """Releases one allocation; when this returns, its address can be allocated again.

        Args:
            name: Its name.
            address: Or its address.
            generation: Only if it is still of this generation: a late or repeated call cannot hit a successor.
                Without it this call is never repeated by itself once the service may have carried it out.
            reason: Why, for the audit log.
            dry_run: Whether only to say what would be released.

        Raises:
            InvalidRequest: Both or none of name and address are given.
        """
        body: dict[str, Any] = {"name": name, "generation": generation, "reason": reason}
        body |= _rehearsal(dry_run)
        wanted = None if address is None else parse_address(str(address))
        if wanted is not None:
            body["address"] = str(wanted)
        done = self._release(body, may_repeat=generation is not None)
        self._answers.check(done.allocations, name=name)
        if (
            wanted is not None
            and done.allocations
            and wanted not in {one.address for one in done.allocations}
        ):
            raise self._answers.mismatch(f"the address {done.allocations[0].address}", str(wanted))
        return done

    def release_group(self, group: str, *, reason: str | None = None, dry_run: bool = False) -> Released:
        """Releases every allocation of a group; a dry run only says which that would be."""
        body = {"group": group, "reason": reason} | _rehearsal(dry_run)
        done = self._release(body, may_repeat=False)
        self._answers.check(done.allocations, group=group)
        return done

    def release_labelled(
        self, labels: Wanted, *, pool: str | None = None, reason: str | None = None
    ) -> Sequence[BulkItem]:
        """Releases every allocation that has all of these labels; reservations are refused one by one.

        Args:
            labels: Values by keys; None stands for any value.
            pool: Only those of this pool.
            reason: Why, for the audit log.

        Returns:
            One item for each of them, in the order of their addresses.
        """
        body = {"labels": dict(labels), "pool": pool, "reason": reason}
        items = self._answers.read(codec.BULK, self._post("/v1/release/labelled", body, may_repeat=False))
        found = [item.allocation for item in items]
        self._answers.check(found, pool=pool)
        self._answers.check_labels(found, labels)
        return items

    def label(
        self,
        name: str,
        labels: Labels = NO_LABELS,
        *,
        remove: Sequence[str] = (),
        reason: str | None = None,
    ) -> Allocation:
        """Sets labels of an allocation or a reservation, and removes others; all others stay as they are.

        Args:
            name: Its name.
            labels: The labels to set: values by keys.
            remove: The keys of those to remove.
            reason: Why, for the audit log.

        Raises:
            NotFound: There is no such allocation.
            InvalidLabel: One of them is no label, or they would be too many.
        """
        body = {"name": name, "labels": dict(labels), "remove": list(remove), "reason": reason}
        found = self._answers.read(codec.ALLOCATION, self._post("/v1/labels", body))
        self._answers.check([found], name=name)
        self._answers.check_labels([found], labels)
        return found

    def _release(self, body: dict[str, Any], *, may_repeat: bool) -> Released:
        return self._answers.read(codec.RELEASED, self._post("/v1/release", body, may_repeat=may_repeat))

    def remark(self, name: str, reason: str) -> Allocation:
        """Writes a reason into the audit log, and changes nothing: of what the caller is about to do elsewhere.

        Raises:
            NotFound: There is no such allocation.
        """
        body = {"name": name, "reason": reason}
        found = self._answers.read(codec.ALLOCATION, self._post("/v1/remarks", body))
        self._answers.check([found], name=name)
        return found

    def reserve(
        self,
        name: str,
        address: IPv4Address | str,
        *,
        mac: MacAddress | str | None = None,
        options: DhcpOptions = NO_OPTIONS,
        labels: Labels = NO_LABELS,
        reason: str | None = None,
        dry_run: bool = False,
    ) -> Allocation:
        """Pins an address: only :meth:`unreserve` ends it.

        Args:
            name: Its name.
            address: An address of a pool's subnet.
            mac: A foreign MAC, e.g. of a printer; by default the address's own.
            options: DHCP options of this machine.
            labels: Labels to find it by: values by keys.
            reason: Why, for the audit log.
            dry_run: Whether only to say what would be reserved.
        """
        wanted = parse_address(str(address))
        foreign = MacAddress.parse(mac) if isinstance(mac, str) else mac
        body: dict[str, Any] = {"name": name, "address": str(wanted), "options": options.to_dict()}
        body |= {"labels": dict(labels), "reason": reason} | _rehearsal(dry_run)
        if foreign is not None:
            body["mac"] = str(foreign)
        made = self._answers.read(codec.ALLOCATION, self._post("/v1/reservations", body))
        self._answers.check([made], name=name, address=wanted, mac=foreign)
        self._answers.check_labels([made], labels)
        return made

    def unreserve(self, name: str, *, reason: str | None = None, dry_run: bool = False) -> Released:
        """Ends a reservation; the reason is for the audit log. A dry run only says which that would be."""
        path = f"/v1/reservations/{_segment(name)}"
        params = self._completed({"reason": reason} | _rehearsal(dry_run))
        answer = self._transport.call("DELETE", path, params=params, may_repeat=False, headers=self._headers)
        done = self._answers.read(codec.RELEASED, answer)
        self._answers.check(done.allocations, name=name)
        return done

    # -- renumberings ----------------------------------------------------------------------------------

    def begin_renumber(
        self,
        name: str,
        to: IPv4Address | str,
        *,
        lease_s: float = 60.0,
        token: str | None = None,
        reason: str | None = None,
    ) -> Renumbering:
        """Takes a name's new address; when this returns, the machine may be given its MAC.

        The name has both addresses until :meth:`finish_renumber` or :meth:`abort_renumber`. Meanwhile a lease
        keeps others away (``Conflict``); the same call with its token prolongs it. To renumber a machine with
        everything that belongs to it, see :func:`macbind.machines.renumber`.

        Args:
            name: The name.
            to: An address of its pool, or of another pool on the same network.
            lease_s: How long the lease lives. Some time after that, macbind ends the renumbering by itself: by the
                MAC the machine has then.
            token: The lease's token, any random text; made if left out.
            reason: Why, for the audit log.

        Returns:
            The renumbering with its token; with one allocation twice if the name has the address already.
        """
        token = secrets.token_urlsafe(16) if token is None else token
        target = parse_address(str(to))
        body = {"name": name, "to": str(target), "token": token, "lease_s": lease_s, "reason": reason}
        begun = self._renumbering("/v1/renumberings", name, body, token)
        self._answers.check([begun.new], address=target)
        return begun

    def lease_renumber(self, name: str, token: str, *, lease_s: float = 60.0) -> Renumbering:
        """Prolongs the lease of a renumbering under way, or takes it over when it has expired.

        Args:
            name: The name.
            token: The lease's token; of an expired lease, its next one.
            lease_s: How long the lease lives from now on.

        Raises:
            Conflict: Another token holds it, or there is no such renumbering any more.
        """
        body = {"name": name, "token": token, "lease_s": lease_s}
        return self._renumbering("/v1/renumberings/lease", name, body, token)

    def finish_renumber(
        self, name: str, token: str | None = None, *, reason: str | None = None
    ) -> Renumbering:
        """Releases the old address; when this returns, it can be allocated again.

        Args:
            name: The name.
            token: The lease's token; may be left out when the lease has expired.
            reason: Why, for the audit log.
        """
        body = {"name": name, "token": token, "reason": reason}
        return self._renumbering("/v1/renumberings/finish", name, body, token)

    def abort_renumber(self, name: str, token: str | None = None, *, reason: str | None = None) -> Released:
        """Releases the new address; the name keeps the one it has.

        Args:
            name: The name.
            token: The lease's token; may be left out when the lease has expired.
            reason: Why, for the audit log.
        """
        body = {"name": name, "token": token, "reason": reason}
        done = self._answers.read(
            codec.RELEASED, self._post("/v1/renumberings/abort", body, may_repeat=token is not None)
        )
        self._answers.check(done.allocations, name=name)
        return done

    def _renumbering(self, path: str, name: str, body: dict[str, Any], token: str | None) -> Renumbering:
        found = self._answers.read(codec.RENUMBERING, self._post(path, body, may_repeat=token is not None))
        self._answers.check([found.old, found.new], name=name)
        if found.token is not None:
            self._answers.check([found], token=token)
        return found

    def renumberings(self) -> Sequence[Renumbering]:
        """The renumberings under way, without their tokens."""
        return self._answers.read(codec.RENUMBERINGS, self._get("/v1/renumberings"))

    # -- questions -------------------------------------------------------------------------------------

    def get(self, name: str) -> Allocation:
        """The allocation of that name.

        Raises:
            NotFound: There is none.
        """
        found = self._answers.read(codec.ALLOCATION, self._get(f"/v1/allocations/{_segment(name)}"))
        self._answers.check([found], name=name)
        return found

    def network_settings(self, name: str) -> NetworkSettings:
        """What the machine of that name needs to know of its network: mask, gateway, DNS servers and the rest.

        Raises:
            NotFound: There is no such allocation.
        """
        found = self._answers.read(
            codec.NETWORK_SETTINGS, self._get(f"/v1/network-settings/{_segment(name)}")
        )
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
            page = self._answers.read(codec.FREE, self._get(f"/v1/pools/{_segment(pool)}/free", params))
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
            page = self._answers.read(codec.MAP, self._get(f"/v1/pools/{_segment(pool)}/map", params))
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
            codec.BLOCKS, self._get(f"/v1/pools/{_segment(pool)}/blocks", {"most": most})
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

    def wait_bound(
        self, *names: str, generation: int | None = None, any_of: bool = False, timeout_s: float | None = None
    ) -> Sequence[str]:
        """Waits until names are bound: allocated, and confirmed by every DHCP server.

        Args:
            names: The names.
            generation: Of the allocation that is meant; for one name only.
            any_of: Whether one of the names is enough.
            timeout_s: How long to wait, in seconds; as long as the client's by default.

        Returns:
            The names that are bound.

        Raises:
            NotYet: They are not bound in time.
            NotFound: The allocation of this generation is gone.
        """
        return self._wait("bound", names, generation, any_of, timeout_s)

    def wait_free(
        self, *names: str, generation: int | None = None, any_of: bool = False, timeout_s: float | None = None
    ) -> Sequence[str]:
        """Waits until names are free: released, and gone from every DHCP server.

        With a generation it waits for the end of that allocation, whoever has the name after it.

        Args:
            names: The names.
            generation: Of the allocation that is meant; for one name only.
            any_of: Whether one of the names is enough.
            timeout_s: How long to wait, in seconds; as long as the client's by default.

        Returns:
            The names that are free.

        Raises:
            NotYet: They are not free in time.
        """
        return self._wait("free", names, generation, any_of, timeout_s)

    def _wait(
        self,
        until: str,
        names: Sequence[str],
        generation: int | None,
        any_of: bool,
        timeout_s: float | None,
    ) -> Sequence[str]:
        params: dict[str, Any] = {"names": ",".join(names), "until": until, "any": any_of}
        if generation is not None:
            params["generation"] = generation
        ends_at = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while True:
            left_s = max(ends_at - time.monotonic(), _SHORTEST_WAIT_S)
            params["timeout_s"] = min(left_s, self.timeout_s)
            try:
                return self._answers.read(codec.NAMES, self._get("/v1/wait", params))
            except NotYet:
                if time.monotonic() >= ends_at:
                    raise

    def metrics(self) -> str:
        """The service in numbers, as Prometheus reads them."""
        return self._transport.text("/metrics")

    def events(
        self,
        after: int | None = None,
        *,
        pool: str | None = None,
        name: str | None = None,
        group: str | None = None,
        labels: Wanted = NO_LABELS,
        wait: bool = True,
        give_up_s: float | None = None,
    ) -> Iterator[Event]:
        """What changes, as it changes; with the ``id`` of the last change it goes on where it was broken off.

        It has a connection of its own, and opens another one when that breaks. Nothing is missed: what is no longer
        in the audit log is a :class:`~macbind.core.event.Gap`.

        Args:
            after: Only what came after the change of this number, 0 for all; None for what comes from now on.
            pool: Only changes of this pool.
            name: Only changes of this name.
            group: Only changes of this group.
            labels: Only changes of allocations that had all of these labels; None stands for any value.
            wait: Whether to wait for more; else it ends when all that is there was given.
            give_up_s: How long the service may be out of reach; None for ever.

        Raises:
            InvalidRequest: There is no change of that number yet.
            PeerError: The service was out of reach for too long.
        """
        given = {"pool": pool, "name": name, "group": group}
        params: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        params |= {"label": written(labels), "follow": wait}
        return follow(self.socket, self._answers, params, after, give_up_s)

    # -- plumbing --------------------------------------------------------------------------------------

    def _get(self, path: str, params: dict[str, Any] | None = None) -> Any:
        return self._transport.call("GET", path, params=params)

    def _post(self, path: str, body: dict[str, Any], *, may_repeat: bool = True) -> Any:
        filled = self._completed(body)
        return self._transport.call("POST", path, body=filled, may_repeat=may_repeat, headers=self._headers)

    def _completed(self, given: dict[str, Any]) -> dict[str, Any]:
        """What a change is given, without what is left out, and with what this client gives to all."""
        mine = {"reason": self.reason, "timeout_s": self.timeout_s}
        every = mine | {key: value for key, value in given.items() if value is not None}
        return {key: value for key, value in every.items() if value is not None and value != {}}


def _client(
    kind: type[Client], socket: Path, timeout_s: float, reason: str | None, request_id: str | None
) -> Client:
    return kind(socket, timeout_s=timeout_s, reason=reason, request_id=request_id)


def _rehearsal(dry_run: bool) -> dict[str, Any]:
    """What a request says of a dry run; nothing where it is none, so that an older service takes it, too."""
    return {"dry_run": True} if dry_run else {}


def _segment(name: str) -> str:
    """A name as one segment of a path, slashes included.

    Raises:
        InvalidRequest: It is no Unicode text.
    """
    try:
        return quote(name, safe="")
    except UnicodeError:
        raise InvalidRequest(
            f"{name!r} cannot be a name.", hint="Use letters and digits; it is no Unicode text."
        ) from None
