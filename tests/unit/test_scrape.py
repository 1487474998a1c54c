"""The TCP listener of the metrics: what it answers, and how little anybody can take from it."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address

import pytest

from labkit.wait import until
from macbind.core.listen_address import ListenAddress
from macbind.daemon.scrape import ScrapeLimits, ScrapeServer, is_here, is_macbind

PAGE = b'# HELP macbind_build_info x\nmacbind_build_info{version="1"} 1\n'


@contextmanager
def serving(
    exposition: Callable[[], bytes] = lambda: PAGE,
    limits: ScrapeLimits = ScrapeLimits(),  # noqa: B008  # it is frozen
) -> Iterator[int]:
    """A listener on a free port of this machine."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = int(listener.getsockname()[1])
    server = ScrapeServer(listener, exposition, limits)
    server.start()
    try:
        yield port
    finally:
        server.close()
        listener.close()


def ask(port: int, request: bytes = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") -> bytes:
    """The whole answer to a request; nothing if it is cut."""
    with socket.create_connection(("127.0.0.1", port), 60) as connection:
        connection.sendall(request)
        return rest(connection)


def rest(connection: socket.socket) -> bytes:
    """What still comes on a connection until it ends."""
    found = b""
    try:
        while data := connection.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return found


@pytest.mark.parametrize("line", [b"GET /metrics HTTP/1.1", b"GET /metrics?x=1 HTTP/1.0"])
def test_the_metrics_are_there(line: bytes) -> None:
    """A GET of /metrics is answered with the exposition and its length, and the connection ends."""
    with serving() as port:
        head, _, body = ask(port, line + b"\r\nHost: x\r\n\r\n").partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"HTTP/1.1 200 OK"
    assert f"Content-Length: {len(PAGE)}".encode() in head
    assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
    assert body == PAGE


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1",
        b"GET /metrics/ HTTP/1.1",
        b"GET /v1/status HTTP/1.1",
        b"GET //metrics HTTP/1.1",
        b"GET http://x/metrics HTTP/1.1",
        b"POST /metrics HTTP/1.1",
        b"DELETE /metrics HTTP/1.1",
        b"HEAD /metrics HTTP/1.1",
        b"get /metrics HTTP/1.1",
        b"\x16\x03\x01 \xff",
        b"",
    ],
)
def test_nothing_else_is_there(line: bytes) -> None:
    """Every other path, method and nonsense is answered with 404, and nobody is asked for numbers."""
    asked = []

    def exposition() -> bytes:
        asked.append(line)
        return PAGE

    with serving(exposition) as port:
        answer = ask(port, line + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert answer.endswith(b"There is only GET /metrics here.\n")
    assert not asked


def test_who_sends_too_much_or_too_little_is_cut() -> None:
    """A large head is refused at once, a head that never ends is cut in time; the listener goes on."""
    with serving() as port:
        answer = ask(port, b"GET /metrics HTTP/1.1\r\nX: " + b"x" * 9_000)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert answer.endswith(b"The head of a request has at most 8 KiB here.\n")
    with serving(limits=ScrapeLimits(request_s=0.3)) as port:
        assert ask(port, b"GET /metrics HTTP/1.1\r\n") == b""
        until(lambda: ask(port).endswith(PAGE), 60, "the next one to be in time, and answered")


def test_who_does_not_read_is_cut() -> None:
    """An answer that nobody takes does not keep its place for longer than a request may take."""
    with (
        serving(lambda: b"x" * (32 << 20), ScrapeLimits(connections=1, request_s=0.5)) as port,
        socket.socket() as lazy,
    ):
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect(("127.0.0.1", port))
        lazy.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        until(lambda: ask(port, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 404"), 60, "its place")


def test_more_than_so_many_are_cut_and_places_come_back() -> None:
    """Who comes when all places are taken is cut; when one of them leaves, the next one is answered."""
    with serving(limits=ScrapeLimits(connections=2, request_s=600)) as port:
        first, second = (socket.create_connection(("127.0.0.1", port)) for _ in range(2))
        with first, second:
            until(lambda: ask(port) == b"", 60, "both to have their places")
            first.close()
            until(lambda: ask(port).endswith(PAGE), 60, "a place")


def test_all_who_ask_at_the_same_time_share_an_answer_that_is_not_older_than_their_question() -> None:
    """Of many questions at once few are computed; one that comes during a computation gets the next one."""
    made: list[int] = []
    may_end, has_begun = threading.Event(), threading.Event()

    def exposition() -> bytes:
        made.append(len(made))
        has_begun.set()
        may_end.wait(60)
        return b"%d" % made[-1]

    with serving(exposition) as port, ThreadPoolExecutor(8) as threads:
        first = threads.submit(ask, port)
        assert has_begun.wait(60)
        others = [threads.submit(ask, port) for _ in range(7)]
        may_end.set()
        assert first.result(60).endswith(b"\r\n\r\n0")
        answers = {one.result(60)[-1:] for one in others}
    assert b"0" not in answers
    assert len(made) <= 1 + len(others)


def test_a_defect_is_answered_and_the_next_question_too() -> None:
    """An error of ours is a 500 without its text, and the listener goes on."""
    faults = [RuntimeError("secret")]

    def exposition() -> bytes:
        if faults:
            raise faults.pop()
        return PAGE

    with serving(exposition) as port:
        answer = ask(port)
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"secret" not in answer
        assert ask(port).endswith(PAGE)


def test_a_macbind_is_told_from_others() -> None:
    """What answers with macbind's numbers is one; what answers otherwise, or not at all, is none."""
    with serving() as port:
        assert is_macbind(ListenAddress(IPv4Address("127.0.0.1"), port))
    with serving(lambda: b"# HELP node_load1 x\n") as port:
        assert not is_macbind(ListenAddress(IPv4Address("127.0.0.1"), port))
    assert not is_macbind(ListenAddress(IPv4Address("127.0.0.1"), port))


def test_addresses_of_this_machine() -> None:
    """Loopback and all addresses are here; one for documentation is not."""
    assert is_here(IPv4Address("127.0.0.1"))
    assert is_here(IPv4Address(0))
    assert is_here(IPv6Address("::1"))
    assert not is_here(IPv4Address("192.0.2.1"))
    assert not is_here(IPv6Address("2001:db8::1"))


@pytest.mark.parametrize("text", ["127.0.0.1:9547", "0.0.0.0:1", "[::1]:65535", "[2001:db8::7]:9547"])
def test_addresses_are_written_as_they_are_read(text: str) -> None:
    """Address and port come back as they were written."""
    assert str(ListenAddress.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", ":", "127.0.0.1", "127.0.0.1:", ":9547", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:٣", "::1:9547",
     "[127.0.0.1]:1", "[::1%lo]:1", "localhost:9547", "127.1:9547", "127.0.0.1:-1", "127.0.0.1: 1", "[::1]"],
)  # fmt: skip
def test_what_is_no_address_and_port_is_refused(text: str) -> None:
    """A name, a part, a zone or a port that does not exist is no place to listen at."""
    with pytest.raises(ValueError, match=r".*"):
        ListenAddress.parse(text)
