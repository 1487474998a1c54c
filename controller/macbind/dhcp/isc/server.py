"""One ISC dhcpd behind the port: looks at its hosts over OMAPI, and brings them to what they should be.

A batch of changes is carried out in rounds; each round is one run of OMAPI windows over the whole batch. A fresh
binding costs one message. Only what dhcpd refuses costs a look, after which
:func:`macbind.core.binding_plan.decide` names the next step. Whatever was deleted is looked up again, so dhcpd
itself says that it is gone. The leases of removed bindings are ended last (:mod:`macbind.dhcp.isc.leases`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from typing_extensions import override

from macbind.core.address_plan import AddressPlan
from macbind.core.binding import Binding
from macbind.core.binding_plan import Change, Ensure, Remove, Step, decide
from macbind.core.errors import MacbindError, RequestError
from macbind.core.evidence import Evidence, Source
from macbind.core.mac_address import MacAddress
from macbind.dhcp.isc import syntax
from macbind.dhcp.isc.audit import audit
from macbind.dhcp.isc.conf_file import Conf
from macbind.dhcp.isc.conf_look import look_at_conf
from macbind.dhcp.isc.connection import OmapiClient
from macbind.dhcp.isc.health import IscHealth
from macbind.dhcp.isc.lease_file import LeaseFile
from macbind.dhcp.isc.lease_look import PACE_S, leases_of, read_lease_file
from macbind.dhcp.isc.leases import end_leases
from macbind.dhcp.isc.memory import Memory
from macbind.dhcp.isc.messages import (
    Reply,
    Request,
    ResultCode,
    create_host,
    delete,
    find_host,
    find_host_by_name,
    has_lease,
    host_in,
)
from macbind.dhcp.isc.work import Work
from macbind.dhcp.port import Audit, DhcpServer, HealthWatch

CONNECT, LOOK, CREATE, DELETE, LEASES = OPERATIONS = ("connect", "look", "create", "delete", "leases")
"""What is done with dhcpd at a time."""
Measure = Callable[[str, float], object]
_MAX_ROUNDS = 3
"""A change needs one round, two when it meets a leftover; more means somebody else changes the same host."""


@dataclass
class IscDhcpd(DhcpServer):
    """An ISC dhcpd reached over OMAPI.

    Attributes:
        name: Its name in the configuration.
        open_client: Opens a connection.
        leases_file: Its lease file; None where macbind may not look.
        find_conf: Reads the configuration it runs with; None where macbind cannot tell which. Its argument is called
            every now and then.
        open_health: Begins to watch it, given what tells the port of our own end of the connection.
        measure: Called with the operation, one of :data:`OPERATIONS`, and the seconds of each exchange.
    """

    name: str
    open_client: Callable[[], OmapiClient]
    leases_file: Path | None = None
    find_conf: Callable[[Callable[[], object]], Conf | None] = lambda _: None
    open_health: Callable[[Callable[[], int | None]], HealthWatch] = IscHealth
    measure: Measure = lambda *_: None
    _client: OmapiClient | None = field(default=None, init=False, repr=False)
    _seen: Memory = field(default_factory=Memory, init=False, repr=False)

    @override
    def connect(self) -> None:
        self.close()
        began = time.monotonic()
        try:
            self._client = self.open_client()
        finally:
            self.measure(CONNECT, time.monotonic() - began)

    @override
    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    @override
    def fileno(self) -> int:
        return self._open().fileno()

    @override
    def observe(self, macs: Sequence[MacAddress]) -> list[Binding | None]:
        return [host_in(reply) for reply in self._exchange(LOOK, (find_host(mac) for mac in macs))]

    @override
    def apply(self, changes: Sequence[Change]) -> list[MacbindError | None]:
        works = [Work(self.name, change) for change in changes]
        self._create([work for work in works if isinstance(work.change, Ensure)])
        for _ in range(_MAX_ROUNDS):
            self._look_and_act([work for work in works if not work.done and work.has_host])
        for work in works:
            if not work.done and work.has_host:
                work.refuse("somebody else keeps changing its host")
        end_leases(
            partial(self._exchange, LEASES), [work for work in works if work.is_removed], self._leases_of
        )
        return [work.error for work in works]

    @override
    def audit(self, plans: Sequence[AddressPlan], pause: Callable[[float], object]) -> Audit | None:
        file = self._read_leases(plans, pause)
        conf = self.find_conf(lambda: pause(PACE_S))
        now = datetime.now(UTC)
        seen: Audit | None = None
        if file is not None:
            seen = self._seen.after(audit(self.name, file, plans, now, lambda: pause(PACE_S)), now)
        elif self.leases_file is not None:
            seen = self._seen.after_a_look_that_failed()
        if conf is None:
            return seen
        masked = frozenset[str]() if file is None else file.tombstones
        look = look_at_conf(self.name, conf, plans, masked, now, lambda: pause(PACE_S))
        return self._seen.with_conf(seen, look)

    @override
    def still_has(self, plans: Sequence[AddressPlan], gone: Sequence[Evidence]) -> list[bool]:
        replies = self._exchange(
            LOOK,
            (
                has_lease(one.address)
                if one.source is Source.RANGE
                else find_host_by_name(one.holder.encode("ascii", "replace").decode())
                for one in gone
            ),
        )
        return [
            reply.result == ResultCode.EXISTS
            if one.source is Source.RANGE
            else not reply.result and _gives(reply, one, plans)
            for one, reply in zip(gone, replies, strict=True)
        ]

    @override
    def forget(self, names: Sequence[str]) -> int:
        found = self._exchange(LOOK, (find_host_by_name(name) for name in names))
        maimed = [reply.handle for reply in found if not reply.result and not _has_mac(reply)]
        return len(self._exchange(DELETE, map(delete, maimed)))

    @override
    def health(self) -> HealthWatch:
        return self.open_health(self._local_port)

    # -- hosts -----------------------------------------------------------------------------------------

    def _create(self, works: list[Work]) -> None:
        """Adds hosts; those that meet an existing name or MAC stay undone for a closer look."""
        requests: list[Request] = []
        able: list[Work] = []
        for work in works:
            assert isinstance(work.change, Ensure)
            try:
                requests.append(create_host(work.change.binding, syntax.of_host(work.change.binding.options)))
                able.append(work)
            except RequestError as error:
                work.finish(error)
        not_on_disk: list[Work] = []
        for work, reply in zip(able, self._exchange(CREATE, requests), strict=True):
            match reply.result:
                case ResultCode.SUCCESS:
                    work.finish()
                case ResultCode.EXISTS | ResultCode.KEY_CONFLICT:
                    pass
                case ResultCode.IO_ERROR:
                    not_on_disk.append(work)
                case _:
                    work.refuse("", reply.result)
        self._withdraw(not_on_disk)

    def _withdraw(self, works: list[Work]) -> None:
        """Deletes hosts that dhcpd serves but could not write to its lease file."""
        found = self._exchange(LOOK, (find_host(work.change.mac) for work in works))
        self._exchange(DELETE, (delete(reply.handle) for reply in found if not reply.result))
        for work in works:
            work.refuse(
                "",
                ResultCode.IO_ERROR,
                hint="dhcpd cannot write its lease file: check the space and permissions of its directory.",
            )

    def _look_and_act(self, works: list[Work]) -> None:
        """Looks every MAC up and takes the next step; works stay undone until a look finds nothing to do."""
        if not works:
            return
        creates: list[Work] = []
        deletes: list[tuple[Work, int]] = []
        looks = self._exchange(LOOK, (find_host(work.change.mac) for work in works))
        for work, reply in zip(works, looks, strict=True):
            observed = host_in(reply)
            match decide(work.change, observed):
                case Step.NOTHING:
                    work.finish()
                case Step.CREATE:
                    creates.append(work)
                case Step.DELETE:
                    deletes.append((work, reply.handle))
                    if isinstance(work.change, Ensure):
                        creates.append(work)
                case Step.SUPERSEDED | Step.FOREIGN if isinstance(work.change, Remove):
                    work.leave_alone()
                case Step.SUPERSEDED | Step.FOREIGN:
                    assert observed is not None
                    work.refuse(f"its MAC belongs to the host '{observed.name}'", holder=observed.name)
        # Handles are used at once: they are only good until dhcpd restarts, and a stale one is refused.
        replies = self._exchange(DELETE, (delete(handle) for _, handle in deletes))
        for (work, _), reply in zip(deletes, replies, strict=True):
            if reply.result not in (ResultCode.SUCCESS, ResultCode.NOT_FOUND):
                work.refuse("its old host cannot be deleted", reply.result)
        creates = [work for work in creates if not work.done]
        self._free_names(creates)
        self._create(creates)

    def _free_names(self, works: list[Work]) -> None:
        """Deletes hosts that have the very name we are about to create, under another MAC.

        This is only reached after dhcpd refused to create the host. A name that we make belongs to one address
        and generation. So such a host is a remnant of ours, for example of a torn record in the lease file.
        """
        wanted = [work.change.binding for work in works if isinstance(work.change, Ensure)]
        found = self._exchange(LOOK, (find_host_by_name(binding.name) for binding in wanted))
        self._exchange(DELETE, (delete(reply.handle) for reply in found if not reply.result))

    # -- plumbing --------------------------------------------------------------------------------------

    def _read_leases(
        self, plans: Sequence[AddressPlan], pause: Callable[[float], object]
    ) -> LeaseFile | None:
        """The lease file; None where it cannot be read now, of which the monitor tells why, as long as it lasts."""
        if self.leases_file is None:
            return None
        try:
            return read_lease_file(self.leases_file, lambda ip: any(ip in plan for plan in plans), pause)
        except OSError:
            return None

    def _leases_of(self, macs: Collection[MacAddress]) -> list[tuple[MacAddress, IPv4Address]]:
        """The addresses that these MACs have or had a lease of; none where the lease file cannot be read."""
        if self.leases_file is None:
            return []
        try:
            return list(leases_of(self.leases_file, macs))
        except OSError:
            return []

    def _open(self) -> OmapiClient:
        if self._client is None:
            self.connect()
        assert self._client is not None
        return self._client

    def _local_port(self) -> int | None:
        """Our end of the connection; None while there is none. Safe to ask from any thread."""
        client = self._client
        try:
            return None if client is None else client.local_port
        except OSError:  # closed meanwhile
            return None

    def _exchange(self, operation: str, requests: Iterable[Request]) -> list[Reply]:
        batch = list(requests)
        if not batch:
            return []
        client = self._open()
        began = time.monotonic()
        try:
            return client.exchange(batch)
        finally:
            self.measure(operation, time.monotonic() - began)


def _gives(reply: Reply, host: Evidence, plans: Sequence[AddressPlan]) -> bool:
    """Whether a host that dhcpd described has an address, or the MAC of it."""
    fixed = reply.values.get(b"ip-address", b"")
    if any(fixed[at : at + 4] == host.address.packed for at in range(0, len(fixed), 4)):
        return True
    mac = reply.values.get(b"hardware-address", b"")
    return any(mac == bytes(plan.scheme.encode(host.address)) for plan in plans if host.address in plan)


def _has_mac(reply: Reply) -> bool:
    return len(reply.values.get(b"hardware-address", b"")) == 6
