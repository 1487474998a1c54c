"""The page in a real browser, beside a real service, dhcpd and libvirt: what happens is seen without reloading."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from labkit.browser import chromium
from labkit.farm import Farm
from labkit.guest import Guest, boot
from labkit.net import Lab
from labkit.virt import Libvirtd
from labkit.wait import until
from macbind.client.client import Client

pytestmark = pytest.mark.timeout(600)

URL = "http://127.0.0.1:8067/"
DEADLINE_MS = 60_000
POOLS = """
[page]
listen = "127.0.0.1:8067"
tokens = "{place}/page-tokens"

[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]
claim_timeout_s = 0

[hypervisor.local]
uri = "{uri}"
"""
HOSTILE = "<script>window.hit=1</script><img src=x onerror='window.hit=1'>\"&amp;'</td>{{7*7}}"


@dataclass
class Site:
    """A farm with the page, and a browser beside it."""

    lab: Lab
    libvirtd: Libvirtd
    farm: Farm
    client: Client
    browser: Browser
    secrets: dict[str, str]

    def sql(self, statement: str, *values: object) -> None:
        """Changes the registry behind the service's back, as another controller may."""
        with closing(sqlite3.connect(self.farm.directory / "registry.db", timeout=30)) as db, db:
            assert db.execute(statement, values).rowcount == 1


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One farm and one browser for all tests of this module."""
    with tempfile.TemporaryDirectory(prefix="mb-") as name, Lab() as lab, ExitStack() as parts:
        place = Path(name)
        place.chmod(0o755)
        (place / "virt").mkdir()
        libvirtd = parts.enter_context(Libvirtd(lab, place / "virt"))
        farm = Farm(lab, place, pools=POOLS.format(place=place, uri=libvirtd.uri))
        secrets = {
            "reader": farm.macbind("token", "add", "reader").strip(),
            "writer": farm.macbind("token", "add", "writer", "--write", "--expires", "2h").strip(),
        }
        parts.enter_context(farm)
        client = parts.enter_context(farm.client(60))
        browser = parts.enter_context(chromium(lab, place))
        yield Site(lab, libvirtd, farm, client, browser, secrets)
        assert farm.defects() == []


@pytest.fixture
def open_page(site: Site) -> Iterator[Callable[..., Page]]:
    """Opens the page in a browser's profile of its own, until it is live; fails if a script of it failed."""
    failures: list[str] = []
    with ExitStack() as contexts:

        def made(url: str = URL, **how: Any) -> Page:
            context = site.browser.new_context(**how)
            contexts.callback(context.close)
            context.set_default_timeout(DEADLINE_MS)
            page = context.new_page()
            page.on("pageerror", lambda error: failures.append(str(error)))
            page.on(
                "console",
                lambda said: failures.append(said.text) if "Content Security" in said.text else None,
            )
            page.goto(url)
            page.wait_for_selector("#live[data-state=live]")
            page.wait_for_selector("#map-canvas[data-drawn]")
            page.evaluate("window.isTheSame = true")
            return page

        yield made
    assert failures == []


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    """The page on a wide screen."""
    return open_page(viewport={"width": 1280, "height": 900})


@pytest.fixture(autouse=True)
def emptied(site: Site) -> Iterator[None]:
    """Every test leaves the farm as empty as it was."""
    yield
    for one in site.client.list():
        (site.client.unreserve if one.pinned else site.client.release)(one.name)


def row(name: str) -> str:
    """The selector of an allocation's row."""
    return f"#table tbody tr:has(td[title='{name}'])"


def use_token(page: Page, secret: str) -> None:
    """Gives the page a token."""
    page.click("#token-open")
    page.fill("#token-secret", secret)
    page.click("#token-form button >> nth=0")


def test_allocation_domain_and_destroy_are_seen_without_reloading(site: Site, page: Page) -> None:
    """A new allocation is in table, map and pool; its domain is named; after `virsh destroy` all that is gone."""
    one = site.client.allocate("farm", "hub")
    page.wait_for_selector(f"{row('hub')} >> text=bound")
    assert page.inner_text(row("hub")).split()[:2] == ["10.1.1.3", "hub"]
    page.wait_for_selector("#map-legend >> text=allocated 1")
    page.wait_for_selector("#pools >> text=1 allocated")
    boot(site.libvirtd, Guest.build().template(name="hub", mac=str(one.mac)))
    page.wait_for_selector(f"{row('hub')} td[title='hub'] >> nth=1")  # the domain's column
    site.libvirtd.virsh("destroy", "hub")
    page.wait_for_selector(row("hub"), state="detached")
    page.wait_for_selector("#map-legend >> text=allocated", state="detached")
    page.click("#ask-what")
    page.fill("#ask-what", str(one.address))
    page.keyboard.press("Enter")
    page.wait_for_selector(".answer[data-code=free]")
    assert "its domain is gone" in page.inner_text(".history")
    assert page.evaluate("window.isTheSame")
    measured = page.locator("#numbers div:has(dt:text-matches('^Destroy to free')) dd")
    until(lambda: "\N{EN DASH}" not in measured.all_inner_texts(), 60, "the time until free")
    rates = site.client.status().rates
    assert rates is not None
    assert rates.destroy_to_free_p50_s is not None
    assert rates.destroy_to_free_p50_s > 0


def test_dhcpd_that_ends_and_comes_back_is_a_finding_meanwhile(site: Site, page: Page) -> None:
    """The finding appears with its code on top of the page, and goes when dhcpd serves again."""
    page.wait_for_selector("#findings >> text=All is well.")
    site.farm.dhcpd.kill()
    page.wait_for_selector("#findings .finding >> text=dhcpd_unavailable")
    assert page.title().startswith("(")
    site.farm.dhcpd.start()
    page.wait_for_selector("#findings >> text=All is well.")
    assert page.evaluate("window.isTheSame")


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_page_outlives_the_service(site: Site, page: Page, how: str) -> None:
    """It says that it is not live and how old it is, goes on by itself, and misses nothing of the meantime."""
    site.client.allocate("farm", "before")
    page.wait_for_selector(f"{row('before')} >> text=bound")
    getattr(site.farm, how)()
    page.wait_for_selector("#live[data-state=cut]")
    until(lambda: page.inner_text("#age").endswith(" old"), 60, "the age of what is seen")
    assert page.is_visible(row("before"))  # what was known stays
    site.farm.start()
    site.farm.wait_serving(60)
    site.client.release("before")
    site.client.allocate_group("farm", "after", 3)
    page.wait_for_selector("#live[data-state=live]")
    page.wait_for_selector(f"{row('after-3')} >> text=bound")
    page.wait_for_selector(row("before"), state="detached")
    until(lambda: page.inner_text("#age") == "", 60, "nothing to be old any more")
    assert page.evaluate("window.isTheSame")


def test_text_of_others_is_only_text(site: Site, page: Page) -> None:
    """Markup, quotes, escapes and 10,000 characters in domains, reasons, holders and actors are shown as they are."""
    long = HOSTILE + "W" * 10_000
    one = site.client.allocate("farm", "victim", domain=HOSTILE)
    site.client.release("victim", reason=HOSTILE)
    two = site.client.allocate("farm", "victim", domain=HOSTILE)
    assert two.address == one.address
    site.sql("UPDATE allocation SET domain = ? WHERE name = 'victim'", long)
    site.sql("UPDATE audit SET actor = ? WHERE id = (SELECT max(id) FROM audit)", long)
    site.sql(
        "INSERT INTO evidence (ip, source, origin, mac, holder, since, seen_at) "
        "VALUES (?, 'host', 'main', 7, ?, 0, 0)",
        int(one.address) + 1, long,
    )  # fmt: skip
    page.reload()
    page.wait_for_selector(row("victim"))
    cell = page.locator(f"{row('victim')} td").nth(7)
    assert cell.text_content() == long
    page.wait_for_selector("#findings .finding")
    for what in (str(two.address), str(two.address + 1)):
        page.fill("#ask-what", what)
        page.keyboard.press("Enter")
        page.wait_for_selector(f"#why:has(h2:text-is('{what}')) .answer")
        assert HOSTILE in (page.text_content("#why-body") or "")
        assert page.evaluate(
            "document.querySelector('#why').scrollWidth <= document.querySelector('#why').clientWidth"
        )
        page.keyboard.press("Escape")
    page.fill("#table-search", HOSTILE)
    page.wait_for_selector(row("victim"))
    assert page.evaluate("window.hit") is None
    assert page.locator("main script, main img, dialog script, dialog img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    site.sql("DELETE FROM evidence WHERE mac = 7")


def test_labels_are_shown_and_found(site: Site, page: Page) -> None:
    """In a column of their own; a change is seen at once, and a search finds key, value, or both."""
    site.client.allocate("farm", "build", labels={"job": "4711", "owner": "ci"})
    site.client.allocate("farm", "plain")
    page.wait_for_selector(f"{row('build')} td[title='job=4711, owner=ci']")
    site.client.label("build", {"owner": "<b>me</b>"})
    page.wait_for_selector(f"{row('build')} td[title='job=4711, owner=<b>me</b>']")
    page.wait_for_selector(row("plain"))
    for text in ("job=4711", "OWNER", "<b>me"):
        page.fill("#table-search", text)
        page.wait_for_selector("#table-count >> text=1 of 2 addresses")
        assert page.is_visible(row("build"))


def test_several_are_released_at_once_under_the_tokens_name(site: Site, page: Page) -> None:
    """With a token that may write: search, choose all, release; the audit log names the token."""
    site.client.allocate_group("farm", "speck", 5)
    site.client.allocate("farm", "stays")
    site.client.reserve("printer", "10.1.1.200")
    page.wait_for_selector(row("printer"))
    page.wait_for_selector(f"{row('stays')} >> text=bound")
    assert page.is_disabled(f"{row('printer')} input")
    page.fill("#table-search", "SPECK-")
    page.check("#table-all")
    assert page.is_disabled("#table-release")  # nobody without a token
    use_token(page, site.secrets["writer"])
    page.wait_for_selector("#token-open >> text=Token writer (write)")
    page.click("#table-release")
    assert page.inner_text("#release-names").split("\n")[0].startswith("speck-1 (10.1.1.")
    page.click("#release-yes")
    page.wait_for_selector("#release-done >> text=5 of 5 released.")
    page.click("#release-no")
    page.fill("#table-search", "")
    page.wait_for_selector(row("speck-5"), state="detached")
    assert {one.name for one in site.client.list()} == {"stays", "printer"}
    last = site.client.history(name="speck-5")[0]
    assert (last.actor, last.action, last.detail["reason"]) == (
        "page:writer",
        "release",
        "released on the page",
    )


def test_what_was_exchanged_meanwhile_is_not_released(site: Site, page: Page) -> None:
    """A name that has another allocation by now is refused, whatever the page shows."""
    site.client.allocate("farm", "vm")
    use_token(page, site.secrets["writer"])
    page.wait_for_selector("#token-open >> text=writer")
    page.check(f"{row('vm')} input")
    page.click("#table-release")
    site.client.release("vm")
    site.client.allocate("farm", "vm")
    page.click("#release-yes")
    page.wait_for_selector("#release-done >> text=of 1 released.")
    assert [one.name for one in site.client.list()] == ["vm"]


def test_tokens_that_do_not_count_are_told_apart(site: Site, page: Page) -> None:
    """Wrong, expired, and for reading only: each has a sentence of its own, and none of them releases anything."""
    one = site.client.allocate("farm", "vm")
    page.wait_for_selector(row("vm"))
    use_token(page, site.secrets["writer"] + "x")
    page.wait_for_selector("#token-refused >> text=There is no such token.")
    page.click("#token-close")
    tokens = site.farm.directory / "page-tokens"
    text = tokens.read_text()
    over = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    tokens.write_text("".join(f"{' '.join(_over(line, over))}\n" for line in text.splitlines()))
    use_token(page, site.secrets["writer"])
    page.wait_for_selector("#token-refused >> text=The token 'writer' expired at")
    page.click("#token-close")
    tokens.write_text(text)
    use_token(page, site.secrets["reader"])
    page.wait_for_selector("#token-open >> text=Token reader (read)")
    page.check(f"{row('vm')} input")
    assert page.is_disabled("#table-release")
    assert site.client.get("vm") == one


def _over(line: str, end: str) -> list[str]:
    parts = line.split(" ")
    if parts[0] == "writer":
        parts[3] = end
    return parts


def test_map_is_used_by_keyboard_and_pointer(site: Site, page: Page) -> None:
    """Arrows move, plus and minus zoom, Enter tells why and Escape closes it; the pointer does the same."""
    site.client.allocate("farm", "vm")
    page.wait_for_selector("#map-legend >> text=allocated 1")
    page.focus("#map-canvas")
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector("#map-here >> text=10.1.1.3 allocated: vm")
    page.keyboard.press("Enter")
    page.wait_for_selector(".answer[data-code=allocated]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#why", state="hidden")
    until(lambda: page.evaluate("document.activeElement.id") == "map-canvas", 60, "the focus to come back")
    page.keyboard.press("+")
    page.wait_for_selector("#map-part >> text=10.1.1.0 \N{EN DASH} 10.1.1.15")
    page.keyboard.press("0")
    page.wait_for_selector("#map-part >> text=10.1.1.0 \N{EN DASH} 10.1.1.255")
    page.click("#map-canvas", position={"x": 3, "y": 3})
    page.wait_for_selector(".answer >> text=10.1.1.0")
    page.click("#why .close")


@pytest.mark.parametrize("at", ["#map-canvas", "#pools button", "#table tbody button"])
def test_focus_stays_while_the_page_follows(site: Site, page: Page, at: str) -> None:
    """What has the focus keeps it while everything is drawn anew: whoever uses a keyboard loses nothing."""
    site.client.allocate("farm", "vm")
    page.wait_for_selector(row("vm"))
    page.focus(at)
    what = "[document.activeElement.tagName, document.activeElement.id, document.activeElement.textContent]"
    had = page.evaluate(what)
    for number in range(2):
        name = f"other-{number}"
        site.client.allocate("farm", name)
        page.wait_for_selector(row(name))
        page.wait_for_selector(f"#pools >> text={number + 2} allocated")
        assert page.evaluate(what) == had


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_page_is_for_everybody(site: Site, open_page: Callable[..., Page], scheme: str, width: int) -> None:
    """axe finds nothing: with findings, with every dialog open, on a wide screen and on a phone."""
    site.client.allocate_group("farm", "speck", 9)
    site.client.reserve("printer", "10.1.1.200", mac="00:11:22:33:44:55")
    page = open_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.wait_for_selector(row("speck-9"))
    axe = Axe()
    assert _violations(axe, page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.check("#table-gaps")
    page.wait_for_selector("#table .gap")
    page.click("#table tbody .link >> nth=0")
    page.wait_for_selector("#why .history")
    assert _violations(axe, page) == []
    page.keyboard.press("Escape")
    use_token(page, "no.token")
    page.wait_for_selector("#token-refused >> text=no such token")
    assert _violations(axe, page) == []
    page.fill("#token-secret", site.secrets["writer"])
    page.keyboard.press("Enter")
    page.wait_for_selector("#token", state="hidden")
    page.check(f"{row('speck-1')} input")
    page.wait_for_selector("#table-release:enabled")
    page.click("#table-release")
    assert _violations(axe, page) == []
    page.click("#release-no")


def _violations(axe: Axe, page: Page) -> list[str]:
    found = axe.run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]


def test_last_use_of_a_token_is_listed(site: Site, page: Page) -> None:
    """`macbind token list` tells when each token was last used; a token that is removed is refused at once."""
    secret = site.farm.macbind("token", "add", "guest", "--note", "for a day").strip()
    use_token(page, secret)
    page.wait_for_selector("#token-open >> text=Token guest (read)")
    listed = {one["id"]: one for one in site.farm.macbind_json("token", "list")}
    assert listed["guest"]["last_used_at"] is not None
    assert listed["guest"]["note"] == "for a day"
    site.farm.macbind("token", "remove", "guest")
    page.wait_for_selector("#trouble >> text=There is no such token.")
    until(lambda: page.is_visible("#token"), 60, "the page to ask for another token")
