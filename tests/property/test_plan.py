"""Decisions carried out on a small model of dhcpd: from anywhere, interrupted anywhere, to the same end."""

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from macbind.core.binding import Binding, binding_name
from macbind.core.binding_plan import Change, Ensure, Observed, Remove, Step, decide, plan
from macbind.core.mac_address import MacAddress

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
ADDRESSES = [IPv4Address("10.1.1.3"), IPv4Address("10.1.1.4")]
MACS = [MacAddress(0x00163E010103), MacAddress(0x00163E010104)]
MOST_STEPS = 3  # delete, create, and the look that finds nothing to do

addresses, macs = st.sampled_from(ADDRESSES), st.sampled_from(MACS)
generations = st.integers(1, 4)


@st.composite
def our_hosts(draw: st.DrawFn) -> Binding:
    """A host of ours; a torn record may have lost or changed its address."""
    address, generation = draw(addresses), draw(generations)
    serves = draw(st.sampled_from([address, address, None, IPv4Address("10.9.9.9")]))
    return Binding(binding_name(address, generation), MACS[0], serves)


hosts = our_hosts() | st.builds(
    Binding, st.sampled_from(["printer", "macbind-static-10.1.1.3"]), macs, addresses
)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """An order of any age for any address under any MAC."""
    address, generation, mac = draw(addresses), draw(generations), draw(macs)
    if draw(st.booleans()):
        return Remove(address, generation, mac)
    return Ensure(address, generation, Binding(binding_name(address, generation), mac, address))


@dataclass
class Model:
    """What OMAPI makes of dhcpd: at most one host per MAC, and per name; creating is refused otherwise.

    What it has lost from memory may still be on its disk, and comes back when it starts again.
    """

    hosts: dict[MacAddress, Binding] = field(default_factory=dict)
    lost_deletions: dict[MacAddress, Binding] = field(default_factory=dict)

    @property
    def on_disk(self) -> list[Binding]:
        """The hosts in its lease file."""
        return [*self.hosts.values(), *self.lost_deletions.values()]

    def restart(self) -> None:
        """Reads the lease file: what is there twice is held once."""
        names = {host.name for host in self.hosts.values()}
        for mac, host in self.lost_deletions.items():
            if mac not in self.hosts and host.name not in names:
                self.hosts[mac] = host
        self.lost_deletions = {}

    @classmethod
    def holding(cls, given_hosts: list[Binding]) -> "Model":
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
            self.lost_deletions.pop(change.mac, None)
        elif step is Step.CREATE:
            assert isinstance(change, Ensure)
            # A host of our very name under another MAC is a remnant of ours, and makes way.
            for mac, host in list(self.hosts.items()):
                if host.name == change.binding.name:
                    del self.hosts[mac]
            assert change.mac not in self.hosts
            self.hosts[change.mac] = change.binding
        return step in (Step.DELETE, Step.CREATE)


def settle(model: Model, change: Change) -> Step:
    """Looks and acts until nothing is left to do; returns the last decision."""
    for _ in range(MOST_STEPS):
        step = decide(change, model.hosts.get(change.mac))
        if not model.carry_out(step, change):
            return step
    raise AssertionError(f"{change} never ends")


def is_newer(host: Binding, change: Change) -> bool:
    """Whether a host belongs to a later generation of the change's address."""
    return host.owner is not None and host.owner[0] == change.address and host.owner[1] > change.generation


@patient
@given(st.lists(hosts, max_size=2), changes())
def test_any_observation_converges_to_what_is_desired(start: list[Binding], change: Change) -> None:
    """From any state a change ends as desired, or with the reason why it must not touch what it found."""
    model = Model.holding(start)
    last = settle(model, change)
    found = model.hosts.get(change.mac)
    match last:
        case Step.NOTHING if isinstance(change, Ensure):
            assert found == change.binding
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
@pytest.mark.invariant(6)
def test_foreign_hosts_and_successors_never_change(start: list[Binding], orders: list[Change]) -> None:
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
    start: list[Binding], change: Change, crash_after: int
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
def test_repeating_an_order_changes_nothing(start: list[Binding], change: Change) -> None:
    """A change that arrives twice does nothing the second time."""
    model = Model.holding(start)
    settle(model, change)
    before = dict(model.hosts)
    settle(model, change)
    assert model.hosts == before


@patient
@given(st.permutations(range(1, 5)), st.sets(st.integers(1, 4)))
@pytest.mark.invariant(5)
def test_orders_that_arrive_in_any_order_never_serve_an_old_generation_over_a_new_one(
    arrival: list[int], removed: set[int]
) -> None:
    """However late each message of an address's history is, a newer generation is never replaced by an older."""
    model, newest = Model(), 0
    for generation in arrival:
        host = Binding(binding_name(ADDRESSES[0], generation), MACS[0], ADDRESSES[0])
        settle(model, Ensure(ADDRESSES[0], generation, host))
        newest = max(newest, generation)
        if generation in removed and generation < newest:
            settle(model, Remove(ADDRESSES[0], generation, MACS[0]))
        owner = model.hosts[MACS[0]].owner
        assert owner == (ADDRESSES[0], newest)


# -- whole states ------------------------------------------------------------------------------------------


@st.composite
def desires(draw: st.DrawFn) -> list[Ensure]:
    """What a registry may want: some of the addresses, each once, under its own MAC or pinned to the other's."""
    wanted = draw(st.sets(addresses))
    swapped = len(wanted) == 1 and draw(st.booleans())
    pairs = zip(ADDRESSES, reversed(MACS) if swapped else MACS, strict=True)
    return [
        Ensure(address, number, Binding(binding_name(address, number), mac, address))
        for address, mac in pairs
        if address in wanted
        for number in [draw(st.integers(5, 9))]  # newer than whatever was observed, as generations are
    ]


def look(model: Model, desired: list[Ensure]) -> Observed:
    """What a comparison sees of the model."""
    macs = {one.mac for one in desired} | {host.mac for host in model.on_disk}
    return Observed({mac: model.hosts.get(mac) for mac in macs}, model.on_disk)


def follow(model: Model, desired: list[Ensure], most: int | None = None) -> None:
    """Carries out a plan, or its first changes only."""
    found = plan(desired, look(model, desired))
    changes: list[Change] = [*found.mend, *found.clear]
    for change in changes[:most]:
        settle(model, change)


models = st.builds(
    lambda held, lost: Model(Model.holding(held).hosts, Model.holding(lost).hosts),
    st.lists(hosts, max_size=2),
    st.lists(hosts, max_size=2),
)


@patient
@given(models, desires())
def test_plan_leads_to_what_is_desired_and_nothing_else_of_ours(model: Model, desired: list[Ensure]) -> None:
    """Following a plan leaves exactly the desired reservations, and those of others."""
    others = {mac: host for mac, host in model.hosts.items() if host.owner is None}
    follow(model, desired)
    blocked = {one.mac for one in desired} & others.keys()
    assert model.hosts == {one.mac: one.binding for one in desired if one.mac not in blocked} | others


@patient
@given(models, desires(), st.integers(0, 4), st.booleans())
def test_any_prefix_of_a_plan_and_a_new_plan_lead_to_the_same_end(
    model: Model, desired: list[Ensure], crash_after: int, dhcpd_restarts: bool
) -> None:
    """A plan that was cut short anywhere, even by the end of dhcpd as well, is made good by the next one."""
    follow(model, desired, crash_after)
    if dhcpd_restarts:
        model.restart()
    follow(model, desired)
    blocked = {one.mac for one in desired if model.hosts[one.mac].owner is None}
    assert {one.mac: model.hosts[one.mac] for one in desired if one.mac not in blocked} == {
        one.mac: one.binding for one in desired if one.mac not in blocked
    }
    assert {mac for mac, host in model.hosts.items() if host.owner} == {one.mac for one in desired} - blocked
    after = plan(desired, look(model, desired))
    assert {one.mac for one in after.mend} == blocked
    assert not after.clear


@patient
@given(models, desires(), st.sets(addresses))
@pytest.mark.invariant(9)
def test_plans_of_slices_are_the_slices_of_the_plan(
    model: Model, desired: list[Ensure], first: set[IPv4Address]
) -> None:
    """Comparing the addresses in parts finds what comparing them at once finds."""
    whole = plan(desired, look(model, desired))
    parts = [
        plan(
            [one for one in desired if (one.address in first) is here],
            Observed(
                look(model, desired).answered,
                [host for host in model.on_disk if host.owner and (host.owner[0] in first) is here],
            ),
        )
        for here in (True, False)
    ]
    assert sorted(map(str, whole.mend)) == sorted(str(one) for part in parts for one in part.mend)
    assert sorted(map(str, whole.clear)) == sorted(str(one) for part in parts for one in part.clear)
