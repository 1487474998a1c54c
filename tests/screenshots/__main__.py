"""``make screenshots``: writes the pictures of the documentation anew. Another picture is one more function below."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page

from docs.tables import PAGES
from labkit.browser import chromium
from labkit.farm import Farm
from labkit.net import Lab
from screenshots.farm import ADDRESSES, URL, demo_farm

PICTURES = PAGES / "pictures"
MOST_BYTES = 150 << 10


def whole(page: Page) -> None:
    """The page as it opens."""
    page.wait_for_selector("#pools >> text=in 15 minutes")
    page.wait_for_selector("#table-count[data-whole=true]")


def map_of(pool: str) -> Callable[[Page], None]:
    """The map of a pool."""

    def prepare(page: Page) -> None:
        page.click(f"#pools button[data-pool='{pool}']")
        page.wait_for_selector(f"#map-canvas[data-pool='{pool}']")
        page.focus("#map-canvas")
        page.keyboard.press("Home")
        for key in ("ArrowDown", "ArrowDown", *["ArrowRight"] * 17):
            page.keyboard.press(key)

    return prepare


def why(page: Page) -> None:
    """The answer for an address that has a past."""
    page.fill("#ask-what", "172.16.0.2")
    page.keyboard.press("Enter")
    page.wait_for_selector("#why .history")


TERMINAL = """<!doctype html><style>
body { margin: 0; background: #fff; }
#terminal { display: inline-block; max-width: 960px; margin: 0; padding: 14px 18px; border-radius: 8px;
  color: #e6eaee; background: #14181d; font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
#terminal div { white-space: pre-wrap; padding-left: 2ch; text-indent: -2ch; }
.ask { color: #7db8f5; } .error { color: #ff9d94; } .warning { color: #ffc46b; } .well { color: #7fd199; }
.command { font-weight: bold; }
</style><div id="terminal">"""
MARKS = {"$": "ask", "\N{BALLOT X}": "error", "!": "warning", "\N{CHECK MARK}": "well", "    ": "command"}


def doctor_of(farm: Farm) -> Callable[[Page], None]:
    """What `macbind doctor` prints, as a terminal shows it."""
    printed = farm.run("doctor").stdout.replace(str(farm.directory), "/etc/macbind")
    lines = ["$ macbind doctor", *printed.splitlines()]

    def line(text: str) -> str:
        kind = next((kind for mark, kind in MARKS.items() if text.startswith(mark)), "")
        return f'<div class="{kind}">{escape(text)}</div>'

    def prepare(page: Page) -> None:
        page.goto("about:blank")  # the policy of the page would refuse the style
        page.set_content(TERMINAL + "".join(map(line, lines)) + "</div>")

    return prepare


@dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        name: Of its file.
        prepare: What is done before it is made.
        part: The selector of what is shown; None for all that fits.
        scheme, width, height: Of the window.
    """

    name: str
    prepare: Callable[[Page], None]
    part: str | None = None
    scheme: Literal["light", "dark"] = "light"
    width: int = 1180
    height: int = 1500


SHOTS = (
    Shot("page-light", whole),
    Shot("page-dark", whole, scheme="dark"),
    Shot("page-phone", whole, width=390),
    Shot("map-16", map_of("ci"), "section:has(#map)"),
    Shot("map-8", map_of("cloud"), "section:has(#map)"),
    Shot("why", why, "#why", width=1000, height=700),
)


def shoot(browser: Browser, shot: Shot) -> Path:
    """Makes one picture; fails if it is larger than a picture may be."""
    context = browser.new_context(
        viewport={"width": shot.width, "height": shot.height}, color_scheme=shot.scheme
    )
    try:
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.goto(URL)
        page.wait_for_selector("#live[data-state=live]")
        page.wait_for_selector("#map-canvas[data-drawn]")
        page.wait_for_selector("#table tbody tr[data-key]")
        shot.prepare(page)
        path = PICTURES / f"{shot.name}.png"
        if shot.part is None:
            page.screenshot(path=path)
        else:
            page.locator(shot.part).screenshot(path=path)
    finally:
        context.close()
    with Image.open(path) as picture:  # few colours take little room
        few = picture.convert("RGB").quantize(128, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    size = path.stat().st_size
    assert size <= MOST_BYTES, f"{path.name} has {size} bytes; at most {MOST_BYTES} are allowed"
    return path


def main() -> None:
    """Writes all pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mb-") as name, Lab(ADDRESSES) as lab:
        place = Path(name)
        place.chmod(0o755)
        with demo_farm(place, lab) as farm, chromium(lab, place) as browser:
            doctor = Shot("doctor", doctor_of(farm), "#terminal", width=1000)
            for shot in (*SHOTS, doctor):
                path = shoot(browser, shot)
                print(f"{path.relative_to(PAGES.parent)}: {path.stat().st_size >> 10} KiB")


if __name__ == "__main__":
    main()
