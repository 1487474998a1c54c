"""Two owners on two hypervisors: whatever one does with his domains, the other's allocation stays as it is.

Each owner has a machine, with the allocation's MAC, and a toy: a domain that he defines, starts, saves, renames,
undefines and gives any MAC and any UUID, also the other's. The tracker and the registry are real; libvirt is a model.
Metadata are not in it, because what the tracker is told of a domain has none.
"""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
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
from macbind.core.domain import Domain, DomainEvent, DomainState, StopCause
from macbind.core.findings import HypervisorStatus
from macbind.core.mac_address import MacAddress
from macbind.core.pool import Pool, ReleasePolicy, Subnet
from macbind.engine.domain_tracker import DomainTracker
from macbind.engine.group_commit import GroupCommitter
from macbind.registry import claims
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.store import Registry
from macbind.virt.agenda import Look

NETWORK = IPv4Network("10.77.0.0/16")
_SINCE = datetime(2026, 1, 1, tzinfo=UTC)
_STARTED = DomainEvent(started=True)
_FREE, _OWN = MacAddress.parse("52:54:00:00:00:01"), "own"


@dataclass
class Host:
    """A hypervisor: its domains, and what it has said and nobody has handled."""

    name: str
    domains: dict[str, Domain] = field(default_factory=dict)
    said: deque[Look] = field(default_factory=deque)
    tried: threading.Event = field(default_factory=threading.Event)

    @property
    def status(self) -> HypervisorStatus:
        """Always connected."""
        return HypervisorStatus(self.name, "", connected=True, since=_SINCE)

    def start(self) -> None:
        """Nothing."""

    stop = start

    def close(self, within_s: float = 0.0) -> None:
        """Nothing."""

    def look(self, uuid: str) -> Domain | None:
        """The domain as it is now."""
        return self.domains.get(uuid)

    def ask_again(self, uuid: str, at: float) -> None:
        """Nobody waits for so long here."""

    def put(self, domain: Domain, state: DomainState, event: DomainEvent, *, persistent: bool = True) -> None:
        """A domain is in a state from now on, and that is said."""
        known = self.domains.get(domain.uuid, domain)
        self.domains[domain.uuid] = Domain(
            domain.uuid, known.name, self.name, state, known.macs, known.macs, is_persistent=persistent
        )
        self.said.append(Look(domain.uuid, event))

    def save_to_file(self, uuid: str) -> None:
        """A running domain without a definition is saved: libvirt shows nothing of it."""
        self.put(self.domains[uuid], DomainState.ACTIVE, DomainEvent(), persistent=False)
        del self.domains[uuid]
        self.said.append(Look(uuid, DomainEvent(StopCause.SAVED)))

    def remove(self, uuid: str) -> None:
        """A domain is undefined."""
        del self.domains[uuid]
        self.said.append(Look(uuid, DomainEvent(StopCause.UNDEFINED)))


def _domain(uuid: str, name: str, host: Host, *macs: MacAddress) -> Domain:
    return Domain(uuid, name, host.name, DomainState.OFF, frozenset(macs), frozenset(macs))


class Owners(RuleBasedStateMachine):
    """The two owners, and a service that looks whenever it likes."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory(dir="/dev/shm")
        self.hosts = [Host("one"), Host("two")]
        self.machines: dict[int, tuple[Host, str, Allocation]] = {}
        self.toys: dict[int, tuple[Host, str]] = {}
        self.saved: dict[int, Domain] = {}
        """Machines that are saved to a file, by their owner."""
        self.clock = [1000.0]

    @initialize(policy=st.sampled_from(ReleasePolicy), homes=st.tuples(st.integers(0, 1), st.integers(0, 1)))
    def begin(self, policy: ReleasePolicy, homes: tuple[int, int]) -> None:
        """Each owner has an allocation, and a machine that was defined for it."""
        self.policy = policy
        plan = AddressPlan.build(
            NETWORK, "00:16:3e", gateways=[NETWORK[1]], ranges=[AddressRange(NETWORK[10], NETWORK[90])]
        )
        pool = Pool("farm", plan, Subnet(NETWORK), ("main",), release=policy, claim_timeout_s=900)
        url = f"sqlite:///{self._directory.name}/registry.db"
        self.registry = Registry.open(url, {"farm": pool}, ["main"], ["one", "two"])
        self.committer = GroupCommitter(self.registry, lambda: None)
        self.committer.start()
        hosts = {host.name: host for host in self.hosts}
        how = HypervisorSettings.model_construct(uri="", transition_s=15.0, grace_s=30.0)
        self.tracker = DomainTracker(
            self.registry,
            self.committer,
            dict.fromkeys(hosts, how),
            watch=lambda name, *_, **__: hosts[name],
            clock=lambda: self.clock[0],
        )
        for host in self.hosts:
            self.tracker.connected(host.name)
            self.tracker.scanned(host.name, {}, self.clock[0])
        for owner, home in enumerate(homes):
            wanted = Wanted("farm", (f"vm{owner}",))
            made = self.committer.submit("test", partial(allocate, wanted=wanted))
            one, host, uuid = made.result()[0], self.hosts[home], str(UUID(int=owner + 1))
            self.machines[owner] = host, uuid, one
            host.put(_domain(uuid, one.name, host, one.mac), DomainState.OFF, DomainEvent())
            self._hear_out(host)

    def teardown(self) -> None:
        """In the end all is heard and listed."""
        with self._directory:
            if not hasattr(self, "registry"):
                return
            try:
                for host in self.hosts:
                    self._hear_out(host)
                    self.scan(self.hosts.index(host))
                self.each_has_what_is_his()
            finally:
                self.committer.close()
                self.registry.close()

    # -- what an owner does with his machine -----------------------------------------------------------

    @rule(
        owner=st.integers(0, 1),
        what=st.sampled_from(["start", "save", "save to file", "restart", "rename", "destroy"]),
        are_heard=st.booleans(),
    )
    def use_machine(self, owner: int, what: str, are_heard: bool) -> None:
        """It goes on in some way, or ends where the pool keeps what is off."""
        host, uuid, _ = self.machines[owner]
        if owner in self.saved:  # it is restored, and defined again
            host.put(self.saved.pop(owner), DomainState.ACTIVE, _STARTED)
            return
        domain = host.domains[uuid]
        if what == "save to file":
            if domain.state is DomainState.ACTIVE:
                if are_heard:
                    self._hear_out(host)
                self.saved[owner] = domain
                host.save_to_file(uuid)
        elif what == "rename":
            names = {one.name for one in host.domains.values()}
            if domain.state is DomainState.OFF and f"{domain.name}x" not in names:
                host.domains[uuid] = _domain(uuid, f"{domain.name}x", host, *domain.macs)
                host.said.append(Look(uuid, DomainEvent()))
        elif domain.state is not DomainState.ACTIVE:
            host.put(domain, DomainState.ACTIVE, _STARTED)
        elif what == "save":
            host.put(domain, DomainState.HELD, DomainEvent(StopCause.SAVED))
        elif what == "restart":
            host.put(domain, DomainState.OFF, DomainEvent(StopCause.BY_ITSELF))
            if owner:  # somebody looks in between, or nobody
                self._hear_out(host)
            host.put(domain, DomainState.ACTIVE, _STARTED)
        elif what == "destroy" and self.policy is not ReleasePolicy.DESTROY:
            host.put(domain, DomainState.OFF, DomainEvent(StopCause.ENDED))

    # -- what he does with his toy ---------------------------------------------------------------------

    @rule(
        owner=st.integers(0, 1),
        at=st.integers(0, 1),
        uuid=st.sampled_from([_OWN, "1", "2"]),
        macs=st.sets(st.sampled_from([0, 1, 2]), min_size=1),
        name=st.sampled_from(["toy", "vm0", "vm1"]),
        state=st.sampled_from([DomainState.OFF, DomainState.ACTIVE]),
    )
    def make_toy(self, owner: int, at: int, uuid: str, macs: set[int], name: str, state: DomainState) -> None:
        """A domain with any MACs, and any UUID and name that the hypervisor takes."""
        host = self.hosts[at]
        number = str(UUID(int=100 + owner)) if uuid == _OWN else str(UUID(int=int(uuid)))
        away = {self.machines[one][1] for one in self.saved if self.machines[one][0] is host}
        taken = number in host.domains.keys() | away or name in {one.name for one in host.domains.values()}
        if owner in self.toys or taken:
            return
        having = [_FREE if one == 2 else self.machines[one][2].mac for one in macs]
        self.toys[owner] = host, number
        host.put(
            _domain(number, name, host, *having),
            state,
            _STARTED if state is DomainState.ACTIVE else DomainEvent(),
        )

    @precondition(lambda self: self.toys)
    @rule(
        owner=st.integers(0, 1),
        what=st.sampled_from(
            ["start", "save", "destroy", "shutdown", "undefine", "other MACs", "other UUID", "rename"]
        ),
        mac=st.integers(0, 2),
    )
    def use_toy(self, owner: int, what: str, mac: int) -> None:
        """Anything that a domain can do."""
        if owner not in self.toys:
            return
        host, uuid = self.toys[owner]
        domain = host.domains[uuid]
        match what, domain.state is DomainState.ACTIVE:
            case "start", False:
                host.put(domain, DomainState.ACTIVE, _STARTED)
            case "save", True:
                host.put(domain, DomainState.HELD, DomainEvent(StopCause.SAVED))
            case "destroy", True:
                host.put(domain, DomainState.OFF, DomainEvent(StopCause.ENDED))
            case "shutdown", True:
                host.put(domain, DomainState.OFF, DomainEvent(StopCause.BY_ITSELF))
            case "undefine", False:
                host.remove(uuid)
                del self.toys[owner]
            case "other MACs", False:
                having = _FREE if mac == 2 else self.machines[mac][2].mac
                host.domains[uuid] = _domain(uuid, domain.name, host, having)
                host.said.append(Look(uuid, DomainEvent()))
            case "other UUID", False if (other := str(UUID(int=mac + 1))) not in self._uuids_at(host):
                host.remove(uuid)
                host.put(_domain(other, domain.name, host, *domain.macs), DomainState.OFF, DomainEvent())
                self.toys[owner] = host, other
            case "rename", False if f"{domain.name}y" not in {one.name for one in host.domains.values()}:
                host.domains[uuid] = _domain(uuid, f"{domain.name}y", host, *domain.macs)
                host.said.append(Look(uuid, DomainEvent()))

    def _uuids_at(self, host: Host) -> set[str]:
        """Those that are taken at a hypervisor, by what is there and by what was saved there."""
        return host.domains.keys() | {uuid for at, uuid, _ in self.machines.values() if at is host}

    # -- what the service does -------------------------------------------------------------------------

    @precondition(lambda self: any(host.said for host in self.hosts))
    @rule(at=st.integers(0, 1))
    def handle(self, at: int) -> None:
        """The first event of a hypervisor is handled."""
        if self.hosts[at].said:
            self._handle(self.hosts[at])

    @rule(at=st.integers(0, 1))
    def scan(self, at: int) -> None:
        """All domains of a hypervisor are listed."""
        host = self.hosts[at]
        self.tracker.scanned(host.name, dict(host.domains), self.clock[0])
        self.clock[0] += 0.001

    @rule(seconds=st.sampled_from([0.1, 1.0, 4.0]))
    def wait(self, seconds: float) -> None:
        """Time passes, and what is done from time to time is done."""
        self.clock[0] += seconds
        self.tracker.release_abandoned()
        self.tracker.findings()

    def _handle(self, host: Host) -> None:
        # As with the watcher's agenda, a look that says nothing comes after all that says something.
        item = next((one for one in host.said if one.event.says_something), host.said[0])
        host.said.remove(item)
        self.tracker.changed(host.name, item.uuid, host.look(item.uuid), item.event)
        self.clock[0] += 0.001

    def _hear_out(self, host: Host) -> None:
        while host.said:
            self._handle(host)

    # -- what must be so -------------------------------------------------------------------------------

    @invariant()
    def each_has_what_is_his(self) -> None:
        """The same address and generation, and his own machine as its recorded user."""
        if len(self.machines) < 2:
            return
        with self.registry.read() as view:
            held = {
                one.name: one
                for one in claims.of_macs(view, [one.mac for _, _, one in self.machines.values()])
            }
        for host, uuid, made in self.machines.values():
            one = held.get(made.name)
            assert one is not None, f"{made.name} has lost its address"
            assert (one.address, one.generation) == (made.address, made.generation)
            assert (one.hypervisor, one.uuid) == (host.name, uuid), f"{made.name} has another user"


TestOwners = Owners.TestCase
TestOwners.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.parametrize("policy", ReleasePolicy)
def test_a_copy_of_a_machine_that_is_saved_to_a_file_changes_nothing(policy: ReleasePolicy) -> None:
    """libvirt shows nothing of the machine. A copy with its MAC, UUID and name runs and ends on the other one."""
    owners = Owners()
    try:
        owners.begin(policy, (0, 1))
        mine, theirs = owners.hosts
        for what in ("start", "save to file"):
            owners.use_machine(0, what, are_heard=True)
            owners._hear_out(mine)
        owners.make_toy(1, 1, "1", {0}, "vm0", DomainState.ACTIVE)
        owners._hear_out(theirs)
        for what in ("destroy", "undefine"):
            owners.use_toy(1, what, 0)
            owners._hear_out(theirs)
        owners.each_has_what_is_his()
        owners.use_machine(0, "start", are_heard=True)
    finally:
        owners.teardown()


def test_an_old_end_that_is_heard_of_after_a_list_lacks_the_machine_frees_nothing() -> None:
    """It stopped, was started, and was saved to a file. All of that waits, and a list comes first."""
    owners = Owners()
    try:
        owners.begin(ReleasePolicy.DESTROY, (1, 0))
        owners.use_machine(0, "start", are_heard=True)
        owners._hear_out(owners.hosts[1])
        owners.use_machine(0, "restart", are_heard=True)
        owners.use_machine(0, "save to file", are_heard=False)
        owners.scan(1)
        while owners.hosts[1].said:
            owners.handle(1)
            owners.each_has_what_is_his()
    finally:
        owners.teardown()


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_copy_of_a_machine_that_only_a_list_lacks_becomes_nobody(is_restarted: bool) -> None:
    """A copy of its UUID runs elsewhere. That it was saved to a file is said, and waits behind a list."""
    owners = Owners()
    try:
        owners.begin(ReleasePolicy.DESTROY, (1, 0))
        other, mine = owners.hosts
        owners.make_toy(1, 0, "1", {0}, "toy", DomainState.ACTIVE)
        owners._hear_out(other)
        owners.use_machine(0, "start", are_heard=True)
        if is_restarted:
            owners._hear_out(mine)
            owners.use_machine(0, "restart", are_heard=True)
        owners.use_machine(0, "save to file", are_heard=False)
        owners.scan(1)
        while mine.said:
            owners.scan(0)
            owners.each_has_what_is_his()
            owners.handle(1)
        owners.scan(0)
    finally:
        owners.teardown()
