"""The picture of a map in characters: a cell for each address of a small pool, a bar for a block of a large one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from macbind.core.address_map import MapBlock, MapBlocks, MapState, total

ROWS = 32
"""A picture has about so many lines at most."""
_LABEL = 17
"""Columns for the address before a line, and two spaces."""
_BARS, _PLAIN_BARS = "▁▂▃▄▅▆▇█", "12345678"


@dataclass(frozen=True, slots=True)
class Look:
    """How a state looks.

    Attributes:
        sign, plain: Its character, and the one in ASCII.
        colour: The number of its colour (ECMA-48, 30 to 37 and 90 to 97); None for that of the text.
        name: In the legend.
    """

    sign: str
    plain: str
    colour: int | None
    name: str


LOOKS = {
    MapState.FREE: Look("·", ".", 90, "free"),
    MapState.ALLOCATED: Look("■", "#", 32, "allocated"),
    MapState.RESERVED: Look("◆", "R", 34, "reserved"),
    MapState.RENUMBERING: Look("»", ">", 36, "being renumbered to"),
    MapState.RESTING: Look("○", "o", 33, "resting"),
    MapState.USED_BY_OTHERS: Look("▲", "!", 31, "used by others"),
    MapState.GATEWAY: Look("G", "G", 35, "gateway"),
    MapState.DYNAMIC: Look("~", "~", 36, "dynamic"),
    MapState.EXCLUDED: Look(" ", " ", None, "not of the pool"),
}
_TAKEN = (
    MapState.ALLOCATED,
    MapState.RESERVED,
    MapState.RENUMBERING,
    MapState.RESTING,
    MapState.USED_BY_OTHERS,
)
"""What makes an address of the pool unavailable; in a block the first with the most addresses gives the colour."""


def columns(width: int) -> int:
    """How many blocks a line of a terminal has: a power of two, from 8 to 256."""
    found = 8
    while found * 2 + _LABEL <= width and found < 256:
        found *= 2
    return found


def most_blocks(width: int) -> int:
    """How many blocks a picture of this width has at most."""
    return columns(width) * ROWS


def fill(block: MapBlock) -> float | None:
    """Which part of a block's addresses that the pool hands out is taken, 0 to 1; None if it hands out none."""
    taken = sum(block.counts.get(state, 0) for state in _TAKEN)
    own = taken + block.counts.get(MapState.FREE, 0)
    return taken / own if own else None


def picture(found: MapBlocks, width: int, *, plain: bool = False, colour: bool = False) -> Iterator[str]:
    """The lines of a picture with its legend.

    Args:
        found: The map.
        width: Columns of the terminal; only the picture is that narrow.
        plain: Whether there are only the characters of ASCII.
        colour: Whether states have colours.
    """
    pen = _Pen(plain=plain, colour=colour)
    yield from _lines(found, columns(width), pen)
    yield ""
    yield from _legend(found, pen)


def _lines(found: MapBlocks, count: int, pen: _Pen) -> Iterator[str]:
    step = count * found.size
    cells: list[str] = []
    row: int | None = None
    for block in found.blocks:
        here = int(block.first) // step
        if here != row:
            if row is not None:
                yield _line(row * step, cells)
            row = here
            cells = [" "] * (int(block.first) % step // found.size)
        cells.append(pen.cell(block) if found.size == 1 else pen.bar(block))
    if row is not None:
        yield _line(row * step, cells)


def _line(first: int, cells: Sequence[str]) -> str:
    return f"{IPv4Address(first)!s:<{_LABEL - 2}}  {''.join(cells)}".rstrip()


def _legend(found: MapBlocks, pen: _Pen) -> Iterator[str]:
    counts = total(found.blocks)
    for state, look in LOOKS.items():
        if state in counts:
            sign = pen.sign(state) if found.size == 1 else pen.dyed("*" if pen.plain else "●", look.colour)
            yield f"{sign} {look.name:<20} {counts[state]:>10}"
    if found.size > 1:
        bars = _PLAIN_BARS if pen.plain else _BARS
        yield ""
        yield (
            f"Each sign is {found.size} addresses: {LOOKS[MapState.FREE].plain if pen.plain else '·'} none taken, "
            f"{bars[0]} to {bars[-1]} more and more taken, blank: not of the pool."
        )


@dataclass(frozen=True, slots=True)
class _Pen:
    plain: bool
    colour: bool

    def dyed(self, sign: str, colour: int | None) -> str:
        return sign if colour is None or not self.colour else f"\x1b[{colour}m{sign}\x1b[0m"

    def sign(self, state: MapState) -> str:
        look = LOOKS[state]
        return self.dyed(look.plain if self.plain else look.sign, look.colour)

    def cell(self, block: MapBlock) -> str:
        return self.sign(next(iter(block.counts)))

    def bar(self, block: MapBlock) -> str:
        """A block: how much of it is taken, in the colour of what takes the most."""
        part = fill(block)
        if part is None:
            # A gateway alone is still worth a sign.
            state = max(block.counts, key=lambda one: (one is not MapState.EXCLUDED, block.counts[one]))
            return self.sign(state)
        if not part:
            return self.sign(MapState.FREE)
        bars = _PLAIN_BARS if self.plain else _BARS
        most = max(_TAKEN, key=lambda one: block.counts.get(one, 0))
        return self.dyed(bars[min(len(bars) - 1, int(part * len(bars)))], LOOKS[most].colour)
