"""The simulation of a farm: what is known by arithmetic comes out of it."""

import random
from dataclasses import replace

import pytest

from bench.farm_simulation import Costs, Demand, Station, on_paper, saturation, simulate

COSTS = Costs(
    request=0.001,
    once=0.002,
    allocate=0.0001,
    release=0.0002,
    flush=0.001,
    add=0.0001,
    delete=0.0002,
    exchange=0.0002,
    renewal=0.0001,
    event=0.0005,
    scan=0.0002,
    compare=0.0001,
    look_up=0.00003,
)
SMALL = Demand(standing=20_000, seconds=200)


@pytest.mark.parametrize(
    "demand",
    [SMALL, replace(SMALL, burst_s=20), replace(SMALL, group=10), replace(SMALL, hypervisors=10)],
    ids=["by chance", "in bursts", "in groups", "watched"],
)
def test_no_machine_is_lost(demand: Demand) -> None:
    """Those of the beginning and those that were born have ended or are alive; each call is answered or waits."""
    found = simulate(COSTS, demand)
    assert found.born == pytest.approx(demand.rate * demand.seconds, rel=0.15)
    assert demand.standing + found.born == found.ended + found.alive
    answered = sum(map(len, found.waits.values()))
    assert (answered + found.backlog) * demand.group == found.born + found.ended


def test_a_part_is_as_busy_as_rate_times_cost() -> None:
    """Without anything that calls share, the simulation finds what the paper says."""
    costs, demand = replace(COSTS, once=0.0), replace(SMALL, compare_s=10, seconds=300)
    found, paper = simulate(costs, demand), on_paper(costs, demand)
    for name in ("service", "dhcpd"):
        assert found.utilisation[name] == pytest.approx(paper[name].at(SMALL.rate), rel=0.05), name


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_work_by_chance_waits_as_queueing_theory_says(load: float) -> None:
    """Equal work that comes by chance (M/D/1) waits for cost * load / (2 - 2 * load) in the mean."""
    expected = 0.01 * load / (2 * (1 - load))
    asked, streaming = Station(chance := random.Random(1)), Station(random.Random(2), load / 0.01, 0.01)
    now, waited, beside = 0.0, [], []
    for _ in range(40_000):
        now += chance.expovariate(load / 0.01)
        waited.append(asked.serve(now, 0.01) - now - 0.01)
        beside.append(streaming.serve(now, 0.0) - now)
    assert sum(waited) / len(waited) == pytest.approx(expected, rel=0.1)
    assert sum(beside) / len(beside) == pytest.approx(expected, rel=0.1)


def test_a_part_saturates_at_one_over_its_cost() -> None:
    """A machine costs dhcpd 8 ms, so 125 are too many; paper and trying agree."""
    costs, demand = Costs(add=0.005, delete=0.003), Demand(standing=100_000)
    assert on_paper(costs, demand)["dhcpd"].saturates_at == pytest.approx(125)
    rate, part = saturation(costs, demand)
    assert rate == pytest.approx(125, rel=0.15)
    assert part == "dhcpd"


def test_what_comes_together_shares_a_flush() -> None:
    """Alone each change has a flush; where the disk is slow, one flush has many; a group has one."""
    few, slow = simulate(COSTS, replace(SMALL, rate=1)), simulate(replace(COSTS, flush=0.2), SMALL)
    assert few.flushes >= 0.95 * (few.born + few.ended)
    assert slow.flushes <= SMALL.seconds / 0.2
    assert slow.backlog < SMALL.rate
    together = simulate(COSTS, replace(SMALL, group=10))
    assert together.flushes <= (together.born + together.ended) / 10


def test_one_seed_has_one_outcome() -> None:
    """The same numbers come out again, and others with another seed."""
    demand = replace(SMALL, seconds=20)
    assert simulate(COSTS, demand) == simulate(COSTS, demand)
    assert simulate(COSTS, demand) != simulate(COSTS, replace(demand, seed=2))


def test_more_parts_share_the_work() -> None:
    """A follower takes the calls off the leader; DHCP servers halve what machines ask of each."""
    one = on_paper(COSTS, SMALL)
    two = on_paper(COSTS, replace(SMALL, controllers=2, servers=2))
    assert two["follower"].at(50) + two["leader"].at(50) == pytest.approx(one["service"].at(50))
    assert two["dhcpd 1"].standing == two["dhcpd 2"].standing < one["dhcpd"].standing
    found = simulate(COSTS, replace(SMALL, controllers=2, servers=2, seconds=50))
    assert set(found.utilisation) == {"follower", "leader", "dhcpd 1", "dhcpd 2", "registry"}


def test_a_scan_bounds_the_machines_that_can_be_watched() -> None:
    """At 0.2 ms a domain each minute a processor reads 300,000, and nothing else."""
    costs, demand = Costs(scan=0.0002), Demand(standing=300_000, hypervisors=100)
    assert on_paper(costs, demand)["service"].saturates_at == 0
    assert on_paper(costs, replace(demand, standing=150_000))["service"].standing == pytest.approx(0.5)
    assert on_paper(costs, replace(demand, hypervisors=0))["service"].standing == 0
