"""How large the head of a request may be, at the server that every listener has."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send

from labkit.rude import Rude, request
from labkit.wait import until
from macbind.http.server import HEAD_BYTES, HEAD_FIELDS, config_of

MIB = 1 << 20
MOST_DROPS = HEAD_FIELDS // 2
"""So often something more is sent of a late head: a server that looks late does not find too much of it."""


class Echo:
    """An application that answers with the size of a body, and remembers what it was asked."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.headers: list[list[tuple[bytes, bytes]]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        self.paths.append(scope["path"])
        size, message = 0, await receive()
        while message["type"] == "http.request":
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
            message = await receive()
        else:
            return
        self.headers.append(list(scope["headers"]))
        text = str(size).encode()
        start: Message = {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"%d" % len(text))],
        }
        await send(start)
        await send({"type": "http.response.body", "body": text})


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, Echo]]:
    """A server's socket, and its application."""
    app = Echo()
    with serving(tmp_path / "s", app) as path:
        yield path, app


@contextmanager
def serving(path: Path, app: Echo, receive_s: float = 60.0) -> Iterator[Path]:
    """A server in a thread of its own."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        config = config_of(app, idle_s=60, last_words_s=5, backlog=16, lifespan="off", receive_s=receive_s)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
        thread.start()
        try:
            until(lambda: server.started, 60, "the server to start")
            yield path
        finally:
            server.should_exit = True
            thread.join()


def send(one: Rude, data: bytes) -> None:
    """Sends as much of it as the server takes."""
    with suppress(OSError):
        one.socket.sendall(data)


CHUNKED = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
LARGE = {
    "request line": b"GET /" + b"x" * MIB,
    "one field": b"GET /x HTTP/1.1\r\nHost: x\r\nX: " + b"x" * MIB,
    "name of a field": b"GET /x HTTP/1.1\r\nHost: x\r\n" + b"x" * MIB,
    "large fields": b"GET /x HTTP/1.1\r\nHost: x\r\n" + (b"X: " + b"x" * 4000 + b"\r\n") * 250,
    "many fields": b"GET /x HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * (MIB // 4),
    "many fields, whole": b"GET /x HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * (HEAD_FIELDS + 1) + b"\r\n",
    "empty lines": b"\r\n" * (MIB // 2),
    "fields behind the body": CHUNKED + b"1\r\nx\r\n0\r\n" + b"a:\r\n" * (MIB // 4),
    "extension of a chunk": CHUNKED + b"1;" + b"x" * MIB,
}


@pytest.mark.parametrize("data", LARGE.values(), ids=LARGE)
@pytest.mark.parametrize("before", [b"", request(path="/first")], ids=["first", "later"])
def test_large_head_is_refused(served: tuple[Path, Echo], before: bytes, data: bytes) -> None:
    """Whatever of it is large: the reason is told, the connection closed, and nothing was asked for."""
    path, app = served
    with Rude(path) as one:
        if before:
            assert one.ask(path="/first").status == 200
        send(one, data)
        answer = one.answer()
        assert answer is not None
        assert answer.status == 431
        assert "more than 64 KiB, or more than 128 fields" in answer.error["message"]
        assert "connection: close" in answer.head
        until(lambda: one.is_closed, 60, "the connection to be closed")
    assert len(app.headers) == bool(before)
    with Rude(path) as other:
        assert other.ask().status == 200


def test_head_within_the_bounds_is_served(served: tuple[Path, Echo]) -> None:
    """A long query, a hundred fields, a body of ten megabytes and one in tiny chunks: again and again."""
    path, _ = served
    tiny = b"1\r\nx\r\n" * (2 * HEAD_BYTES)
    asked = {
        request(path="/v1/wait?names=" + "x" * 48_000): b"0",
        request("GET", "/x", b"", **{f"X-{number}": "x" * 400 for number in range(100)}): b"0",
        request("POST", body=b"x" * (10 * MIB)): b"%d" % (10 * MIB),
        CHUNKED + tiny + b"0\r\nX-Behind: x\r\n\r\n": b"%d" % (2 * HEAD_BYTES),
    }
    with Rude(path) as one:
        for _ in range(2):
            for data, size in asked.items():
                one.send(data)
                answer = one.answer()
                assert answer is not None
                assert (answer.status, answer.body) == (200, size)


def test_field_behind_the_body_is_no_header(served: tuple[Path, Echo]) -> None:
    """Whoever is let in by a header has sent it before the body."""
    path, app = served
    with Rude(path) as one:
        one.send(CHUNKED + b"1\r\nx\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        answer = one.answer()
        assert answer is not None
        assert answer.status == 200
    assert [name for name, _ in app.headers[0]] == [b"host", b"transfer-encoding"]


def test_refusal_is_not_taken_for_an_earlier_answer(served: tuple[Path, Echo]) -> None:
    """While an earlier request waits for its answer, the connection is closed without a word."""
    path, app = served
    first = CHUNKED + b"1\r\nx\r\n"
    with Rude(path) as one:
        one.send(first)
        until(lambda: app.paths == ["/x"], 60, "the request to arrive")
        send(one, b"0\r\n\r\n" + b"GET /" + b"x" * MIB)
        answer = one.answer()
        assert answer is None or answer.status == 200
        until(lambda: one.is_closed, 60, "the connection to be closed")


@pytest.mark.parametrize("before", [b"", request(path="/first")], ids=["first", "later"])
@pytest.mark.parametrize(
    ("first", "drop", "is_told"),
    [
        (b"GET /x HT", b"", True),
        (b"GET /x HTTP/1.1\r\nHost: x\r\nX: ", b"x", True),
        (b"GET /x HTTP/1.1\r\nHost: x\r\n", b"a:\r\n", True),
        (b"\r\n", b"\r\n", False),
    ],
    ids=["half a line", "a byte now and then", "a field now and then", "empty lines"],
)
def test_late_head_is_ended(tmp_path: Path, before: bytes, first: bytes, drop: bytes, is_told: bool) -> None:
    """Whoever trickles it, or stops in it, does not keep a place; the reason is told once a request has begun."""
    with serving(tmp_path / "s", Echo(), receive_s=0.5) as path, Rude(path) as one:
        if before:
            assert one.ask(path="/first").status == 200
        one.send(first)
        drops = chain([drop] * MOST_DROPS, repeat(b""))
        until(
            lambda: not one.send(next(drops)) or one.is_readable,
            60,
            "the server to lose patience",
            pause_s=0.05,
        )
        if is_told:
            answer = one.answer()
            assert answer is not None
            assert answer.status == 408
            assert "was not complete within 0.5 s" in answer.error["message"]
        until(lambda: one.is_closed, 60, "the connection to be closed")


def test_head_in_pieces_is_served(tmp_path: Path) -> None:
    """As long as it is whole in time, and again after it; what comes behind has its own time."""
    with serving(tmp_path / "s", Echo(), receive_s=60.0) as path, Rude(path) as one:
        for _ in range(3):
            for byte in request(path="/x"):
                one.send(bytes([byte]))
            answer = one.answer()
            assert answer is not None
            assert answer.status == 200
        assert not one.is_closed
