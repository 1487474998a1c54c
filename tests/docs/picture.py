"""The picture of the README, as SVG: boxes, arrows, and the words on them."""

from collections.abc import Iterator
from html import escape
from typing import NamedTuple


class Box(NamedTuple):
    """A box with a title and a line below it."""

    x: int
    y: int
    width: int
    title: str
    about: str
    height: int = 58

    @property
    def middle(self) -> int:
        """Its middle, from the left of the picture."""
        return self.x + self.width // 2


BOXES = {
    "core": Box(20, 20, 200, "core", "your program, in Python"),
    "admin": Box(20, 110, 200, "admin", "macbind on the command line"),
    "macbind": Box(350, 20, 180, "macbind", "allocates, binds, releases", 148),
    "registry": Box(330, 225, 220, "registry", "SQLite or PostgreSQL: the truth"),
    "dhcpd": Box(640, 20, 200, "dhcpd", "gives each MAC its address"),
    "libvirt": Box(640, 110, 200, "libvirt", "runs the machines"),
    "machine": Box(640, 225, 200, "machine", "10.1.1.3 · 00:16:3e:01:01:03"),
}
ARROWS = (
    ("core", "macbind", "allocate, release"),
    ("admin", "macbind", "reserve, status"),
    ("macbind", "dhcpd", "OMAPI, live"),
    ("libvirt", "macbind", "what ended"),
    ("macbind", "registry", ""),
    ("libvirt", "machine", ""),
)
WIDTH, TOTAL = 860, 300


def svg() -> str:
    """The whole picture; readable on a light and on a dark page."""
    return "\n".join([*_head(), *_arrows(), *_boxes(), "</svg>", ""])


def _head() -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {TOTAL}" width="{WIDTH}" height="{TOTAL}" '
        'font-family="sans-serif" font-size="14">'
    )
    yield f'<rect width="{WIDTH}" height="{TOTAL}" rx="8" fill="#ffffff"/>'
    yield (
        '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#57606a"/></marker>'
    )


def _arrows() -> Iterator[str]:
    for start, end, words in ARROWS:
        a, b = BOXES[start], BOXES[end]
        if abs(a.middle - b.middle) < 10:
            ends = f'x1="{a.middle}" y1="{a.y + a.height}" x2="{b.middle}" y2="{b.y}"'
        else:
            low = max(a.y, b.y)  # level with the smaller box
            level, right = low + 29, a.x < b.x
            x1, x2 = (a.x + a.width, b.x) if right else (a.x, b.x + b.width)
            ends = f'x1="{x1}" y1="{level}" x2="{x2}" y2="{level}"'
            yield (
                f'<text x="{(x1 + x2) // 2}" y="{level - 8}" text-anchor="middle" font-size="12" fill="#57606a">'
                f"{escape(words)}</text>"
            )
        yield f'<line {ends} stroke="#57606a" stroke-width="1.5" marker-end="url(#tip)"/>'


def _boxes() -> Iterator[str]:
    for box in BOXES.values():
        fill, line = ("#ddf4ff", "#0969da") if box.title == "macbind" else ("#f6f8fa", "#8c959f")
        top = box.y + box.height // 2 - 4
        yield (
            f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="6" fill="{fill}" '
            f'stroke="{line}"/>'
        )
        yield (
            f'<text x="{box.middle}" y="{top}" text-anchor="middle" font-weight="bold" fill="#1f2328">'
            f"{escape(box.title)}</text>"
        )
        yield (
            f'<text x="{box.middle}" y="{top + 19}" text-anchor="middle" font-size="12" fill="#57606a">'
            f"{escape(box.about)}</text>"
        )
