"""The page's application by itself: who passes its access control, and what every answer says. No port is open."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from contract.book import Book, make_pool
from macbind.client import codec
from macbind.config.token_file import change_tokens
from macbind.core.findings import Rates
from macbind.core.page_token import May, Token, hashed
from macbind.http.operation import Change, Operation, Question
from macbind.http.page import Page, about, rows
from macbind.http.page_access import PageAccess, names_here
from macbind.http.patience import Patience
from macbind.http.schemas import Nothing, ReleaseBody
from macbind.http.tokens import Tokens
from macbind.service.maps import Maps
from macbind.service.meters import Meters
from macbind.service.peers import Peers
from macbind.service.status import StatusReport
from macbind.service.table import Table
from macbind.service.trends import Trends
from macbind.service.waiting import Deadline

SALT = "0" * 32


def ask(
    tokens: Path | None,
    method: str,
    path: str,
    *,
    is_open: bool = True,
    more: Sequence[Operation] = (),
    **how: object,
) -> httpx.Response:
    """What the page answers, with more operations than those of these tests."""

    async def release(asked: object, _: Deadline) -> list[str]:
        return [str(asked.peer)]  # type: ignore[attr-defined]

    operations: list[Operation] = [
        Question("/v1/pools", "Who asks", Nothing, codec.NAMES, lambda asked: [str(asked.peer)]),
        Question("/metrics", "Not of the page", Nothing, codec.NAMES, lambda _: []),
        Change("POST", "/v1/release", "Who releases", ReleaseBody, codec.NAMES, release),
        Change("POST", "/v1/allocations", "Not of the page", ReleaseBody, codec.NAMES, release),
        *more,
    ]

    async def run() -> httpx.Response:
        page = Page(operations, timeout_s=lambda: 60.0, patience=Patience(60.0), meters=Meters())
        app = PageAccess(
            page,
            is_ours=names_here("127.0.0.1", ()),
            tokens=None if tokens is None else Tokens(tokens),
            open_to_read=lambda: is_open,
            is_public=page.is_public,
        )
        transport = httpx.ASGITransport(app=app, client=("page", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8067") as client:
            return await client.request(method, path, **how)  # type: ignore[arg-type]

    return asyncio.run(run())


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A file with a token for reading, one for writing, and one whose time is over."""
    path = tmp_path / "tokens"
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    made = [
        Token("reader", hashed("r", SALT), May.READ),
        Token("writer", hashed("w", SALT), May.WRITE),
        Token("former", hashed("f", SALT), May.WRITE, long_ago),
        Token("wall", hashed("p", SALT), May.READ, pools=frozenset({"farm"})),
    ]
    change_tokens(path, lambda known: known.update({one.id: one for one in made}))
    return path


def bearer(secret: str) -> dict[str, str]:
    """The header of a token."""
    return {"Authorization": f"Bearer {secret}"}


def test_reading_is_open_or_needs_a_token(tokens: Path) -> None:
    """Files are for everybody; data is, where everybody here may read."""
    assert ask(None, "GET", "/v1/pools").json() == ["page"]
    assert ask(tokens, "GET", "/", is_open=False).headers["content-type"] == "text/html; charset=utf-8"
    refused = ask(tokens, "GET", "/v1/pools", is_open=False)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "token_invalid")
    assert ask(tokens, "GET", "/v1/pools", is_open=False, headers=bearer("reader.r")).json() == [
        "page:reader"
    ]


@pytest.mark.parametrize(
    ("secret", "status", "code"),
    [
        (None, 401, "token_invalid"),
        ("writer.x", 401, "token_invalid"),
        ("former.f", 401, "token_expired"),
        ("reader.r", 403, "not_permitted"),
    ],
)
def test_only_a_token_that_may_write_releases(
    tokens: Path, secret: str | None, status: int, code: str
) -> None:
    """Each of the others has its own error; the right one is the actor."""
    body = {"name": "vm"}
    headers = {} if secret is None else bearer(secret)
    refused = ask(tokens, "POST", "/v1/release", json=body, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert ask(tokens, "POST", "/v1/release", json=body, headers=bearer("writer.w")).json() == ["page:writer"]


def test_what_the_page_does_not_need_is_not_there(tokens: Path) -> None:
    """Neither metrics nor allocating, whatever the token may."""
    for method, path in (("GET", "/metrics"), ("GET", "/v1/nothing"), ("GET", "/page/")):
        assert ask(tokens, method, path, headers=bearer("writer.w")).status_code == 404, path
    refused = ask(tokens, "POST", "/v1/allocations", json={"name": "vm"}, headers=bearer("writer.w"))
    assert refused.status_code == 405


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/v1/pools", "/nothing"])
def test_every_answer_has_its_headers_and_every_name_is_looked_at(path: str) -> None:
    """A refusal, too; a name of somebody else gets nothing."""
    for answer in (ask(None, "GET", path), ask(None, "GET", path, headers={"Host": "evil.example"})):
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] in ("no-store", "no-cache")
    assert answer.status_code == 421
    assert answer.json()["error"]["code"] == "invalid_request"


def test_a_token_of_pools_sees_these_only(tokens: Path, tmp_path: Path) -> None:
    """Status, trends, maps and rows are cut to them, and rates, which are of all pools, are left out."""
    book = Book(f"sqlite:///{tmp_path}/registry.db")
    book.open(make_pool(), make_pool("other", subnet="10.2.1.0/28", prefix="00:16:3f"))
    book.allocate("mine")
    book.allocate("theirs", pool="other")
    report = StatusReport(book.registry, Peers, rates=lambda: Rates(waiting=3))
    more: list[Operation] = [
        about(report, Trends(book.registry), Maps(book.registry)),
        rows(Table(book.registry)),
    ]

    def answer(secret: str, path: str) -> httpx.Response:
        return ask(tokens, "GET", path, more=more, headers=bearer(secret))

    whole, mine = (answer(secret, "/v1/page").json() for secret in ("reader.r", "wall.p"))
    for found, pools in ((whole, ["farm", "other"]), (mine, ["farm"])):
        assert [one["pool"] for one in found["status"]["pools"]] == pools
        assert [one["pool"] for one in found["trends"]] == sorted(found["bounds"]) == pools
    assert whole["status"]["rates"]["waiting"] == 3
    assert mine["status"]["rates"] is None
    assert [one[2] for one in answer("wall.p", "/v1/page/rows?pool=farm").json()["rows"]] == ["mine"]
    assert answer("reader.r", "/v1/page/rows?pool=other").status_code == 200
    refused = answer("wall.p", "/v1/page/rows?pool=other")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_permitted")
    book.close()


PAGE = Path(__file__).parents[2] / "controller" / "macbind" / "page"


def test_every_module_is_asked_for_at_once() -> None:
    """The document names all modules; a browser would find those that others import one round after the other."""
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    named = {one.partition('"')[0] for one in text.split('="/page/')[1:]}
    assert named == {one.name for one in PAGE.iterdir() if one.suffix != ".html"}


def test_nothing_comes_from_elsewhere_and_no_text_becomes_markup() -> None:
    """The files name no other host, and use neither inline scripts or styles nor anything that parses markup."""
    for file in PAGE.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text, file
        assert "https:" not in text, file
        for never in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ):
            assert never not in text, file
        if file.suffix == ".html":
            assert "style=" not in text
            assert not any(f" on{one}=" in text for one in ("click", "load", "error", "submit", "input"))
