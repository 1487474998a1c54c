"""What is asked wrongly is refused with one clear sentence, a stable code, and nothing half-done."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from labkit.farm import Farm
from macbind.cli.commands import app
from macbind.client.client import Client
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import (
    AddressInUse,
    Conflict,
    InvalidAddress,
    InvalidOption,
    InvalidRequest,
    MacbindError,
    NotFound,
    NotInPool,
    PoolExhausted,
)
from macbind.http import schemas

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
dynamic = ["10.9.0.0-10.9.0.255"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]

[pool.small]
subnet = "10.0.0.0/8"
ranges = ["10.2.0.3-10.2.0.5"]
"""
ALLOCATIONS, RELEASE, RESERVATIONS = "/v1/allocations", "/v1/release", "/v1/reservations"


@pytest.fixture(scope="module")
def held(farm: Farm) -> None:
    """What the requests of this module meet: an allocation, a pinned one, and a pool with one free address."""
    with farm.client() as client:
        client.allocate("farm", "holder", domain="build")
        client.reserve("printer", "10.0.0.9", mac="b8:27:eb:00:00:01")
        client.allocate_group("small", "pair", 2)


@pytest.fixture
def client(farm: Farm, held: None) -> Iterator[Client]:
    """The Python API."""
    with farm.client() as client:
        yield client


@pytest.fixture
def http(farm: Farm, held: None) -> Iterator[httpx.Client]:
    """Plain HTTP, as any program may speak it."""
    transport = httpx.HTTPTransport(uds=str(farm.socket), verify=False)
    with httpx.Client(transport=transport, base_url="http://macbind", timeout=60) as http:
        yield http


@contextmanager
def unchanged(farm: Farm) -> Iterator[None]:
    """Fails if registry, audit log, or what dhcpd has on disk is different afterwards."""

    def everything() -> object:
        with farm.client() as client:
            known = list(client.list(released=True)), list(client.pools()), list(client.history(limit=1))
        return known, farm.leases.read_bytes()

    before = everything()
    yield
    assert everything() == before


def problem(answer: httpx.Response) -> dict[str, Any]:
    """The error in an answer, after checking that it has the shape that every error has."""
    body = answer.json()
    schemas.ErrorBody.model_validate(body)
    error: dict[str, Any] = body["error"]
    assert error["message"].endswith("."), error
    assert error["message"].count("\n") == 0
    return error


API: list[tuple[str, Callable[[Client], object], type[MacbindError], str]] = [
    ("unknown pool", lambda c: c.allocate("nope", "n"), NotFound, r"no pool 'nope'. Pools are: farm, small"),
    ("too many", lambda c: c.allocate_group("small", "g", 2), PoolExhausted, "has 1 unoccupied.* 2 were asked"),
    ("malformed address", lambda c: c.allocate("farm", "n", address="10.1.1"), InvalidAddress, r"'10\.1\.1' is"),
    ("outside the pool", lambda c: c.allocate("farm", "n", address="10.1.2.3"), NotInPool, "hands out 10.1.1.3-"),
    ("taken", lambda c: c.allocate("farm", "n", address="10.1.1.3"), AddressInUse, "is held by 'holder'"),
    ("other pool", lambda c: c.allocate("small", "holder"), Conflict, "with pool 'farm', not 'small'"),
    ("other domain", lambda c: c.allocate("farm", "holder", domain="x"), Conflict, "domain 'build', not 'x'"),
    ("a pinned name", lambda c: c.allocate("farm", "printer"), Conflict, "'printer' is already allocated"),
    ("no count", lambda c: c.allocate_group("farm", "g"), InvalidRequest, "exactly one of name, names and count"),
    ("count zero", lambda c: c.allocate_group("farm", "g", 0), InvalidRequest, "count must be greater than"),
    ("negative count", lambda c: c.allocate_group("farm", "g", -3), InvalidRequest, "count must be greater than"),
    ("huge count", lambda c: c.allocate_group("farm", "g", 10**30), InvalidRequest, "count must be less than"),
    ("no names", lambda c: c.allocate_group("farm", "g", names=[]), InvalidRequest, "names: List should have"),
    ("a name twice", lambda c: c.allocate_group("farm", "g", names=["a", "a"]), InvalidRequest, "a name twice"),
    ("half of it exists", lambda c: c.allocate_group("small", "pair", names=["pair-1", "x"]), Conflict, "'x' does"),
    ("empty name", lambda c: c.allocate("farm", ""), InvalidRequest, "'' cannot be a name"),
    ("empty group", lambda c: c.allocate_group("farm", "", 2), InvalidRequest, "'' cannot be a group"),
    ("unicode name", lambda c: c.allocate("farm", "büro"), InvalidRequest, "'büro' cannot be a name"),
    ("broken unicode", lambda c: c.allocate("farm", "\udcff"), InvalidRequest, "cannot be a name"),
    ("line break", lambda c: c.allocate("farm", "a\nb"), InvalidRequest, r"'a\\nb' cannot be a name"),
    ("long name", lambda c: c.allocate("farm", "n" * 129), InvalidRequest, "1 to 128 letters"),
    ("NUL in domain", lambda c: c.allocate("farm", "n", domain="\0"), InvalidRequest, "domain must not hold control"),
    ("no time to live", lambda c: c.allocate("farm", "n", ttl_s=0), InvalidRequest, "ttl_s must be greater than 0"),
    ("negative ttl", lambda c: c.allocate("farm", "n", ttl_s=-1), InvalidRequest, "ttl_s must be greater than 0"),
    ("ttl for ever", lambda c: c.allocate("farm", "n", ttl_s=1e300), InvalidRequest, "ttl_s must be less than"),
    ("ttl that is none", lambda c: c.allocate("farm", "n", ttl_s=float("nan")), InvalidRequest, "cannot be written"),
    ("release of a pinned one", lambda c: c.release("printer"), Conflict, "Use `macbind unreserve`"),
    ("release of its address", lambda c: c.release(address="10.0.0.9"), Conflict, "is a reservation"),
    ("release of nothing", lambda c: c.release(), InvalidRequest, "exactly one of name, group and address"),
    ("release of both", lambda c: c.release("x", address="10.1.1.3"), InvalidRequest, "exactly one of"),
    ("release of an unset name", lambda c: c.release(""), InvalidRequest, "'' cannot be a name"),
    ("release of an unset group", lambda c: c.release_group(""), InvalidRequest, "'' cannot be a group"),
    ("unreserve of an ordinary one", lambda c: c.unreserve("holder"), Conflict, "Use `macbind release`"),
    ("unreserve of an unset name", lambda c: c.unreserve(""), InvalidRequest, "'' cannot be a name"),
    ("reserve in no subnet", lambda c: c.reserve("n", "192.0.2.1"), NotInPool, "in no pool's subnet"),
    ("reserve the gateway", lambda c: c.reserve("n", "10.0.0.1"), NotInPool, "gateway address"),
    ("reserve a dynamic one", lambda c: c.reserve("n", "10.9.0.7"), NotInPool, "dynamic range 10.9.0.0-10.9.0.255"),
    ("reserve a taken one", lambda c: c.reserve("n", "10.1.1.3"), AddressInUse, "held by 'holder'"),
    ("reserve with no MAC", lambda c: c.reserve("n", "10.0.0.8", mac="zz"), InvalidAddress, "'zz' is not a MAC"),
    ("a taken MAC", lambda c: c.reserve("n", "10.0.0.8", mac="b8:27:eb:00:00:01"), AddressInUse, r"'printer' \(10"),
    ("somebody's MAC", lambda c: c.reserve("n", "10.0.0.8", mac="00:16:3e:01:01:09"), Conflict, "MAC of 10.1.1.9"),
    ("a broadcast MAC", lambda c: c.reserve("n", "10.0.0.8", mac="ff:ff:ff:ff:ff:ff"), Conflict, "network card"),
    ("another address", lambda c: c.reserve("printer", "10.0.0.8"), Conflict, "'printer' already names 10.0.0.9"),
    ("unknown name", lambda c: c.get("nobody"), NotFound, "no allocation 'nobody'"),
    ("unknown pool in a filter", lambda c: list(c.list(pool="nope")), NotFound, "no pool 'nope'"),
    ("history of no address", lambda c: c.history(address="x"), InvalidAddress, "'x' is not an IPv4"),
    ("history without end", lambda c: c.history(limit=10**9), InvalidRequest, "limit must be less than"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "words"), [case[1:] for case in API], ids=[case[0] for case in API])
def test_impossible_call_raises_its_own_class_and_changes_nothing(
    farm: Farm,
    client: Client,
    call: Callable[[Client], object],
    kind: type[MacbindError],
    words: str,
) -> None:
    """A caller's fault arrives as the very class that says so, with what is wrong and how to mend it."""
    with unchanged(farm), pytest.raises(MacbindError, match=words) as refused:
        call(client)
    assert type(refused.value) is kind
    assert refused.value.hint


OPTIONS = [
    {"hostname": 'a"b'},
    {"hostname": "a\\b"},
    {"hostname": "a\nb"},
    {"hostname": "a" * 64},
    {"hostname": "büro"},
    {"hostname": ""},
    {"hostname": "a; deny booting"},
    {"domain_name": 'x"; }'},
    {"domain_name": "a." * 127 + "a"},
    {"filename": 'pxe".0'},
    {"filename": 'pxe\\".0'},
    {"filename": "pxe\0"},
    {"filename": "x" * 128},
    {"routers": ["gw.example.org"]},
    {"routers": ["10.0.0.2"] * 64},
    {"routers": ["224.0.0.1"]},
    {"routers": [167772162]},
    {"next_server": "255.255.255.255"},
    {"next_server": True},
    {"routers": 0},
    {"static_routes": [None]},
    {"static_routes": ["default via 10.0.0.1"]},
    {"static_routes": ["10.200.0.1/16 via 10.0.0.1"]},
    {"static_routes": [f"10.{number}.0.0/16 via 10.0.0.1" for number in range(60)]},
    {"static_routes": ["65.66.34.68/32 via 69.70.71.72"], "routers": []},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda value: str(value)[:40])
def test_option_that_dhcpd_must_not_be_given_is_refused(
    farm: Farm, http: httpx.Client, options: dict[str, Any]
) -> None:
    """Quotes, backslashes, control characters, names for addresses and what is too long never reach dhcpd."""
    with unchanged(farm):
        answer = http.post(ALLOCATIONS, json={"pool": "farm", "name": "n", "options": options})
    assert answer.status_code == 400
    error = problem(answer)
    assert error["code"] == InvalidOption.code
    assert next(iter(options)).rstrip("s") in error["message"].replace(" ", "_")
    assert error["hint"]


BODIES = [
    (ALLOCATIONS, b"", "must be a JSON object"),
    (ALLOCATIONS, b"{", "not JSON"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "n"', "not JSON"),
    (ALLOCATIONS, b"\xff\xfe{}", "not JSON"),
    (ALLOCATIONS, b"[" * 100_000, "parsing the body"),
    (ALLOCATIONS, b'{"count": ' + b"1" * 6000 + b"}", "parsing the body"),
    (ALLOCATIONS, b"[]", "must be a JSON object"),
    (ALLOCATIONS, b"null", "must be a JSON object"),
    (ALLOCATIONS, b'"farm"', "must be a JSON object"),
    (ALLOCATIONS, b"{}", "pool is missing"),
    (ALLOCATIONS, b'{"pool": 5, "name": "n"}', "pool must be a valid string"),
    (ALLOCATIONS, b'{"pool": "farm", "name": 5}', "name must be a valid string"),
    (ALLOCATIONS, b'{"pool": "farm", "names": "n"}', "names must be a valid list"),
    (ALLOCATIONS, b'{"pool": "farm", "names": ["n", 5]}', r"names\.1 must be a valid string"),
    (ALLOCATIONS, b'{"pool": "farm", "count": 2}', "count needs a group"),
    (ALLOCATIONS, b'{"pool": "farm", "group": "g", "count": "2"}', "count must be a valid integer"),
    (ALLOCATIONS, b'{"pool": "farm", "group": "g", "count": true}', "count must be a valid integer"),
    (ALLOCATIONS, b'{"pool": "farm", "group": "g", "count": 2.5}', "count must be a valid integer"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "n", "address": 167837955}', "address must be a text"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "n", "address": true}', "address must be a text"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "n", "address": "010.1.1.4"}', "address is not a valid IPv4"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "n", "ttl_s": "5"}', "ttl_s must be a valid number"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "n", "ttl_s": true}', "ttl_s must be a valid number"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "n", "ttl_s": Infinity}', "ttl_s must be"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "n", "timeout_s": 0}', "timeout_s must be greater than 0"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "n", "timeout_s": 1e9}', "timeout_s must be less than or equal to 300"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "n", "tll_s": 5}', "no parameter tll_s here"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "n", "options": []}', "options must be"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "n", "options": {"router": "10.0.0.2"}}', "no DHCP option 'router'"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "n", "options": {"routers": "10.0.0.2"}}', "is not a list of texts"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "\\ud800"}', "cannot be a name"),
    (ALLOCATIONS, b'{"pool": "\\ud800", "name": "n"}', "There is no pool"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "n", "\\ud800": 1}', r"no parameter '\\ud800' here"),
    (ALLOCATIONS, b'{"pool": "farm", "name": "n", "domain": "\\ud800"}', "domain must be a valid string"),
    (ALLOCATIONS, b'{"pool": "farm", "names": ["n", "m"], "address": "10.1.1.9"}', "for one machine only"),
    (
        ALLOCATIONS,
        b'{"pool": "farm", "group": "g", "count": 2, "options": {"hostname": "web"}}',
        "all 2 machines would be called 'web'",
    ),
    (RELEASE, b"{}", "exactly one of name, group and address"),
    (RELEASE, b'{"name": "a", "group": "b"}', "exactly one of name, group and address"),
    (RELEASE, b'{"name": "\\u0000"}', "cannot be a name"),
    (RELEASE, b'{"name": "x", "generation": "1"}', "generation must be a valid integer"),
    (RELEASE, b'{"name": "holder", "generation": ' + b"9" * 30 + b"}", "generation must be less than"),
    (RELEASE, b'{"name": "holder", "generation": -1}', "generation must be greater than"),
    (RELEASE, b'{"name": "x", "reason": "\\u0000"}', "reason must not hold control characters"),
    (RELEASE, '{"name": "x", "reason": "\u009b2J"}'.encode(), "reason must not hold control characters"),
    (ALLOCATIONS, '{"pool": "farm", "name": "n", "domain": "\u202e"}'.encode(), "must not hold control characters"),
    (ALLOCATIONS, b'{"pool": "farm", "names": [' + b"5," * 60_000 + b"5]}", r"names\.0 must be a valid string"),
    (RELEASE, b'{"name": "holder", "force": true}', "no parameter force here"),
    (RESERVATIONS, b'{"name": "n", "address": "10.0.0.8", "mac": 5}', "mac must be a text"),
    (RESERVATIONS, b'{"name": "n"}', "address is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "words"), BODIES, ids=lambda value: str(value)[:48])
def test_body_that_is_not_what_the_document_says_is_refused(
    farm: Farm, http: httpx.Client, path: str, body: bytes, words: str
) -> None:
    """Broken JSON, wrong types and unknown parameters get an error that names the place."""
    with unchanged(farm):
        answer = http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 404}
    assert re.search(words, problem(answer)["message"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/nothing", 404),
        ("GET", "//", 404),
        ("GET", "/v1/allocations/%ff%00", 404),
        ("GET", "/%f0%28%8c%28", 404),
        ("PUT", ALLOCATIONS, 405),
        ("DELETE", ALLOCATIONS, 405),
        ("PATCH", f"{ALLOCATIONS}/holder", 405),
        ("OPTIONS", "/v1/pools", 405),
        ("GET", RELEASE, 405),
        ("GET", f"{ALLOCATIONS}?limit=0", 400),
        ("GET", f"{ALLOCATIONS}?limit=x", 400),
        ("GET", f"{ALLOCATIONS}?after=x", 400),
        ("GET", f"{ALLOCATIONS}?mac=x", 400),
        ("GET", f"{ALLOCATIONS}?grop=speck", 400),
        ("GET", "/v1/pools?pool=farm", 400),
        ("DELETE", f"{RESERVATIONS}/printer?timeout_s=nan", 400),
        ("DELETE", f"{RESERVATIONS}/printer?timeout_s=-1", 400),
        ("DELETE", f"{RESERVATIONS}/", 400),
    ],
)
def test_wrong_path_method_or_query_is_refused(
    farm: Farm, http: httpx.Client, method: str, path: str, status: int
) -> None:
    """Every refusal has the error's shape; a misspelt filter is refused and does not mean: everything."""
    with unchanged(farm):
        answer = http.request(method, path)
    assert answer.status_code == status
    error = problem(answer)
    assert error["code"] in {"not_found", "invalid_request", "invalid_address"}
    assert error["hint"]


def test_body_that_is_not_declared_as_json_is_refused(farm: Farm, http: httpx.Client) -> None:
    """A form or an undeclared body is refused with the header that is missing."""
    with unchanged(farm):
        for sent in ({"data": {"pool": "farm", "name": "n"}}, {"content": b'{"pool": "farm", "name": "n"}'}):
            answer = http.post(ALLOCATIONS, **sent)
            assert answer.status_code == 400
            assert "Content-Type: application/json" in problem(answer)["message"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (ALLOCATIONS, b'{"pool": "farm", "name": "both-ways"}'),
        (ALLOCATIONS, b'{"pool": "farm", "names": ["both-ways"], "name": "both-ways"}'),
        (ALLOCATIONS, b'{"pool": "nowhere", "name": "both-ways"}'),
        (ALLOCATIONS, b'{"pool": "farm", "nam": "both-ways"}'),
        (ALLOCATIONS, b'{"pool": "farm", "name": "both-ways", "options": {"hostname": "no good"}}'),
        (ALLOCATIONS, b'{"pool": "farm"'),
        (ALLOCATIONS, b"\xff"),
        (ALLOCATIONS, b"[" * 5_000),
        (ALLOCATIONS, b"[]"),
        (ALLOCATIONS, b""),
        ("/v1/release", b'{"name": "was never there"}'),
        ("/v1/release", b'{"name": "never-there"}'),
        ("/v1/release", b'{"name": "a", "group": "b"}'),
    ],
)
def test_json_may_be_declared_with_its_encoding(
    farm: Farm, http: httpx.Client, path: str, body: bytes
) -> None:
    """A body that is declared as JSON, and one that says its encoding, too, get the same answer."""
    short, long = (
        http.post(path, content=body, headers={"Content-Type": kind})
        for kind in ("application/json", "application/json; charset=utf-8")
    )
    assert short.status_code == long.status_code
    assert short.json() == long.json()


def test_body_without_end_is_refused_before_it_fills_the_memory(farm: Farm, http: httpx.Client) -> None:
    """A body larger than any request is refused while it arrives, with or without its length in the header."""
    piece = b" " * (1 << 20)
    for content in (piece * 11, (piece for _ in range(11))):
        with unchanged(farm):
            answer = http.post(ALLOCATIONS, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413
        assert "more than 10 MiB" in problem(answer)["message"]


@pytest.mark.parametrize(
    "noise",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/release HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/release HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_noise_on_the_socket_hurts_nobody(farm: Farm, client: Client, noise: bytes) -> None:
    """What is no HTTP is answered with a 4xx or a closed connection; the next request is served."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(60)
        raw.connect(str(farm.socket))
        raw.sendall(noise)
        answer = raw.recv(4096)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert client.get("holder").name == "holder"


def test_connection_may_be_upgraded_to_nothing(farm: Farm, client: Client) -> None:
    """An offer to change the protocol is ignored: the request is answered as HTTP."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(60)
        raw.connect(str(farm.socket))
        raw.sendall(
            b"GET /v1/pools HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert raw.recv(4096).startswith(b"HTTP/1.1 200")


COMMANDS: list[tuple[list[str], int, str]] = [
    (["allocate", "nope", "n"], 4, "There is no pool 'nope'."),
    (["allocate", "farm", ""], 4, "'' cannot be a name."),
    (["allocate", "farm", "büro"], 4, "'büro' cannot be a name."),
    (["allocate", "farm", "\udcff"], 4, "cannot be a name"),
    (["allocate", "farm", "n", "--address", "10.1.1.300"], 4, "'10.1.1.300' is not an IPv4 address."),
    (["allocate", "farm", "n", "--address", "10.1.1.3"], 4, "10.1.1.3 is held by 'holder'."),
    (["allocate", "farm", "n", "--ttl", "nan"], 4, "'nan' is no duration."),
    (["allocate", "farm", "n", "--ttl", "0"], 4, "'0' is no duration."),
    (["allocate", "farm", "n", "--hostname", 'a"b'], 4, "hostname 'a\"b' is not a host name."),
    (["allocate", "farm", "n", "--router", "gw.example.org"], 4, "routers: 'gw.example.org' is not an IPv4"),
    (["allocate", "farm", "n", "--route", "10.9.0.0/16"], 4, "'10.9.0.0/16' is not a static route."),
    (["allocate", "farm", "--count", "2"], 4, "--count needs --group"),
    (["allocate", "farm", "n", "--group", "g", "--count", "2"], 4, "neither NAME nor --address"),
    (["allocate", "small", "--group", "g", "--count", "2"], 4, "has 1 unoccupied addresses, 2 were asked for."),
    (["allocate", "small", "holder"], 4, "with pool 'farm', not 'small'."),
    (["release"], 4, "Say what to release"),
    (["release", "n", "--group", "g"], 4, "Say what to release"),
    (["release", ""], 4, "'' cannot be a name."),
    (["release", "--group", ""], 4, "'' cannot be a group."),
    (["release", "--address", "x"], 4, "'x' is not an IPv4 address."),
    (["release", "printer"], 4, "'printer' (10.0.0.9) is a reservation."),
    (["unreserve", "holder"], 4, "is an ordinary allocation"),
    (["reserve", "n", "10.0.0.8", "--mac", "zz"], 4, "'zz' is not a MAC address."),
    (["reserve", "n", "10.0.0.1"], 4, "gateway address"),
    (["show", "nobody"], 4, "There is no allocation 'nobody'."),
    (["show", "10.1.1.99"], 4, "10.1.1.99 is not allocated."),
    (["show", "00:16:3e:01:01:99"], 4, "00:16:3e:01:01:99 is not allocated."),
    (["show", ""], 4, "There is no allocation ''."),
    (["list", "--pool", "nope"], 4, "There is no pool 'nope'."),
]  # fmt: skip


@pytest.mark.parametrize(("command", "status", "words"), COMMANDS, ids=lambda value: str(value)[:60])
def test_command_that_cannot_be_done_says_so_in_one_sentence(
    farm: Farm, held: None, command: list[str], status: int, words: str
) -> None:
    """The command line prints what is wrong, a hint, and with --json the error as a value; nothing is done."""
    run = CliRunner(env={"MACBIND_SOCKET": str(farm.socket)})
    with unchanged(farm):
        plain = run.invoke(app, command)
        told = run.invoke(app, [*command, "--json"])
    for result in (plain, told):
        assert result.exit_code == status, result.output
        assert "Traceback" not in result.output
        sentence, hint = result.stderr.splitlines()
        assert sentence.startswith("macbind: ")
        assert words in sentence
        assert hint.startswith("  ")
    assert plain.stdout == ""
    error = json.loads(told.stdout)["error"]
    assert f"macbind: {error['message']}" == sentence
    assert f"  {error['hint']}" == hint


def test_release_of_several_tells_what_was_done_before_one_was_refused(farm: Farm, client: Client) -> None:
    """When the second of three names cannot be released, the first is reported as released."""
    for json_too in ([], ["--json"]):
        client.allocate("farm", "first")
        client.allocate("farm", "third")
        done = farm.run("release", "first", "printer", "third", *json_too)
        assert done.returncode == 4
        assert "is a reservation" in done.stderr
        if json_too:
            assert json.loads(done.stdout)["error"]["details"]["released"] == ["first"]
        else:
            assert "(first) released" in done.stdout
        with pytest.raises(NotFound):
            client.get("first")
        assert client.get("third").name == "third"
    client.release("third")


def test_configuration_that_cannot_be_used_exits_with_3(farm: Farm) -> None:
    """serve and render tell a fault of the configuration with file and line, and change nothing."""
    broken = farm.directory / "broken.toml"
    broken.write_text('[pool.farm]\nsubnet = "10.0.0.0/8"\nmac_prefx = "00:16:3e"\n')
    for command in ("serve", "render"):
        done = farm.run(command, "--config", str(broken))
        assert done.returncode == 3
        assert f"{broken} line" in done.stderr
        assert "Traceback" not in done.stderr
    missing = farm.run("render", "--dhcpd", "nope", "--json")
    assert missing.returncode == 3
    assert json.loads(missing.stdout)["error"]["code"] == "config_error"


def test_options_of_the_document_reach_dhcpd_unharmed(farm: Farm, client: Client) -> None:
    """The strangest option values that are allowed leave dhcpd's lease file readable for dhcpd."""
    strange = DhcpOptions.parse({"filename": "a;b{c}#d$e'f /g:h", "domain_name": "x-y.example.org"})
    made = client.allocate("farm", "strange", options=strange)
    farm.dhcpd.restart()
    assert farm.dhcpd.omshell_host(str(made.mac)) is not None
    farm.wait_serving()
    assert client.get("strange").options == strange
    client.release("strange")
