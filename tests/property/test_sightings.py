"""Which domains have a MAC: found without a look at any other, whatever was seen before."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from macbind.core.domain import NOTHING_SAID, Domain, DomainEvent, DomainState, StopCause
from macbind.core.mac_address import MacAddress
from macbind.engine.domains.sightings import Sightings

MACS = [MacAddress(0x00163E010100 + number) for number in range(4)]
UUIDS = ["a", "b", "c"]
HOSTS = ["one", "two"]


def domains(uuid: str, host: str) -> st.SearchStrategy[Domain]:
    """A domain of this UUID with any MACs, in any state."""
    states, macs = st.sampled_from(DomainState), st.frozensets(st.sampled_from(MACS), max_size=2)
    return st.builds(lambda state, macs: Domain(uuid, f"vm-{uuid}", host, state, macs, macs), states, macs)


LISTS = st.sampled_from(HOSTS).flatmap(
    lambda host: st.tuples(
        st.just(host),
        st.fixed_dictionaries({}, optional={uuid: domains(uuid, host) for uuid in UUIDS}),
    )
)
LOOKS = st.tuples(st.sampled_from(HOSTS), st.sampled_from(UUIDS)).flatmap(
    lambda at: st.tuples(st.just(at[0]), st.just(at[1]), st.none() | domains(at[1], at[0]))
)
EVENTS = st.sampled_from([NOTHING_SAID, DomainEvent(started=True), DomainEvent(StopCause.ENDED)])


@given(st.lists(st.one_of(LISTS, st.tuples(LOOKS, EVENTS), st.sampled_from(HOSTS)), max_size=12))
def test_those_that_have_a_mac_are_found(steps: list[Any]) -> None:
    """After lists, looks and new connections in any order, as by asking each domain."""
    sightings = Sightings(HOSTS)
    for at, step in enumerate(steps):
        match step:
            case str(host):
                sightings.begin(host)
            case (str(host), dict(listed)):
                sightings.of[host].take_list(listed, at - 1)
            case ((str(host), str(uuid), domain), DomainEvent() as event):
                sightings.of[host].take_look(uuid, domain, event, at, 1.5)
        everywhere = sightings.domains()
        for macs in ([], MACS[:1], MACS[1:3], MACS):
            expected = [one for one in everywhere if one.macs & set(macs)]
            assert set(sightings.having(macs)) == set(expected)
            assert len(sightings.having(macs)) == len(expected)
            for host in HOSTS:
                assert set(sightings.having(macs, host)) == {
                    one for one in expected if one.hypervisor == host
                }
