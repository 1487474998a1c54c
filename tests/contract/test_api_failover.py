"""Two services of one registry, and clients on other hosts: one of them dies, freezes, or loses an answer."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contract.api_site import HOST, ApiSite
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.errors import NotYet, ServiceUnavailable
from macbind.core.event import Change


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ApiSite]:
    """Two services."""
    registry = None if request.param == "sqlite" else request.getfixturevalue("postgres").emptied()
    with ApiSite(tmp_path, count=2, registry=registry) as site:
        yield site


class Cutter:
    """Passes a TCP connection on, and cuts it instead of the next answer when it is told to.

    Args:
        port: Where it passes them to.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self.cuts = threading.Event()
        self.has_cut = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Ends it."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            behind = socket.create_connection((HOST, self._to))
            threading.Thread(target=self._pass, args=(caller, behind, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(behind, caller, True), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        try:
            while piece := source.recv(65536):
                if is_answer and self.cuts.is_set():
                    self.has_cut.set()
                    break
                target.sendall(piece)
        except OSError:
            pass
        for one in (source, target):
            one.close()


def test_a_service_that_is_killed_in_the_middle_of_calls_is_not_noticed(site: ApiSite) -> None:
    """Calls of all kinds are under way at it; each is done once, by the other."""
    token = site.token("core", "--write")
    first = site.services[0]
    with site.client(token) as warm, ThreadPoolExecutor(8) as pool:
        warm.allocate("farm", "there")
        # Frozen it takes everything, and answers nothing.
        os.kill(first.pid, signal.SIGSTOP)
        clients = [site.client(token) for _ in range(3)]
        waiting = [
            pool.submit(warm.allocate, "farm", "same"),
            pool.submit(clients[0].allocate, "farm", "cold"),
            pool.submit(clients[1].allocate, "farm"),
            pool.submit(clients[2].allocate, "farm", "same"),
        ]
        first.kill()
        made = [one.result(120) for one in waiting]
        assert made[0] == made[3]
        assert len({one.address for one in made}) == 3
        with site.client(token, site.urls[1:]) as other:
            assert {one.name for one in other.list()} == {"there", *(one.name for one in made)}
            logged = [str(one.name) for one in other.history(action="allocate", limit=1000)]
            assert sorted(logged) == sorted({"there", *(one.name for one in made)})
        for one in clients:
            one.close()


def test_a_wait_goes_on_at_the_other_service(site: ApiSite) -> None:
    """The caller is told when it has happened, though whom it asked first is gone."""
    token = site.token("core", "--write")
    with (
        site.client(token) as client,
        site.client(token, site.urls[1:]) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(client.wait_bound, "late", timeout_s=100)
        until(lambda: _is_waited_at(site, 0), 60, "the first service to be waited at")
        site.services[0].kill()
        other.allocate("farm", "late")
        assert waiting.result(120) == ["late"]
        with pytest.raises(NotYet):
            client.wait_bound("never", timeout_s=0.1)


def _is_waited_at(site: ApiSite, number: int) -> bool:
    with site.services[number].client() as client:
        rates = client.status().rates
        return rates is not None and rates.waiting > 0


def test_a_lost_answer_of_an_allocation_without_a_name_leaves_one(site: ApiSite) -> None:
    """It was carried out, the answer was cut, and the repeat at the other service finds it."""
    token = site.token("core", "--write")
    cutter = Cutter(site.ports[0])
    with site.client(token, [f"https://{HOST}:{cutter.port}", site.urls[1]]) as client:
        client.allocate("farm", "warm")
        cutter.cuts.set()
        made = client.allocate("farm")
        assert cutter.has_cut.is_set()
        assert {one.name for one in client.list()} == {"warm", made.name}
        with pytest.raises(ServiceUnavailable, match="did not answer"), _only(site, token, cutter) as lone:
            lone.release(made.name)
    cutter.close()


def _only(site: ApiSite, token: str, cutter: Cutter) -> Client:
    cutter.cuts.clear()
    client = site.client(token, [f"https://{HOST}:{cutter.port}", site.urls[1]])
    client.allocate("farm", "warm")
    cutter.cuts.set()
    return client


def test_events_go_on_at_the_other_service(site: ApiSite) -> None:
    """A reader misses nothing, and is given nothing twice."""
    token = site.token("core", "--write")
    with site.client(token) as client, ThreadPoolExecutor(1) as pool:
        seen: list[int] = []

        def read() -> None:
            for event in client.events(0, pool="farm"):
                if isinstance(event, Change):
                    seen.append(event.id)
                    if event.name == "last":
                        return

        reading = pool.submit(read)
        client.allocate("farm", "first")
        until(lambda: bool(seen), 60, "the first event")
        site.services[0].kill()
        client.allocate("farm", "last")
        reading.result(120)
        assert seen == sorted(set(seen))
        assert len(seen) == 2
