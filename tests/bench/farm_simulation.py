"""A farm on paper and in simulation: what its parts have to do, how busy they are, and how long callers wait.

Pure: measured costs and a demand go in, numbers come out; the same seed gives the same numbers. A part works off
what reaches it in the order of arrival. Requests that wait share a transaction and its flush. What a writer finds
due is one batch. A comparison yields to what is due, and a scan reads one domain at a time, as in the product.
Half of what a change costs the service is its committer's, and half its writer's; the loads do not depend on that.
"""

import random
import statistics
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from math import log

from bench.rows import p99
from macbind.core.sizes import Sizes

_SIZES = Sizes()
_STEP = 50
"""Bindings of a slice that are looked up before others have their turn at the processor."""
_BOOT_S = 5.0
"""From the answer to the machine's DISCOVER."""
_PROBE_S = 10.0
"""How long a farm is looked at to see whether it keeps up."""

Process = Generator[float | None, None, None]
"""Yields when it goes on; None: when somebody resumes it, or never."""


@dataclass(frozen=True)
class Costs:
    """Seconds of one processor, if nothing else is said.

    Attributes:
        request: The service's, of reading a call and answering it.
        once: The service's, of a transaction and of a writer's batch, whatever is in them.
        allocate: The service's, of each allocation beside these.
        release: The same of a release.
        flush: Seconds until a transaction is on disk; no processor is needed.
        add: dhcpd's, of a binding.
        delete: dhcpd's, of the end of one.
        exchange: dhcpd's, from DISCOVER to ACK.
        renewal: dhcpd's, of a renewal.
        event: The service's, of an event of a domain.
        event_each: What each domain that the service knows adds to every event.
        scan: The service's, of a domain in a hypervisor's list.
        compare: The service's, of a binding in a comparison.
        look_up: dhcpd's of the same.
    """

    request: float = 0.0
    once: float = 0.0
    allocate: float = 0.0
    release: float = 0.0
    flush: float = 0.0
    add: float = 0.0
    delete: float = 0.0
    exchange: float = 0.0
    renewal: float = 0.0
    event: float = 0.0
    event_each: float = 0.0
    scan: float = 0.0
    compare: float = 0.0
    look_up: float = 0.0


@dataclass(frozen=True)
class Demand:
    """What a farm asks for, and of what it is made.

    Attributes:
        rate: Machines born a second, and destroyed.
        standing: Machines that exist.
        group: Machines of one call.
        burst_s: Births of so many seconds come at once, and as many ends half of that later; 0: by chance.
        lease_s: The lease time; a machine renews after half of it.
        hypervisors: Those that are watched; 0: the core says itself that a machine has ended.
        controllers: 2: one takes the calls, the other leads.
        servers: DHCP servers; each serves as many pools as the others.
        compare_s: The pause between two comparisons (`resync_s`).
        scan_s: The pause between two lists of a hypervisor.
        seconds: How long it is looked at.
        seed: Of chance.
    """

    rate: float = 50.0
    standing: int = 990_000
    group: int = 1
    burst_s: float = 0.0
    lease_s: float = 600.0
    hypervisors: int = 0
    controllers: int = 1
    servers: int = 1
    compare_s: float = 300.0
    scan_s: float = 60.0
    seconds: float = 3600.0
    seed: int = 1


@dataclass(frozen=True)
class Load:
    """What a part has to do, in processors, or in disks: by the standing machines, and by each birth a second."""

    standing: float
    each: float

    def at(self, rate: float) -> float:
        """At so many births a second; more than 1 cannot be done."""
        return self.standing + self.each * rate

    @property
    def saturates_at(self) -> float:
        """Births a second that fill it; 0 if the standing machines alone do."""
        left = max(0.0, 1 - self.standing)
        if not left:
            return 0.0
        return left / self.each if self.each else float("inf")


def on_paper(costs: Costs, demand: Demand) -> dict[str, Load]:
    """The load of each part where no two calls come together, so that nobody shares anything."""
    n, watches = demand.standing, demand.hypervisors > 0
    compared = n / (demand.compare_s + n * (costs.compare + costs.look_up))
    seen = 2 * (costs.event + costs.event_each * n) if watches else 0.0
    scans = n * costs.scan / demand.scan_s if watches else 0.0
    calls = (2 - watches) * costs.request / demand.group
    half = costs.once / demand.group + (costs.allocate + costs.release) / 2
    names = _controllers(demand)
    loads = {name: Load(scans, seen) for name in names}
    for name, load in (
        (names[0], Load(0.0, calls + half)),
        (names[-1], Load(compared * costs.compare, half)),
    ):
        loads[name] = Load(loads[name].standing + load.standing, loads[name].each + load.each)
    loads["registry"] = Load(0.0, 2 * costs.flush / demand.group)
    renewed = n * costs.renewal * 2 / demand.lease_s
    for name in _servers(demand):
        loads[name] = Load(
            (renewed + compared * costs.look_up) / demand.servers,
            (costs.add + costs.delete + costs.exchange) / demand.servers,
        )
    return loads


def _controllers(demand: Demand) -> tuple[str, ...]:
    return ("service",) if demand.controllers == 1 else ("follower", "leader")


def _servers(demand: Demand) -> tuple[str, ...]:
    return ("dhcpd",) if demand.servers == 1 else tuple(f"dhcpd {n + 1}" for n in range(demand.servers))


class Station:
    """A part that does one thing after the other. Beside what is asked for it has a stream of equal work.

    Args:
        chance: When the stream's work comes.
        rate: How often it does, a second.
        each: What it costs.

    Attributes:
        busy: Seconds of all work that it was given.
    """

    def __init__(self, chance: random.Random, rate: float = 0.0, each: float = 0.0) -> None:
        self._chance, self._rate, self._each = chance, rate, each
        self._next = chance.expovariate(rate) if rate and each else float("inf")
        self._free_at = self.busy = 0.0

    def serve(self, at: float, cost: float) -> float:
        """When work that comes now is done; `at` is no earlier than in the call before."""
        if self._next <= at:
            self._catch_up(at)
        self._free_at = max(self._free_at, at) + cost
        self.busy += cost
        return self._free_at

    def _catch_up(self, at: float) -> None:
        """Takes the stream's work until then: millions of times, so it is written for speed."""
        following, free_at, each, draw, mean = (
            self._next,
            self._free_at,
            self._each,
            self._chance.random,
            1 / self._rate,
        )
        taken = 0
        while following <= at:
            free_at = (following if following > free_at else free_at) + each  # noqa: FURB136  # a call costs more
            following -= mean * log(1.0 - draw())
            taken += 1
        self._next, self._free_at = following, free_at
        self.busy += taken * each


@dataclass
class _Server:
    """A DHCP server, and what its writer has to do."""

    station: Station
    due: list["_Call"] = field(default_factory=list)
    to_compare: int = 0
    is_busy: bool = False


@dataclass
class _Call:
    """A call, or the end of a domain, that waits for its server; seconds of all of its machines."""

    server: _Server
    service: float
    dhcpd: float
    process: Process | None = None


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        alive: Machines at the end.
        born: Machines that were asked for.
        ended: Machines that were to end.
        backlog: Calls without an answer at the end.
        flushes: Transactions that were flushed.
        utilisation: How busy each part was; more than 1: it was given more than it could do.
        waits: Seconds that callers waited for `allocate` and for `release`.
    """

    alive: int
    born: int = 0
    ended: int = 0
    backlog: int = 0
    flushes: int = 0
    utilisation: dict[str, float] = field(default_factory=dict)
    waits: dict[str, list[float]] = field(default_factory=lambda: {"allocate": [], "release": []})

    def ms(self, call: str) -> tuple[float, float]:
        """The median and the 99th percentile of waiting, in ms; infinite if nobody was answered."""
        waits = self.waits[call] or [float("inf")]
        return statistics.median(waits) * 1000, p99(waits) * 1000

    @property
    def busiest(self) -> str:
        """The part that was busiest."""
        return max(self.utilisation, key=lambda name: self.utilisation[name])


def simulate(costs: Costs, demand: Demand) -> Outcome:
    """One farm for so many seconds."""
    return _Simulation(costs, demand).run()


def saturation(costs: Costs, demand: Demand) -> tuple[float, str]:
    """The births a second from which on calls pile up, found by trying, and the part that is busiest then."""

    def keeps_up(rate: float) -> bool:
        found = simulate(costs, replace(demand, rate=rate, seconds=_PROBE_S))
        return found.backlog <= max(2 * demand.group, rate)  # a second's work may be under way

    low, high = 0.0, min(load.saturates_at for load in on_paper(costs, demand).values()) or 1.0
    while keeps_up(high):
        low, high = high, 2 * high
    for _ in range(6):
        middle = (low + high) / 2
        low, high = (middle, high) if keeps_up(middle) else (low, middle)
    return high, simulate(costs, replace(demand, rate=high, seconds=_PROBE_S)).busiest


class _Simulation:
    def __init__(self, costs: Costs, demand: Demand) -> None:
        self._costs, self._demand, self._chance = costs, demand, random.Random(demand.seed)
        self._now, self._order = 0.0, count()
        self._agenda: list[tuple[float, int, Process]] = []
        self._current: Process | None = None
        names = _controllers(demand)
        self._controllers = {name: Station(self._chance) for name in names}
        self._front, self._leader = self._controllers[names[0]], self._controllers[names[-1]]
        renewals = demand.standing * 2 / demand.lease_s / demand.servers
        self._servers = [
            _Server(Station(self._chance, renewals, costs.renewal)) for _ in range(demand.servers)
        ]
        self._waiting: list[_Call] = []
        self._is_committing = False
        self._found = Outcome(demand.standing)

    def run(self) -> Outcome:
        """Everything until the time is over."""
        demand, found, chance = self._demand, self._found, self._chance
        self._begin(self._births())
        self._begin(self._ends())
        for server in self._servers:
            self._begin(self._comparison(server), chance.uniform(0, demand.compare_s))
        for _ in range(demand.hypervisors):
            for controller in self._controllers.values():
                self._begin(self._scans(controller), chance.uniform(0, demand.scan_s))
        while self._agenda and self._agenda[0][0] < demand.seconds:
            self._now, _, self._current = heappop(self._agenda)
            at = next(self._current, None)
            if at is not None:
                self._begin(self._current, at)
        servers = zip(_servers(demand), self._servers, strict=True)
        for name, station in (*self._controllers.items(), *((name, one.station) for name, one in servers)):
            station.serve(demand.seconds, 0.0)
            found.utilisation[name] = station.busy / demand.seconds
        found.utilisation["registry"] = found.flushes * self._costs.flush / demand.seconds
        return found

    def _begin(self, process: Process, at: float | None = None) -> None:
        heappush(self._agenda, (self._now if at is None else at, next(self._order), process))

    # -- machines --------------------------------------------------------------------------------------

    def _births(self) -> Process:
        while True:
            yield self._next(self._demand.rate)
            for _ in range(self._at_once()):
                self._found.born += self._demand.group
                self._found.alive += self._demand.group
                self._begin(self._birth())

    def _ends(self) -> Process:
        demand, found = self._demand, self._found
        yield demand.burst_s / 2
        while True:
            # All are as likely to end: the more there are, the more do.
            yield self._next(demand.rate * found.alive / demand.standing)
            for _ in range(min(self._at_once(), found.alive // demand.group)):
                found.ended += demand.group
                found.alive -= demand.group
                self._begin(self._end())

    def _next(self, rate: float) -> float:
        return self._now + (self._demand.burst_s or self._chance.expovariate(rate / self._demand.group))

    def _at_once(self) -> int:
        return round(self._demand.rate * self._demand.burst_s / self._demand.group) or 1

    def _birth(self) -> Process:
        costs, demand = self._costs, self._demand
        call = self._new_call(costs.allocate, costs.add)
        yield from self._asked("allocate", call)
        yield self._now + _BOOT_S
        self._tell_of_domains()
        call.server.station.serve(self._now, demand.group * costs.exchange)

    def _end(self) -> Process:
        call = self._new_call(self._costs.release, self._costs.delete)
        if not self._demand.hypervisors:
            yield from self._asked("release", call)
            return
        began = self._now
        self._found.backlog += 1
        yield self._tell_of_domains()
        yield from self._changed(call)
        self._answered("release", began)

    def _tell_of_domains(self) -> float:
        """An event of each machine's domain, for every controller; returns when the leader has handled them."""
        costs, demand = self._costs, self._demand
        cost = costs.event + costs.event_each * self._found.alive if demand.hypervisors else 0.0
        return max(one.serve(self._now, demand.group * cost) for one in self._controllers.values())

    def _new_call(self, service: float, dhcpd: float) -> _Call:
        group = self._demand.group
        return _Call(self._chance.choice(self._servers), group * service, group * dhcpd)

    # -- the service -----------------------------------------------------------------------------------

    def _asked(self, what: str, call: _Call) -> Process:
        """A call, from its first byte to its answer."""
        began = self._now
        self._found.backlog += 1
        yield self._front.serve(self._now, self._costs.request / 2)
        yield from self._changed(call)
        yield self._front.serve(self._now, self._costs.request / 2)
        self._answered(what, began)

    def _answered(self, what: str, began: float) -> None:
        self._found.backlog -= 1
        self._found.waits[what].append(self._now - began)

    def _changed(self, call: _Call) -> Process:
        """A change, until its server has confirmed it."""
        self._waiting.append(call)
        if not self._is_committing:
            self._is_committing = True
            self._begin(self._commits())
        call.process = self._current
        yield None

    def _commits(self) -> Process:
        while self._waiting:
            batch, self._waiting = self._waiting[: _SIZES.requests], self._waiting[_SIZES.requests :]
            yield self._front.serve(self._now, (self._costs.once + sum(one.service for one in batch)) / 2)
            yield self._now + self._costs.flush
            self._found.flushes += 1
            for call in batch:
                call.server.due.append(call)
            for server in self._servers:
                self._wake(server)
        self._is_committing = False

    def _wake(self, server: _Server) -> None:
        if not server.is_busy:
            server.is_busy = True
            self._begin(self._writes(server))

    def _writes(self, server: _Server) -> Process:
        while server.due or server.to_compare:
            batch, server.due = server.due, []
            if batch:
                yield self._leader.serve(
                    self._now, (self._costs.once + sum(one.service for one in batch)) / 2
                )
                yield server.station.serve(self._now, sum(one.dhcpd for one in batch))
                for call in batch:
                    assert call.process is not None
                    self._begin(call.process)
                continue
            for _ in range(_SIZES.slice // _STEP):
                step = min(_STEP, server.to_compare)
                yield self._leader.serve(self._now, step * self._costs.compare)
                yield server.station.serve(self._now, step * self._costs.look_up)
                server.to_compare -= step
            if not server.to_compare:
                self._begin(self._comparison(server), self._now + self._demand.compare_s)
        server.is_busy = False

    def _comparison(self, server: _Server) -> Process:
        server.to_compare = self._demand.standing // len(self._servers)
        self._wake(server)
        yield None

    def _scans(self, controller: Station) -> Process:
        while True:
            for _ in range(self._demand.standing // self._demand.hypervisors):
                yield controller.serve(self._now, self._costs.scan)
            yield self._now + self._demand.scan_s
