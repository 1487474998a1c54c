"""Clients that keep the service waiting: it waits a while, says so, and closes; whoever keeps pace is not hurried."""

from pathlib import Path

import pytest

from labkit import bounded
from labkit.farm import Farm
from labkit.rude import Rude, request
from labkit.wait import until

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.9.250"]
"""
OPEN = 'socket_mode = "0666"\n'
FARM = {"service": OPEN, "command": bounded.command(idle_s=5, receive_s=1)}
"""Here the service waits a second for the rest of a request, and five for the next one."""
WILD = "nobody"
POST = b"POST /v1/release HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LARGE = request(path="/openapi.json") * 16
"""Sixteen answers of together more than the kernel keeps for a socket."""


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (POST + b"Content-Length: 100000\r\n\r\n{", b" "),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ],
    ids=["body", "chunks"],
)
def test_trickle_is_ended(farm: Farm, first: bytes, drop: bytes) -> None:
    """A byte now and then does not keep a request open; the reason is told."""
    for before in (b"", request()):
        with Rude(farm.socket) as one:
            if before:
                assert one.ask().status == 200
            one.send(first)
            until(lambda: not one.send(drop) or one.is_readable, 30, "the service to lose patience")
            answer = one.answer()
            assert answer is not None
            assert answer.status == 408
            assert "was not complete within 1 s" in answer.error["message"]
            one.until_closed()


def test_idle_connection_is_closed_without_a_word(farm: Farm) -> None:
    """A word would be taken for the answer to the next request."""
    with Rude(farm.socket) as one:
        assert one.ask().status == 200
        assert one.answer() is None


def connected(farm: Farm) -> int:
    """How many connections the service has accepted and not closed."""
    sockets = Path("/proc/net/unix").read_text().splitlines()  # both ends are in the client's namespace
    return sum(line.split()[5] == "03" and line.endswith(f" {farm.socket}") for line in sockets)


def test_python_client_notices_that_it_was_closed(farm: Farm) -> None:
    """Its idle connections are closed by the service; the next calls open others, and no caller notices."""
    with farm.client() as client:
        for _ in range(2):
            with farm.client() as other:

                def are_connected() -> bool:
                    other.pools()
                    client.pools()
                    return connected(farm) == 2

                # On a slow machine the first is closed before the second has asked.
                until(are_connected, 30, "both to be connected")
            client.allocate("farm", "vm")
            until(lambda: connected(farm) == 0, 30, "the service to close them")
            client.release("vm")


def test_wait_for_dhcpd_is_not_the_clients_fault(farm: Farm) -> None:
    """A request that is all there waits as long as it asked to, longer than any client may."""
    farm.dhcpd.freeze()
    try:
        with Rude(farm.socket) as waiting, Rude(farm.socket) as idle:
            waiting.send(
                request("POST", "/v1/allocations", b'{"pool": "farm", "name": "late", "timeout_s": 60}')
            )
            assert idle.ask().status == 200
            assert idle.answer() is None  # so long was too long for this one
            assert not waiting.is_closed
            farm.dhcpd.thaw()
            answer = waiting.answer()
            assert answer is not None
            assert answer.status == 200
    finally:
        farm.dhcpd.thaw()


def test_answers_read_in_time_are_all_there(farm: Farm) -> None:
    """More than the kernel holds is sent on as it is read; nothing is lost."""
    with Rude(farm.socket, WILD) as one:
        one.send(LARGE)
        until(lambda: one.is_readable, 30, "the first answer")
        answers = [one.answer() for _ in range(16)]
        assert len({answer.body for answer in answers if answer and answer.status == 200}) == 1
        assert None not in answers
