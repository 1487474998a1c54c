"""A registry under random use: after every step it is sound, and it did what a simple model says."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from contract.book import Book, ip, make_pool
from macbind.core.allocation import Allocation, State
from macbind.core.errors import AddressInUse, ConfigError, Conflict, NotInPool, PoolExhausted
from macbind.core.evidence import Evidence, Source
from macbind.core.mac_address import MacAddress
from macbind.core.pool import Pool
from macbind.core.sizes import Sizes
from macbind.registry import evidence
from macbind.registry.pending_changes import doubt
from macbind.registry.renumber import abort_renumber, begin_renumber, finish_renumber

pytestmark = pytest.mark.invariant(1, 2)

_FARM_RANGES = (
    ["10.1.1.1-10.1.1.14"],
    ["10.1.1.1-10.1.1.6"],
    ["10.1.1.3-10.1.1.5", "10.1.1.8-10.1.1.10"],
    ["10.1.1.9-10.1.1.14"],
)
_REST_RANGES = (["10.1.2.1-10.1.2.6"], ["10.1.2.4-10.1.2.9"], ["10.1.2.2-10.1.2.2"])
_LAYOUT = st.tuples(st.sampled_from(_FARM_RANGES), st.sampled_from(_REST_RANGES), st.booleans())
_POOL = st.sampled_from(["farm", "rest"])
_NAME = st.sampled_from([f"m{number}" for number in range(25)])
_FOREIGN = st.sampled_from([None, *(MacAddress.parse(f"00:80:77:00:00:0{number}") for number in range(4))])
_OWN = st.just(MacAddress.parse("00:16:3e:01:01:03"))
_LOOKERS = st.sampled_from([(Source.HOST, "d1"), (Source.RANGE, "d1"), (Source.HOST, "d2")])
_PICK = st.integers(0, 24)
_DHCPDS = ("d1", "d2")


def _picked(names: Mapping[str, Allocation], number: int) -> str:
    """One of the names."""
    return sorted(names)[number % len(names)]


def _pools(layout: tuple[list[str], list[str], bool]) -> list[Pool]:
    farm, rest, both = layout
    return [
        make_pool(ranges=farm),
        make_pool(
            "rest", subnet="10.1.2.0/28", ranges=rest, cooldown_s=60, dhcpds=_DHCPDS if both else ("d1",)
        ),
    ]


class Using(RuleBasedStateMachine):
    """Everything cores, admins, dhcpds and time do to a registry.

    The model knows who holds which address (``held``), which one each is renumbered to (``targets``), which
    generations each address has had, and which MAC uses an address as far as others have seen (``used``).
    """

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.book = Book(f"sqlite:///{Path(self._directory.name)}/registry.db")
        self.held: dict[str, Allocation] = {}
        self.targets: dict[str, Allocation] = {}
        self.tokens: dict[str, str] = {}
        self.last: dict[IPv4Address, int] = {}
        self.used: dict[tuple[Source, str], dict[IPv4Address, MacAddress | None]] = {}

    def teardown(self) -> None:
        """Closes the registry, which checks its history as well."""
        with self._directory:
            self.book.close()

    @initialize(layout=_LAYOUT, rows=st.sampled_from([1, 2, 3, 7, 500]))
    def begin(self, layout: tuple[list[str], list[str], bool], rows: int) -> None:
        """The registry is new."""
        self.sizes = Sizes(rows=rows, extents=rows)
        self._open(layout)

    def _open(self, layout: tuple[list[str], list[str], bool]) -> None:
        self.pools = {pool.name: pool for pool in _pools(layout)}
        self.book.open(*self.pools.values(), dhcpds=_DHCPDS, sizes=self.sizes)

    # -- looks -----------------------------------------------------------------------------------------

    def _rows(self) -> list[Allocation]:
        return self.book.find(released=True)

    def _unoccupied(self, pool: str) -> list[IPv4Address]:
        occupied = {one.address for one in self._rows()} | self._used()
        return [one for item in self.pools[pool].plan.assignable for one in item if one not in occupied]

    def _used(self) -> set[IPv4Address]:
        return {address for seen in self.used.values() for address in seen}

    def _users(self, address: IPv4Address) -> set[MacAddress | None]:
        return {seen[address] for seen in self.used.values() if address in seen}

    def _resting(self, pool: str) -> set[IPv4Address]:
        return {one.address for one in self._rows() if one.pool == pool and one.state is State.COOLING}

    def _rested(self, pool: str) -> set[IPv4Address]:
        span = timedelta(seconds=self.pools[pool].cooldown_s)
        return {
            one.address
            for one in self._rows()
            if one.pool == pool
            and one.state is State.COOLING
            and one.released_at is not None
            and one.released_at + span <= self.book.now
        }

    def _born(self, made: list[Allocation]) -> None:
        for one in made:
            assert one.generation > self.last.get(one.address, 0), "a generation came twice"
            assert one.name not in self.held
            self.last[one.address] = one.generation
            self.held[one.name] = one

    # -- taking ----------------------------------------------------------------------------------------

    @rule(
        pool=_POOL,
        names=st.lists(_NAME, min_size=1, max_size=6, unique=True),
        ttl_s=st.sampled_from([None, 30]),
    )
    def allocate(self, pool: str, names: list[str], ttl_s: int | None) -> None:
        """The lowest unoccupied addresses, then resting ones, never a used one; all names or none; the same again."""
        plan, used = self.pools[pool].plan, self._used()
        free = {*self._unoccupied(pool), *(one for one in self._rested(pool) if one in plan)} - used
        resting = {one for one in self._resting(pool) if one in plan} - free - used
        spare = self._resting(pool) - free - resting
        expires_at = None if ttl_s is None else self.book.now + timedelta(seconds=ttl_s)
        known = [name for name in names if name in self.held]
        try:
            made = self.book.allocate(*names, pool=pool, expires_at=expires_at)
        except Conflict:
            assert known, "nobody holds any of these names"
            assert len(known) < len(names) or any(
                self.held[name].pool != pool or self.held[name].pinned for name in names
            )
        except PoolExhausted:
            assert not known
            assert len(free) + len(resting) + len(spare) < len(names)
        else:
            if known:
                assert [(one.name, one.address, one.mac) for one in made] == [
                    (name, self.held[name].address, self.held[name].mac) for name in names
                ]
                return
            got = [one.address for one in made]
            assert got[: len(free)] == sorted(free)[: len(names)]
            assert set(got[len(free) :]) <= resting | spare
            assert not used.intersection(got), "an address was given away that others use"
            self._born(made)

    @rule(pool=_POOL, name=_NAME, host=st.integers(0, 15))
    def claim(self, pool: str, name: str, host: int) -> None:
        """A given address is got if it is the pool's and nobody has it or uses it."""
        subnet = self.pools[pool].plan.subnet
        address = subnet[host]
        row = next((one for one in self._rows() if one.address == address), None)
        known = self.held.get(name)
        try:
            (made,) = self.book.allocate(name, pool=pool, address=address)
        except Conflict:
            assert known is not None
            assert (known.address, known.pinned) != (address, False)
        except NotInPool:
            assert address not in self.pools[pool].plan
        except AddressInUse:
            assert address in self._used() or row is not None
            assert address in self._used() or row is None or row.state is not State.COOLING
        else:
            if known is not None:
                assert (made.address, made.mac) == (known.address, known.mac)
                return
            assert address in self.pools[pool].plan
            assert address not in self._used()
            assert row is None or row.state is State.COOLING
            self._born([made])

    @rule(pool=_POOL, name=_NAME, host=st.integers(0, 15), mac=_FOREIGN)
    def reserve(self, pool: str, name: str, host: int, mac: MacAddress | None) -> None:
        """An address is reserved if nobody has it or its MAC, and nobody else uses it, nor the MAC another one."""
        subnet = self.pools[pool].plan.subnet
        address = subnet[host]
        rows = self._rows()
        known = self.held.get(name)
        strangers = self._users(address) - {mac or self.pools[pool].plan.scheme.encode(address)}
        plans = [one.plan for one in self.pools.values()]
        if (
            mac is not None
            and mac not in self._users(address)
            and any(
                mac in self._users(one)
                for one in self._used() - {address}
                if any(one in plan for plan in plans)
            )
        ):
            strangers.add(mac)
        try:
            made = self.book.reserve(name, str(address), None if mac is None else str(mac))
        except Conflict:
            assert known is not None
        except NotInPool:
            assert address in self.pools[pool].plan.forbidden
        except AddressInUse:
            assert strangers or any(
                one.state is not State.COOLING and (one.address == address or one.mac == mac) for one in rows
            )
        else:
            if known is not None:
                assert (made.address, made.mac, known.pinned) == (known.address, known.mac, True)
                return
            assert not strangers
            assert made.mac == (mac or self.pools[pool].plan.scheme.encode(address))
            self._born([made])

    # -- giving back -----------------------------------------------------------------------------------

    @rule(name=_NAME, late=st.booleans())
    def release(self, name: str, late: bool) -> None:
        """A held name is released, by its generation if that is the present one; pins as pins."""
        one = self.held.get(name)
        current = next((row for row in self.book.find(names=[name])), None)
        assert (one is None) == (current is None)
        generation = None if current is None else current.generation - late
        gone = self.book.release(name, pinned=one is not None and one.pinned, generation=generation)
        if one is None or late:
            assert all(row.released_at is not None for row in gone)
            assert late or one is None
        else:
            assert one.address in {row.address for row in gone}
            target = self.targets.pop(name, None)
            assert target is None or target.address in {row.address for row in gone}
            assert all(row.state is not State.BOUND for row in gone)
            del self.held[name]

    @rule()
    def expire(self) -> None:
        """What has expired is released."""
        due = {
            one.name
            for one in self.book.find()
            if one.expires_at is not None and one.expires_at <= self.book.now and not one.pinned
            if one.renumbers_from is None
        }
        assert set(self.book.expire()) == due
        for name in due:
            del self.held[name]
            self.targets.pop(name, None)

    @rule(pool=_POOL)
    def sweep(self, pool: str) -> None:
        """Rested addresses are free again, all others as before."""
        rested, before = self._rested(pool), {one.address for one in self._rows()}
        assert self.book.sweep(pool) == len(rested)
        assert {one.address for one in self._rows()} == before - rested

    # -- moving ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.held)
    @rule(
        pick=_PICK, away=st.sampled_from([False, False, True]), host=st.one_of(st.none(), st.integers(0, 15))
    )
    def begin_renumber(self, pick: int, away: bool, host: int | None) -> None:
        """An address of the same network is taken, if nobody has it, for a name that has its own MAC."""
        name = _picked(self.held, pick)
        pool = self.held[name].pool if not away else "rest"
        free = self._unoccupied(pool)
        address = free[pick % len(free)] if host is None and free else self.pools[pool].plan.subnet[host or 0]
        row = next((one for one in self._rows() if one.address == address), None)
        known, target = self.held.get(name), self.targets.get(name)
        if target is None:  # every renumbering has a token of its own
            self.tokens[name] = secrets.token_hex(8)
        try:
            with self.book.write() as txn:
                begun = begin_renumber(txn, name, address, self.tokens[name], 45)
        except NotInPool:
            assert known is not None
            plan = self.pools[pool].plan
            assert (
                known.pool != pool or address in plan.forbidden or (address not in plan and not known.pinned)
            )
        except AddressInUse:
            assert address in self._used() or row is not None
            assert address in self._used() or row is None or row.state is not State.COOLING
        except Conflict:
            assert known is not None
            own = self.pools[known.pool].plan.scheme.encode(known.address)
            assert known.mac != own or (target is not None and target.address != address)
        else:
            assert known is not None
            assert begun.old.address == known.address
            if known.address == address:
                assert begun.new == begun.old
            elif target is not None:
                assert begun.new.address == target.address == address
            else:
                assert row is None or row.state is State.COOLING
                assert address not in self._used()
                assert begun.new.generation > self.last.get(address, 0), "a generation came twice"
                self.last[address] = begun.new.generation
                self.targets[name] = begun.new

    @precondition(lambda self: self.targets)
    @rule(pick=_PICK, late=st.booleans())
    def finish_renumber(self, pick: int, late: bool) -> None:
        """A name that was renumbered has the other address only; a late call changes nothing."""
        name = _picked(self.targets, pick)
        try:
            with self.book.write() as txn:
                done = finish_renumber(txn, name, "a-late-token" if late else self.tokens[name])
        except Conflict:
            assert late
        else:
            assert not late
            assert (done.new.name, done.new.address) == (name, self.targets.pop(name).address)
            assert done.new.pinned == self.held[name].pinned
            self.held[name] = done.new

    @precondition(lambda self: self.targets)
    @rule(pick=_PICK)
    def abort_renumber(self, pick: int) -> None:
        """A name that was renumbered keeps the address it has."""
        name = _picked(self.targets, pick)
        target = self.targets.pop(name)
        with self.book.write() as txn:
            assert [one.address for one in abort_renumber(txn, name, self.tokens[name])] == [target.address]
            assert abort_renumber(txn, name, self.tokens[name]) == []

    # -- what others use -------------------------------------------------------------------------------

    @rule(who=_LOOKERS, shown=st.dictionaries(st.integers(0, 31), st.one_of(_FOREIGN, _OWN), max_size=12))
    def look(self, who: tuple[Source, str], shown: dict[int, MacAddress | None]) -> None:
        """Somebody shows all that it sees now: of allocated addresses, unoccupied ones and any others."""
        seen = {self._numbered(number): mac for number, mac in shown.items()}
        self.book.show(*(self._evidence(who, *one) for one in seen.items()), source=who[0], origin=who[1])
        self.used[who] = seen

    @rule(who=_LOOKERS, number=st.integers(0, 31), mac=_FOREIGN)
    def see(self, who: tuple[Source, str], number: int, mac: MacAddress | None) -> None:
        """Somebody sees one more."""
        address = self._numbered(number)
        with self.book.write() as txn:
            evidence.add(txn, [self._evidence(who, address, mac)])
        self.used.setdefault(who, {})[address] = mac

    @rule(who=_LOOKERS, numbers=st.sets(st.integers(0, 31)))
    def withdraw(self, who: tuple[Source, str], numbers: set[int]) -> None:
        """Somebody no longer sees some of them, or never did."""
        gone = [self._numbered(number) for number in numbers]
        with self.book.write() as txn:
            evidence.withdraw(txn, *who, gone)
        for address in gone:
            self.used.get(who, {}).pop(address, None)

    def _numbered(self, number: int) -> IPv4Address:
        """An address of one pool's subnet, or of the other's."""
        return ip("10.1.1.0") + number if number < 16 else ip("10.1.2.0") + number - 16

    def _evidence(self, who: tuple[Source, str], address: IPv4Address, mac: MacAddress | None) -> Evidence:
        return Evidence(*who, address, mac, str(mac), self.book.now, self.book.now)

    # -- dhcpd -----------------------------------------------------------------------------------------

    @rule(dhcpd=st.sampled_from(_DHCPDS), share=st.sampled_from([1, 2, 3]))
    def confirm(self, dhcpd: str, share: int) -> None:
        """A dhcpd does some of what is due; nobody loses an address by that."""
        self.book.confirm(dhcpd, done=self.book.due(dhcpd)[::share])

    @rule(dhcpd=st.sampled_from(_DHCPDS), host=st.integers(1, 14))
    def doubt(self, dhcpd: str, host: int) -> None:
        """A dhcpd is asked again."""
        with self.book.write() as txn:
            doubt(txn, dhcpd, [ip("10.1.1.0") + host, ip("10.1.2.0") + host])

    @rule(seconds=st.sampled_from([1, 29, 61]))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.book.later(seconds)

    # -- reopening -------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.last) > 2)
    @rule(layout=_LAYOUT)
    def reopen(self, layout: tuple[list[str], list[str], bool]) -> None:
        """Other ranges and other dhcpds are taken over; every holder keeps its address, MAC and name."""
        before = {(one.name, one.address, one.mac, one.released_at) for one in self._rows()}
        try:
            self._open(layout)
        except ConfigError as error:  # nothing of this is refused
            raise AssertionError(str(error)) from error
        assert {(one.name, one.address, one.mac, one.released_at) for one in self._rows()} == before

    # -- always ----------------------------------------------------------------------------------------

    @invariant()
    def it_is_sound(self) -> None:
        """The tables hold the invariant, and the model's holders are the registry's."""
        if not hasattr(self, "pools"):
            return
        self.book.check()
        rows = self._rows()
        assert len({one.address for one in rows}) == len({one.mac for one in rows}) == len(rows)
        live = [one for one in rows if one.released_at is None]
        for is_target, known in ((False, self.held), (True, self.targets)):
            found = {
                one.name: (one.address, one.mac)
                for one in live
                if (one.renumbers_from is not None) == is_target
            }
            assert found == {name: (one.address, one.mac) for name, one in known.items()}
        for one in rows:
            if not one.pinned:
                assert one.mac == self.pools[one.pool].plan.scheme.encode(one.address)


TestUsing = Using.TestCase
TestUsing.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
