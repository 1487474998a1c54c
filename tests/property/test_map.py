"""The map of a pool against a plain dictionary: whatever the layers are, every address is counted once."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from macbind.core.address_map import (
    MapBlocks,
    MapState,
    Span,
    block_size,
    bounds,
    fold,
    gateways,
    paint,
    total,
)
from macbind.core.address_plan import AddressPlan
from macbind.core.address_range import AddressRange
from macbind.core.gateway_rule import GatewayRule
from macbind.core.map_picture import columns, most_blocks, picture

_STATES = st.sampled_from(list(MapState))
_LOW, _HIGH = 1000, 1600


@st.composite
def _layers(draw: st.DrawFn) -> list[list[Span]]:
    """Up to four layers of sorted spans that do not overlap, some of which reach out of the part."""
    layers = []
    for _ in range(draw(st.integers(0, 4))):
        ends = sorted(draw(st.sets(st.integers(_LOW - 50, _HIGH + 50), max_size=20)))
        pairs = zip(ends[::2], ends[1::2], strict=False)
        layers.append([(lo, hi - 1, draw(_STATES)) for lo, hi in pairs])
    return layers


@given(_layers(), st.integers(_LOW, _HIGH), st.integers(0, 300))
def test_the_first_layer_that_has_an_address_says_what_it_is(
    layers: list[list[Span]], first: int, more: int
) -> None:
    """The spans tile the part, no two neighbours have one state, and each address is what a look at it says."""
    last = min(_HIGH, first + more)
    found = list(paint(first, last, layers))
    assert found[0][0] == first
    assert found[-1][1] == last
    for (_, end, state), (start, _, other) in pairwise(found):
        assert start == end + 1
        assert state is not other
    expected = {
        ip: next((s for layer in layers for lo, hi, s in layer if lo <= ip <= hi), MapState.EXCLUDED)
        for ip in range(first, last + 1)
    }
    assert {ip: state for lo, hi, state in found for ip in range(lo, hi + 1)} == expected


@given(_layers(), st.integers(_LOW, _HIGH), st.integers(0, 600), st.integers(2, 700))
def test_blocks_of_any_size_count_every_address_once(
    layers: list[list[Span]], first: int, more: int, most: int
) -> None:
    """Blocks are aligned, at most as many as are wanted, and add up to the runs exactly, state by state."""
    last = first + more
    spans = list(paint(first, last, layers))
    size = block_size(first, last, most)
    blocks = list(fold(spans, size))
    assert len(blocks) <= most
    assert size == 1 or last // (size // 2) - first // (size // 2) + 1 > most  # no smaller one would do
    assert all(int(one.first) % size == 0 for one in blocks[1:])
    assert all(one.size == size for one in blocks[1:-1])
    assert all(count > 0 for one in blocks for count in one.counts.values())
    counted: Counter[MapState] = Counter()
    for lo, hi, state in spans:
        counted[state] += hi - lo + 1
    assert total(blocks) == counted
    assert sum(counted.values()) == last - first + 1


@given(_layers(), st.integers(0, 600), st.integers(20, 300), st.booleans())
def test_the_picture_has_the_counts_of_the_map(
    layers: list[list[Span]], more: int, width: int, plain: bool
) -> None:
    """The legend adds up to the map; no line is wider than asked for, and plain lines are ASCII."""
    last = _LOW + more
    size = block_size(_LOW, last, most_blocks(width))
    blocks = list(fold(paint(_LOW, last, layers), size))
    lines = list(
        picture(MapBlocks("p", IPv4Address(_LOW), IPv4Address(last), size, blocks), width, plain=plain)
    )
    drawn, legend = lines[: lines.index("")], lines[lines.index("") + 1 :]
    assert all(len(line) <= max(width, 25) for line in drawn)
    assert len(drawn) <= more // (columns(width) * size) + 2
    assert plain is False or "".join(lines).isascii()
    counts = legend[: legend.index("")] if "" in legend else legend
    assert sum(int(line.split()[-1]) for line in counts) == more + 1


@given(
    st.integers(0, 255),
    st.integers(16, 30),
    st.sampled_from([(), ("x.x.x.1",), ("x.x.0.1", "x.x.x.254"), ("10.x.x.129",)]),
    st.integers(0, 255),
)
def test_gateways_of_a_part_are_those_of_the_plan(
    second: int, prefix: int, rules: tuple[str, ...], third: int
) -> None:
    """The map has a gateway wherever the plan forbids one, and nowhere else but at the ends of the subnet."""
    subnet = IPv4Network(f"10.{second}.0.0/{prefix}")
    fixed = [subnet[2]]
    plan = AddressPlan.build(
        subnet, "00:16:3e", ranges=[AddressRange(subnet[1], subnet[1])], gateways=fixed,
        rules=[GatewayRule.parse(one) for one in rules if not GatewayRule.parse(one).is_gateway(subnet[1])],
    )  # fmt: skip
    low = min(int(subnet[0]) + third * 256, int(subnet[-1]))
    high = min(low + 511, int(subnet[-1]))
    ends = (int(subnet[0]), int(subnet[-1]))
    found = {lo for lo, _, _ in gateways(plan, low, high)}
    expected = {
        ip
        for ip in range(low, high + 1)
        if plan.forbids(IPv4Address(ip))
        and (ip not in ends or any(r.is_gateway(IPv4Address(ip)) for r in plan.rules))
    }
    assert found == expected
    first, last = bounds(plan)
    assert int(subnet[0]) <= first <= int(subnet[1]) <= last <= int(subnet[-1])
