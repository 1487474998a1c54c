"""Whatever clients do, others are served, nothing is left of it, and what was asked is done once or not at all."""

import array
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from labkit import bounded
from labkit.farm import MACBIND, Farm
from labkit.rude import Answer, Rude, acting_as, request
from labkit.usage import Usage, forget_peak, processor_s
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.errors import NotFound, ServiceUnavailable

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.9.250"]
"""
OPEN = 'socket_mode = "0666"\nmay_change = ["root", "www-data"]\n'
FARM = {"service": OPEN}
MakeFarm = Callable[..., Farm]
ALLOCATIONS = "/v1/allocations"
CROWD = 500
SOON_S = 60.0
WILD = "nobody"
"""Who does the harm here: a user who may read and may not change."""


@contextmanager
def nothing_left(farm: Farm) -> Iterator[Client]:
    """Others are served during and after what is done inside, and the service takes no more than before."""
    with farm.client() as good:
        for _ in range(2):  # so that threads and the registry's connections are there
            good.status()
        before = Usage.of(farm.pid)
        forget_peak(farm.pid)
        yield good
        served(good)
    # The registry keeps fifteen connections of three files each, and anyio forty threads at most.
    until(lambda: Usage.of(farm.pid).files <= before.files + 45, SOON_S, "the service to close its ends")
    now = Usage.of(farm.pid)
    assert now.threads <= before.threads + 40
    assert now.memory <= before.memory + (64 << 20)
    assert now.peak <= before.memory + (128 << 20)


def served(good: Client) -> None:
    """Allocates and releases, as another user than the wild one."""
    made = good.allocate("farm", "good")
    assert good.get("good").address == made.address
    good.release("good")


def refusal(answer: Answer | None, status: int, words: str) -> None:
    """The answer refuses the request with this status, in these words."""
    assert answer is not None
    assert (answer.status, re.search(words, answer.error["message"]) is not None) == (status, True), answer


# -- many ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "first"),
    [
        (WILD, b""),
        (WILD, b"GET /v1/pools HTTP/1.1\r\nHost"),
        ("www-data", b"POST /v1/release HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"),
        (WILD, request(path="/v1/status")),
        ("www-data", request("POST", "/v1/release", b'{"name": "unknown"}')),
    ],
    ids=["idle", "half a head", "half a body", "all ask", "all change"],
)
def test_crowd_of_connections_hinders_nobody(farm: Farm, user: str, first: bytes) -> None:
    """While one user has 500 connections open, another one is served; their end is noticed."""
    # Who may not change anything is told so before the body is there, and the connection is closed.
    user = "www-data" if first.startswith(b"POST /v1/release") else WILD
    with nothing_left(farm) as good, ExitStack() as crowd:
        for _ in range(CROWD):
            crowd.enter_context(Rude(farm.socket, user)).send(first)
        until(lambda: Usage.of(farm.pid).files >= CROWD, SOON_S, "all to be connected")
        served(good)


def test_core_with_five_hundred_connections_is_served_on_all_of_them(farm: Farm) -> None:
    """That many is honest use: each is answered, and stays open for the next request."""
    with nothing_left(farm), ExitStack() as crowd:
        core = [crowd.enter_context(Rude(farm.socket, "www-data")) for _ in range(CROWD)]
        for _ in range(2):
            for one in core:
                one.send(request())
            assert {answer.status for one in core if (answer := one.answer())} == {200}
        assert not any(one.is_closed for one in core)


def test_user_gets_no_more_connections_than_are_left_for_others(make_farm: MakeFarm) -> None:
    """One user alone gets half of them; the next is refused with the reason, and others have room."""
    farm = make_farm(pools=POOLS, service=OPEN, command=bounded.command(connections=40))
    began = time.monotonic()
    with nothing_left(farm) as good, ExitStack() as crowd:
        wild = [crowd.enter_context(Rude(farm.socket, WILD)) for _ in range(30)]
        answers = [one.answer() for one in wild[20:]]
        for answer in answers:
            refusal(answer, 503, r"Your user \(uid 65534\) has \d+ connections.* of 40 are for others")
        assert not any(one.is_closed for one in wild[:19])
        served(good)
        for _ in range(500):
            Rude(farm.socket, WILD).socket.close()
        with acting_as("daemon"), Client(farm.socket) as other:
            other.pools()
        with (
            acting_as(WILD),
            Client(farm.socket) as told,
            pytest.raises(ServiceUnavailable, match="Your user"),
        ):
            told.pools()
        for one in wild:
            one.socket.close()

        def has_room() -> bool:
            with Rude(farm.socket, WILD) as again:
                return again.ask().status == 200

        until(has_room, SOON_S, "room for the user")  # the service must notice first that the others are gone
    refused = [entry for entry in map(json.loads, farm.log().splitlines()) if entry["event"] == "refused"]
    most = 1 + (time.monotonic() - began) / 10
    assert 1 <= len(refused) <= most, "hundreds of refusals are a line in ten seconds"
    assert (refused[0]["uid"], "Your user" in refused[0]["problem"]) == (65534, True)


def test_file_limit_bounds_connections(make_farm: MakeFarm) -> None:
    """The service raises its own limit of open files, and takes no more connections than it leaves room for."""
    farm = make_farm(pools=POOLS, service=OPEN, command=["prlimit", "--nofile=200:800", *MACBIND])
    limits = Path(f"/proc/{farm.pid}/limits").read_text()
    assert re.search(r"Max open files +800 +800 ", limits)
    with nothing_left(farm) as good, ExitStack() as crowd:
        wild = [crowd.enter_context(Rude(farm.socket, WILD)) for _ in range(900)]
        refusal(wild[-1].answer(), 503, "places left of 544 are for others")
        served(good)


# -- large ---------------------------------------------------------------------------------------------------

JSON_HEAD = b"POST /v1/release HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
MIB = 1 << 20
LARGE = {
    "length": [JSON_HEAD, b"Content-Length: %d\r\n\r\n" % (11 * MIB), b" " * 11 * MIB],
    "chunk": [JSON_HEAD, b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n", b" " * 11 * MIB],
}


@pytest.mark.parametrize("parts", LARGE.values(), ids=LARGE)
def test_body_without_end_is_refused_while_it_arrives(farm: Farm, parts: list[bytes]) -> None:
    """A body does not fill the memory; the reason is told to who still listens, and the connection is closed."""
    with nothing_left(farm), Rude(farm.socket, "www-data") as one:
        one.send(b"".join(parts))
        refusal(one.answer(), 413, "more than 10 MiB")
        one.until_closed()


def test_body_of_who_may_not_change_is_not_read(farm: Farm) -> None:
    """The refusal comes before the body is sent."""
    with nothing_left(farm), Rude(farm.socket, WILD) as one:
        one.send(request("POST", "/v1/release", b" " * MIB, Content_Length=str(9 * MIB)))
        refusal(one.answer(), 403, "may not change")
        one.until_closed()


def test_head_without_end_is_refused_while_it_arrives(farm: Farm) -> None:
    """A hundred heads of a megabyte each, sent at once by who may change nothing, take next to no memory."""
    with nothing_left(farm), ExitStack() as crowd:
        wild = [crowd.enter_context(Rude(farm.socket, WILD)) for _ in range(100)]
        for one in wild:
            one.send(b"GET /v1/pools HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * (MIB // 4))
        for one in wild:
            refusal(one.answer(), 431, "more than 64 KiB")
            one.until_closed()


WRONG: dict[str, dict[str, object]] = {
    "no parameter": {"pool": "farm", "name": "x", **{str(number): 1 for number in range(400_000)}},
    "do not fit": {"pool": "farm", "name": "x", "options": {"routers": ["10.9.0.1"] * 700_000}},
    "names.0": {"pool": "farm", "names": [5] * 2_000_000},
}


@pytest.mark.parametrize(("words", "body"), WRONG.items(), ids=WRONG)
def test_large_body_holds_up_nobody(farm: Farm, words: str, body: dict[str, object]) -> None:
    """Of a million things that are wrong the first is told, and others are served in the meantime."""
    with nothing_left(farm) as good, Rude(farm.socket) as one, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(
            one.ask, "POST", ALLOCATIONS, json.dumps(body).encode(), Content_Type="application/json"
        )
        longest = 0.0
        while not asked.done():
            began = processor_s(farm.pid)
            good.pools()
            longest = max(longest, processor_s(farm.pid) - began)
        refusal(asked.result(), 400, words)
        assert longest < 2.0  # of the service's own time; half of it is reading the JSON itself


def test_pipelined_requests_are_answered_in_their_order(farm: Farm) -> None:
    """Several requests at a time on one connection get as many answers, and none hinders the next."""
    with nothing_left(farm), Rude(farm.socket, WILD) as few:
        few.send(request() * 4 + request(path="/nowhere"))
        assert [answer.status for _ in range(5) if (answer := few.answer())] == [200] * 4 + [404]


# -- broken --------------------------------------------------------------------------------------------------

BODIES = [
    ("NaN", b'{"pool": "farm", "name": "x", "ttl_s": NaN}', 400),
    ("huge exponent", b'{"pool": "farm", "name": "x", "ttl_s": 1e999}', 400),
    ("huge number", b'{"pool": "farm", "name": "x", "ttl_s": 1' + b"0" * 5000 + b"}", 400),
    ("huge generation", b'{"name": "x", "generation": 1' + b"0" * 4000 + b"}", 400),
    ("BOM", b'\xef\xbb\xbf{"name": "unknown-to-all"}', 200),
    ("UTF-16", '{"name": ""}'.encode("utf-16"), 400),
    ("invalid UTF-8", b'{"name": "\xff"}', 400),
    ("surrogate", b'{"name": "\\ud800"}', 400),
    ("surrogate in a key", b'{"\\udfff": 1}', 400),
    ("deep list", b"[" * MIB, 400),
    ("deep object", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400),
    ("two values", b'{"name": "x"}{"name": "y"}', 400),
    ("duplicate keys", b'{"name": "", "name": "unknown-to-all"}', 200),
    ("many keys", b"{" + b",".join(b'"%d":1' % n for n in range(100_000)) + b"}", 400),
]


@pytest.mark.parametrize(("body", "status"), [case[1:] for case in BODIES], ids=[case[0] for case in BODIES])
def test_broken_json_is_refused(farm: Farm, body: bytes, status: int) -> None:
    """With an error of ours, on a connection that stays of use."""
    path = ALLOCATIONS if b"pool" in body else "/v1/release"
    with Rude(farm.socket, "www-data") as one:
        for _ in range(2):
            answer = one.ask("POST", path, body)
            assert answer.status == status, answer
            if status == 400:
                assert answer.error["code"] == "invalid_request"


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "application/xml",
        "/",
        "\xff",
        "",
    ],
)
def test_other_content_type_is_refused(farm: Farm, kind: str) -> None:
    """Only JSON is read, and the error says so."""
    with Rude(farm.socket) as one:
        refusal(one.ask("POST", "/v1/release", b'{"name": "x"}', Content_Type=kind), 400, "application/json")


NOISE = [
    ("HTTP/0.9", b"GET /\r\n\r\n", 404),
    ("no path", b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    ("TRACE", request("TRACE"), 403),
    ("broken percent", request(path="/v1/allocations/%zz%"), 404),
    ("percent NUL", request(path="/v1/allocations/%00"), 404),
    ("broken UTF-8", request(path="/v1/allocations/%ff%fe"), 404),
    ("dots", request(path="/v1/allocations/../../etc/passwd"), 404),
    ("absolute URL", request(path="http://elsewhere/v1/nothing"), 404),
    ("query", request(path="/v1/allocations?limit=%ff&limit=9&limit"), 400),
    ("query twice", request(path="/v1/allocations?limit=99999&limit=x"), 400),
    ("query NUL", request(path="/v1/allocations?pool=%00"), 404),
    ("query NUL in a group", request(path="/v1/allocations?group=%00"), 400),
    ("query NUL in a history", request(path="/v1/history?name=%00"), 400),
    ("query number", request(path="/v1/history?limit=" + "9" * 5000), 400),
    ("query address", request(path="/v1/history?address=%F0%9F%92%A9"), 400),
]


@pytest.mark.parametrize(("noise", "status"), [case[1:] for case in NOISE], ids=[case[0] for case in NOISE])
def test_noise_is_refused_with_an_error_of_ours(farm: Farm, noise: bytes, status: int) -> None:
    """What is no request, or none of ours, gets a JSON error with code, message and hint."""
    with Rude(farm.socket, WILD) as one:
        one.send(noise)
        answer = one.answer()
        assert answer is not None
        assert (answer.status, bool(answer.error)) == (status, True)


def test_old_and_strange_requests_are_answered(farm: Farm) -> None:
    """HTTP/1.0, a body on GET, Expect: each is served, and closed where nothing can follow."""
    for first, closes in (
        (b"GET /v1/pools HTTP/1.0\r\n\r\n", True),
        (request(Connection="close"), True),
        (request(body=b'{"surprise": 1}'), False),
        (b"\r\n\r\n" + request(), False),
    ):
        with Rude(farm.socket, WILD) as one:
            one.send(first)
            answer = one.answer()
            assert answer is not None
            assert answer.status == 200
            if closes:
                assert "connection: close" in answer.head
                one.until_closed()
            else:
                assert one.ask().status == 200
    with Rude(farm.socket) as one:
        one.send(JSON_HEAD + b"Content-Length: 13\r\nExpect: 100-continue\r\n\r\n")
        assert one.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        one.send(b'{"name": "x"}')
        answer = one.answer()
        assert answer is not None
        assert answer.status == 200


def test_lying_length_spoils_its_own_connection_only(farm: Farm) -> None:
    """What is longer than announced is read as a next request, which it is not."""
    with nothing_left(farm), Rude(farm.socket) as one:
        one.send(JSON_HEAD + b'Content-Length: 13\r\n\r\n{"name": "x"}, "more": 1}')
        answers = [one.answer(), one.answer()]
        assert answers[-1] is None or answers[-1].status == 400
        one.until_closed()


# -- gone ----------------------------------------------------------------------------------------------------


def test_reset_anywhere_in_an_allocate_leaves_it_done_or_not_done(farm: Farm) -> None:
    """Wherever the connection breaks, asking again by name settles it: one address, allocated once."""
    whole = request("POST", ALLOCATIONS, b'{"pool": "farm", "name": "torn"}')
    with nothing_left(farm) as good:
        for cut in [*range(1, len(whole), 17), len(whole)]:
            with Rude(farm.socket) as one:
                one.send(request() + whole[:cut])  # an answer that is not read makes the close a reset
            made = good.allocate("farm", "torn")
            assert good.allocate("farm", "torn") == made
            assert [entry.action for entry in good.history(name="torn", limit=1000)].count(
                "allocate"
            ) == 1 + sum(entry.action == "release" for entry in good.history(name="torn", limit=1000))
            good.release("torn")


def test_half_closed_connection_is_closed(farm: Farm) -> None:
    """A client that ends its side is taken to have gone, in the middle of a request or after it."""
    with nothing_left(farm):
        for first in (b"", b"GET /", JSON_HEAD + b"Content-Length: 9\r\n\r\n", request()):
            with Rude(farm.socket, WILD) as one:
                one.send(first)
                one.socket.shutdown(socket.SHUT_WR)
                one.until_closed()


def test_clients_that_are_gone_are_not_waited_for(make_farm: MakeFarm) -> None:
    """Their allocations are recorded, and the service keeps no trace of their waiting."""
    farm = make_farm(pools=POOLS, service=OPEN)
    with nothing_left(farm) as good:
        farm.dhcpd.freeze()
        try:
            before = Usage.of(farm.pid)
            for number in range(200):
                body = json.dumps({"pool": "farm", "name": f"gone-{number}", "timeout_s": 300}).encode()
                with Rude(farm.socket) as one:
                    one.send(request("POST", ALLOCATIONS, body))
            until(lambda: len(list(good.list())) == 200, SOON_S, "all to be recorded")
            until(
                lambda: Usage.of(farm.pid).files <= before.files + 45, SOON_S, "the service to close its ends"
            )
        finally:
            farm.dhcpd.thaw()
        until(lambda: {one.state for one in good.list()} == {"bound"}, SOON_S, "all to be bound")
        for made in list(good.list()):
            good.release(made.name)


def test_service_ends_in_the_middle_of_it_all(make_farm: MakeFarm) -> None:
    """Half requests, unread answers and idle connections do not keep the service from ending, without a defect."""
    farm = make_farm(pools=POOLS, service=OPEN)
    with ExitStack() as crowd:
        for number in range(100):
            one = crowd.enter_context(Rude(farm.socket, WILD))
            one.send([b"", b"GET /", request(path="/openapi.json") * 16, request()[:-1]][number % 4])
        body = JSON_HEAD + b"Content-Length: 9\r\n\r\n"
        half = crowd.enter_context(Rude(farm.socket))
        half.send(body)
        with farm.client() as good:
            served(good)
        assert farm.stop() == 0
        refusal(half.answer(), 503, "is ending")


# -- who -----------------------------------------------------------------------------------------------------


def test_socket_that_is_passed_on_stays_its_makers(farm: Farm) -> None:
    """Whoever uses a connection has the rights of who made it: root gets none by a user's socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs, Rude(farm.socket, WILD) as made:
        ours.sendmsg(
            [b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [made.socket.fileno()]))]
        )
        _, descriptors, _, _ = socket.recv_fds(theirs, 1, 1)
        with Rude(farm.socket) as passed:
            passed.socket.close()
            passed.socket = socket.socket(fileno=descriptors[0])
            passed.socket.settimeout(SOON_S)
            answer = passed.ask("POST", ALLOCATIONS, b'{"pool": "farm", "name": "passed"}')
    refusal(answer, 403, r"nobody \(uid 65534, pid \d+\) may not change")
    with farm.client() as good, pytest.raises(NotFound):
        good.get("passed")


def test_stranger_learns_nothing(make_farm: MakeFarm) -> None:
    """Who may neither read nor change is refused on every path, whatever the method; a reader may only read."""
    farm = make_farm(pools=POOLS, service=f'{OPEN}may_read = ["daemon"]\n')
    for path in ("/openapi.json", "/metrics", "/v1/pools", "/v1/status", "/nowhere", "/", ALLOCATIONS):
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"):
            for user in (WILD, "daemon"):
                asks = method in {"GET", "HEAD", "OPTIONS"}
                with Rude(farm.socket, user) as one:
                    answer = one.ask(method, path)
                assert (answer.status == 403) is (user == WILD or not asks), (user, method, path)
                if method != "HEAD" and answer.status == 403:
                    refusal(answer, 403, f"may not {'read' if asks else 'change'} allocations")
