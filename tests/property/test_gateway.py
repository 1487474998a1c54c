"""Gateways by rule against brute force: every address of a small network is asked."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import assume, given
from hypothesis import strategies as st

from macbind.core.address_plan import AddressPlan
from macbind.core.address_range import AddressRange, by_gateway
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import InvalidAddress
from macbind.core.gateway_rule import GatewayRule
from macbind.core.pool import Pool, Subnet
from macbind.core.static_route import StaticRoute
from macbind.dhcp.isc import syntax
from macbind.guest.facts import GuestPool

octets = st.integers(0, 255)
rules = st.tuples(*[st.none() | octets] * 3, octets).map(GatewayRule)
addresses = st.integers(0, 0xFFFFFFFF).map(IPv4Address)


@st.composite
def networks(draw: st.DrawFn) -> IPv4Network:
    """A network small enough to ask every address: around an octet's boundary, or within one octet."""
    return IPv4Network((int(draw(addresses)), draw(st.integers(22, 30))), strict=False)


@st.composite
def rules_on(draw: st.DrawFn, network: IPv4Network) -> GatewayRule:
    """A rule all of whose gateways are machines' addresses on the network."""
    inside = draw(st.integers(int(network[1]), int(network[-2])).map(IPv4Address)).packed
    first, second, third = (draw(st.sampled_from([None, octet])) for octet in inside[:3])
    rule = GatewayRule((first, second, third, inside[3]))
    assume(not network.is_multicast and not {network[0], network[-1]} & set(rule.gateways(network)))
    return rule


@given(rules, addresses)
def test_a_gateway_is_its_own(rule: GatewayRule, address: IPv4Address) -> None:
    """Octet by octet the gateway is the rule's number or the machine's own, and asking again changes nothing."""
    gateway = rule.of(address)
    for said, own, made in zip(rule.octets, address.packed, gateway.packed, strict=True):
        assert made == (own if said is None else said)
    assert rule.of(gateway) == gateway
    assert rule.is_gateway(gateway)
    assert rule.is_gateway(address) == (gateway == address)
    assert GatewayRule.parse(str(rule)) == rule


@given(rules, networks())
def test_gateways_of_a_network_are_those_of_its_addresses(rule: GatewayRule, network: IPv4Network) -> None:
    """All of them, each once, lowest first, and counted without being made; all inside the network or none."""
    made = list(rule.gateways(network))
    assert made == sorted({rule.of(address) for address in network})
    assert len(made) == rule.count(network)
    assert len({gateway in network for gateway in made}) == 1
    if made[0] in network:
        assert made == [address for address in network if rule.is_gateway(address)]


@given(rules, networks(), st.lists(st.tuples(octets, octets), max_size=4))
def test_ranges_are_cut_where_the_gateway_changes(
    rule: GatewayRule, network: IPv4Network, ends: list[tuple[int, int]]
) -> None:
    """The pieces are the ranges' addresses in their order, each with its gateway, and no piece could be longer."""
    size = network.num_addresses
    ranges = [AddressRange(*sorted((network[lo % size], network[hi % size]))) for lo, hi in ends]
    pieces = list(by_gateway(rule, ranges))
    assert [one for _, piece in pieces for one in piece] == [one for item in ranges for one in item]
    assert all({rule.of(one) for one in piece} == {gateway} for gateway, piece in pieces)


@given(networks(), st.data())
def test_a_plan_hands_out_no_gateway(network: IPv4Network, data: st.DataObject) -> None:
    """What is left are the addresses that are nobody's gateway, and exactly the others are forbidden."""
    kept = data.draw(st.lists(rules_on(network), min_size=1, max_size=2))
    nobody = {network[0], network[-1]}
    left = [one for one in network if one not in nobody and not any(rule.of(one) == one for rule in kept)]
    try:
        plan = AddressPlan.build(network, "0a:58", rules=kept)
    except InvalidAddress:
        assert not left
        return
    assert [one for item in plan.assignable for one in item] == left
    assert [one for one in network if not plan.forbids(one)] == left
    assert [one for one in network if one in plan] == left


options = st.builds(
    DhcpOptions,
    routers=st.lists(st.just(IPv4Address("10.9.0.9")), max_size=1).map(tuple),
    static_routes=st.lists(
        st.sampled_from(["0.0.0.0/0", "10.3.0.0/16"]).map(
            lambda net: StaticRoute(IPv4Network(net), IPv4Address("10.9.0.8"))
        ),
        max_size=2,
    ).map(tuple),
)


@given(networks(), st.data(), options, options, options)
def test_guests_and_dhcpd_agree(
    network: IPv4Network, data: st.DataObject, machine: DhcpOptions, pool: DhcpOptions, subnet: DhcpOptions
) -> None:
    """A guest may use exactly the addresses that are not forbidden, with the gateway that DHCP would tell it."""
    first, second = (data.draw(st.none() | rules_on(network)) for _ in range(2))
    kept = [rule for rule in (first, second) if rule is not None]
    try:
        plan = AddressPlan.build(network, "0a:58", rules=kept, gateways=[network[1]])
    except InvalidAddress:
        assume(False)
    made = Pool(
        "p", plan, Subnet(network, subnet, gateway_rule=first), ("d",), options=pool, own_gateway_rule=second
    )
    guest = GuestPool.of(made)
    for address in network:
        assert made.gateway_of(address) == made.effective_options(address).gateway
        assert made.gateway_of(address, machine) == made.effective_options(address, machine).gateway
        own = None if guest.gateway is None else guest.gateway.of(address)
        assert own == made.gateway_of(address)
        if address != own:
            gateway = any(rule.is_gateway(address) for rule in guest.others)
            assert (any(address in item for item in guest.ranges) and not gateway) == (address in plan)
            assert (address not in guest.forbidden and not gateway) == (not plan.forbids(address))
        elif guest.gateway is not None and guest.gateway in kept:
            assert plan.forbids(address)


@given(networks(), st.data(), options, options)
def test_statements_depend_on_the_gateway_only(
    network: IPv4Network, data: st.DataObject, pool: DhcpOptions, subnet: DhcpOptions
) -> None:
    """Two machines without options of their own and with one gateway by the rule get the same statements."""
    rule = data.draw(rules_on(network))
    plan = AddressPlan.build(network, "0a:58", ranges=[AddressRange.of(network)])
    made = Pool("p", plan, Subnet(network, subnet), ("d",), options=pool, own_gateway_rule=rule)
    said = {
        (made.gateway_rule and made.gateway_rule.of(address), syntax.line(made.binding_options(address)))
        for address in network
    }
    assert len(said) == len({key for key, _ in said})
