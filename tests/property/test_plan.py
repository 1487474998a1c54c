"""Decisions carried out on a small model of dhcpd: from anywhere, interrupted anywhere, to the same end."""

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from macbind.addressing import MacAddress
from macbind.model import HostReservation, host_name
from macbind.plan import Change, Ensure, Remove, Step, decide

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
ADDRESSES = [IPv4Address("10.1.1.3"), IPv4Address("10.1.1.4")]
MACS = [MacAddress(0x00163E010103), MacAddress(0x00163E010104)]
MOST_STEPS = 3  # delete, create, and the look that finds nothing to do

addresses, macs = st.sampled_from(ADDRESSES), st.sampled_from(MACS)
generations = st.integers(1, 4)


@st.composite
def our_hosts(draw: st.DrawFn) -> HostReservation:
    """A host of ours; a torn record may have lost or changed its address."""
    address, generation = draw(addresses), draw(generations)
    serves = draw(st.sampled_from([address, address, None, IPv4Address("10.9.9.9")]))
    return HostReservation(host_name(address, generation), MACS[0], serves)


hosts = our_hosts() | st.builds(
    HostReservation, st.sampled_from(["printer", "macbind-static-10.1.1.3"]), macs, addresses
)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """An order of any age for any address under any MAC."""
    address, generation, mac = draw(addresses), draw(generations), draw(macs)
    if draw(st.booleans()):
        return Remove(address, generation, mac)
    return Ensure(address, generation, HostReservation(host_name(address, generation), mac, address))


@dataclass
class Model:
    """What OMAPI makes of dhcpd: at most one host per MAC, and per name; creating is refused otherwise."""

    hosts: dict[MacAddress, HostReservation] = field(default_factory=dict)

    @classmethod
    def holding(cls, given_hosts: list[HostReservation]) -> "Model":
        """A dhcpd with these hosts on distinct MACs, as far as their names differ."""
        model = cls()
        for mac, host in zip(MACS, given_hosts, strict=False):
            if host.name not in {one.name for one in model.hosts.values()}:
                model.hosts[mac] = replace(host, mac=mac)
        return model

    def carry_out(self, step: Step, change: Change) -> bool:
        """One step, as the server's code takes it; False once there is nothing left to do."""
        if step is Step.DELETE:
            del self.hosts[change.mac]
        elif step is Step.CREATE:
            assert isinstance(change, Ensure)
            # A host of our very name under another MAC is a remnant of ours, and makes way.
            for mac, host in list(self.hosts.items()):
                if host.name == change.reservation.name:
                    del self.hosts[mac]
            assert change.mac not in self.hosts
            self.hosts[change.mac] = change.reservation
        return step in (Step.DELETE, Step.CREATE)


def settle(model: Model, change: Change) -> Step:
    """Looks and acts until nothing is left to do; returns the last decision."""
    for _ in range(MOST_STEPS):
        step = decide(change, model.hosts.get(change.mac))
        if not model.carry_out(step, change):
            return step
    raise AssertionError(f"{change} never ends")


def is_newer(host: HostReservation, change: Change) -> bool:
    """Whether a host belongs to a later generation of the change's address."""
    return host.owner is not None and host.owner[0] == change.address and host.owner[1] > change.generation


@patient
@given(st.lists(hosts, max_size=2), changes())
def test_any_observation_converges_to_what_is_desired(start: list[HostReservation], change: Change) -> None:
    """From any state a change ends as desired, or with the reason why it must not touch what it found."""
    model = Model.holding(start)
    last = settle(model, change)
    found = model.hosts.get(change.mac)
    match last:
        case Step.NOTHING if isinstance(change, Ensure):
            assert found == change.reservation
        case Step.NOTHING:
            assert found is None
        case Step.FOREIGN:
            assert found is not None
            assert found.owner is None
        case Step.SUPERSEDED:
            assert found is not None
            assert is_newer(found, change) or (
                isinstance(change, Remove) and found.owner is not None and found.owner[0] != change.address
            )


@patient
@given(st.lists(hosts, max_size=2), st.lists(changes(), max_size=6))
def test_foreign_hosts_and_successors_never_change(
    start: list[HostReservation], orders: list[Change]
) -> None:
    """Whatever is ordered, others' hosts stay, and so does a generation newer than the order."""
    model = Model.holding(start)
    for change in orders:
        before = dict(model.hosts)
        settle(model, change)
        for mac, host in before.items():
            if host.owner is None or is_newer(host, change):
                assert model.hosts.get(mac) == host


@patient
@given(st.lists(hosts, max_size=2), changes(), st.integers(0, MOST_STEPS))
def test_interrupted_change_converges_when_it_is_planned_anew(
    start: list[HostReservation], change: Change, crash_after: int
) -> None:
    """A crash after any step costs nothing: looking and deciding anew leads to the same end."""
    undisturbed, crashed = Model.holding(start), Model.holding(start)
    settle(undisturbed, change)
    for _ in range(crash_after):
        crashed.carry_out(decide(change, crashed.hosts.get(change.mac)), change)
    settle(crashed, change)
    assert crashed.hosts == undisturbed.hosts


@patient
@given(st.lists(hosts, max_size=2), changes())
def test_repeating_an_order_changes_nothing(start: list[HostReservation], change: Change) -> None:
    """A change that arrives twice does nothing the second time."""
    model = Model.holding(start)
    settle(model, change)
    before = dict(model.hosts)
    settle(model, change)
    assert model.hosts == before


@patient
@given(st.permutations(range(1, 5)), st.sets(st.integers(1, 4)))
def test_orders_that_arrive_in_any_order_never_serve_an_old_generation_over_a_new_one(
    arrival: list[int], removed: set[int]
) -> None:
    """However late each message of an address's history is, a newer generation is never replaced by an older."""
    model, newest = Model(), 0
    for generation in arrival:
        host = HostReservation(host_name(ADDRESSES[0], generation), MACS[0], ADDRESSES[0])
        settle(model, Ensure(ADDRESSES[0], generation, host))
        newest = max(newest, generation)
        if generation in removed and generation < newest:
            settle(model, Remove(ADDRESSES[0], generation, MACS[0]))
        owner = model.hosts[MACS[0]].owner
        assert owner == (ADDRESSES[0], newest)
