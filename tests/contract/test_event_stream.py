"""The stream of events of a real service: whoever is killed, slow or away misses nothing, and nobody feels it."""

import json
import os
import random
import re
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from threading import Event as Flag
from typing import Any

import httpx
import pytest

from contract.test_events import Model, as_it_is
from labkit.farm import MACBIND
from labkit.lone import Lone
from labkit.rude import Rude, request
from labkit.wait import until
from macbind.client import codec
from macbind.client.client import Client
from macbind.core.errors import InvalidRequest, MacbindError, ServiceUnavailable
from macbind.core.event import Change

CHANGES = 5000
GROUP, KILLS = 10, 6
READERS, SILENT = 200, 50


@pytest.fixture
def lone(url: str) -> Iterator[Lone]:
    """A service on either database."""
    with Lone(url, heartbeat_s=1, slow_s=5) as lone:
        yield lone


@pytest.fixture
def client(lone: Lone) -> Iterator[Client]:
    """The Python API."""
    with lone.client() as client:
        yield client


def last_id(client: Client) -> int:
    """The number of the last change."""
    return max((one.id for one in client.events(0, wait=False) if isinstance(one, Change)), default=0)


def test_a_killed_reader_knows_the_registry_exactly(lone: Lone, client: Client, tmp_path: Path) -> None:
    """`macbind watch` is killed at random moments of 5,000 changes, and goes on after the last whole line."""
    chance, out, done = random.Random(11), tmp_path / "events.jsonl", Flag()
    start = last_id(client)
    before = as_it_is(client.list())

    made = kills = 0

    def change() -> None:
        nonlocal made
        with lone.client(timeout_s=60) as mine:
            while made < CHANGES or kills < KILLS:
                name = f"group-{made}"
                mine.allocate_group("farm", name, GROUP)
                made += GROUP
                if chance.random() < 0.8:
                    lone.release_group(name)
                    made += GROUP
        done.set()

    def known() -> list[dict[str, Any]]:
        text = out.read_text() if out.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            out.write_text(whole)  # killed in the middle of a line
        return [json.loads(line) for line in whole.splitlines()]

    with ThreadPoolExecutor(1) as threads:
        changing = threads.submit(change)
        while not done.is_set() and not changing.done():
            after = max((one["id"] for one in known() if one["event"] == "change"), default=start)
            with (
                out.open("a") as file,
                subprocess.Popen(
                    [*MACBIND, "watch", "-o", "jsonl", "--after", str(after)],
                    stdout=file,
                    env={**os.environ, "MACBIND_SOCKET": str(lone.socket)},
                ) as reader,
            ):
                size = file.tell()
                until(lambda: changing.done() or out.stat().st_size > size, 60, "it to write")  # noqa: B023
                done.wait(chance.uniform(0, 1))
                reader.kill()
            kills += 1
        changing.result()
    model = Model(before, start)
    lines = [one for one in known() if one["event"] == "change"]
    model.take(_change(one) for one in lines)
    assert lines, "it was never alive long enough"
    model.take(one for one in client.events(model.position, wait=False) if isinstance(one, Change))
    assert model.held == as_it_is(client.list())
    assert model.position - start >= CHANGES


def _change(line: dict[str, Any]) -> Change:
    return codec.CHANGE.validate_python({key: value for key, value in line.items() if key != "event"})


def test_the_client_goes_on_by_itself_when_the_service_was_killed(lone: Lone) -> None:
    """One loop over its events sees what was done before and after, each once."""
    with lone.client() as client, ThreadPoolExecutor(1) as threads:
        start = last_id(client)
        names: list[str | None] = []

        def read() -> None:
            for event in client.events(start, pool="other"):
                assert isinstance(event, Change)
                names.append(event.name)
                if event.name == "last":
                    return

        reading = threads.submit(read)
        client.allocate("other", "before")
        until(lambda: names, 60, "the first event")
        lone.kill()
        lone.start()
        client.allocate("farm", "elsewhere")
        client.allocate("other", "last")
        reading.result(60)
        assert names == ["before", "last"]


def test_what_another_controller_does_comes_too(lone: Lone, url: str) -> None:
    """In order and once, wherever it is done; and whoever waits at one is answered for the other."""
    with Lone(url) as other, lone.client() as here, other.client() as there, ThreadPoolExecutor(1) as threads:
        start = last_id(here)
        waiting = threads.submit(here.wait_bound, "last", timeout_s=60)
        for number in range(20):
            (here, there)[number % 2].allocate("farm", f"vm-{number}")
        there.allocate("farm", "last")
        assert list(waiting.result(60)) == ["last"]
        names = [f"vm-{number}" for number in range(20)] + ["last"]
        for client in (here, there):
            found = [one for one in client.events(start, wait=False) if isinstance(one, Change)]
            assert [one.name for one in found] == names
            events = client.events(start, pool="farm")
            assert [next(events) for _ in names] == found


def test_readers_that_never_read_are_not_felt(
    lone: Lone, client: Client, finding: Callable[[str], None]
) -> None:
    """With 200 readers, of which 50 never read, an allocation waits for none of them; those that read get all."""

    def taken(name: str) -> float:
        times = []
        for number in range(60):
            began = time.perf_counter()
            client.allocate("farm", f"{name}-{number}", group=name)
            times.append(time.perf_counter() - began)
        return median(times)

    alone = taken("alone")
    start = last_id(client)
    with ExitStack() as stack:
        readers = [stack.enter_context(Rude(lone.socket)) for _ in range(READERS)]
        for one in readers:
            one.send(request(path=f"/v1/events?after={0 if one in readers[:SILENT] else start}"))
        silent, reading = readers[:SILENT], readers[SILENT:]
        got = {one.socket.fileno(): bytearray() for one in reading}
        stop = Flag()

        def read() -> None:
            poll = select.poll()
            for number in got:
                poll.register(number, select.POLLIN)
            while not stop.is_set():
                for number, _ in poll.poll(100):
                    got[number] += os.read(number, 1 << 16)

        with ThreadPoolExecutor(1) as threads:
            task = threads.submit(read)
            try:
                crowded = taken("crowded")
                # More than the kernel keeps for those who do not read.
                for number in range(6):
                    client.allocate_group("farm", f"many-{number}", 500)
                end = last_id(client)
                # The end is enough to look at: all of it, again and again, would keep the reader from reading.
                until(
                    lambda: all(b"id: %d\n" % end in one[-4096:] for one in got.values()),
                    60,
                    "all to have read all",
                )
                until(lambda: lone.log().count('"slow reader"') >= SILENT, 60, "the silent ones to be cut")
            finally:
                stop.set()
                task.result()
        for data in got.values():
            ids = [int(one) for one in re.findall(rb"id: (\d+)\nevent: change", data)]
            assert ids == list(range(start + 1, end + 1))
        silent[0].until_closed()
        resumed = [one.id for one in client.events(start, wait=False) if isinstance(one, Change)]
        assert resumed == ids
    finding(
        f"an allocation takes {1000 * alone:.1f} ms alone, {1000 * crowded:.1f} ms with {READERS} readers"
    )
    # One whose place is waited for costs five seconds; what the machine does otherwise, less.
    assert crowded < alone + 1, f"{crowded:.4f} s instead of {alone:.4f} s"


def test_a_service_that_stays_away_is_an_error_in_the_end(lone: Lone, client: Client) -> None:
    """Whoever does not want to wait for ever says so; the end of the service does not wait for readers."""
    events = client.events(give_up_s=0.5)
    next(events)
    lone.kill()
    with pytest.raises(ServiceUnavailable):
        list(events)
    lone.start()


def test_what_cannot_be_is_refused(lone: Lone, client: Client) -> None:
    """A number from the future, none at all, and a filter that is none, each with a typed error."""
    with pytest.raises(InvalidRequest, match="There is no change 1000000 yet"):
        next(client.events(1_000_000))
    with pytest.raises(MacbindError, match="after must be greater than or equal to 0"):
        next(client.events(-1))
    done = subprocess.run(
        [*MACBIND, "watch", "--after", "1000000", "--json", "--socket", str(lone.socket)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (4, "invalid_request")
    transport = httpx.HTTPTransport(uds=str(lone.socket), verify=False)
    with httpx.Client(transport=transport, base_url="http://macbind") as http:
        for header in ("x", "-1", "9" * 30, "1e3"):
            answer = http.get("/v1/events", headers={"Last-Event-ID": header})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
        assert http.get("/v1/events?colour=red").status_code == 400
        told = http.get("/v1/events?follow=false&after=0", headers={"Last-Event-ID": str(last_id(client))})
        assert told.headers["content-type"] == "text/event-stream"
        assert "event: change" not in told.text
        assert told.text.endswith("event: end\ndata: {}\n\n")
