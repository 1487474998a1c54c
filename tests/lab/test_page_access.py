"""Who may see the page, over plain HTTP: names, tokens, methods, headers, and how many may connect."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any

import pytest

from lab.conftest import open_directory
from labkit.farm import Farm
from labkit.net import Lab
from labkit.wait import until
from macbind.http.page_listener import CONNECTIONS

PORT = 8067
POOLS = """
[page]
listen = "{listen}:8067"
{page}

[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]
"""


@dataclass
class Answer:
    """What the page answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as a value."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the error in it."""
        return str(self.json["error"]["code"])


@dataclass
class Door:
    """The page's port, in the namespace of a lab."""

    lab: Lab
    host: str = "127.0.0.1"
    headers: dict[str, str] = field(default_factory=dict)

    def connect(self) -> socket.socket:
        """A connection."""
        return self.lab.server.open_tcp(self.host, PORT, 30)

    def ask(
        self, path: str, method: str = "GET", body: object = None, host: str | None = None, **headers: str
    ) -> Answer:
        """Asks something."""
        made = HTTPConnection(self.host, PORT)
        with self.connect() as made.sock:
            sent = self.headers | headers | {"Host": host or f"{self.host}:{PORT}"}
            text = None if body is None else json.dumps(body)
            if text is not None:
                sent["Content-Type"] = "application/json"
            made.request(method, path, text, sent)
            answer: HTTPResponse = made.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def token(self, secret: str) -> Door:
        """The same, with a token."""
        return Door(self.lab, self.host, {"Authorization": f"Bearer {secret}"})


def make_farm(lab: Lab, place: Path, listen: str = "127.0.0.1", page: str = "", service: str = "") -> Farm:
    """A farm with a page that listens there."""
    tokens = page.format(place=place)
    return Farm(lab, place, pools=POOLS.format(listen=listen, page=tokens), service=service)


@pytest.fixture(scope="module")
def open_farm() -> Iterator[tuple[Farm, Door]]:
    """A page on loopback, without tokens."""
    with Lab() as lab, open_directory() as place, make_farm(lab, place) as farm:
        yield farm, Door(lab)
        assert farm.defects() == []


@pytest.fixture(scope="module")
def closed_farm() -> Iterator[tuple[Farm, Door, dict[str, str]]]:
    """A page for others, with a token of each kind."""
    with Lab() as lab, open_directory() as place:
        farm = make_farm(lab, place, "10.0.0.1", 'tokens = "{place}/tokens"\nnames = ["farm.example.org"]')
        secrets = {"reader": farm.macbind("token", "add", "reader").strip()}
        secrets["writer"] = farm.macbind("token", "add", "writer", "--write").strip()
        with farm:
            yield farm, Door(lab, "10.0.0.1"), secrets
            assert farm.defects() == []
            assert all(one.partition(".")[2] not in farm.log() for one in secrets.values())


def test_on_loopback_everybody_here_reads_and_nobody_changes(open_farm: tuple[Farm, Door]) -> None:
    """The page, its files and its data are answered; a release needs a token, and there is none."""
    farm, door = open_farm
    with farm.client() as client:
        client.allocate("farm", "vm")
        for path in ("/", "/page/main.js", "/page/page.css", "/page/icon.svg", "/v1/status", "/v1/page"):
            assert door.ask(path).status == 200, path
        assert door.ask("/v1/page").json["may"] == "read"
        assert [one["name"] for one in door.ask("/v1/allocations").json["allocations"]] == ["vm"]
        refused = door.ask("/v1/release", "POST", {"name": "vm"})
        assert (refused.status, refused.code) == (401, "token_invalid")
        assert "name a file for `tokens`" in refused.json["error"]["hint"]
        assert door.token("a.b").ask("/v1/status").code == "token_invalid"
        assert client.get("vm").name == "vm"
        client.release("vm")


def test_there_is_little_more_than_reading(open_farm: tuple[Farm, Door]) -> None:
    """What the page does not need is not there, whoever asks; nor is any file but the page's own."""
    _, door = open_farm
    for path in (
        "/v1/wait?names=a&until=bound",
        "/metrics",
        "/page/../http/page.py",
        "/page/",
        "/v1",
        "/etc/passwd",
    ):
        assert door.ask(path).status == 404, path
    for method, path in (
        ("POST", "/v1/allocations"),
        ("DELETE", "/v1/reservations/a"),
        ("PUT", "/"),
        ("POST", "/"),
    ):
        assert door.ask(path, method, {}).status in (401, 405), (method, path)


@pytest.mark.parametrize(
    "host", ["attacker.example", "attacker.example:8067", "", "127.0.0.1.attacker.example", "local\\host"]
)
def test_other_names_are_refused(open_farm: tuple[Farm, Door], host: str) -> None:
    """A site of somebody else whose name leads here gets nothing, not even the page (DNS rebinding)."""
    _, door = open_farm
    for path in ("/", "/v1/status", "/v1/events"):
        refused = door.ask(path, host=host or " ")
        assert (refused.status, refused.code) == (421, "invalid_request")
        assert "`names` in [page]" in refused.json["error"]["hint"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9000", "127.0.0.1", "[::1]:8067", "127.0.0.1:1"])
def test_own_names_are_known_at_any_port(open_farm: tuple[Farm, Door], host: str) -> None:
    """A tunnel may have another port."""
    assert open_farm[1].ask("/v1/status", host=host).status == 200


def test_every_answer_says_what_browsers_must_not_do(open_farm: tuple[Farm, Door]) -> None:
    """Nothing from elsewhere, no framing, no guessing of types; data is not kept; files are asked for again."""
    _, door = open_farm
    for path in ("/", "/page/map.js", "/v1/status", "/nothing"):
        headers = door.ask(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == ("no-cache" if path in ("/", "/page/map.js") else "no-store")
        assert "access-control-allow-origin" not in headers
        assert "set-cookie" not in headers
    tag = door.ask("/page/map.js").headers["etag"]
    assert door.ask("/page/map.js", **{"If-None-Match": tag}).status == 304
    text = door.ask("/").body.decode()
    assert "http:" not in text
    assert "https:" not in text


def test_elsewhere_a_token_is_needed_to_read(closed_farm: tuple[Farm, Door, dict[str, str]]) -> None:
    """Without one there is the page without data; each kind of token that does not count has its own error."""
    farm, door, secrets = closed_farm
    assert door.ask("/").status == 200
    assert door.ask("/", host="farm.example.org").status == 200
    refused = door.ask("/v1/status")
    assert (refused.status, refused.code, refused.headers["www-authenticate"]) == (
        401,
        "token_invalid",
        "Bearer",
    )
    for wrong in (
        "reader",
        "reader.",
        "nobody.x",
        secrets["reader"][:-1],
        secrets["reader"] + "x",
        "\xff.\xfe",
        "." * 5000,
    ):
        assert door.token(wrong).ask("/v1/status").code == "token_invalid"
    assert door.ask("/v1/status", Authorization=f"Basic {secrets['reader']}").code == "token_invalid"
    reader = door.token(secrets["reader"])
    assert reader.ask("/v1/status").status == 200
    with farm.client() as client:
        client.allocate("farm", "vm")
        refused = reader.ask("/v1/release", "POST", {"name": "vm"})
        assert (refused.status, refused.code) == (403, "not_permitted")
        assert client.get("vm").name == "vm"
        done = door.token(secrets["writer"]).ask("/v1/release", "POST", {"name": "vm", "reason": "test"})
        assert done.status == 200
        assert client.history(name="vm")[0].actor == "page:writer"
    short = farm.macbind("token", "add", "short", "--expires", "1s").strip()
    until(lambda: door.token(short).ask("/v1/status").status == 401, 60, "the token to expire")
    assert door.token(short).ask("/v1/status").code == "token_expired"


def test_a_stream_ends_with_its_token(closed_farm: tuple[Farm, Door, dict[str, str]]) -> None:
    """Whoever follows the events is cut within seconds when the token is removed."""
    farm, door, _ = closed_farm
    secret = farm.macbind("token", "add", "brief").strip()
    made = HTTPConnection(door.host, PORT)
    with door.connect() as made.sock:
        made.request("GET", "/v1/events", headers={"Host": "localhost", "Authorization": f"Bearer {secret}"})
        answer = made.getresponse()
        assert answer.status == 200
        assert answer.readline().startswith(b"id: ")
        farm.macbind("token", "remove", "brief")
        started = time.monotonic()
        with suppress(IncompleteRead, ConnectionError):
            while answer.readline():
                assert time.monotonic() - started < 60
        assert time.monotonic() - started < 60
    assert door.token(secret).ask("/v1/events").code == "token_invalid"


def test_a_damaged_file_of_tokens_lets_nobody_in(closed_farm: tuple[Farm, Door, dict[str, str]]) -> None:
    """It is looked at at each request; mended, the tokens count again."""
    farm, door, secrets = closed_farm
    reader, path = door.token(secrets["reader"]), farm.directory / "tokens"
    text = path.read_text()
    path.write_text(text + "nonsense\n")
    assert reader.ask("/v1/status").code == "token_invalid"
    path.write_text(text)
    assert reader.ask("/v1/status").status == 200
    assert "This is no token" in farm.log()


def test_connections_are_bounded_and_the_service_does_not_notice(open_farm: tuple[Farm, Door]) -> None:
    """All places taken: one more is told so, the socket answers as before, and who is silent gives its place back."""
    farm, door = open_farm
    with ExitStack() as idle:
        for _ in range(CONNECTIONS):
            idle.enter_context(door.connect())

        def refused() -> bool:
            with suppress(OSError):
                return door.ask("/v1/status").status == 503
            return False

        until(refused, 60, "all places to be taken")
        with farm.client() as client:
            started = time.monotonic()
            client.allocate("farm", "vm")
            client.release("vm")
            assert time.monotonic() - started < 25

        def answered() -> bool:
            with suppress(OSError):
                return door.ask("/v1/status").status == 200
            return False

        until(answered, 120, "a silent connection to give its place back")


def test_a_large_head_is_refused(open_farm: tuple[Farm, Door]) -> None:
    """Nobody without a token fills the memory by header fields; the page answers on."""
    _, door = open_farm
    with door.connect() as one:
        with suppress(ConnectionError):  # it may be closed before the end of the head has come
            one.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * (80 << 10))
        answer = HTTPResponse(one)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (431, "invalid_request")
    assert door.ask("/").status == 200


@pytest.mark.parametrize(
    ("listen", "page", "service", "says"),
    [
        ("10.0.0.1", "", "", "Other machines reach 10.0.0.1:8067, and there are no tokens."),
        ("127.0.0.1", "", 'may_read = ["root"]', "Every user of this machine would see the page"),
        ("127.0.0.1", 'tokens = "{place}/nothing"', "", "There is no such file of tokens."),
        ("192.0.2.9", 'tokens = "{place}/tokens"', "", "192.0.2.9:8067 cannot be used: Cannot assign"),
    ],
)  # fmt: skip
def test_a_page_that_cannot_be_is_one_clear_error(listen: str, page: str, service: str, says: str) -> None:
    """The service does not start; the sentence names the key, and exit status 3 the configuration."""
    with Lab() as lab, open_directory() as place:
        (place / "tokens").write_text("")
        farm = Farm(lab, place)
        farm.configure(pools=POOLS.format(listen=listen, page=page.format(place=place)), service=service)
        done = farm.run("serve")
        assert done.returncode == 3
        assert says in done.stderr
        assert "Traceback" not in done.stderr


def test_a_reload_does_not_change_the_page(open_farm: tuple[Farm, Door]) -> None:
    """Another address needs a restart: the finding says so, and the page stays where it was."""
    farm, door = open_farm
    before = farm.config.read_text()
    farm.reload(pools=POOLS.format(listen="127.0.0.2", page=""))
    until(lambda: "config_refused" in farm.findings(), 60, "the configuration to be refused")
    assert "[page] listen cannot be changed while the service runs." in farm.findings()["config_refused"]
    assert door.ask("/v1/status").status == 200
    farm.reload(pools=POOLS.format(listen="127.0.0.1", page=""))
    until(lambda: "config_refused" not in farm.findings(), 60, "the configuration to be loaded")
    assert farm.config.read_text() == before
