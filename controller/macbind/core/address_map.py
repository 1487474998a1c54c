"""The map of a pool: what each address is, as runs of addresses in one state, and as blocks of equal size.

Runs are as many as there are changes of state, so a /8 with few allocations has few. A block says how many of its
addresses are in each state; a block of one address is a cell. Both are made piece by piece, in the order of the
addresses, and nothing here holds more than it was given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import merge
from ipaddress import IPv4Address

from macbind.core.address_plan import AddressPlan
from macbind.core.address_range import AddressRange, by_gateway

ROUND = 256
"""A map begins and ends at a multiple of so many addresses, or at the end of the subnet."""


class MapState(StrEnum):
    """What an address is on the map of a pool."""

    FREE = "free"
    """``allocate`` can take it."""
    ALLOCATED = "allocated"
    """A name holds it."""
    RESERVED = "reserved"
    """An admin has reserved it."""
    RENUMBERING = "renumbering"
    """A name that has another address is being renumbered to it."""
    RESTING = "resting"
    """It was released, and is not free yet."""
    USED_BY_OTHERS = "used_by_others"
    """Somebody uses it whom macbind did not give it to: it is passed over."""
    GATEWAY = "gateway"
    """It is a gateway."""
    DYNAMIC = "dynamic"
    """dhcpd hands it out by itself."""
    EXCLUDED = "excluded"
    """The pool does not hand it out, for another reason."""


@dataclass(frozen=True, slots=True)
class MapRun:
    """Addresses in a row that are in one state.

    Attributes:
        first, last: The lowest and the highest of them.
        state: What they are.
    """

    first: IPv4Address
    last: IPv4Address
    state: MapState

    def __len__(self) -> int:
        return int(self.last) - int(self.first) + 1


@dataclass(frozen=True, slots=True)
class MapPage:
    """Runs in the order of their addresses; together they tile a part of the map.

    Attributes:
        pool: The pool.
        first, last: The lowest and the highest address of the whole map.
        runs: The runs.
        next: The address with which the next page begins; None if this page is the last.
    """

    pool: str
    first: IPv4Address
    last: IPv4Address
    runs: list[MapRun]
    next: IPv4Address | None = None


@dataclass(frozen=True, slots=True)
class MapBlock:
    """So many addresses in a row, counted by state.

    Attributes:
        first: The lowest of them.
        counts: How many are in each state; states without any are left out.
    """

    first: IPv4Address
    counts: Mapping[MapState, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many addresses it has."""
        return sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class MapBlocks:
    """A map, or a part of it, as blocks.

    Attributes:
        pool: The pool.
        first, last: The lowest and the highest address of the part.
        size: Addresses of a block, a power of two. The first and the last block may have fewer.
        blocks: The blocks in the order of their addresses; together they tile the part.
    """

    pool: str
    first: IPv4Address
    last: IPv4Address
    size: int
    blocks: list[MapBlock]


Span = tuple[int, int, MapState]
"""First and last address as numbers, and their state."""


def bounds(plan: AddressPlan) -> tuple[int, int]:
    """The lowest and the highest address of a pool's map: what it hands out, rounded, within its subnet."""
    lowest, highest = int(plan.assignable[0].lo), int(plan.assignable[-1].hi)
    first = max(int(plan.subnet[0]), lowest - lowest % ROUND)
    last = min(int(plan.subnet[-1]), highest | (ROUND - 1))
    return first, last


def gateways(plan: AddressPlan, first: int, last: int) -> Iterator[Span]:
    """The gateways of a pool's subnet between two addresses, in their order; one may come twice."""
    ends = {plan.subnet.network_address, plan.subnet.broadcast_address}
    fixed = sorted(int(one) for one in plan.forbidden - ends)
    part = AddressRange(IPv4Address(first), IPv4Address(last))
    by_rule = (
        (int(gateway) for gateway, piece in by_gateway(rule, [part]) if gateway in piece)
        for rule in plan.rules
    )
    for ip in merge(fixed, *by_rule):
        if first <= ip <= last:
            yield ip, ip, MapState.GATEWAY


class _Layer:
    """Spans in the order of their addresses, of which one is looked at."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._rest = iter(spans)
        self.head = next(self._rest, None)

    def skip_to(self, at: int) -> Span | None:
        """The first span that does not end before an address."""
        while self.head is not None and self.head[1] < at:
            self.head = next(self._rest, None)
        return self.head


def paint(first: int, last: int, layers: Sequence[Iterable[Span]]) -> Iterator[Span]:
    """Tiles the addresses from ``first`` to ``last``: of several layers, the first that has an address counts.

    Args:
        first: The lowest address of the part of the map.
        last: The highest.
        layers: Each in the order of its addresses. What no layer has is excluded.

    Yields:
        Spans that touch, no two neighbours of which have one state.
    """
    stack = [_Layer(one) for one in layers]
    start, at, before = first, first, None
    while at <= last:
        end, state = last, MapState.EXCLUDED
        for layer in stack:
            head = layer.skip_to(at)
            if head is None:
                continue
            if head[0] <= at:
                end, state = min(end, head[1]), head[2]
                break
            end = min(end, head[0] - 1)
        if before is not None and state is not before:
            yield start, at - 1, before
            start = at
        before, at = state, end + 1
    if before is not None:
        yield start, last, before


def as_run(span: Span) -> MapRun:
    """A span as a value."""
    return MapRun(IPv4Address(span[0]), IPv4Address(span[1]), span[2])


def block_size(first: int, last: int, most: int) -> int:
    """The smallest power of two of which so many blocks, aligned, cover the addresses."""
    size = 1
    while last // size - first // size + 1 > most:
        size *= 2
    return size


def fold(spans: Iterable[Span], size: int) -> Iterator[MapBlock]:
    """Counts spans that touch, by blocks of ``size`` addresses; every address is counted once."""
    number: int | None = None
    first, counts = 0, dict[MapState, int]()
    for lo, hi, state in spans:
        at = lo
        while at <= hi:
            if at // size != number:
                if number is not None:
                    yield MapBlock(IPv4Address(first), counts)
                number, first, counts = at // size, at, {}
            end = min(hi, (at // size + 1) * size - 1)
            counts[state] = counts.get(state, 0) + end - at + 1
            at = end + 1
    if number is not None:
        yield MapBlock(IPv4Address(first), counts)


def total(blocks: Iterable[MapBlock]) -> dict[MapState, int]:
    """How many addresses of all blocks are in each state, in the order of the states."""
    found: dict[MapState, int] = {}
    for block in blocks:
        for state, count in block.counts.items():
            found[state] = found.get(state, 0) + count
    return {state: found[state] for state in MapState if state in found}
