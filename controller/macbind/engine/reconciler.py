"""Compares one DHCP server with the registry, and says in one sentence what came of it.

A comparison runs after every connection, after the registry was out of reach, and every ``resync_s`` seconds. It
goes through the addresses in slices. So its memory does not grow with the population, and changes that become due
meanwhile do not wait for its end. :func:`macbind.core.binding_plan.plan` decides about each slice. What is missing
is marked in the registry, so that the writer mends it even if we end here. Leftovers are removed at once.

Before that the registry takes what the server shows of others: their hosts, ranges and leases.

A slice is a range of addresses. It begins and ends at the same address for what should be and for what is on disk.
So no binding on disk is ever judged without the allocations of its address, whatever the sizes.

The server's disk is read before the registry: what it still has and the registry no longer has is a leftover,
whatever happened between the two looks. Nothing rests on that alone. Before anything is removed, the registry is
asked about its address, and what is allocated by then stays. That same transaction marks the address: it is looked
at again after the removal, and until then nothing counts as confirmed.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from macbind.core.address_plan import AddressPlan
from macbind.core.binding import Binding, owner_of
from macbind.core.binding_plan import Ensure, Observed, Remove, plan
from macbind.core.errors import MacbindError
from macbind.core.evidence import Evidence, Source
from macbind.core.findings import Finding
from macbind.dhcp.port import Audit, DhcpServer
from macbind.engine.evidence_intake import EvidenceIntake
from macbind.engine.own_bindings import set_apart
from macbind.registry.pending_changes import desired, desired_at, doubt
from macbind.registry.store import Registry


@dataclass(frozen=True, slots=True)
class Cycle:
    """One comparison.

    Attributes:
        dhcpd: The server's name in the configuration.
        bindings: How many it should hold.
        mended: How many of them were missing or different, and are made anew.
        cleared: How many leftovers of ours were removed.
        foreign: How many bindings of others it has on disk; they were left alone.
        looked: Whether macbind could look at its disk.
        seconds: How long it took.
        findings: What an admin should look at.
    """

    dhcpd: str
    bindings: int
    mended: int
    cleared: int
    foreign: int
    looked: bool
    seconds: float
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        found = [f"all {self.bindings} bindings are there"]
        if self.mended:
            found = [f"{self.mended} of {self.bindings} bindings were missing or different and are made anew"]
        if self.cleared:
            found.append(f"{_count(self.cleared, 'leftover')} removed")
        if self.foreign:
            found.append(f"{_count(self.foreign, 'foreign binding')} left alone")
        if not self.looked:
            found.append("leftovers were not looked for without its files")
        return f"dhcpd '{self.dhcpd}': {', '.join(found)}."


class Reconciler:
    """Brings a DHCP server and the registry together.

    Args:
        dhcpd: The server; connected.
        registry: The registry.
    """

    def __init__(self, dhcpd: DhcpServer, registry: Registry) -> None:
        self._dhcpd, self._registry, self._sizes = dhcpd, registry, registry.sizes
        self._intake = EvidenceIntake(dhcpd.name, registry, self._still_has)

    def cycle(self, between: Callable[[], bool], pause: Callable[[float], object]) -> Cycle | None:
        """Compares everything once.

        Args:
            between: Called before every slice; True goes on. May raise, which ends the comparison.
            pause: Waits so many seconds, less if there is a reason.

        Returns:
            What came of it; None if ``between`` ended it.

        Raises:
            PeerError: The server or the registry went away; nothing is lost by it.
        """
        started, name = time.monotonic(), self._dhcpd.name
        plans = self._plans()
        audit = self._dhcpd.audit(plans, pause)
        found = Audit() if audit is None else set_apart(audit, name, plans, self._registry)
        if not self._intake.take(found, between):
            return None
        on_disk, maimed = _Slices(found.ours), found.maimed
        cleared = bindings = mended = 0
        refused: list[MacbindError] = []
        after: int | None = -1
        while after is not None:
            if not between():
                return None
            if maimed:
                cleared, maimed = self._forget(maimed), []
            with self._registry.read() as view:
                wanted = desired(view, name, after=after, limit=self._sizes.slice)
            held, after = on_disk.take(int(wanted[-1].address) if wanted else None, self._sizes.slice)
            if after is not None:
                wanted = [one for one in wanted if int(one.address) <= after]
            todo = plan(wanted, self._observe(wanted, held))
            self._doubt([one.address for one in todo.mend])
            outcomes = self._clear(todo.clear)
            bindings, mended = bindings + len(wanted), mended + len(todo.mend)
            cleared += outcomes.count(None)
            refused += [error for error in outcomes if error is not None]
        leftovers = [Finding("leftover", error.message, error.hint, name) for error in refused[:1]]
        return Cycle(
            name,
            bindings,
            mended,
            cleared,
            found.foreign,
            Source.LEASE in found.looked,
            time.monotonic() - started,
            (*leftovers, *found.findings),
        )

    def _observe(self, desired: Sequence[Ensure], on_disk: Sequence[Binding]) -> Observed:
        macs = list(dict.fromkeys([one.mac for one in desired] + [one.mac for one in on_disk]))
        return Observed(dict(zip(macs, self._dhcpd.observe(macs), strict=True)), on_disk)

    def _doubt(self, addresses: Sequence[IPv4Address]) -> None:
        if addresses:
            with self._registry.write("writer") as txn:
                doubt(txn, self._dhcpd.name, addresses)

    def _clear(self, removals: Sequence[Remove]) -> list[MacbindError | None]:
        """Removes what is a leftover at this moment; says of each None, or why the server does not give it up."""
        outcomes: list[MacbindError | None] = []
        for start in range(0, len(removals), self._sizes.batch):
            batch = removals[start : start + self._sizes.batch]
            with self._registry.write("writer") as txn:
                desired = desired_at(txn, self._dhcpd.name, [one.address for one in batch])
                held = {(one.address, one.mac) for one in desired}
                batch = [one for one in batch if (one.address, one.mac) not in held]
                doubt(txn, self._dhcpd.name, [one.address for one in batch])
            outcomes += self._dhcpd.apply(batch)
        return outcomes

    def _forget(self, maimed: Sequence[str]) -> int:
        """Removes bindings without a MAC: they serve nobody, and are in the way of the binding of their name."""
        self._doubt([owner[0] for name in maimed if (owner := owner_of(name)) is not None])
        return self._dhcpd.forget(maimed)

    def _still_has(self, gone: Sequence[Evidence]) -> list[bool]:
        return self._dhcpd.still_has(self._plans(), gone)

    def _plans(self) -> list[AddressPlan]:
        name = self._dhcpd.name
        return [pool.plan for pool in self._registry.pools.values() if name in pool.dhcpds]


class _Slices:
    """Bindings, taken in the order of their addresses."""

    def __init__(self, bindings: Iterable[tuple[IPv4Address, Binding]]) -> None:
        pairs = sorted(((int(address), one) for address, one in bindings), key=lambda pair: pair[0])
        self._keys = [key for key, _ in pairs]
        self._bindings = [one for _, one in pairs]
        self._taken = 0

    def take(self, last: int | None, most: int) -> tuple[list[Binding], int | None]:
        """Those that were not taken before, from the lowest address on.

        Args:
            last: Only up to this address; None for all that are left.
            most: Only so many, but never a part only of those of one address.

        Returns:
            The bindings, and the address up to which these are all; None where that is the last one there is.
        """
        start, end = self._taken, len(self._keys) if last is None else bisect_right(self._keys, last)
        if end - start > most:
            last = self._keys[start + most - 1]
            end = bisect_right(self._keys, last)
        self._taken = end
        return self._bindings[start:end], last


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
