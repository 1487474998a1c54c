"""A configuration that is loaded while the service runs: what it takes into use, and what it leaves alone."""

import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from ipaddress import IPv4Address

import pytest

from labkit.dhcp import DhcpClient
from labkit.farm import Farm
from labkit.wait import until
from macbind.core.allocation import State
from macbind.core.errors import DhcpdUnavailable, PoolExhausted

SUBNET = '[subnet."10.0.0.0/8"]\nrouters = ["10.0.0.1"]\n'
POOLS = SUBNET + '[pool.farm]\nsubnet = "10.0.0.0/8"\nranges = ["10.1.1.3-10.1.1.4"]\n'
WIDER = POOLS.replace("10.1.1.4", "10.1.1.200")
SPARE = '[dhcpd.spare]\nport = 7912\nkey_file = "/nowhere/k"\nconfig_file = "/nowhere/c"\n'
MakeFarm = Callable[..., Farm]


@contextmanager
def frozen(farm: Farm) -> Iterator[None]:
    """dhcpd stands still inside of the block."""
    farm.dhcpd.freeze()
    try:
        yield
    finally:
        farm.dhcpd.thaw()


def wait_backlog(farm: Farm, count: int) -> None:
    """Waits until dhcpd has so many addresses to confirm."""
    with farm.client() as client:
        until(lambda: client.status().dhcpds[0].backlog == count, 60, f"a backlog of {count}")


# -- a configuration that is taken -----------------------------------------------------------------------------


def test_a_new_range_is_in_use_at_once_and_nobody_is_interrupted(make_farm: MakeFarm) -> None:
    """A full pool hands out its new range; a request under way finishes, and dhcpd's connection stays."""
    farm = make_farm(pools=POOLS)
    with farm.client() as client, ThreadPoolExecutor(1) as threads:
        first = client.allocate("farm", "first")
        with frozen(farm):
            waiting = threads.submit(client.allocate, "farm", "waiting")
            wait_backlog(farm, 1)
            with pytest.raises(PoolExhausted):
                client.allocate("farm", "too-many")
            farm.reload(pools=WIDER)
            farm.wait_loaded(1)
        assert waiting.result(60).state is State.BOUND
        more = client.allocate("farm", "more")
        assert (more.address, more.state) == (IPv4Address("10.1.1.5"), State.BOUND)
        for number, one in enumerate((first, more)):
            lease = DhcpClient(farm.lab.port(f"p{number}"), str(one.mac)).dora()
            assert lease is not None
            assert lease.address == one.address
        farm.wait_serving()  # a dhcpd that stands still for long is connected to anew; from here on none does
        since = client.status().dhcpds[0].since
        farm.reload(pools=WIDER + '[pool.b]\nsubnet = "10.0.0.0/8"\nranges = ["10.1.2.1"]\n')
        farm.wait_loaded(2)
        assert client.status().dhcpds[0].since == since
        assert client.allocate("b", "of-b").address == IPv4Address("10.1.2.1")
        assert farm.findings() == {
            "pool_exhausted": "The pool 'b' has no unoccupied address left.",
        }


def test_changed_options_renew_bindings_and_who_waits_gets_the_new_one(make_farm: MakeFarm) -> None:
    """Machines are told the new options, and a request whose binding was renewed on its way is answered."""
    farm = make_farm(pools=WIDER)
    with farm.client() as client, ThreadPoolExecutor(1) as threads:
        made = client.allocate("farm", "made")
        with frozen(farm):
            waiting = threads.submit(client.allocate, "farm", "waiting")
            wait_backlog(farm, 1)
            farm.reload(pools=WIDER + 'domain_name = "new.example"\n')
            farm.wait_loaded(1)
        assert waiting.result(60).state is State.BOUND
        wait_backlog(farm, 0)
        assert client.get("made").generation > made.generation
        for number, one in enumerate((made, waiting.result())):
            lease = DhcpClient(farm.lab.port(f"p{number}"), str(one.mac)).dora()
            assert lease is not None
            assert lease.domain == "new.example"


def test_a_dhcpd_comes_and_goes(make_farm: MakeFarm) -> None:
    """A new dhcpd must confirm from then on; when it is taken out again, those who wait for it are answered."""
    farm = make_farm(pools=WIDER)
    with farm.client() as client, ThreadPoolExecutor(1) as threads:
        client.allocate("farm", "before")
        farm.reload(pools=WIDER + SPARE)
        farm.wait_loaded(1)
        assert [one.name for one in client.status().dhcpds] == ["main", "spare"]
        assert client.get("before").state is State.PENDING
        with (
            farm.client(timeout_s=5) as hasty,
            pytest.raises(DhcpdUnavailable, match="dhcpd spare has not"),
        ):
            hasty.allocate("farm", "hasty")
        with farm.client(timeout_s=60) as patient:
            waiting = threads.submit(patient.allocate, "farm", "waiting")
            until(lambda: client.status().dhcpds[1].backlog == 3, 60, "the request to wait")
            farm.reload(pools=WIDER)
            assert waiting.result(60).state is State.BOUND
        farm.wait_loaded(2)
        assert [one.name for one in client.status().dhcpds] == ["main"]
        until(lambda: {one.state for one in client.list()} == {State.BOUND}, 60, "all to be bound")


def test_another_port_of_a_dhcpd_is_used(make_farm: MakeFarm) -> None:
    """A dhcpd whose table has changed is connected to anew, and compared; a wrong port can be mended."""
    farm = make_farm(pools=WIDER)
    with farm.client() as client:
        farm.port = 7999
        farm.reload()
        farm.wait_loaded(1)
        until(lambda: client.status().dhcpds[0].state == "unavailable", 60, "dhcpd to be missed")
        farm.port = 7911
        farm.reload()
        farm.wait_loaded(2)
        farm.wait_serving()
        assert client.allocate("farm", "again").state is State.BOUND


def test_hypervisors_come_and_go(make_farm: MakeFarm) -> None:
    """A hypervisor that is added is watched, one that is taken out is not."""
    farm = make_farm(pools=WIDER)
    with farm.client() as client:
        assert client.status().hypervisors == ()
        farm.reload(pools=WIDER + '[hypervisor.it]\nuri = "test:///default"\n')
        until(lambda: [one.connected for one in client.status().hypervisors] == [True], 60, "the hypervisor")
        farm.reload(pools=WIDER)
        until(lambda: client.status().hypervisors == (), 60, "the hypervisor to be gone")


def test_permissions_and_log_level_change(make_farm: MakeFarm) -> None:
    """Who may change things is decided by the new file from the next request on, and so is what is logged."""
    farm = make_farm(pools=WIDER, service='socket_mode = "0666"')
    refused = farm.run("allocate", "farm", "x", user="nobody")
    assert refused.returncode == 6, refused.stderr
    farm.reload(service='socket_mode = "0666"\nmay_change = ["nobody"]\nlog_level = "error"')
    farm.wait_loaded(1)
    before = len(farm.log())
    done = farm.run("allocate", "farm", "x", user="nobody")
    assert done.returncode == 0, done.stderr
    assert farm.stop() == 0
    assert '"stopped"' not in farm.log()[before:]


def test_reloads_under_load_interrupt_nobody(make_farm: MakeFarm) -> None:
    """While requests run without a pause, ranges, options and pools change again and again: no request fails."""
    farm = make_farm(pools=WIDER)
    variants = [
        WIDER + 'domain_name = "a.example"\n',
        WIDER.replace("10.1.1.200", "10.1.1.240")
        + '[pool.b]\nsubnet = "10.0.0.0/8"\nranges = ["10.1.2.1"]\n',
        WIDER,
    ]
    running = True

    def work(worker: int) -> int:
        done = 0
        with farm.client(timeout_s=60) as client:
            while running:
                name = f"w{worker}-{done}"
                assert client.allocate("farm", name).state is State.BOUND
                client.pools()
                assert [one.name for one in client.list() if one.name == name] == [name]
                assert not client.release(name).already_gone
                done += 1
        return done

    with ThreadPoolExecutor(4) as threads:
        jobs = [threads.submit(work, worker) for worker in range(4)]
        try:
            for load in range(9):
                farm.reload(pools=variants[load % 3])
                farm.wait_loaded(load + 1)
        finally:
            running = False
        assert all(job.result(60) > 0 for job in jobs)
    assert farm.findings() == {}


# -- a configuration that is refused -----------------------------------------------------------------------------


def test_a_typo_leaves_the_old_configuration_in_use(make_farm: MakeFarm) -> None:
    """The old one serves on; a finding tells file, line and key until a good configuration is loaded."""
    farm = make_farm(pools=WIDER)
    with farm.client() as client:
        farm.reload(pools=WIDER.replace("ranges", "rnages"))
        until(farm.findings, 60, "the finding")
        line = farm.config.read_text().splitlines().index('rnages = ["10.1.1.3-10.1.1.200"]') + 1
        assert farm.findings() == {
            "config_refused": "The configuration was not loaded, and the old one stays in use: "
            f"{farm.config} line {line}: [pool.farm] has no key 'rnages'."
        }
        assert farm.run("status").returncode == 1
        assert client.allocate("farm", "meanwhile").state is State.BOUND
        farm.reload(pools=WIDER)
        farm.wait_loaded(1)
        assert farm.findings() == {}
        assert farm.run("status").returncode == 0


def test_what_the_registry_refuses_changes_nothing(make_farm: MakeFarm) -> None:
    """A pool with allocations that left the file is refused, with all else in that file."""
    farm = make_farm(pools=WIDER)
    with farm.client() as client:
        client.allocate("farm", "kept")
        farm.reload(pools=WIDER.replace("pool.farm", "pool.other").replace("10.1.1", "10.1.7") + SPARE)
        until(farm.findings, 60, "the finding")
        assert "The pool 'farm' is no longer configured" in farm.findings()["config_refused"]
        assert [one.name for one in client.status().dhcpds] == ["main"]
        assert [one.pool for one in client.pools()] == ["farm"]
        assert client.allocate("farm", "more").state is State.BOUND


@pytest.mark.parametrize("key", ["socket", "url"])
def test_what_cannot_change_while_the_service_runs_is_told(make_farm: MakeFarm, key: str) -> None:
    """Another socket or registry counts at the next start; the sentence says so, and where it stands."""
    farm = make_farm(pools=WIDER)
    text = farm.config.read_text()
    farm.config.write_text(text.replace(".sock", ".other").replace(".db", ".db2") if key == "url"
                           else text.replace(".sock", ".other"))  # fmt: skip
    table = {"socket": "service", "url": "registry"}[key]
    farm.process.send_signal(1)  # type: ignore[union-attr]
    until(farm.findings, 60, "the finding")
    told = farm.findings()["config_refused"]
    assert f"[{table}] {key} cannot be changed while the service runs." in told
    assert f"{farm.config} line " in told


def test_a_registry_that_is_away_is_waited_for(make_farm: MakeFarm) -> None:
    """While another process keeps the registry's lock the old configuration stays; then the new one is taken."""
    farm = make_farm(pools=WIDER)
    with closing(sqlite3.connect(farm.directory / "registry.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        farm.reload(pools=WIDER.replace("10.1.1.200", "10.1.1.201"))
        until(lambda: "config_refused" in farm.findings(), 60, "the finding")
        assert "cannot be used: database is locked" in farm.findings()["config_refused"]
        other.execute("ROLLBACK")
    farm.wait_loaded(1)
    with farm.client() as client:
        assert [one.size for one in client.pools()] == [199]
    assert farm.findings() == {}
