"""The service as a process: its socket, its neighbours, its service manager, its log, its document."""

import json
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest

from labkit import bounded
from labkit.farm import Farm
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.allocation import Allocation, State
from macbind.core.errors import NotPermitted, ServiceUnavailable
from macbind.core.mac_address import MacAddress
from macbind.core.sizes import Sizes
from macbind.dhcp.isc.lease_file import parse

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.4.250"]
"""
MakeFarm = Callable[..., Farm]
SOON_S = 60.0


def connect(farm: Farm) -> socket.socket:
    """An open connection to the service."""
    raw = socket.socket(socket.AF_UNIX)
    raw.connect(str(farm.socket))  # waits while the backlog is full, which it would not with a timeout
    raw.settimeout(SOON_S)
    return raw


def allocate_for_a_moment(client: Client, name: str) -> Allocation:
    """An allocation that ends soon, and not before dhcpd has confirmed it: nobody would confirm it then."""
    client.allocate("farm", name)
    return client.allocate("farm", name, ttl_s=0.2)


def descriptors(farm: Farm) -> int:
    """How many files and sockets the service has open."""
    return len(list(Path(f"/proc/{farm.pid}/fd").iterdir()))


def threads_of(farm: Farm) -> int:
    """How many threads the service has."""
    return len(list(Path(f"/proc/{farm.pid}/task").iterdir()))


# -- the socket ----------------------------------------------------------------------------------------------


def test_second_service_on_one_socket_is_refused(farm: Farm) -> None:
    """A service that is started beside another one ends with status 3, and the first goes on undisturbed."""
    before = farm.socket.stat().st_ino
    done = farm.run("serve")
    assert done.returncode == 3
    assert done.stderr.startswith(f"macbind: Another service already listens at {farm.socket}.")
    assert farm.socket.stat().st_ino == before
    with farm.client() as client:
        assert client.status().dhcpds[0].state == "serving"


def test_of_services_that_start_together_exactly_one_serves(farm: Farm) -> None:
    """Of several services started at the same moment one gets the socket; the others end with status 3."""
    place = farm.directory / "race.sock"
    config = farm.directory / "race.toml"
    config.write_text(farm.config.read_text().replace(str(farm.socket), str(place)))
    serve = [*farm.command, "serve", "--config", str(config)]
    racers = [farm.lab.popen(serve, output=farm.directory / f"race-{number}.log") for number in range(4)]
    until(lambda: sum(racer.poll() is not None for racer in racers) == 3, SOON_S, "three of them to end")
    assert sorted(racer.poll() or 0 for racer in racers) == [0, 3, 3, 3]
    with Client(place) as client:

        def stands_by() -> bool:
            with suppress(ServiceUnavailable):  # it may be starting still
                return client.status().dhcpds[0].state == "standby"
            return False

        until(stands_by, SOON_S, "it to stand by")  # the other service writes to this dhcpd
    for racer in racers:
        racer.signal_group(signal.SIGTERM)
        racer.wait(SOON_S)
    assert [racer.returncode for racer in racers].count(0) == 1
    assert not place.exists()


@pytest.mark.parametrize("what", ["file", "directory", "listener", "listener that never accepts"])
def test_what_is_in_the_place_of_the_socket_and_not_ours_is_left_alone(farm: Farm, what: str) -> None:
    """Only the socket of a service that was killed is replaced: no file, no directory, no other program's socket."""
    place = farm.directory / "other.sock"
    config = farm.directory / "other.toml"
    config.write_text(farm.config.read_text().replace(str(farm.socket), str(place)))
    with ExitStack() as stack:
        if what == "file":
            place.write_text("precious")
            stack.callback(place.unlink)
        elif what == "directory":
            place.mkdir()
            stack.callback(place.rmdir)
        else:
            other = stack.enter_context(socket.socket(socket.AF_UNIX))
            other.bind(str(place))
            stack.callback(place.unlink)
            other.listen(0)
            if what != "listener":
                stack.enter_context(fill(place))
        before = place.stat()
        done = farm.run("serve", "--config", str(config))
        assert done.returncode == 3, done.stderr
        assert str(place) in done.stderr
        assert "Traceback" not in done.stderr
        assert (place.stat().st_ino, place.stat().st_size) == (before.st_ino, before.st_size)


@contextmanager
def fill(place: Path) -> Iterator[None]:
    """Connections that nobody accepts, as many as the listener lets wait."""
    with ExitStack() as stack:
        while True:
            raw = stack.enter_context(
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            )
            try:
                raw.connect(str(place))
            except BlockingIOError:
                break
        yield


# -- a service that is not there -----------------------------------------------------------------------------


def test_service_that_is_not_there_is_told_apart(farm: Farm, tmp_path: Path) -> None:
    """No socket, nobody listening, too many waiting, something else answering: each is told, with exit status 5."""
    missing = tmp_path / "none.sock"
    with (
        Client(missing) as client,
        pytest.raises(ServiceUnavailable, match="there is no such socket") as failed,
    ):
        client.pools()
    assert failed.value.code == "service_unavailable"
    assert "systemctl start macbind" in failed.value.hint
    assert failed.value.details == {"socket": str(missing)}

    left = farm.directory / "left.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(left))
    with Client(left) as client, pytest.raises(ServiceUnavailable, match="nobody listens"):
        client.allocate("farm", "vm")

    busy = farm.directory / "busy.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(busy))
        other.listen(0)
        with (
            fill(busy),
            Client(busy) as client,
            pytest.raises(ServiceUnavailable, match="too many connections"),
        ):
            client.allocate("farm", "vm")

    long = tmp_path / ("x" * 108)
    with Client(long) as client, pytest.raises(ServiceUnavailable, match="path too long"):
        client.pools()

    done = farm.run("list", "--json", "--socket", str(missing))
    assert done.returncode == 5
    assert json.loads(done.stdout)["error"]["code"] == "service_unavailable"
    assert done.stderr.count("\n") == 2


ANSWERS = {
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "closed": b"",
    "a web page": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>",
    "other JSON": b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"ok": 1}',
    "other error": b'HTTP/1.1 404 Not Found\r\nContent-Length: 15\r\n\r\n{"detail": "x"}',
    "unknown code": b'HTTP/1.1 409 Conflict\r\nContent-Length: 25\r\n\r\n{"error": {"code": "odd"}}',
    "half of it": b'HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n[{"pool"',
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_answer_of_something_else_is_an_error_of_the_service(tmp_path: Path, answer: bytes) -> None:
    """Whatever answers at the socket, the caller gets a ServiceUnavailable and never a foreign exception."""
    place = tmp_path / "odd.sock"
    with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as threads, Client(place) as client:
        listener.bind(str(place))
        listener.listen()
        listener.settimeout(SOON_S)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        serving = threads.submit(serve)
        with pytest.raises(ServiceUnavailable) as failed:
            client.pools()
        serving.result(SOON_S)
    assert failed.value.hint


# -- many at once --------------------------------------------------------------------------------------------


def test_hundreds_of_open_connections_hinder_nobody(farm: Farm) -> None:
    """With more than a thousand connections open every one is answered, dhcpd may even restart, and none leaks."""
    with farm.client() as client:
        made = client.allocate("farm", "crowded")
        before = descriptors(farm)
        with ExitStack() as stack:
            crowd = [stack.enter_context(connect(farm)) for _ in range(1100)]
            until(lambda: descriptors(farm) > before + 1000, SOON_S, "the connections to be accepted")
            farm.dhcpd.restart()
            farm.wait_serving()
            assert client.allocate("farm", "crowded-2").state is State.BOUND
            for raw in crowd[::2]:
                raw.sendall(b"GET /v1/allocations/crowded HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            for raw in crowd[::2]:
                answer = b"".join(iter(lambda raw=raw: raw.recv(65536), b""))  # type: ignore[misc]
                assert answer.startswith(b"HTTP/1.1 200")
                assert str(made.mac).encode() in answer
        # The database's connections, three descriptors each, are kept for the next requests.
        until(lambda: descriptors(farm) <= before + 50, SOON_S, "the service to close its ends")


def test_callers_that_go_away_leave_nothing_behind(farm: Farm) -> None:
    """Requests whose callers hang up are carried out, and the service keeps neither sockets nor threads of them."""
    with farm.client() as client:
        client.pools()
        before, threads = descriptors(farm), threads_of(farm)
        for number in range(100):
            body = json.dumps({"pool": "farm", "name": f"away-{number}"}).encode()
            with closing(connect(farm)) as raw:
                raw.sendall(
                    b"POST /v1/allocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
                )
        names = {f"away-{number}" for number in range(100)}
        until(lambda: names <= {one.name for one in client.list()}, SOON_S, "all of them")
        until(lambda: descriptors(farm) <= before + 20, SOON_S, "the service to close its ends")
        assert threads_of(farm) <= threads + 45  # the pool of request threads has 40
        for number in range(100):
            client.release(f"away-{number}")


def test_more_threads_than_connections_are_kept_share_one_client(farm: Farm) -> None:
    """One client serves two hundred threads that wait at the same time; none is turned away."""
    farm.dhcpd.freeze()
    try:
        with farm.client(5 * SOON_S) as client, ThreadPoolExecutor(200) as threads:
            asked = [threads.submit(client.allocate, "farm", f"shared-{number}") for number in range(200)]
            with farm.client() as other:
                until(lambda: other.status().dhcpds[0].backlog >= 200, SOON_S, "all to wait")
            farm.dhcpd.thaw()
            made = [one.result(SOON_S) for one in asked]
        assert len({one.address for one in made}) == 200
    finally:
        farm.dhcpd.thaw()


# -- the service manager and the log -------------------------------------------------------------------------


@contextmanager
def manager(place: Path) -> Iterator[list[str]]:
    """What a service manager hears at its socket. A thread takes it: the kernel keeps ten messages, and no more."""
    said: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hearing, ThreadPoolExecutor(1) as threads:
        hearing.bind(str(place))

        def listen() -> None:
            while words := hearing.recv(4096):
                said.extend(words.decode().splitlines())

        threads.submit(listen)
        try:
            yield said
        finally:
            hearing.sendto(b"", str(place))


def test_service_manager_is_told_how_things_stand(
    make_farm: MakeFarm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """READY once it serves, STATUS and WATCHDOG while it goes on, STOPPING at the end."""
    place = tmp_path / "notify"
    with manager(place) as said:
        monkeypatch.setenv("NOTIFY_SOCKET", str(place))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")

        def hears(words: str) -> bool:
            return any(words in line for line in said)

        farm = make_farm(pools=POOLS)
        until(lambda: hears("STATUS=dhcpd main: serving"), SOON_S, "the status")
        until(lambda: hears("WATCHDOG=1"), SOON_S, "a sign of life")
        assert said.count("READY=1") == 1
        assert not hears("STOPPING=1")
        farm.dhcpd.stop()
        until(lambda: hears("STATUS=dhcpd main: unavailable"), SOON_S, "the status to change")
        farm.dhcpd.start()
        farm.dhcpd.wait_ready()
        farm.wait_serving()
        assert farm.stop() == 0
        until(lambda: hears("STOPPING=1"), SOON_S, "its end")


def test_service_manager_that_goes_away_takes_nothing_along(
    make_farm: MakeFarm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A notify socket that vanishes costs no housekeeping: allocations still expire."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    farm = make_farm(pools=POOLS)
    with farm.client() as client:
        allocate_for_a_moment(client, "short")
        until(lambda: not list(client.list(released=True)), SOON_S, "the expiry")


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_service_decides_the_same_in_the_smallest_pieces(make_farm: MakeFarm, number: int) -> None:
    """Lists, comparisons, releases, expiry and groups are whole, however little is done at a time."""
    sizes = {one.name: number for one in fields(Sizes)}
    farm = make_farm(pools=POOLS, command=bounded.command(sizes))
    with farm.client() as client:
        made = client.allocate_group("farm", "stay", 20)
        client.allocate_group("farm", "go", 10)
        brief = [allocate_for_a_moment(client, f"brief-{count}") for count in range(5)]
        until(lambda: len(list(client.list(released=True))) == 30, SOON_S, "the expiry, in dhcpd, too")
        assert [one.address for one in client.list(group="stay")] == [one.address for one in made]
        backup = farm.leases.read_bytes()
        client.release_group("go")
        assert list(client.list(released=True)) == list(client.list(group="stay"))
        farm.dhcpd.kill()
        farm.leases.write_bytes(backup)
        farm.dhcpd.restart()
        hosts = {one.mac for one in parse(backup).hosts.values() if one.mac is not None}
        assert hosts == {one.mac for one in made} | {MacAddress(made[-1].mac.value + n) for n in range(1, 11)}
        until(lambda: farm.dhcpd.omshell_host(str(max(hosts))) is None, SOON_S, "the last leftover to go")
        farm.wait_serving()
        until(lambda: client.status().dhcpds[0].backlog == 0, SOON_S, "nothing to be due")
        served = {mac for mac in hosts if farm.dhcpd.omshell_host(str(mac)) is not None}
        assert served == {one.mac for one in made}
        assert not {one.mac for one in brief} & served
        client.release_group("stay")
        assert list(client.list(released=True)) == []


def test_log_tells_the_story_in_json_lines(make_farm: MakeFarm) -> None:
    """Start, comparison and end are in the log, each line an object with time and level."""
    farm = make_farm(pools=POOLS)
    assert farm.stop() == 0
    entries: list[dict[str, Any]] = [json.loads(line) for line in farm.log().splitlines()]
    assert all({"event", "level", "timestamp"} <= entry.keys() for entry in entries)
    events = [entry["event"] for entry in entries]
    assert [event for event in events if event in {"ready", "compared", "stopping", "stopped"}][-2:] == [
        "stopping",
        "stopped",
    ]
    assert {"ready", "compared"} <= set(events)


def test_damaged_socket_directory_is_told(farm: Farm) -> None:
    """A socket that was removed by somebody is missed by callers, and comes back with the next start."""
    farm.socket.unlink()
    done = farm.run("list")
    assert done.returncode == 5
    assert "there is no such socket" in done.stderr
    assert farm.stop() == 0
    farm.start()
    farm.wait_serving()
    assert stat.S_ISSOCK(farm.socket.stat().st_mode)


# -- the document --------------------------------------------------------------------------------------------


def test_document_lists_every_route_with_the_error_model(farm: Farm) -> None:
    """/openapi.json describes each route, its success, and that every failure is an ErrorBody."""
    transport = httpx.HTTPTransport(uds=str(farm.socket), verify=False)
    with httpx.Client(transport=transport, base_url="http://macbind") as http:
        document = http.get("/openapi.json").json()
    routes = {
        f"{method.upper()} {path}": route
        for path, methods in document["paths"].items()
        for method, route in methods.items()
    }
    assert {
        "POST /v1/allocations",
        "GET /v1/allocations",
        "GET /v1/allocations/{name}",
        "GET /v1/network-settings/{name}",
        "POST /v1/release",
        "POST /v1/reservations",
        "DELETE /v1/reservations/{name}",
        "GET /v1/pools",
        "GET /v1/status",
        "GET /v1/history",
    } <= set(routes)
    for route in routes.values():
        assert route["summary"]
        answers = route["responses"]
        assert "200" in answers
        assert {status for status in answers if status.startswith(("4", "5"))} == {"4XX", "5XX"}
        for status in ("4XX", "5XX"):
            schemas = [kind["schema"] for kind in answers[status]["content"].values()]
            assert schemas == [{"$ref": "#/components/schemas/ErrorBody"}]
    assert {"AllocateBody", "ReleaseBody", "ReserveBody", "DhcpOptions", "ErrorDetail"} <= set(
        document["components"]["schemas"]
    )


def test_errors_of_permission_are_requests_nobody_should_repeat() -> None:
    """NotPermitted is the caller's fault, also when the socket itself refuses: asking again changes nothing."""
    assert not issubclass(NotPermitted, ServiceUnavailable)
