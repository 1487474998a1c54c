"""Telling the service manager: the datagrams it gets, and that no manager can hold the service up."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from macbind.daemon.sd_notify import notify


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    """A service manager's end of the notification socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(5)
        yield manager


def test_states_arrive_as_one_datagram(
    manager: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each state is a line NAME=value of one message."""
    manager.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    assert notify(READY=1, STATUS="1 of 1 dhcpd serving")
    assert manager.recv(4096) == b"READY=1\nSTATUS=1 of 1 dhcpd serving"


def test_abstract_socket_is_reached(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that begins with @ is an abstract socket."""
    manager.bind("")  # the kernel picks a free abstract address
    monkeypatch.setenv("NOTIFY_SOCKET", "@" + manager.getsockname()[1:].decode())
    assert notify(STOPPING=1)
    assert manager.recv(4096) == b"STOPPING=1"


def test_line_break_in_a_text_begins_no_other_state(
    manager: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A status of two lines stays one state."""
    manager.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    notify(STATUS="all well\nMAINPID=1")
    assert manager.recv(4096) == b"STATUS=all well MAINPID=1"


def test_without_a_manager_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No address, nobody at the address, an address of a kind we do not know: False, and no exception."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify(READY=1)
    for address in ("", str(tmp_path / "nobody"), "vsock:2:1234", "/" + "x" * 200):
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        assert not notify(READY=1)


def test_manager_that_does_not_read_holds_nobody_up(
    manager: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the manager's queue is full a message is dropped, and the service goes on."""
    manager.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    assert any(not notify(STATUS="x" * 1000) for _ in range(10_000))
