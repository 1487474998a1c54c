"""Writing into a real xenstored: a domain finds what it is told, and no other domain does."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from labkit.wait import until
from labkit.xenstored import Xenstored
from macbind.errors import HypervisorUnavailable, InvalidRequest, MachineFailed
from macbind.virt import xenstore

LINES = [
    "mac=00:16:3e:01:01:03",
    "address=10.1.1.3/16",
    "dns=10.1.0.1 10.1.0.2",
    "data.role=worker",
    'data.awkward=a,b="c" \\ %',
    "data.role.of=it",
    "data.empty=",
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Xenstored]:
    """A xenstored of this test's own."""
    with Xenstored(tmp_path) as store:
        yield store


def test_a_domain_finds_its_lines_and_may_only_read_them(store: Xenstored) -> None:
    """Xen's own client reads them back; ours is domain 0's, readable by the guest, and nothing else changes."""
    store.ask("xenstore-write", "/local/domain/7/vm-data/theirs", "kept")
    before = store.listing()
    xenstore.tell(7, xenstore.keys(LINES), store.socket)
    home = "/local/domain/7/vm-data/macbind"
    assert store.ask("xenstore-read", f"{home}/address", f"{home}/dns", f"{home}/data/role").splitlines() == [
        "10.1.1.3/16",
        "10.1.0.1 10.1.0.2",
        "worker",
    ]
    after = store.listing()
    assert [line for line in after if line in before] == before
    ours = [line for line in after if line not in before]
    assert {line.split(" ")[0].removeprefix(home) for line in ours} == {
        "",
        "/address",
        "/data",
        "/data/awkward",
        "/data/empty",
        "/data/role",
        "/data/role/of",
        "/dns",
        "/mac",
    }
    assert all(line.endswith("(n0,r7)") for line in ours)
    assert store.ask("xenstore-read", "-R", f"{home}/data/awkward").strip() == 'a,b="c" \\ %'


def test_a_refusal_is_told(store: Xenstored) -> None:
    """What xenstored does not take is an error with its word."""
    with pytest.raises(MachineFailed, match="domain 7 is to be told: EINVAL"):
        xenstore.tell(7, {"a b": "c"}, store.socket)
    with pytest.raises(MachineFailed, match="bytes are more"):
        xenstore.tell(7, {"long": "x" * 4096}, store.socket)


def test_many_domains_at_once(store: Xenstored) -> None:
    """Machines launched together are told together, each its own."""
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            pool.submit(xenstore.tell, number, {"mac": f"of {number}"}, store.socket)
            for number in range(1, 41)
        ]
    assert [job.exception() for job in jobs] == [None] * 40
    home = "/local/domain/{}/vm-data/macbind/mac"
    paths = [home.format(number) for number in range(1, 41)]
    assert store.ask("xenstore-read", *paths).splitlines() == [f"of {number}" for number in range(1, 41)]


def test_a_xenstored_that_is_not_there(tmp_path: Path) -> None:
    """No socket, and one where something else speaks, are said with the path and where to launch."""
    with pytest.raises(HypervisorUnavailable, match="No such file") as caught:
        xenstore.tell(7, {}, tmp_path / "nowhere")
    assert "domain 0" in caught.value.hint
    answers: list[tuple[Callable[[bytes], bytes], str]] = [
        (lambda _: b"", "closed the connection"),
        (lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n", "answer of"),
        (lambda asked: asked[:4] + b"\xff" * 4 + asked[8:12] + b"\0" * 4, "to request"),
        (lambda asked: asked[:12] + b"\x02\0\0\0x\0", "x"),
    ]
    for number, (answer, word) in enumerate(answers):
        path = tmp_path / f"socket{number}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()

            def serve(listener: socket.socket = listener, answer: Callable[[bytes], bytes] = answer) -> None:
                with listener.accept()[0] as client:
                    client.sendall(answer(client.recv(4096)))

            server = threading.Thread(target=serve)
            server.start()
            with pytest.raises(HypervisorUnavailable, match=word):
                xenstore.tell(7, {}, path)
            server.join()


def test_a_frozen_xenstored_is_not_waited_for_for_ever(
    store: Xenstored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes the connection and says nothing is given up."""
    monkeypatch.setattr(xenstore, "_TIMEOUT_S", 1.0)
    store.freeze()
    until(store.socket.exists, 1, "its socket")
    with pytest.raises(HypervisorUnavailable, match="timed out"):
        xenstore.tell(7, {}, store.socket)


@pytest.mark.parametrize("key", ["data.a..b", "data.a."])
def test_a_key_xenstore_cannot_have(key: str) -> None:
    """A dot becomes a level, so there must be something on both sides of it."""
    with pytest.raises(InvalidRequest, match="Xenstore cannot have the key"):
        xenstore.keys([f"{key}=1"])
