"""The bijection between addresses and MACs, and the arithmetic of ranges, against brute force."""

from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from macbind.core.address_plan import AddressPlan, check_plans
from macbind.core.address_range import AddressRange, merge, parse_address, parse_network, subtract
from macbind.core.errors import ConfigError, InvalidAddress
from macbind.core.mac_address import MacAddress
from macbind.core.mac_scheme import MacScheme

addresses = st.integers(0, 0xFFFFFFFF).map(IPv4Address)
macs = st.integers(0, 0xFFFFFFFFFFFF).map(MacAddress)
three_bytes = st.tuples(st.integers(0, 127).map(lambda n: 2 * n), st.integers(0, 255), st.integers(0, 255))
two_bytes = st.tuples(st.integers(0, 63).map(lambda n: 4 * n + 2), st.integers(0, 255))
prefixes = (three_bytes | two_bytes).map(lambda raw: bytes(raw).hex(":"))


@st.composite
def subnets(draw: st.DrawFn, lengths: st.SearchStrategy[int] = st.integers(8, 30)) -> IPv4Network:  # noqa: B008
    """A network of one of these prefix lengths."""
    return IPv4Network((int(draw(addresses)), draw(lengths)), strict=False)


@st.composite
def schemes(draw: st.DrawFn) -> tuple[MacScheme, IPv4Network]:
    """A scheme and the subnet it was made for."""
    subnet = draw(subnets())
    return MacScheme.for_subnet(draw(prefixes), subnet), subnet


def within(network: IPv4Network) -> st.SearchStrategy[IPv4Address]:
    """Any address of a network."""
    return st.integers(int(network[0]), int(network[-1])).map(IPv4Address)


@given(schemes(), st.data())
def test_decoding_inverts_encoding(made: tuple[MacScheme, IPv4Network], data: st.DataObject) -> None:
    """Every address of the subnet comes back from its MAC, which begins with the prefix."""
    scheme, subnet = made
    address = data.draw(within(subnet))
    mac = scheme.encode(address)
    assert scheme.decode(mac) == address
    assert bytes(mac).startswith(scheme.prefix)
    assert bytes(mac).endswith(address.packed[len(scheme.prefix) - 2 :])
    assert mac.is_unicast or mac.value == 0


@given(schemes(), macs, st.data())
def test_encoding_inverts_decoding(
    made: tuple[MacScheme, IPv4Network], mac: MacAddress, data: st.DataObject
) -> None:
    """A MAC is refused, or has the prefix and comes back from its address."""
    scheme, _ = made
    low = 8 * (6 - len(scheme.prefix))
    ours = MacAddress((int.from_bytes(scheme.prefix) << low) | (mac.value & ((1 << low) - 1)))
    candidate = data.draw(st.sampled_from([mac, ours]))
    try:
        address = scheme.decode(candidate)
    except InvalidAddress:
        assert not bytes(candidate).startswith(scheme.prefix)
    else:
        assert scheme.encode(address) == candidate


@given(schemes(), st.data())
def test_encoding_keeps_order_distance_and_difference(
    made: tuple[MacScheme, IPv4Network], data: st.DataObject
) -> None:
    """MACs of two addresses are as far apart as the addresses: intervals stay intervals, none share a MAC."""
    scheme, subnet = made
    one, other = data.draw(within(subnet)), data.draw(within(subnet))
    distance = scheme.encode(one).value - scheme.encode(other).value
    assert distance == int(one) - int(other)
    assert (scheme.encode(one) < scheme.encode(other)) == (one < other)


@given(
    macs,
    st.sampled_from(["colon", "hyphen", "short", "dots", "bare"]),
    st.booleans(),
    st.sampled_from(["", " ", "\t", "\n"]),
)
def test_every_spelling_of_a_mac_means_the_same(
    mac: MacAddress, spelling: str, upper: bool, space: str
) -> None:
    """However a MAC is written, reading it gives the same value."""
    bare = bytes(mac).hex()
    text = {
        "colon": bytes(mac).hex(":"),
        "hyphen": bytes(mac).hex("-"),
        "short": ":".join(f"{byte:x}" for byte in bytes(mac)),
        "dots": ".".join((bare[:4], bare[4:8], bare[8:])),
        "bare": bare,
    }[spelling]
    assert MacAddress.parse(space + (text.upper() if upper else text) + space) == mac
    assert MacAddress.parse(str(mac)) == mac


@given(st.text(max_size=20) | st.text("0123456789abcdef:-. ", max_size=20))
def test_a_text_is_a_mac_or_is_refused(text: str) -> None:
    """Any text is refused, or has twelve hexadecimal digits after filling up short bytes."""
    try:
        mac = MacAddress.parse(text)
    except InvalidAddress:
        return
    digits = text.strip().lower().replace("-", ":").split(":")
    written = "".join(part.zfill(2) for part in digits) if len(digits) == 6 else digits[0].replace(".", "")
    assert written == bytes(mac).hex()


@given(macs, macs)
def test_macs_are_ordered_by_value(one: MacAddress, other: MacAddress) -> None:
    """The order of MACs is the order of their bytes."""
    assert (one < other) == (bytes(one) < bytes(other))
    assert (one <= other) == (bytes(one) <= bytes(other))


def small(first: int, last: int) -> AddressRange:
    """A range by the offsets of its ends in a tiny world."""
    lo, hi = sorted((first, last))
    return AddressRange(IPv4Address(lo), IPv4Address(hi))


near = st.one_of(
    st.builds(small, st.integers(0, 40), st.integers(0, 40)),
    st.builds(small, st.integers(0xFFFFFFDF, 0xFFFFFFFF), st.integers(0xFFFFFFDF, 0xFFFFFFFF)),
)
few = st.lists(near, max_size=6)


def members(ranges: list[AddressRange] | tuple[AddressRange, ...]) -> set[IPv4Address]:
    """All addresses of some ranges."""
    return {address for one in ranges for address in one}


def canonical(ranges: tuple[AddressRange, ...]) -> bool:
    """Whether the ranges are sorted, disjoint and do not touch."""
    return all(int(left.hi) + 1 < int(right.lo) for left, right in pairwise(ranges))


@given(few)
def test_merge_is_set_union(ranges: list[AddressRange]) -> None:
    """Merging keeps exactly the addresses and gives them their one canonical form."""
    merged = merge(ranges)
    assert members(merged) == members(ranges)
    assert canonical(merged)
    assert merge(merged) == merged
    assert merge(reversed(ranges)) == merged


@given(few, few)
def test_subtract_is_set_difference(ranges: list[AddressRange], holes: list[AddressRange]) -> None:
    """Subtracting keeps exactly the addresses that lie in no hole, in canonical form."""
    left = subtract(ranges, holes)
    assert members(left) == members(ranges) - members(holes)
    assert canonical(left)


@given(near, near)
def test_ranges_overlap_when_they_share_an_address(one: AddressRange, other: AddressRange) -> None:
    """Overlap, membership and length agree with the set of addresses."""
    assert one.overlaps(other) == bool(members([one]) & members([other]))
    assert len(one) == len(members([one]))
    assert AddressRange.parse(str(one)) == one


@given(st.integers(27, 30), few, few, st.lists(st.integers(0, 40).map(IPv4Address), max_size=2))
def test_a_plan_hands_out_what_is_left(
    length: int, use: list[AddressRange], exclude: list[AddressRange], gateways: list[IPv4Address]
) -> None:
    """A plan is refused for a stated reason, or hands out ranges minus everything excluded."""
    subnet = IPv4Network((0, length))
    whole = set(subnet)
    left = (members(use) or whole) - members(exclude) - {subnet[0], subnet[-1], *gateways}
    usable = (
        members(use) | members(exclude) <= whole and len(members(use)) == sum(map(len, use)) and bool(left)
    )
    try:
        plan = AddressPlan.build(subnet, "02:00", ranges=use, exclude=exclude, gateways=gateways)
    except InvalidAddress:
        assert not usable
    else:
        assert usable
        assert members(plan.assignable) == left
        assert plan.size == len(left)
        assert {address for address in whole if address in plan} == left


# Subnets and prefixes chosen so that both kinds of collision are common: the same low bytes in several /8s,
# a two-byte prefix that begins a three-byte one, and the byte that makes both the same scheme (0a = 10).
tiny_subnets = st.builds(
    lambda first, low, length: IPv4Network((first << 24 | low, length), strict=False),
    st.sampled_from([10, 11, 12]),
    st.integers(0, 63),
    st.integers(27, 30),
)
tiny_prefixes = st.sampled_from(["00:16:3e", "52:54:00", "0a:58", "0a:58:0a", "0a:58:0b", "02:00"])


@st.composite
def plans(draw: st.DrawFn) -> AddressPlan:
    """A plan of a part of a tiny subnet."""
    subnet = draw(tiny_subnets)
    lo, hi = sorted(draw(st.tuples(within(subnet), within(subnet))))
    assume({lo, hi} - {subnet[0], subnet[-1]} or int(hi) - int(lo) > 1)
    return AddressPlan.build(subnet, draw(tiny_prefixes), ranges=[AddressRange(lo, hi)])


def share_an_address(one: AddressPlan, other: AddressPlan) -> bool:
    """Whether two plans hand out one address, or lie on subnets that overlap without being the same."""
    subnets_differ = one.subnet != other.subnet and bool(set(one.subnet) & set(other.subnet))
    return subnets_differ or bool(members(one.assignable) & members(other.assignable))


def share_a_mac(one: AddressPlan, other: AddressPlan) -> bool:
    """Whether two addresses, one of each subnet, would have the same MAC."""
    ours = {one.scheme.encode(address): address for address in one.subnet}
    return any(ours.get(other.scheme.encode(address), address) != address for address in other.subnet)


def build(subnet: str, prefix: str) -> AddressPlan:
    """A plan of a whole subnet."""
    return AddressPlan.build(IPv4Network(subnet), prefix)


@given(st.lists(plans(), min_size=2, max_size=3))
@example([build("10.0.0.0/30", "00:16:3e"), build("11.0.0.0/30", "00:16:3e")])
@example([build("10.0.0.0/30", "0a:58"), build("11.0.0.0/30", "0a:58:0a")])
@example([build("10.0.0.0/30", "0a:58"), build("10.0.0.0/30", "0a:58:0a")])
@pytest.mark.invariant(1)
def test_plans_are_refused_exactly_when_they_can_collide(made: list[AddressPlan]) -> None:
    """A set of pools is refused if and only if brute force finds a shared address, subnet part or MAC."""
    pairs = [(one, other) for index, one in enumerate(made) for other in made[:index]]
    collide = any(share_an_address(*pair) or share_a_mac(*pair) for pair in pairs)
    try:
        check_plans([(f"pool{index}", plan) for index, plan in enumerate(made)])
    except ConfigError:
        assert collide
    else:
        assert not collide


@given(plans(), plans())
def test_a_collision_is_told_by_its_own_example(one: AddressPlan, other: AddressPlan) -> None:
    """The MAC named for two pools is really that of both addresses named, which differ."""
    collision = one.first_mac_collision(other)
    assert (collision is not None) == share_a_mac(one, other)
    if collision is not None:
        mine, theirs, mac = collision
        assert mine != theirs
        assert mine in one.subnet
        assert theirs in other.subnet
        assert one.scheme.encode(mine) == other.scheme.encode(theirs) == mac


@given(st.text(max_size=20) | st.text("0123456789./- abc\n٣", max_size=40))
def test_a_text_is_an_address_a_range_a_network_or_is_refused(text: str) -> None:
    """Each reader takes or refuses it with our error; what it takes it writes so that it is read again."""
    for read in (parse_address, AddressRange.parse, parse_network):
        try:
            found = read(text)
        except InvalidAddress:
            continue
        assert read(str(found)) == found
