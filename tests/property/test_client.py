"""Whatever answers in the service's place, the Python API raises nothing but its own errors, and comes to an end."""

import json
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from labkit.impostor import Impostor
from macbind.client.client import Client
from macbind.core.errors import MacbindError, ServiceUnavailable

ALLOCATION = {
    "address": "10.1.1.3",
    "mac": "00:16:3e:01:01:03",
    "name": "vm",
    "pool": "farm",
    "generation": 7,
    "state": "bound",
    "created_at": "2024-02-29T23:59:59Z",
    "group": None,
    "options": {"hostname": "vm", "routers": ["10.0.0.1"], "static_routes": ["10.9.0.0/16 via 10.0.0.1"]},
    "domain": None,
    "pinned": False,
    "expires_at": None,
    "released_at": None,
}
GOOD: list[Any] = [
    ALLOCATION,
    {"allocations": [ALLOCATION], "next": None},
    {"allocations": [ALLOCATION], "already_gone": False},
    [{"pool": "farm", "size": 9, "free": 8, "allocated": 1, "pinned": 0, "releasing": 0}],
    [{"at": "2024-02-29T23:59:59Z", "actor": "root", "action": "trim", "address": None, "mac": None}],
    {"error": {"code": "conflict", "message": "No.", "hint": "Yes.", "details": {"holder": "vm"}}},
]
CALLS: list[Callable[[Client], object]] = [
    lambda c: c.allocate("farm", "vm"),
    lambda c: c.allocate_group("farm", "g", 2),
    lambda c: c.release("vm"),
    lambda c: c.reserve("pin", "10.0.0.9"),
    lambda c: c.unreserve("pin"),
    lambda c: c.get("vm"),
    lambda c: list(c.list()),
    lambda c: c.pools(),
    lambda c: c.status(),
    lambda c: c.history(),
]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(GOOD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def spoilt(draw: st.DrawFn) -> Any:
    """A good answer with one value in it replaced, left out, or added."""
    answer = json.loads(json.dumps(draw(st.sampled_from(GOOD))))
    place = answer
    while isinstance(place, (dict, list)) and place:
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or draw(st.booleans()):
            if draw(st.booleans()):
                place[key] = draw(values)
            else:
                del place[key]
            break
        place = place[key]
    return answer


statuses = st.sampled_from([100, 101, 200, 200, 200, 204, 301, 304, 400, 404, 409, 500, 503, 599, 999])
bodies = (
    (spoilt() | values).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=100)
    | st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\xff", b'"\\ud800"', b"NaN"])
)


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """An HTTP answer that may be broken anywhere."""
    body = draw(bodies)
    lengths = [f"Content-Length: {len(body)}", "", "Content-Length: 99999", f"Content-Length: {10**30}"]
    lengths += ["Content-Length: -1", "Content-Length: x", "Transfer-Encoding: chunked", "X: y\r\n" * 200]
    length = draw(st.sampled_from([lengths[0]] * 8 + lengths))
    if length.endswith("chunked") and draw(st.booleans()):
        size = draw(st.sampled_from([len(body), len(body) + 1, -1, 1 << 80]))
        body = f"{size:x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    version = draw(st.sampled_from(["1.1"] * 6 + ["1.0", "0.9", "9.9", "x"]))
    return f"HTTP/{version} {draw(statuses)} Words\r\n{length}\r\n\r\n".encode() + body


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the impostor listens."""
    return tmp_path_factory.mktemp("impostor") / "s"


@pytest.fixture(scope="module")
def impostor(place: Path) -> Iterator[Impostor]:
    """What answers there."""
    with Impostor(place) as impostor:
        yield impostor


def outcome(place: Path, call: Callable[[Client], object], timeout_s: float = 0.1) -> object:
    """What becomes of a call: a value, or an error of ours that can be told."""
    with Client(place, timeout_s=timeout_s) as client:
        try:
            return call(client)
        except MacbindError as error:
            return error


@settings(max_examples=400)
@given(st.sampled_from(CALLS), answers() | st.binary(max_size=60))
@example(CALLS[5], b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"[" * 100_000)
@example(CALLS[6], b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
@example(CALLS[0], b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{"allocations":[]}')
@example(CALLS[5], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n")
def test_no_answer_raises_anything_but_our_errors(
    impostor: Impostor, place: Path, call: Callable[[Client], object], answer: bytes
) -> None:
    """Broken HTTP, broken JSON and unexpected values are a MacbindError, or a value of the right type."""
    impostor.answer = [answer]
    outcome(place, call)


@given(st.sampled_from(CALLS), spoilt())
@example(CALLS[5], ALLOCATION | {"mac": None})
@example(CALLS[5], ALLOCATION | {"options": {"static_routes": ["nowhere"]}})
def test_answer_of_another_version_is_an_error_or_a_value(
    impostor: Impostor, place: Path, call: Callable[[Client], object], answer: Any
) -> None:
    """A value that is missing, of another type, or new is never passed on unread, and never the caller's fault."""
    body = json.dumps(answer).encode()
    impostor.answer = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body]
    found = outcome(place, call)
    assert not isinstance(found, MacbindError) or type(found) is ServiceUnavailable


ENDLESS = [
    (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (1 << 20)),
    (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    (b"HTTP/1.1 200 ", b"x" * 4096),
]


@pytest.mark.parametrize(("first", "then"), ENDLESS, ids=["continue", "body", "headers", "chunks", "line"])
def test_answer_without_end_is_given_up(impostor: Impostor, place: Path, first: bytes, then: bytes) -> None:
    """The call ends with an error, after some time or some bytes, whatever keeps coming."""

    def answer() -> Iterator[bytes]:
        yield first
        yield from repeat(then)

    impostor.answer = answer()
    assert isinstance(outcome(place, lambda client: client.get("vm")), ServiceUnavailable)


def test_pages_without_end_are_given_up(impostor: Impostor, place: Path) -> None:
    """A list whose next page is the same again is no list."""
    body = json.dumps({"allocations": [ALLOCATION], "next": "10.1.1.3"}).encode()
    impostor.answer = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body]
    assert isinstance(outcome(place, lambda client: list(client.list())), ServiceUnavailable)


def test_refusal_to_read_is_told(impostor: Impostor, place: Path) -> None:
    """What the service said before it closed the connection is raised, not that it was closed."""
    body = json.dumps(
        {"error": {"code": "invalid_request", "message": "Too large.", "hint": "", "details": {}}}
    )
    impostor.answer = [f"HTTP/1.1 413 No\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()]
    names = [f"{number:0120}" for number in range(65_536)]
    told = outcome(place, lambda client: client.allocate_group("farm", "g", names=names), 60.0)
    assert isinstance(told, MacbindError)
    assert (told.code, told.message) == ("invalid_request", "Too large.")
