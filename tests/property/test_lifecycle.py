"""Lives of machines in every order of events, looks and scans: who lives has kept its address, who ended has not.

The warden and the registry are real. libvirt is a model of two hypervisors that do what the real ones were seen to
do, step by step: between any two steps anybody may look. Its events wait in a queue, as long as it takes.
"""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Network
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from macbind.config.tables import HypervisorSettings
from macbind.core.address_plan import AddressPlan
from macbind.core.address_range import AddressRange
from macbind.core.allocation import Allocation
from macbind.core.domain import NO_RUN, NOTHING_SAID, Domain, DomainEvent, DomainState, Phase, StopCause
from macbind.core.findings import HypervisorStatus
from macbind.core.pool import Pool, ReleasePolicy, Subnet
from macbind.engine.domain_tracker import DomainTracker
from macbind.engine.group_commit import GroupCommitter
from macbind.registry import claims
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.queries import find
from macbind.registry.store import Registry
from macbind.virt.agenda import Look, left_over

NETWORK = IPv4Network("10.77.0.0/16")
TRANSITION_S = 15.0
_LONGEST_S = 11.0
"""How long a transition lasts at most; a model's step is done by then."""
_STARTED = datetime(2026, 1, 1, tzinfo=UTC)

Steps = Generator[None, None, None]


@dataclass
class Machine:
    """A machine, what is under way with it, and whether it lives."""

    uuid: str
    allocation: Allocation
    host: Host | None
    is_xen: bool
    persistent: bool
    lives: bool = True
    run: int = NO_RUN
    doing: Steps | None = None
    began_at: float = 0.0
    end: DomainEvent | None = None
    """The event that says that it has ended, once that is said."""

    def stopped(self, cause: StopCause) -> DomainEvent:
        """An event that says that its present run has ended; only Xen's tell which."""
        return DomainEvent(cause, run=self.run if self.is_xen else NO_RUN)


@dataclass
class Host:
    """A hypervisor, and what its watcher has yet to do."""

    name: str
    clock: list[float]
    states: dict[str, DomainState] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)
    said: deque[Look] = field(default_factory=deque)
    due: dict[str, float] = field(default_factory=dict)
    listed: tuple[dict[str, Domain], float] | None = None
    is_connected: bool = False
    last_run: int = 0
    tried: threading.Event = field(default_factory=threading.Event)

    # -- what happens on it ----------------------------------------------------------------------------

    def put(self, machine: Machine, state: DomainState) -> None:
        """The domain of a machine is in a state from now on."""
        self.states[machine.uuid], self.machines[machine.uuid] = state, machine

    def remove(self, machine: Machine) -> None:
        """There is no such domain any more."""
        del self.states[machine.uuid]

    def say(self, machine: Machine, event: DomainEvent = NOTHING_SAID) -> None:
        """An event, for whoever is connected."""
        if self.is_connected:
            self.said.append(Look(machine.uuid, event))

    def boot(self, machine: Machine) -> None:
        """It runs, with a new number, and that is said."""
        self.last_run += 1
        machine.run = self.last_run
        self.put(machine, DomainState.ACTIVE)
        self.say(machine, DomainEvent(started=True, run=machine.run))

    def halt(self, machine: Machine, kept: DomainState) -> None:
        """It runs no more: a definition stays, in a state; without one nothing does."""
        if machine.persistent:
            self.put(machine, kept)
        else:
            self.remove(machine)

    # -- what a watcher is -----------------------------------------------------------------------------

    @property
    def status(self) -> HypervisorStatus:
        """Whether it is connected."""
        return HypervisorStatus(self.name, "", self.is_connected, _STARTED)

    def start(self) -> None:
        """Nothing: the test decides when what is done."""

    def stop(self) -> None:
        """Nothing."""

    def close(self, within_s: float = 0.0) -> None:
        """Nothing."""

    def look(self, uuid: str) -> Domain | None:
        """The domain as it is now."""
        if uuid not in self.states:
            return None
        machine, state = self.machines[uuid], self.states[uuid]
        macs = frozenset({machine.allocation.mac})
        run = machine.run if state is DomainState.ACTIVE else NO_RUN
        return Domain(uuid, machine.allocation.name, self.name, state, macs, macs, run=run)

    def ask_again(self, uuid: str, at: float) -> None:
        """Has a domain looked at again."""
        self.due[uuid] = at


class Lives(RuleBasedStateMachine):
    """Machines on two hypervisors, and a service that looks whenever it likes."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.clock = [1000.0]
        self.hosts = [Host(name, self.clock) for name in ("one", "two")]
        self.machines: list[Machine] = []

    @initialize(policy=st.sampled_from([ReleasePolicy.DESTROY, ReleasePolicy.UNDEFINE]))
    def begin(self, policy: ReleasePolicy) -> None:
        """A registry with one pool, and a service that watches both hypervisors."""
        self.policy = policy
        plan = AddressPlan.build(
            NETWORK, "00:16:3e", gateways=[NETWORK[1]], ranges=[AddressRange(NETWORK[10], NETWORK[40])]
        )
        pool = Pool("farm", plan, Subnet(NETWORK), ("main",), release=policy, claim_timeout_s=900)
        self.registry = Registry.open(
            f"sqlite:///{self._directory.name}/registry.db", {"farm": pool}, ["main"]
        )
        self.committer = GroupCommitter(self.registry, lambda: None)
        self.committer.start()
        self.serve()
        for host in self.hosts:
            self._connect(host)

    def serve(self) -> None:
        """A service begins, knowing what the registry knows."""
        by_name = {host.name: host for host in self.hosts}
        self.warden = DomainTracker(
            self.registry,
            self.committer,
            {
                host.name: HypervisorSettings.model_construct(uri="", transition_s=TRANSITION_S)
                for host in self.hosts
            },
            watch=lambda name, *_, **__: by_name[name],
            clock=lambda: self.clock[0],
        )

    def teardown(self) -> None:
        """In the end everything is finished, seen and looked at again."""
        with self._directory:
            if not hasattr(self, "registry"):
                return
            try:
                self._come_to_rest()
            finally:
                self.committer.close()
                self.registry.close()

    # -- what machines do ------------------------------------------------------------------------------

    @precondition(lambda self: len(self.machines) < 3)
    @rule(at=st.integers(0, 1), is_xen=st.booleans(), persistent=st.booleans(), early=st.booleans())
    def launch(self, at: int, is_xen: bool, persistent: bool, early: bool) -> None:
        """An address, and a machine that begins to start, or has been seen to run."""
        number = len(self.machines)
        made = self.committer.submit("test", lambda txn: allocate(txn, Wanted("farm", (f"vm{number}",))))
        machine = Machine(str(UUID(int=number)), made.result()[0], self.hosts[at], is_xen, persistent)
        self.machines.append(machine)
        self._do(machine, self._starting(machine, self.hosts[at]))
        if not early:
            while machine.doing:
                self._advance(machine)
            self._hear_out(self.hosts[at])

    @precondition(lambda self: self._idle())
    @rule(
        data=st.data(),
        what=st.sampled_from(
            ["reboot", "recreate", "recreate", "save", "save", "migrate", "migrate", "undefine", "destroy"]
        ),
    )
    def do(self, data: st.DataObject, what: str) -> None:
        """Something begins with a machine that lives and is left alone."""
        machine = data.draw(st.sampled_from(self._idle()))
        host = machine.host
        if host is None or machine.uuid not in host.states:
            self._do(machine, self._coming_back(machine, self.hosts[data.draw(st.integers(0, 1))]))
        elif host.states[machine.uuid] is not DomainState.ACTIVE:
            self._do(machine, self._starting_again(machine, host))
        elif what == "reboot":
            host.say(machine)
        elif what == "recreate" and machine.is_xen:
            self._do(machine, self._recreating(machine, host))
        elif what == "save" and self._is_seen(machine):
            self._do(machine, self._saving(machine, host, announced=data.draw(st.booleans())))
        elif what == "migrate" and self._is_seen(machine):
            to = data.draw(st.sampled_from([None, *(one for one in self.hosts if one is not host)]))
            self._do(machine, self._migrating(machine, host, to, early=data.draw(st.booleans())))
        elif what == "undefine" and machine.persistent:
            machine.persistent = False
            host.say(machine, DomainEvent(StopCause.UNDEFINED))
        elif what == "destroy":
            order = data.draw(st.sampled_from(["said first", "gone first", "announced"]))
            self._do(machine, self._ending(machine, host, order))

    @precondition(lambda self: any(one.doing for one in self.machines))
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        """What is under way gets one step further."""
        self._advance(data.draw(st.sampled_from([one for one in self.machines if one.doing])))

    @rule(seconds=st.sampled_from([0.001, 1.0, 4.0, 10.0, 16.0]))
    def wait(self, seconds: float) -> None:
        """Time passes. No transition takes longer than the longest."""
        until = self.clock[0] + seconds
        while late := [one for one in self.machines if one.doing and one.began_at + _LONGEST_S <= until]:
            first = min(late, key=lambda one: one.began_at)
            self.clock[0] = max(self.clock[0], first.began_at + _LONGEST_S)
            while first.doing:
                self._advance(first)
        self.clock[0] = until

    # -- what the service does -------------------------------------------------------------------------

    @precondition(lambda self: any(host.said and host.is_connected for host in self.hosts))
    @rule(data=st.data())
    def handle(self, data: st.DataObject) -> None:
        """The first event of a queue is handled: its domain is looked at."""
        talking = [host for host in self.hosts if host.said and host.is_connected]
        self._handle(data.draw(st.sampled_from(talking)))

    @precondition(lambda self: any(self._is_due(host) for host in self.hosts))
    @rule(data=st.data())
    def look_again(self, data: st.DataObject) -> None:
        """A look that is due is taken."""
        self._look_again(data.draw(st.sampled_from([host for host in self.hosts if self._is_due(host)])))

    @rule(at=st.integers(0, 1))
    def list_domains(self, at: int) -> None:
        """A scan begins."""
        host = self.hosts[at]
        if host.is_connected and host.listed is None:
            found = {uuid: domain for uuid in host.states if (domain := host.look(uuid)) is not None}
            host.listed = (found, self.clock[0])
            self.clock[0] += 0.0001

    @rule(at=st.integers(0, 1))
    def report_list(self, at: int) -> None:
        """A scan is told of."""
        host = self.hosts[at]
        if host.listed is not None:
            listed, host.listed = host.listed, None
            self.warden.scanned(host.name, *listed)

    @rule(at=st.integers(0, 1))
    def scan(self, at: int) -> None:
        """A scan begins, and is told of at once."""
        self.report_list(at)
        self.list_domains(at)
        self.report_list(at)

    @rule()
    def keep_house(self) -> None:
        """What is done from time to time."""
        self.warden.release_abandoned()
        self.warden.settle_renumberings()
        self.warden.findings()

    @rule(at=st.integers(0, 1))
    def break_connection(self, at: int) -> None:
        """A connection breaks, or is there again. Causes that were said and not handled are not forgotten."""
        host = self.hosts[at]
        if not host.is_connected:
            self._connect(host)
            return
        self._finish_what_leaves_no_trace()
        left = left_over(host.said)
        host.is_connected, host.listed = False, None
        host.said.clear()
        host.due.clear()
        host.said.extend(left)

    @rule()
    def restart(self) -> None:
        """The service stops, having handled what it was told, and another begins."""
        if any(host.said and not host.is_connected for host in self.hosts):
            return  # what only the service knew would be forgotten
        self._finish_what_leaves_no_trace()
        for host in self.hosts:
            self._hear_out(host)
        connected = [host for host in self.hosts if host.is_connected]
        for host in self.hosts:
            host.listed = None
            host.due.clear()
        self.serve()
        for host in connected:
            self._connect(host)

    # -- what must be so -------------------------------------------------------------------------------

    @invariant()
    def who_lives_has_kept_its_address(self) -> None:
        """At every moment, and the same generation of it."""
        if not hasattr(self, "registry"):
            return
        with self.registry.read() as view:
            held = {one.name: one.generation for one in find(view)}
        for machine in self.machines:
            if machine.lives:
                one = machine.allocation
                assert held.get(one.name) == one.generation, f"{one.name} lives and has lost its address"

    # -- in detail -------------------------------------------------------------------------------------

    def _connect(self, host: Host) -> None:
        host.is_connected = True
        self.warden.connected(host.name)
        self._hear_out(host)
        found = {uuid: domain for uuid in host.states if (domain := host.look(uuid)) is not None}
        self.warden.scanned(host.name, found, self.clock[0])

    def _is_due(self, host: Host) -> bool:
        return host.is_connected and not host.said and any(at <= self.clock[0] for at in host.due.values())

    def _handle(self, host: Host) -> None:
        item = host.said.popleft()
        machine = host.machines[item.uuid]
        is_end = item.event is machine.end and self._knows(machine, host, item.event)
        self.warden.changed(host.name, item.uuid, host.look(item.uuid), item.event)
        self.clock[0] += 0.0001
        if is_end:
            assert not self._holds(machine), f"{machine.allocation.name} has ended and still has its address"

    def _hear_out(self, host: Host) -> None:
        while host.said and host.is_connected:
            self._handle(host)

    def _look_again(self, host: Host) -> None:
        uuid = min(host.due, key=host.due.__getitem__)
        del host.due[uuid]
        self.warden.changed(host.name, uuid, host.look(uuid))
        self.clock[0] += 0.0001

    def _holds(self, machine: Machine) -> bool:
        with self.registry.read() as view:
            return bool(find(view, names=[machine.allocation.name]))

    def _phases(self, machine: Machine, host: Host) -> set[Phase | None]:
        with self.registry.read() as view:
            return {claim.phase for claim in claims.of_hypervisor(view, host.name, machine.uuid)}

    def _knows(self, machine: Machine, host: Host, event: DomainEvent) -> bool:
        """Whether the service knows enough of a machine to believe the event at once that is its end.

        A definition that is removed may be written anew: that is waited for.
        """
        return event.cause is StopCause.ENDED and Phase.RUNNING in self._phases(machine, host)

    def _is_seen(self, machine: Machine) -> bool:
        """Whether what leaves no trace is seen: nobody can tell it from an end else."""
        return machine.persistent or (machine.host is not None and machine.host.is_connected)

    def _idle(self) -> list[Machine]:
        return [one for one in self.machines if one.lives and one.doing is None]

    def _do(self, machine: Machine, steps: Steps) -> None:
        machine.doing, machine.began_at = steps, self.clock[0]
        self._advance(machine)

    def _advance(self, machine: Machine) -> None:
        assert machine.doing is not None
        if next(machine.doing, StopIteration) is StopIteration:
            machine.doing = None

    def _finish_what_leaves_no_trace(self) -> None:
        for machine in self.machines:
            while machine.doing and not machine.persistent:
                self._advance(machine)

    def _starting(self, machine: Machine, host: Host) -> Steps:
        if machine.persistent:
            host.put(machine, DomainState.OFF)
            host.say(machine)
        else:
            host.put(machine, DomainState.BETWEEN)
        yield
        host.boot(machine)

    def _coming_back(self, machine: Machine, host: Host) -> Steps:
        """Restored from a file, or migrated back, by a domain that is made for it."""
        host.put(machine, DomainState.BETWEEN)
        machine.host, machine.persistent = host, False
        yield
        host.boot(machine)
        yield
        host.say(machine)

    def _starting_again(self, machine: Machine, host: Host) -> Steps:
        yield
        host.boot(machine)

    def _recreating(self, machine: Machine, host: Host) -> Steps:
        """How Xen reboots, and restarts what has crashed: a new run is announced before the end of the old one."""
        ended = machine.stopped(StopCause.ENDED)
        host.put(machine, DomainState.OFF if machine.persistent else DomainState.BETWEEN)
        yield
        host.boot(machine)
        yield
        host.say(machine, ended)

    def _saving(self, machine: Machine, host: Host, *, announced: bool) -> Steps:
        """As libvirt 9 does it, or as libvirt 11.3 does, which says before that it was shut down."""
        host.halt(machine, DomainState.HELD)
        if announced:
            host.say(machine)
            yield
        host.say(machine, machine.stopped(StopCause.SAVED))
        yield

    def _migrating(self, machine: Machine, host: Host, to: Host | None, *, early: bool) -> Steps:
        said = machine.stopped(StopCause.MIGRATED)
        if to is not None:
            to.put(machine, DomainState.BETWEEN)
            yield
            if early:
                to.boot(machine)
                yield
        host.halt(machine, DomainState.MIGRATED)
        host.say(machine)
        yield
        if to is not None and not early:
            to.boot(machine)
            yield
        host.say(machine, said)
        machine.host, machine.persistent = to, False
        yield

    def _ending(self, machine: Machine, host: Host, order: str) -> Steps:
        event = machine.stopped(StopCause.ENDED)
        stays = machine.persistent and self.policy is ReleasePolicy.UNDEFINE
        if not stays:
            machine.lives, machine.end = False, event
        host.put(machine, DomainState.OFF if machine.persistent else DomainState.BETWEEN)
        yield
        if order == "said first":
            host.say(machine, event)
            yield
        if not machine.persistent:
            host.remove(machine)
        if order == "announced":
            host.say(machine)
            yield
        if order != "said first":
            host.say(machine, event)
        if stays:
            yield
            machine.lives, machine.end = False, DomainEvent(StopCause.UNDEFINED)
            host.remove(machine)
            yield
            host.say(machine, machine.end)

    def _come_to_rest(self) -> None:
        """Everything is finished, connected, handled, and every doubt outlasted."""
        for machine in self.machines:
            while machine.doing:
                self._advance(machine)
        for host in self.hosts:
            if not host.is_connected:
                self._connect(host)
            self.report_list(self.hosts.index(host))
        for _ in self._rounds():
            for host in self.hosts:
                self._hear_out(host)
                found = {uuid: one for uuid in host.states if (one := host.look(uuid)) is not None}
                self.warden.scanned(host.name, found, self.clock[0])
                while self._is_due(host):
                    self._look_again(host)
                self.who_lives_has_kept_its_address()
        with self.registry.read() as view:
            doubted = claims.doubted(view)
        assert not doubted, "a doubt never ends"
        for machine in self.machines:
            phases = {phase for host in self.hosts for phase in self._phases(machine, host)}
            if not machine.lives:
                assert Phase.RUNNING not in phases, (
                    f"{machine.allocation.name} has ended and kept its address"
                )

    def _rounds(self) -> Iterator[None]:
        for _ in range(3):
            yield
            self.clock[0] += TRANSITION_S + 1


@pytest.fixture
def lives() -> Iterator[Lives]:
    """A service and two hypervisors, with a pool that releases on destroy."""
    lives = Lives()
    lives.begin(ReleasePolicy.DESTROY)
    yield lives
    lives.teardown()


def _launched(lives: Lives, *, is_xen: bool, persistent: bool) -> tuple[Machine, Host]:
    lives.launch(0, is_xen=is_xen, persistent=persistent, early=False)
    return lives.machines[-1], lives.hosts[0]


def _all_of(steps: Steps) -> None:
    for _ in steps:
        pass


def test_what_is_said_of_an_earlier_run_frees_nothing(lives: Lives) -> None:
    """A machine of Xen's reboots twice before the end of its first run is heard of: it is off, and lives."""
    machine, host = _launched(lives, is_xen=True, persistent=True)
    _all_of(lives._recreating(machine, host))
    lives._do(machine, lives._recreating(machine, host))
    lives._hear_out(host)
    lives.who_lives_has_kept_its_address()


def test_a_machine_that_is_undefined_and_saved_is_kept(lives: Lives) -> None:
    """That its definition is gone says nothing of a machine that ran: what became of it is said next."""
    machine, host = _launched(lives, is_xen=False, persistent=True)
    machine.persistent = False
    host.say(machine, DomainEvent(StopCause.UNDEFINED))
    _all_of(lives._saving(machine, host, announced=True))
    while host.said:
        lives._handle(host)
        lives.who_lives_has_kept_its_address()


def test_a_restored_machine_that_ends_at_once_is_freed(lives: Lives) -> None:
    """It was held, and nobody has looked while it ran: the events say that it did."""
    machine, host = _launched(lives, is_xen=False, persistent=False)
    _all_of(lives._saving(machine, host, announced=False))
    lives._hear_out(host)
    _all_of(lives._coming_back(machine, host))
    _all_of(lives._ending(machine, host, "gone first"))
    lives._hear_out(host)
    assert not lives._holds(machine)


@pytest.mark.invariant(10)
def test_reboots_in_a_row_are_not_taken_for_one_absence(lives: Lives) -> None:
    """Two looks, a long time apart, each find a machine that is rebooting: it was started in between."""
    machine, host = _launched(lives, is_xen=True, persistent=True)
    first = lives._recreating(machine, host)
    next(first)
    lives.scan(0)
    lives.clock[0] += _LONGEST_S
    _all_of(first)
    lives._do(machine, lives._recreating(machine, host))
    lives.clock[0] += _LONGEST_S
    lives._hear_out(host)
    assert not lives._is_due(host)
    lives.who_lives_has_kept_its_address()


def test_nobody_knows_what_happened_while_nobody_watched(lives: Lives) -> None:
    """A machine is off when the connection breaks, and off again when it is back: that is no long absence."""
    machine, host = _launched(lives, is_xen=True, persistent=True)
    first = lives._recreating(machine, host)
    next(first)
    lives.scan(0)
    lives.break_connection(0)
    _all_of(first)
    lives.clock[0] += TRANSITION_S + 1
    lives._do(machine, lives._recreating(machine, host))
    lives.break_connection(0)
    lives.scan(0)
    assert not lives._is_due(host)
    lives.who_lives_has_kept_its_address()


@pytest.mark.invariant(10)
def test_a_list_that_is_older_than_a_look_does_not_win(lives: Lives) -> None:
    """A machine is off in the list and runs again before the list is told of: there is no doubt."""
    machine, host = _launched(lives, is_xen=True, persistent=True)
    reboot = lives._recreating(machine, host)
    next(reboot)
    lives.list_domains(0)
    _all_of(reboot)
    lives._hear_out(host)
    lives.report_list(0)
    with lives.registry.read() as view:
        assert claims.doubted(view) == []


def test_a_machine_that_migrated_and_ended_is_freed(lives: Lives) -> None:
    """It is watched on both sides; what it has left at its source is no sign of life."""
    machine, host = _launched(lives, is_xen=False, persistent=True)
    target = lives.hosts[1]
    _all_of(lives._migrating(machine, host, target, early=True))
    lives._hear_out(target)
    lives._hear_out(host)
    _all_of(lives._ending(machine, target, "announced"))
    lives._hear_out(target)
    assert not lives._holds(machine)


TestLives = Lives.TestCase
TestLives.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
