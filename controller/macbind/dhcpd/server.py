"""One dhcpd as the rest of macbind sees it: look at hosts, bring them to what they should be.

Carries out the decisions of :mod:`macbind.plan` in rounds, each round one run of OMAPI windows over the whole
batch. A fresh reservation costs one message; everything unusual costs a look first. Whatever was deleted is
looked up again, so "gone" is dhcpd's own word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Protocol

from typing_extensions import override

from macbind.addressing import MacAddress
from macbind.dhcpd.client import OmapiClient
from macbind.dhcpd.leases import LeaseFile
from macbind.dhcpd.omapi import (
    Reply,
    Request,
    ResultCode,
    create_host,
    delete,
    end_lease,
    find_host,
    find_host_by_name,
    find_lease,
    has_lease,
    host_in,
    lease_in,
)
from macbind.errors import DhcpdRefused, MacbindError, RequestError
from macbind.model import HostReservation, Lease
from macbind.plan import Change, Ensure, Remove, Step, decide

_OCCUPIED = frozenset({"active", "expired", "released", "abandoned"})
"""Lease states that keep the next machine from getting the address until the lease's end."""

_MAX_ROUNDS = 3
"""A change needs one round, two when it meets a leftover; more means somebody else changes the same host."""


class DhcpServer(Protocol):
    """What the writer needs of a dhcpd. Every method may raise DhcpdUnavailable or DhcpdRefused."""

    name: str

    def connect(self) -> None:
        """(Re)connects; nothing known from an earlier connection is valid any more."""

    def close(self) -> None:
        """Drops the connection, if there is one."""

    def fileno(self) -> int:
        """A descriptor that becomes readable while idle only when dhcpd has gone."""

    def observe(self, macs: Sequence[MacAddress]) -> list[HostReservation | None]:
        """dhcpd's host reservation for each MAC."""

    def apply(self, changes: Sequence[Change]) -> list[MacbindError | None]:
        """Carries out each change; None where dhcpd confirmed it, else why it refused."""

    def forget(self, names: Sequence[str]) -> int:
        """Deletes the hosts of these names that have no MAC, so that they cannot be found by it; returns how many."""

    def lease_file(self) -> LeaseFile | None:
        """What dhcpd has on disk, or None where macbind may not look."""


@dataclass
class _Work:
    """One change on its way: the observed host, the handle to use next, the outcome."""

    change: Change
    done: bool = False
    error: MacbindError | None = None
    is_foreign: bool = False

    @property
    def has_host(self) -> bool:
        return isinstance(self.change, Ensure) or self.change.has_host

    def finish(self, error: MacbindError | None = None) -> None:
        self.done, self.error = True, error

    def leave_alone(self) -> None:
        """There is nothing of ours left to remove: the MAC, and any lease of it, belong to somebody else."""
        self.done = self.is_foreign = True


@dataclass
class IscDhcpd(DhcpServer):
    """An ISC dhcpd reached over OMAPI.

    Attributes:
        name: Its name in the configuration.
        open_client: Opens a connection.
        read_lease_file: Reads its lease file; None where macbind may not look.
    """

    name: str
    open_client: Callable[[], OmapiClient]
    read_lease_file: Callable[[], LeaseFile | None] = lambda: None
    _client: OmapiClient | None = field(default=None, init=False, repr=False)

    @override
    def connect(self) -> None:
        self.close()
        self._client = self.open_client()

    @override
    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    @override
    def fileno(self) -> int:
        return self._open().fileno()

    @property
    def local_port(self) -> int | None:
        """Our end of the connection; None while there is none. Safe to ask from any thread."""
        client = self._client
        try:
            return None if client is None else client.local_port
        except OSError:  # closed meanwhile
            return None

    @override
    def lease_file(self) -> LeaseFile | None:
        return self.read_lease_file()

    @override
    def observe(self, macs: Sequence[MacAddress]) -> list[HostReservation | None]:
        return [host_in(reply) for reply in self._exchange(find_host(mac) for mac in macs)]

    @override
    def apply(self, changes: Sequence[Change]) -> list[MacbindError | None]:
        works = [_Work(change) for change in changes]
        self._create([work for work in works if isinstance(work.change, Ensure)])
        for _ in range(_MAX_ROUNDS):
            self._look_and_act([work for work in works if not work.done and work.has_host])
        for work in works:
            if not work.done and work.has_host:
                work.finish(self._refusal(work.change, "somebody else keeps changing its host reservation"))
        removed = [
            work
            for work in works
            if isinstance(work.change, Remove) and not work.error and not work.is_foreign
        ]
        self._end_leases(removed)
        return [work.error for work in works]

    @override
    def forget(self, names: Sequence[str]) -> int:
        found = self._exchange(find_host_by_name(name) for name in names)
        maimed = [reply.handle for reply in found if not reply.result and not _has_mac(reply)]
        return len(self._exchange(map(delete, maimed)))

    # -- host reservations -----------------------------------------------------------------------------

    def _create(self, works: list[_Work]) -> None:
        """Adds reservations; those that meet an existing name or MAC stay undone for a closer look."""
        requests: list[Request] = []
        able: list[_Work] = []
        for work in works:
            assert isinstance(work.change, Ensure)
            try:
                requests.append(create_host(work.change.reservation))
                able.append(work)
            except RequestError as error:
                work.finish(error)
        not_on_disk: list[_Work] = []
        for work, reply in zip(able, self._exchange(requests), strict=True):
            match reply.result:
                case ResultCode.SUCCESS:
                    work.finish()
                case ResultCode.EXISTS | ResultCode.KEY_CONFLICT:
                    pass
                case ResultCode.IO_ERROR:
                    not_on_disk.append(work)
                case _:
                    work.finish(self._refusal(work.change, ResultCode.describe(reply.result), reply.result))
        self._withdraw(not_on_disk)

    def _withdraw(self, works: list[_Work]) -> None:
        """Takes back reservations that dhcpd serves but could not write to its lease file."""
        found = self._exchange(find_host(work.change.mac) for work in works)
        self._exchange(delete(reply.handle) for reply in found if not reply.result)
        for work in works:
            error = self._refusal(
                work.change, ResultCode.describe(ResultCode.IO_ERROR), int(ResultCode.IO_ERROR)
            )
            error.hint = (
                "dhcpd cannot write its lease file: check the space and permissions of its directory."
            )
            work.finish(error)

    def _look_and_act(self, works: list[_Work]) -> None:
        """Looks every MAC up and takes the next step; works stay undone until a look finds nothing to do."""
        if not works:
            return
        creates: list[_Work] = []
        deletes: list[tuple[_Work, int]] = []
        looks = self._exchange(find_host(work.change.mac) for work in works)
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
                    why = f"its MAC belongs to the host reservation '{observed.name}'"
                    work.finish(self._refusal(work.change, why))
        # Handles are used at once: they are only good until dhcpd restarts, and a stale one is refused.
        replies = self._exchange(delete(handle) for _, handle in deletes)
        for (work, _), reply in zip(deletes, replies, strict=True):
            if reply.result not in (ResultCode.SUCCESS, ResultCode.NOT_FOUND):
                why = f"its old host reservation cannot be deleted: {ResultCode.describe(reply.result)}"
                work.finish(self._refusal(work.change, why, reply.result))
        creates = [work for work in creates if not work.done]
        self._free_names(creates)
        self._create(creates)

    def _free_names(self, works: list[_Work]) -> None:
        """Deletes hosts that have the very name we are about to create, under another MAC.

        Only reached after a create was refused. A name we make belongs to one address and generation, so
        such a host is a remnant of ours, e.g. of a torn lease-file record.
        """
        wanted = [work.change.reservation for work in works if isinstance(work.change, Ensure)]
        found = self._exchange(find_host_by_name(host.name) for host in wanted)
        self._exchange(delete(reply.handle) for reply in found if not reply.result)

    # -- leases ----------------------------------------------------------------------------------------

    def _end_leases(self, works: list[_Work]) -> None:
        """Ends every lease of the released addresses and MACs; usually there is none."""
        asked = self._exchange(
            has_lease(key) for work in works for key in (work.change.address, work.change.mac)
        )
        by_address, by_mac = asked[::2], asked[1::2]
        found: list[tuple[_Work, IPv4Address | MacAddress]] = []
        several: list[_Work] = []
        for work, of_address, of_mac in zip(works, by_address, by_mac, strict=True):
            work.finish()
            for key, reply in ((work.change.address, of_address), (work.change.mac, of_mac)):
                match reply.result:
                    case ResultCode.EXISTS:
                        found.append((work, key))
                    case ResultCode.SEVERAL_MATCH:
                        several.append(work)
                    case ResultCode.NOT_IMPLEMENTED | ResultCode.NOT_FOUND:
                        pass
                    case _:
                        why = f"its leases cannot be looked up: {ResultCode.describe(reply.result)}"
                        work.finish(self._refusal(work.change, why, reply.result))
        found += self._leases_on_disk(several)
        looks = self._exchange(find_lease(key) for _, key in found)
        ends = [(work, look.handle) for (work, _), look in zip(found, looks, strict=True) if _occupied(look)]
        for (work, _), reply in zip(
            ends, self._exchange(end_lease(handle) for _, handle in ends), strict=True
        ):
            if reply.result:
                why = f"its lease cannot be ended: {ResultCode.describe(reply.result)}"
                work.finish(self._refusal(work.change, why, reply.result))

    def _leases_on_disk(self, works: list[_Work]) -> list[tuple[_Work, IPv4Address | MacAddress]]:
        """The addresses of clients with several leases, which OMAPI cannot list: the lease file names them."""
        on_disk = self.lease_file() if works else None
        if on_disk is not None:
            work_of = {work.change.mac: work for work in works}
            leases = on_disk.leases.values()
            return [(work_of[one.mac], one.address) for one in leases if one.mac in work_of]
        for work in works:
            error = self._refusal(work.change, "several leases name its MAC and OMAPI cannot list them")
            error.hint = f"Set leases_file of [dhcpd.{self.name}] so that macbind can find them."
            work.finish(error)
        return []

    # -- plumbing --------------------------------------------------------------------------------------

    def _open(self) -> OmapiClient:
        if self._client is None:
            self.connect()
        assert self._client is not None
        return self._client

    def _exchange(self, requests: Iterable[Request]) -> list[Reply]:
        batch = list(requests)
        return self._open().exchange(batch) if batch else []

    def _refusal(self, change: Change, why: str, result: int | None = None) -> DhcpdRefused:
        details = {} if result is None else {"result": result}
        return DhcpdRefused(
            f"dhcpd '{self.name}' did not accept {change.address} with {change.mac}: {why}.",
            hint="`macbind status` shows what else it reports.",
            dhcpd=self.name,
            address=str(change.address),
            **details,
        )


def _has_mac(reply: Reply) -> bool:
    return len(reply.values.get(b"hardware-address", b"")) == 6


def _occupied(reply: Reply) -> bool:
    lease: Lease | None = lease_in(reply)
    return lease is not None and lease.state in _OCCUPIED
