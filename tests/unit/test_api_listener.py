"""The API's listener and what it tells callers on other hosts."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest

from macbind.core.errors import NotFound, NotPermitted
from macbind.http.api_access import from_afar
from macbind.http.api_listener import ApiLimits, ApiListener, origin_of


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("2001:db8::1", "2001:db8::ffff:1:2:3", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::1", "::ffff:0.0.0.1", False),
    ],
)
def test_whoever_has_an_ipv6_address_has_64_bits_of_them(one: str, other: str, is_same: bool) -> None:
    """A network of that size counts as one address."""
    assert (origin_of(one) == origin_of(other)) is is_same


class Door:
    """A listener on loopback, and clients with addresses of their own there."""

    def __init__(self, stack: ExitStack, limits: ApiLimits) -> None:
        self._stack = stack
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = listening.getsockname()[1]
        self.listener = stack.enter_context(ApiListener(listening, limits))

    def come(self, host: str = "127.0.0.1") -> socket.socket | None:
        """A client connects from that address; its end of the connection if it was let in."""
        self._stack.enter_context(socket.create_connection(("127.0.0.1", self.port), 30, (host, 0)))
        try:
            connection, (seen, _) = self.listener.accept()
        except ConnectionAbortedError:
            return None
        assert seen == host
        return self._stack.enter_context(connection)


def test_an_address_has_its_share_and_others_have_theirs() -> None:
    """Those that ask nothing are few; all of one address leave half of the places to others."""

    async def run() -> None:
        with ExitStack() as stack:
            door = Door(stack, ApiLimits(connections=8, strangers=3))
            for _ in range(3):
                assert door.come() is not None
            assert door.come() is None
            assert door.come("127.0.0.2") is not None
            for number in list(door.listener._connected):
                door.listener.asked(number)
            assert door.come() is not None
            door.listener.asked(max(door.listener._connected))
            assert door.come() is None  # 4 of 8 are its own, and 3 are left
            made = door.come("127.0.0.3")
            assert made is not None
            made.close()
            assert door.come("127.0.0.3") is not None

    asyncio.run(run())


def test_who_asks_nothing_is_cut_and_who_has_asked_stays() -> None:
    """A handshake that never ends gives its place back."""

    async def run() -> None:
        with ExitStack() as stack:
            door = Door(stack, ApiLimits(first_request_s=0.01))
            silent, asking = door.come(), door.come()
            assert silent is not None
            assert asking is not None
            door.listener.secured(asking.number, "core-1")  # type: ignore[attr-defined]
            assert door.listener.asked(asking.number) == "core-1"  # type: ignore[attr-defined]
            assert await asyncio.get_running_loop().run_in_executor(None, silent.recv, 1) == b""
            asking.setblocking(False)
            with pytest.raises(BlockingIOError):
                asking.recv(1)

    asyncio.run(run())


def test_hints_say_where_their_commands_are_run() -> None:
    """What the client's own host can do stays as it is; the error that others share is not changed."""
    local = NotPermitted("No.", hint="Add the user to may_read in [service] of macbind.toml.")
    assert (
        from_afar(local).hint
        == "On the service's host: Add the user to may_read in [service] of macbind.toml."
    )
    assert local.hint.startswith("Add the user")
    assert from_afar(local).code == "not_permitted"
    plain = NotFound("There is none.", hint="`macbind list` shows all.")
    assert from_afar(plain) is plain
