"""Compares one dhcpd with the registry, and says in one sentence what came of it.

Run after every connection, after the registry was out of reach, and every ``resync_s`` seconds. The comparison goes
through the addresses in slices, so that its memory does not grow with the population and changes that become due
meanwhile do not wait for its end. :func:`macbind.plan.plan` decides about each slice; what is missing is marked
in the registry, so that it is mended even if we end here, and leftovers are removed at once.

The lease file is read before the registry: what it still has and the registry no longer has is a leftover,
whatever happened between the two looks.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address

from macbind.addressing import AddressPlan
from macbind.dhcpd.inspection import divide, inspect
from macbind.dhcpd.leases import LeaseFile
from macbind.dhcpd.server import DhcpServer
from macbind.errors import MacbindError
from macbind.model import Finding, HostReservation
from macbind.plan import Ensure, Observed, Remove, plan
from macbind.registry.store import Registry

SLICE = 500
"""Reservations compared between two looks at what became due meanwhile."""
TORN_WAIT_S = 0.05
TORN_LOOKS = 3
"""dhcpd may be writing its lease file while we read it: only what stays torn over so many looks is damage."""


@dataclass(frozen=True, slots=True)
class Cycle:
    """One comparison.

    Attributes:
        dhcpd: Which dhcpd.
        reservations: How many it should hold.
        mended: How many of them were missing or different, and are made anew.
        cleared: How many leftovers of ours were removed.
        foreign: How many hosts of others its lease file has; they were left alone.
        looked: Whether the lease file could be read.
        seconds: How long it took.
        findings: What an admin should look at.
    """

    dhcpd: str
    reservations: int
    mended: int
    cleared: int
    foreign: int
    looked: bool
    seconds: float
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        found = [f"all {self.reservations} reservations are there"]
        if self.mended:
            found = [
                f"{self.mended} of {self.reservations} reservations were missing or different and are made anew"
            ]
        if self.cleared:
            found.append(f"{_count(self.cleared, 'leftover')} removed")
        if self.foreign:
            found.append(f"{_count(self.foreign, 'foreign host')} left alone")
        if not self.looked:
            found.append("leftovers were not looked for without its lease file")
        return f"dhcpd '{self.dhcpd}': {', '.join(found)}."


class Reconciler:
    """Brings a dhcpd and the registry together.

    Args:
        dhcpd: The dhcpd; connected.
        registry: The registry.
        batch: Leftovers removed at a time.
    """

    def __init__(self, dhcpd: DhcpServer, registry: Registry, *, batch: int) -> None:
        self._dhcpd, self._registry, self._batch = dhcpd, registry, batch

    def cycle(self, between: Callable[[], bool], pause: Callable[[float], object]) -> Cycle | None:
        """Compares everything once.

        Args:
            between: Called before every slice; True goes on. May raise, which ends the comparison.
            pause: Waits so many seconds, less if there is a reason.

        Returns:
            What came of it; None if ``between`` ended it.

        Raises:
            PeerError: dhcpd or the registry went away; nothing is lost by it.
        """
        started, name = time.monotonic(), self._dhcpd.name
        file = self._read_lease_file(pause)
        ours, maimed, others = ([], [], []) if file is None else divide(file)
        on_disk = _Slices(ours)
        # No MAC leads to what is maimed, and it is in the way of its own reservation.
        cleared = self._dhcpd.forget(maimed) if maimed else 0
        reservations = mended = 0
        findings: list[Finding] = []
        after: int | None = -1
        while after is not None:
            if not between():
                return None
            with self._registry.read() as view:
                desired = view.desired(name, after=after, limit=SLICE)
            after = int(desired[-1].address) if desired else None
            leftovers = on_disk.take(after)
            while True:  # the last slice may have any number of them
                found = plan(desired, self._observe(desired, leftovers[:SLICE]))
                self._doubt([one.address for one in found.mend])
                findings += self._clear(found.clear)
                reservations, mended = reservations + len(desired), mended + len(found.mend)
                cleared += len(found.clear)
                desired, leftovers = [], leftovers[SLICE:]
                if not leftovers:
                    break
                if not between():
                    return None
        if file is not None:
            findings += inspect(name, file, others, self._plans(), datetime.now(UTC))
        return Cycle(
            name,
            reservations,
            mended,
            cleared,
            len(others),
            file is not None,
            time.monotonic() - started,
            tuple(findings),
        )

    def _read_lease_file(self, pause: Callable[[float], object]) -> LeaseFile | None:
        file = self._dhcpd.lease_file()
        for _ in range(TORN_LOOKS - 1):
            if file is None or file.complete:
                break
            pause(TORN_WAIT_S)
            file = self._dhcpd.lease_file()
        return file

    def _observe(self, desired: Sequence[Ensure], on_disk: Sequence[HostReservation]) -> Observed:
        macs = list(dict.fromkeys([one.mac for one in desired] + [host.mac for host in on_disk]))
        return Observed(dict(zip(macs, self._dhcpd.observe(macs), strict=True)), on_disk)

    def _doubt(self, addresses: Sequence[IPv4Address]) -> None:
        if addresses:
            with self._registry.write("writer") as txn:
                txn.doubt(self._dhcpd.name, addresses)

    def _clear(self, removals: Sequence[Remove]) -> list[Finding]:
        """Removes leftovers; what dhcpd refuses to give up is a finding."""
        errors: list[MacbindError] = []
        for start in range(0, len(removals), self._batch):
            outcomes = self._dhcpd.apply(removals[start : start + self._batch])
            errors += [error for error in outcomes if error is not None]
        return [Finding("leftover", error.message, error.hint) for error in errors[:1]]

    def _plans(self) -> list[AddressPlan]:
        name = self._dhcpd.name
        return [pool.plan for pool in self._registry.pools.values() if name in pool.dhcpds]


class _Slices:
    """Host reservations, taken in the order of their addresses."""

    def __init__(self, hosts: Iterable[tuple[IPv4Address, HostReservation]]) -> None:
        pairs = sorted(((int(address), host) for address, host in hosts), key=lambda pair: pair[0])
        self._keys = [key for key, _ in pairs]
        self._hosts = [host for _, host in pairs]
        self._taken = 0

    def take(self, last: int | None) -> list[HostReservation]:
        """Those up to the address ``last``, or all that are left, which were not taken before."""
        end = len(self._keys) if last is None else bisect_right(self._keys, last)
        start, self._taken = self._taken, end
        return self._hosts[start:end]


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
