"""Comparisons under watch: a dhcpd in memory, or a real one, to which things happen at the worst moments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from typing_extensions import override

from contract.book import Book
from contract.dhcpd_site import pool_of
from contract.relay import Relay
from macbind.core.address_plan import AddressPlan
from macbind.core.allocation import Allocation
from macbind.core.binding import Binding, binding_name
from macbind.core.binding_plan import Change, Ensure, Remove, Step, decide
from macbind.core.errors import DhcpdRefused, MacbindError
from macbind.core.evidence import Evidence, Source
from macbind.core.mac_address import MacAddress
from macbind.core.sizes import Sizes
from macbind.dhcp.port import Audit, DhcpServer, HealthWatch
from macbind.engine.reconciler import Cycle, Reconciler
from macbind.registry.pending_changes import PendingChange
from macbind.registry.release import release

NAME = "main"
POOL = pool_of("10.1.0.0/20")
"""A generation no allocation of a test ever has."""


@dataclass
class Shelf(DhcpServer):
    """A dhcpd in memory: one host per MAC and per name, all of them on its disk, too.

    Attributes:
        hosts: Its hosts by MAC.
        maimed: Names of hosts that have no MAC; each is in the way of a host of its name.
        others: What others have there.
        looked: The sources that can be looked at.
        ended: Addresses whose lease is over.
        in_memory: Addresses that others have, whatever its files show.
    """

    name: str = NAME
    hosts: dict[MacAddress, Binding] = field(default_factory=dict)
    maimed: set[str] = field(default_factory=set)
    others: list[Evidence] = field(default_factory=list)
    looked: frozenset[Source] = frozenset({Source.HOST, Source.RANGE, Source.LEASE})
    ended: list[IPv4Address] = field(default_factory=list)
    in_memory: set[IPv4Address] = field(default_factory=set)
    _macs: dict[str, MacAddress] = field(default_factory=dict, init=False)

    @override
    def connect(self) -> None:
        """Nothing is to be done."""

    @override
    def close(self) -> None:
        """Nothing is to be done."""

    @override
    def fileno(self) -> int:
        raise NotImplementedError

    @override
    def observe(self, macs: Sequence[MacAddress]) -> list[Binding | None]:
        return [self.hosts.get(mac) for mac in macs]

    @override
    def audit(self, plans: Sequence[AddressPlan], pause: Callable[[float], object]) -> Audit:
        ours = [(host.owner[0], host) for host in self.hosts.values() if host.owner is not None]
        return Audit(ours, sorted(self.maimed), evidence=self.others, looked=self.looked, ended=self.ended)

    @override
    def still_has(self, plans: Sequence[AddressPlan], gone: Sequence[Evidence]) -> list[bool]:
        return [one.address in self.in_memory for one in gone]

    @override
    def health(self) -> HealthWatch:
        raise NotImplementedError

    @override
    def forget(self, names: Sequence[str]) -> int:
        gone = self.maimed & set(names)
        self.maimed -= gone
        return len(gone)

    @override
    def apply(self, changes: Sequence[Change]) -> list[MacbindError | None]:
        return [self._carry_out(change) for change in changes]

    def _carry_out(self, change: Change) -> MacbindError | None:
        while True:
            match decide(change, self.hosts.get(change.mac)):
                case Step.CREATE if isinstance(change, Ensure):
                    wanted = change.binding
                    self.maimed.discard(wanted.name)
                    if (before := self._macs.pop(wanted.name, None)) is not None:
                        del self.hosts[before]
                    self.hosts[change.mac], self._macs[wanted.name] = wanted, change.mac
                case Step.DELETE:
                    del self._macs[self.hosts.pop(change.mac).name]
                case Step.SUPERSEDED | Step.FOREIGN if isinstance(change, Ensure):
                    return DhcpdRefused("superseded", dhcpd=self.name, address=str(change.address))
                case _:
                    return None


@dataclass
class Meddled(Relay):
    """A dhcpd whose comparison is interrupted, and that tells at once when a living machine's host is gone.

    Attributes:
        living: The allocations that must be served now.
        on_read: Called once when what it has on disk has been read.
        on_look: Called once before hosts are looked up, when what should be there has been read.
        removed: What it was told to remove.
        lost: The living machines that were not served after some change.
    """

    living: Callable[[], Iterable[Allocation]] = lambda: ()
    on_read: Callable[[], object] = lambda: None
    on_look: Callable[[], object] = lambda: None
    removed: list[Remove] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @override
    def observe(self, macs: Sequence[MacAddress]) -> list[Binding | None]:
        call, self.on_look = self.on_look, lambda: None
        call()
        return self.inner.observe(macs)

    @override
    def audit(self, plans: Sequence[AddressPlan], pause: Callable[[float], object]) -> Audit | None:
        found = self.inner.audit(plans, pause)
        call, self.on_read = self.on_read, lambda: None
        call()
        return found

    @override
    def apply(self, changes: Sequence[Change]) -> list[MacbindError | None]:
        outcomes = self.inner.apply(changes)
        self.removed += [one for one in changes if isinstance(one, Remove)]
        living = list(self.living())
        served = self.inner.observe([one.mac for one in living])
        for one, host in zip(living, served, strict=True):
            if host is None or host.owner != (one.address, one.generation):
                self.lost.append(f"{one.name} at {one.address}")
        return outcomes


@dataclass
class Site:
    """A registry, the dhcpd it is compared with, and a writer's work done by hand.

    Attributes:
        book: The registry, open with :data:`POOL`.
        dhcpd: The dhcpd under watch.
    """

    book: Book
    dhcpd: Meddled

    @classmethod
    def open(cls, book: Book, inner: DhcpServer, sizes: Sizes) -> Site:
        """Opens the registry, and watches over what is confirmed."""
        book.open(POOL, dhcpds=[NAME], sizes=sizes)
        site = cls(book, Meddled(inner))
        site.dhcpd.living = site.confirmed
        return site

    def confirmed(self) -> list[Allocation]:
        """The allocations that are bound."""
        return [one for one in self.book.find() if str(one.state) == "bound"]

    def due(self) -> list[PendingChange]:
        """What the dhcpd has to look at."""
        return self.book.due(NAME)

    def drain(self) -> bool:
        """Does what is due, as a writer does; True, as a comparison wants to hear."""
        due = self.due()
        outcomes = iter(self.dhcpd.apply([one.change for one in due if one.change is not None]))
        done = [one for one in due if one.change is None or next(outcomes) is None]
        self.book.confirm(NAME, done=done)
        return True

    def release(self, *names: str) -> None:
        """Releases them in one transaction; the dhcpd has yet to be told."""
        with self.book.write() as txn:
            for name in names:
                release(txn, name=name)

    def compare(self, between: Callable[[], bool] | None = None) -> Cycle:
        """One comparison, which does what is due between its slices."""
        cycle = Reconciler(self.dhcpd, self.book.registry).cycle(between or self.drain, lambda _: None)
        assert cycle is not None
        return cycle

    def leave(self, address: IPv4Address, mac: MacAddress, generation: int) -> None:
        """Has the dhcpd hold a host of ours that nobody asked for."""
        host = Binding(binding_name(address, generation), mac, address)
        assert self.dhcpd.inner.apply([Ensure(address, generation, host)]) == [None]

    def former(self, address: str, mac: MacAddress) -> int:
        """Has the registry hold an address for a MAC, and let it go; returns the generation."""
        generation = self.book.reserve("former", address, mac=str(mac)).generation
        self.book.confirm(NAME)
        self.book.release("former", pinned=True)
        self.book.confirm(NAME)
        return generation

    def check(self, *gone: MacAddress) -> None:
        """All is done, every allocation is bound and served, no leftover is, and none was lost on the way."""
        self.drain()
        assert self.dhcpd.lost == []
        assert self.due() == []
        held = self.book.find()
        assert {one.name for one in held} == {one.name for one in self.confirmed()}
        served = self.dhcpd.inner.observe([one.mac for one in held])
        assert [host and host.owner for host in served] == [(one.address, one.generation) for one in held]
        taken = {one.mac for one in held}
        left = [mac for mac in gone if mac not in taken]
        assert self.dhcpd.inner.observe(left) == [None] * len(left)


@dataclass(frozen=True)
class Story:
    """What a comparison is to find, and what happens meanwhile. Machines are numbers, lowest address first.

    Attributes:
        machines: How many are allocated at first.
        lost: Whose release dhcpd forgot: leftovers, before, among and behind the living.
        masked: Whose addresses dhcpd also has with a foreign MAC.
        behind: How many leftovers there are behind all addresses that ever were allocated.
        broken: Whose reservation dhcpd has lost.
        on_read: Who is released between reading the lease file and comparing.
        on_look: Who is released when the registry has been read and dhcpd has not.
        newcomers: How many are allocated at the one and at the other moment.
    """

    machines: int
    lost: frozenset[int] = frozenset()
    masked: frozenset[int] = frozenset()
    behind: int = 0
    broken: frozenset[int] = frozenset()
    on_read: frozenset[int] = frozenset()
    on_look: frozenset[int] = frozenset()
    newcomers: tuple[int, int] = (0, 0)


def play(story: Story, site: Site) -> Cycle:
    """Plays a story: nobody who lives is ever unserved, and all ends as it should."""
    names = [f"vm{number}" for number in range(story.machines)]
    past = [f"past{number}" for number in range(story.machines + story.behind)]
    before = site.book.allocate(*past)
    site.release(*past)
    site.drain()
    made = site.book.allocate(*names)
    site.drain()
    site.release(*(names[number] for number in story.lost))
    site.drain()
    leftovers = {made[number].mac: made[number].address for number in story.lost}
    foreign = {MacAddress(0x00163E630000 + number): made[number].address for number in story.masked}
    last = made[-1].address
    beyond = {POOL.plan.scheme.encode(one): one for one in (last + 1 + n for n in range(story.behind))}
    for number in story.lost:
        site.leave(made[number].address, made[number].mac, made[number].generation)
    for mac, address in foreign.items():
        site.leave(address, mac, before[0].generation)
    for mac, address in beyond.items():
        site.leave(address, mac, before[0].generation)
    for number in story.broken - story.lost:
        one = made[number]
        site.dhcpd.inner.apply([Remove(one.address, one.generation, one.mac)])
    living = site.confirmed
    broken = {made[number].name for number in story.broken}
    site.dhcpd.living = lambda: [one for one in living() if one.name not in broken]

    def meanwhile(numbers: Iterable[int], newcomers: int, prefix: str) -> None:
        site.release(*(names[number] for number in numbers))
        if newcomers:
            site.book.allocate(*(f"{prefix}{number}" for number in range(newcomers)))

    gone = story.on_read - story.lost
    site.dhcpd.on_read = lambda: meanwhile(gone, story.newcomers[0], "new")
    site.dhcpd.on_look = lambda: meanwhile(story.on_look - story.lost - gone, story.newcomers[1], "late")
    cycle = site.compare()
    site.dhcpd.living = living
    site.check(*leftovers, *foreign, *beyond)
    return cycle
