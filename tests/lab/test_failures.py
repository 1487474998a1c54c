"""What fails is told with its own class, in time; nothing is half-done, and everything mends by itself."""

import signal
import sqlite3
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from contract.test_dhcpd import fill, small_disk
from labkit.dhcp import DhcpClient
from labkit.farm import Farm, unconfirmed
from labkit.net import Port
from labkit.omshell import OmapiKey as ShellKey
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.allocation import Allocation, State
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import (
    AddressInUse,
    Conflict,
    DhcpdRefused,
    DhcpdUnavailable,
    NotFound,
    PoolExhausted,
    RegistryUnavailable,
)
from macbind.dhcp.isc.key import OmapiKey

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
""" + "".join(
    f'[pool.{name}]\nsubnet = "10.0.0.0/8"\nranges = ["10.1.{number}.3-10.1.{number}.{last}"]\n'
    for number, (name, last) in enumerate(
        {
            "down": 9,
            "gone": 3,
            "group": 9,
            "frozen": 3,
            "thaw": 9,
            "foreign": 9,
            "key": 9,
            "locked": 9,
            "empty": 99,
            "ended": 9,
        }.items(),
        1,
    )
)
PATIENCE_S = 2.0
MENDS_S = 60.0


@pytest.fixture
def client(farm: Farm) -> Iterator[Client]:
    """The Python API; dhcpd serves again after the test."""
    with farm.client(timeout_s=60) as client:
        yield client
    if not farm.dhcpd.alive:
        farm.dhcpd.restart()
    farm.wait_serving()


@pytest.fixture
def hasty(farm: Farm) -> Iterator[Client]:
    """The Python API, of a caller without much patience."""
    with farm.client(timeout_s=PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="module")
def cable(farm: Farm) -> Port:
    """Where the machines of this module are plugged in."""
    return farm.lab.port("machines")


def secret_of(key: OmapiKey) -> str:
    """The secret as it stands in files."""
    return b64encode(key.secret).decode()


def is_served(cable: Port, made: Allocation, timeout_s: float = 15.0) -> bool:
    """Whether dhcpd serves the allocated address to the allocated MAC."""
    lease = DhcpClient(cable, str(made.mac)).dora(timeout_s)
    return lease is not None and lease.address == made.address


def test_allocation_while_dhcpd_is_down_is_completed_when_it_is_back(
    farm: Farm, client: Client, hasty: Client, cable: Port
) -> None:
    """The caller learns in time that dhcpd is away; the name keeps its one address and is bound without help."""
    farm.dhcpd.stop()
    started = time.monotonic()
    failed = unconfirmed(lambda: hasty.allocate("down", "late"))
    assert time.monotonic() - started >= PATIENCE_S
    assert failed.code == "dhcpd_unavailable"
    assert failed.details == {"dhcpds": ["main"], "addresses": ["10.1.1.3"]}
    assert "dhcpd main has not confirmed 10.1.1.3 in time" in failed.message
    assert "ask again with the same name" in failed.hint
    pending = client.get("late")
    assert (pending.state, str(pending.address)) == (State.PENDING, "10.1.1.3")
    until(lambda: client.status().dhcpds[0].state == "unavailable", MENDS_S, "dhcpd to be missed")
    status = client.status()
    assert status.dhcpds[0].backlog == 1
    assert status.findings
    unconfirmed(lambda: hasty.allocate("down", "late"))
    assert farm.run("allocate", "down", "late", "--timeout", "0.2").returncode == 5
    assert [one.name for one in client.list(pool="down", released=True)] == ["late"]
    farm.dhcpd.start()
    farm.dhcpd.wait_ready()
    until(lambda: client.get("late").state is State.BOUND, MENDS_S, "the allocation to be bound")
    assert client.allocate("down", "late").generation == pending.generation
    assert is_served(cable, pending)


def test_group_that_dhcpd_did_not_confirm_is_released_without_a_trace(
    farm: Farm, client: Client, hasty: Client
) -> None:
    """A group allocated while dhcpd was down and released again leaves neither registry entry nor host."""
    farm.dhcpd.stop()
    failed = unconfirmed(lambda: hasty.allocate_group("group", "speck", 3))
    assert "has not confirmed 3 addresses in time" in failed.message
    assert "All 3 addresses, 'speck-1' to 'speck-3', stay allocated" in failed.hint
    unconfirmed(lambda: hasty.release_group("speck"))
    farm.dhcpd.restart()
    until(lambda: not list(client.list(pool="group", released=True)), MENDS_S, "the group to be gone")
    assert all(farm.dhcpd.omshell_host(f"00:16:3e:01:03:0{last}") is None for last in (3, 4, 5))


def test_address_released_while_dhcpd_is_down_is_nobodys_until_dhcpd_confirmed(
    farm: Farm, client: Client, hasty: Client, cable: Port
) -> None:
    """A release that dhcpd has not confirmed keeps the address out of reach; when dhcpd is back it is free."""
    made = client.allocate("gone", "old")
    farm.dhcpd.stop()
    failed = unconfirmed(lambda: hasty.release("old"))
    assert "has not confirmed" in failed.message
    assert "become free when dhcpd is back" in failed.hint
    with pytest.raises(NotFound):
        client.get("old")
    assert [one.state for one in client.list(pool="gone", released=True)] == [State.RELEASING]
    with pytest.raises(PoolExhausted, match="no unoccupied address") as full:
        client.allocate("gone", "new")
    assert "1 released ones wait for dhcpd's confirmation" in full.value.hint
    with pytest.raises(AddressInUse, match="dhcpd has yet to confirm"):
        client.allocate("gone", "new", address=made.address)
    farm.dhcpd.start()
    farm.dhcpd.wait_ready()
    until(lambda: not list(client.list(pool="gone", released=True)), MENDS_S, "the release to be confirmed")
    assert farm.dhcpd.omshell_host(str(made.mac)) is None
    assert not is_served(cable, made, timeout_s=0.3)
    assert client.allocate("gone", "new").address == made.address


@pytest.mark.invariant(7)
def test_frozen_dhcpd_costs_the_caller_no_more_than_its_deadline(
    farm: Farm, client: Client, hasty: Client, cable: Port
) -> None:
    """A dhcpd that hangs is told from one that answers by the deadline; thawed, it completes everything."""
    made = client.allocate("frozen", "before")
    farm.dhcpd.freeze()
    started = time.monotonic()
    assert "has not confirmed" in unconfirmed(lambda: hasty.release("before")).message
    assert "has not confirmed" in unconfirmed(lambda: hasty.allocate("thaw", "during")).message
    assert time.monotonic() - started < 30  # for ever, if it depended on dhcpd
    assert client.get("during").state is State.PENDING
    farm.dhcpd.thaw()
    until(lambda: client.get("during").state is State.BOUND, MENDS_S, "the allocation to be bound")
    until(lambda: not list(client.list(pool="frozen", released=True)), MENDS_S, "the release")
    assert farm.dhcpd.omshell_host(str(made.mac)) is None
    assert is_served(cable, client.get("during"))


def test_address_whose_mac_is_somebody_elses_in_dhcpd_is_passed_over(
    farm: Farm, client: Client, cable: Port
) -> None:
    """A foreign host is not touched: whoever wants its address is refused, and all others get the next one."""
    mac = "00:16:3e:01:06:03"
    farm.dhcpd.omshell(
        f'new host\nset name = "foreign"\nset hardware-address = {mac}\nset hardware-type = 1\n'
        "set ip-address = 10.200.0.1\ncreate\n"
    )
    assert client.allocate("foreign", "meets-foreign").address == IPv4Address("10.1.6.4")
    with pytest.raises(AddressInUse, match=r"10\.1\.6\.3 is used by 'foreign': a host of dhcpd 'main'"):
        client.allocate("foreign", "wants-it", address="10.1.6.3")
    farm.dhcpd.omshell(
        'new host\nset name = "later"\nset hardware-address = 00:16:3e:01:06:05\nset hardware-type = 1\ncreate\n'
    )
    with pytest.raises(DhcpdRefused, match="belongs to the host 'later'") as refused:
        client.allocate("foreign", "wants-it", address="10.1.6.5")
    assert "Nothing was allocated" in refused.value.hint
    with pytest.raises(NotFound):
        client.get("wants-it")
    assert farm.dhcpd.omshell_host(mac) == {"name": "foreign", "mac": mac, "ip": "10.200.0.1"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk for a registry, soon full."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        yield disk


def test_refused_allocation_that_cannot_be_taken_back_is_said_to_stay(
    disk: Path, make_farm: Callable[..., Farm]
) -> None:
    """dhcpd refuses while the registry's disk is full: the caller learns that the name keeps its address."""
    farm = make_farm(pools=POOLS, registry=f"sqlite:///{disk / 'registry.db'}")
    mac = "00:16:3e:01:06:03"
    farm.dhcpd.omshell(
        f'new host\nset name = "foreign"\nset hardware-address = {mac}\nset hardware-type = 1\ncreate\n'
    )
    farm.dhcpd.freeze()
    with farm.client() as client, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(client.allocate, "foreign", "stays")
        until(lambda: list(client.list()), MENDS_S, "the allocation")
        filler = fill(disk)
        farm.dhcpd.thaw()
        with pytest.raises(RegistryUnavailable) as refused:
            asked.result(60)
        assert "stays allocated to 'stays'" in refused.value.hint
        assert "Nothing was allocated" not in refused.value.hint
        assert client.get("stays").state is State.PENDING
        filler.unlink()
        client.release("stays")
        assert list(client.list()) == []


def test_key_that_dhcpd_does_not_know_is_named_and_can_be_mended(
    farm: Farm, client: Client, hasty: Client, cable: Port
) -> None:
    """With a wrong secret every call says that the key is the reason; the right file heals without a restart."""
    key_file = farm.directory / "macbind.key"
    right = key_file.read_text()
    wrong = OmapiKey.generate("macbind", "hmac-sha256")
    key_file.write_text(wrong.stanza)
    try:
        farm.kill()
        farm.start()
        farm.wait_answering()
        until(lambda: client.status().dhcpds[0].problem, MENDS_S, "the key to be refused")
        failed = unconfirmed(lambda: hasty.allocate("key", "wrong-key"))
        assert "the secrets differ" in failed.message
        assert secret_of(wrong) not in str(failed) + farm.log()
    finally:
        key_file.write_text(right)
    until(lambda: client.get("wrong-key").state is State.BOUND, MENDS_S, "the allocation to be bound")
    assert is_served(cable, client.get("wrong-key"))


def test_key_that_was_replaced_is_followed(farm: Farm, client: Client, cable: Port) -> None:
    """After a new key and a restart of dhcpd alone, the service speaks to dhcpd with the new key."""
    key_file = farm.directory / "macbind.key"
    fresh = OmapiKey.generate("macbind", "hmac-sha256")
    key_file.write_text(fresh.stanza)
    farm.dhcpd.restart()
    farm.wait_serving()
    made = client.allocate("key", "after-the-change")
    assert is_served(cable, made)
    farm.dhcpd.key = ShellKey(fresh.name, secret_of(fresh), fresh.algorithm)
    assert farm.dhcpd.omshell_host(str(made.mac)) is not None


def test_registry_that_another_process_locks_is_named_and_recovers(farm: Farm) -> None:
    """While another process holds the database's lock changes fail with that reason, and reading goes on."""
    with (
        farm.client(timeout_s=60) as client,
        closing(sqlite3.connect(farm.directory / "registry.db", timeout=MENDS_S)) as other,
    ):
        other.isolation_level = None
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RegistryUnavailable, match="locked") as failed:
            client.allocate("locked", "locked-out")
        assert (failed.value.code, failed.value.message.count("registry.db")) == ("registry_unavailable", 1)
        assert "Another process holds its write lock" in failed.value.hint
        with pytest.raises(NotFound):
            client.get("locked-out")
        assert list(client.list(pool="locked", released=True)) == []
        other.execute("ROLLBACK")
        assert client.allocate("locked", "locked-out").state is State.BOUND


def test_caller_without_patience_is_told_of_the_registry_and_may_ask_again(farm: Farm) -> None:
    """A deadline that passes while the registry is locked names the registry; asking again finds one allocation."""
    with (
        farm.client(timeout_s=0.3) as hasty,
        closing(sqlite3.connect(farm.directory / "registry.db", timeout=MENDS_S)) as other,
    ):
        other.isolation_level = None
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RegistryUnavailable, match="has not taken the change in time") as failed:
            hasty.allocate("locked", "hasty")
        assert "ask again with the same name" in failed.value.hint
        other.execute("ROLLBACK")
    with farm.client() as client:
        assert client.allocate("locked", "hasty").state is State.BOUND
        assert len([one for one in client.list(pool="locked", released=True) if one.name == "hasty"]) == 1


@pytest.mark.invariant(8)
def test_dhcpd_that_lost_its_lease_file_is_filled_again(farm: Farm, client: Client, cable: Port) -> None:
    """dhcpd killed and started with an empty lease file serves every allocation again, without any help."""
    made = client.allocate_group("empty", "all", 60)
    farm.dhcpd.kill()
    farm.dhcpd.restart(keep_leases=False)
    hosts = [str(one.mac) for one in made]
    until(lambda: farm.dhcpd.omshell_host(hosts[-1]) is not None, MENDS_S, "dhcpd to be filled again")
    farm.wait_serving()
    assert all(farm.dhcpd.omshell_host(mac) is not None for mac in hosts[::10])
    assert is_served(cable, made[0])
    assert is_served(cable, made[-1])
    client.release_group("all")
    assert list(client.list(pool="empty", released=True)) == []


def test_killed_service_finds_everything_again(farm: Farm, client: Client, cable: Port) -> None:
    """After SIGKILL and a start all allocations are there and served, and the same client goes on."""
    before = list(client.list(released=True))
    assert before
    farm.kill()
    assert farm.socket.exists()
    farm.start()
    farm.wait_serving()
    assert [(one.name, one.address, one.generation) for one in client.list(released=True)] == [
        (one.name, one.address, one.generation) for one in before
    ]
    assert all(is_served(cable, one) for one in before[:5] if one.state is State.BOUND)


@pytest.mark.invariant(3)
def test_service_killed_amid_allocations_has_done_each_or_none(make_farm: Callable[..., Farm]) -> None:
    """Names asked for while the service is killed are held once or not at all; asking again settles each."""
    farm = make_farm(pools=POOLS)
    names = [f"vm-{number}" for number in range(40)]
    told: dict[str, Allocation] = {}

    def ask(name: str) -> None:
        with farm.client() as client:
            told[name] = client.allocate("empty", name)

    with ThreadPoolExecutor(16) as threads:
        asked: list[Future[None]] = [threads.submit(ask, name) for name in names]
        until(lambda: len(told) >= 5, MENDS_S, "the first answers")
        farm.kill()
    failures = [one.exception() for one in asked if one.exception() is not None]
    assert all(getattr(error, "code", None) == "service_unavailable" for error in failures)
    farm.start()
    farm.wait_serving()
    with farm.client() as client:
        for name, was in told.items():
            now = client.get(name)
            assert (now.address, now.generation, now.state) == (was.address, was.generation, State.BOUND)
        made = [client.allocate("empty", name) for name in names]
        assert len({one.address for one in made}) == 40
        assert sorted(made, key=lambda one: one.address) == list(client.list(pool="empty", released=True))
        assert all(farm.dhcpd.omshell_host(str(one.mac)) is not None for one in made[::8])


def test_an_older_registry_put_back_is_what_is_served(make_farm: Callable[..., Farm]) -> None:
    """The steps of operate/backups.md, after a crash, leave no binding of the time since the backup."""
    farm = make_farm(pools=POOLS)
    registry, backup = farm.directory / "registry.db", farm.directory / "backup.db"
    with farm.client() as client:
        kept = client.allocate("down", "kept")
        with closing(sqlite3.connect(registry)) as db, closing(sqlite3.connect(backup)) as copy:
            db.backup(copy)
        since = [client.allocate("down", f"since-{number}") for number in range(3)]
        client.release("kept")
        taken = client.allocate("down", "taken", options=DhcpOptions(hostname="taken"))
        assert taken.address == kept.address
    farm.kill()
    farm.dhcpd.kill()
    for rest in ("-wal", "-shm"):
        registry.with_name(registry.name + rest).unlink()
    registry.write_bytes(backup.read_bytes())
    farm.leases.write_text("")
    farm.dhcpd.start()
    farm.dhcpd.wait_ready()
    farm.start()
    farm.wait_serving()
    with farm.client() as client:
        (found,) = client.list(released=True)
        assert (found.name, found.address, found.state) == ("kept", kept.address, State.BOUND)
        assert is_served(farm.lab.port("machine"), kept)
        assert [farm.dhcpd.omshell_host(str(one.mac)) for one in since] == [None] * 3
        assert client.allocate("down", "next").address == since[0].address
    assert b"taken" not in farm.leases.read_bytes()


def test_an_older_registry_ends_no_machine_that_it_has_forgotten(make_farm: Callable[..., Farm]) -> None:
    """The other steps of operate/backups.md: dhcpd keeps its lease file, and goes on with what was bound since."""
    farm = make_farm(pools=POOLS)
    registry, backup = farm.directory / "registry.db", farm.directory / "backup.db"
    with farm.client() as client:
        kept = client.allocate("down", "kept")
        with closing(sqlite3.connect(registry)) as db, closing(sqlite3.connect(backup)) as copy:
            db.backup(copy)
        since = [client.allocate("down", f"since-{number}") for number in range(3)]
    farm.kill()
    for rest in ("-wal", "-shm"):
        registry.with_name(registry.name + rest).unlink()
    registry.write_bytes(backup.read_bytes())
    farm.start()
    farm.wait_serving()
    with farm.client() as client:
        (found,) = client.list(released=True)
        assert (found.name, found.address, found.state) == ("kept", kept.address, State.BOUND)
        cable = farm.lab.port("machine")
        assert all(is_served(cable, one) for one in (kept, *since))
        assert "There are 3 of these" in farm.findings()["other_registry"]
        following = client.allocate("down", "next")
        assert following.address == since[-1].address + 1
        assert following.generation > max(one.generation for one in since)
        again = client.reserve("again", since[0].address)
        assert is_served(cable, again)
        lost = client.recover(apply=True).rows
        assert [row.address for row in lost] == [str(one.address) for one in since[1:]]
        client.unreserve("again")
        assert farm.dhcpd.omshell_host(str(again.mac)) is None
        assert {one.address: one.state for one in client.list()}.items() >= dict.fromkeys(
            (one.address for one in since[1:]), State.BOUND
        ).items()
        assert all(is_served(cable, one) for one in (kept, *since[1:]))


def test_a_call_whose_allocation_has_ended_meanwhile_is_told_so(
    farm: Farm, client: Client, hasty: Client
) -> None:
    """While dhcpd is frozen, somebody releases one of a group, or its time is over; nothing of the call is left."""

    def ends(call: Callable[[Client], object], end: Callable[[str], object]) -> None:
        with farm.client(timeout_s=60) as patient, ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(call, patient)
            made = until(lambda: list(client.list(pool="ended")), MENDS_S, "the allocation")
            end(made[0].name)
            with pytest.raises(Conflict, match="has ended before dhcpd confirmed it"):
                waiting.result(MENDS_S)
        assert list(client.list(pool="ended")) == []

    farm.dhcpd.freeze()
    ends(
        lambda patient: patient.allocate_group("ended", "g", 2),
        lambda name: unconfirmed(lambda: hasty.release(name)),
    )
    ends(lambda patient: patient.allocate("ended", "brief", ttl_s=10), lambda _: None)
    farm.dhcpd.thaw()
    farm.wait_serving()


def test_sigterm_answers_those_who_wait_and_removes_the_socket(make_farm: Callable[..., Farm]) -> None:
    """On SIGTERM a caller that waits for a frozen dhcpd is answered within seconds; the exit status is 0."""
    farm = make_farm(pools=POOLS)
    farm.dhcpd.freeze()
    with farm.client(timeout_s=60) as client, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.allocate, "down", "vm")
        with farm.client() as other:
            until(lambda: list(other.list()), MENDS_S, "the allocation")
        started = time.monotonic()
        assert farm.stop() == 0
        assert time.monotonic() - started < 45  # the caller would wait longer
        with pytest.raises(DhcpdUnavailable, match="has not confirmed"):
            waiting.result(60)
    assert not farm.socket.exists()
    farm.dhcpd.thaw()
    farm.start()
    farm.wait_serving()
    with farm.client() as client:
        until(lambda: client.get("vm").state is State.BOUND, MENDS_S, "the allocation to be bound")


def test_sigterm_under_load_loses_no_answer(make_farm: Callable[..., Farm]) -> None:
    """What was answered before the end exists afterwards; what was not was refused as unavailable."""
    farm = make_farm(pools=POOLS)
    told: list[Allocation] = []

    def work(thread: int) -> None:
        with farm.client() as client:
            # One by one: what was told before an error counts.
            told.extend(client.allocate("empty", f"vm-{thread}-{number}") for number in range(12))

    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(work, thread) for thread in range(8)]
        until(lambda: len(told) > 8, MENDS_S, "some work")
        assert farm.stop() == 0
    errors = [error for one in asked if (error := one.exception()) is not None]
    assert {getattr(error, "code", repr(error)) for error in errors} <= {
        "service_unavailable",
        "dhcpd_unavailable",
    }
    assert not farm.socket.exists()
    farm.start()
    farm.wait_serving()
    with farm.client() as client:
        now = {one.name: one for one in client.list(pool="empty")}
    assert all(now[one.name] == one for one in told)
    assert all(one.state is State.BOUND for one in now.values())


def test_service_that_is_told_to_end_while_it_starts_ends(farm: Farm, client: Client) -> None:
    """A signal that arrives before the service is ready is not lost."""
    assert farm.stop() == 0
    farm.start()
    until(farm.socket.exists, MENDS_S, "the socket")
    assert farm._process is not None
    farm._process.send_signal(signal.SIGTERM)
    assert farm._process.wait(60) == 0
    assert not farm.socket.exists()
    farm.start()
