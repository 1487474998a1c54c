"""Numbers of a real farm: promtool has nothing to say of them, Prometheus scrapes them, and they are right."""

import json
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from docs.tables import ROOT
from lab.conftest import open_directory
from labkit.farm import Farm
from labkit.guest import Guest, boot
from labkit.net import Lab
from labkit.prometheus import PORT, Prometheus, families, promtool, series_names
from labkit.virt import Libvirtd
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.errors import NotFound, PoolExhausted
from macbind.core.release_cause import ReleaseCause
from macbind.http.metrics import CONTENT_TYPE

pytestmark = pytest.mark.timeout(600)

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]

[pool.rests]
subnet = "10.0.0.0/8"
ranges = ["10.1.2.0/24"]
cooldown_s = 600

[pool.tiny]
subnet = "10.0.0.0/8"
ranges = ["10.1.3.1"]

[metrics]
listen = "127.0.0.1:9547"
"""
SCRAPE = ROOT / "dhcpd" / "prometheus" / "scrape.yml"
DASHBOARD = ROOT / "dhcpd" / "grafana" / "macbind.json"
SOON_S = 60.0
MakeFarm = Callable[..., Farm]


@dataclass
class Site:
    """A farm with a hypervisor and a Prometheus that scrapes it by the example, each second."""

    lab: Lab
    libvirtd: Libvirtd
    farm: Farm
    client: Client
    prometheus: Prometheus

    def page(self, path: str = "/metrics") -> str:
        """What the TCP listener answers."""
        return self.lab.run(["curl", "-sS", f"http://127.0.0.1:9547{path}"]).stdout

    def value(self, series: str, *, absent: float | None = None) -> float:
        """The value of a series, as written on the page; `absent` where there may be none yet."""
        found = [
            line.rpartition(" ")[2] for line in self.page().splitlines() if line.startswith(f"{series} ")
        ]
        if absent is not None and not found:
            return absent
        assert len(found) == 1, f"{series}: {found}"
        return float(found[0])

    def until_scraped(self, expression: str, value: float) -> None:
        """Waits until an expression has one series with this value in Prometheus."""

        def has_it() -> bool:
            return list(self.prometheus.query(expression).values()) == [value]

        until(has_it, SOON_S, f"{expression} to be {value}", pause_s=0.2)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One lab with dhcpd, libvirtd, macbind and Prometheus for the tests of this file."""
    with Lab() as lab, open_directory() as directory:
        for part in ("virt", "farm", "prometheus"):
            (directory / part).mkdir()
        config = directory / "prometheus" / "prometheus.yml"
        config.write_text(
            SCRAPE.read_text()
            .replace("scrape_interval: 15s", "scrape_interval: 1s")
            .replace("macbind.rules.yml", str(SCRAPE.with_name("macbind.rules.yml")))
        )
        with Libvirtd(lab, directory / "virt") as libvirtd:
            watched = f'{POOLS}\n[hypervisor.local]\nuri = "{libvirtd.uri}"\n'
            with (
                Farm(lab, directory / "farm", pools=watched) as farm,
                farm.client(60) as client,
                Prometheus(lab, directory / "prometheus", config) as prometheus,
            ):
                until(lambda: client.status().hypervisors[0].connected, SOON_S, "the hypervisor")
                yield Site(lab, libvirtd, farm, client, prometheus)
                assert farm.defects() == []


# -- the page ----------------------------------------------------------------------------------------


def test_promtool_has_nothing_to_say_of_the_page(site: Site) -> None:
    """Names, units, types and help texts of everything that a working farm shows follow Prometheus' rules."""
    site.client.allocate("farm", "checked")
    site.client.release("checked")
    with suppress(NotFound):
        site.client.get("nobody")
    assert promtool("check", "metrics", text=site.page()) == ""
    assert promtool("check", "metrics", text=site.farm.macbind("metrics")) == ""


def test_socket_listener_and_command_show_the_same(site: Site) -> None:
    """The metrics of the Unix socket and of `macbind metrics` are those of the TCP listener."""
    by_socket = site.lab.run(
        ["curl", "-sSi", "--unix-socket", str(site.farm.socket), "http://macbind/metrics"]
    ).stdout
    assert f"content-type: {CONTENT_TYPE}" in by_socket
    ours = families(site.page())
    assert families(by_socket) == ours == families(site.farm.macbind("metrics"))
    assert {
        "macbind_release_seconds": "histogram",
        "macbind_requests_total": "counter",
    }.items() <= ours.items()


def test_there_is_nothing_but_the_metrics(site: Site) -> None:
    """Over TCP nobody can allocate, read allocations, or see the API's document."""
    for path in ("/", "/v1/status", "/v1/allocations", "/openapi.json", "/metrics/x"):
        assert site.page(path) == "There is only GET /metrics here.\n"
    posted = [
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--json",
        "{}",
        "http://127.0.0.1:9547/metrics",
    ]
    assert site.lab.run(posted).stdout == "404"


def test_every_address_is_counted_once(site: Site) -> None:
    """The states of each pool add up to its size, with reservations, resting ones, and others outside."""
    client = site.client
    client.allocate_group("farm", "states", 5)
    client.reserve("inside", "10.1.1.200")
    client.reserve("outside", "10.7.7.7")
    client.allocate("rests", "resting")
    client.release("resting")
    client.reserve("outside-rests", "10.7.7.8")
    client.unreserve("outside-rests")

    def state(pool: str, name: str) -> float:
        return site.value(f'macbind_pool_addresses{{pool="{pool}",state="{name}"}}')

    for pool in ("farm", "rests", "tiny"):
        states = ("free", "allocated", "reserved", "releasing", "used_by_others")
        assert sum(state(pool, one) for one in states) == site.value(
            f'macbind_pool_size_addresses{{pool="{pool}"}}'
        )
    assert (state("farm", "allocated"), state("farm", "reserved")) == (5, 1)
    assert (state("rests", "releasing"), state("rests", "free")) == (1, 255)
    outside = sum(
        site.value(f'macbind_pool_outside_addresses{{pool="{one}"}}') for one in ("farm", "rests", "tiny")
    )
    assert outside >= 1
    client.unreserve("inside")
    client.unreserve("outside")
    client.release_group("states")


def test_no_caller_can_make_a_series(site: Site) -> None:
    """Whatever is asked, the labels have only values that were known before: operations, codes and names."""
    client = site.client

    def ask(method: str, path: str) -> None:
        command = ["curl", "-sS", "-X", method, "--unix-socket", str(site.farm.socket), f"http://x{path}"]
        site.lab.run(command)

    def labels() -> set[tuple[str, str]]:
        return set(re.findall(r'([a-z]+)="([^"]*)"', site.page()))

    with suppress(NotFound):
        client.get("first")
    ask("GET", "/v1/nowhere")
    ask("PATCH", "/v1/allocations")
    # What is asked for is answered first, and counted then.
    asked = {("operation", "none"), ("code", "not_found"), ("code", "invalid_request")}
    until(lambda: asked <= labels(), SOON_S, "the last question to be counted")
    before = labels()
    for number in range(20):
        with suppress(NotFound):
            client.get(f"nobody-{number}")
        ask("GET", f"/v1/nowhere-{number}")
        ask("GET", f"/v1/allocations/x-{number}?y={number}")
        ask(f"M{number}", "/v1/allocations")
        client.allocate("farm", f"name-{number}", group=f"group-{number}")
        client.release(f"name-{number}", reason=f"reason-{number}")
    new = labels() - before
    assert not new, new


def test_errors_are_counted_by_their_code(site: Site) -> None:
    """What is refused is counted for its operation, with the code that the caller got."""
    series = 'macbind_requests_total{code="pool_exhausted",operation="POST /v1/allocations"}'
    client = site.client
    client.allocate("tiny", "only")
    for number in (1, 2):
        with pytest.raises(PoolExhausted):
            client.allocate("tiny", "one-too-many")
        # What is asked for is answered first, and counted then.
        until(lambda: site.value(series, absent=0) == number, SOON_S, "the refusal to be counted")  # noqa: B023
    assert site.value('macbind_findings{code="pool_exhausted"}') == 1
    client.release("only")


# -- Prometheus --------------------------------------------------------------------------------------


def test_prometheus_has_what_happened(site: Site) -> None:
    """Debian's Prometheus scrapes by the example: allocations, the release of a destroyed machine, its time."""
    client, guest = site.client, Guest.build()
    site.until_scraped('up{job="macbind"}', 1)
    site.until_scraped('macbind_hypervisor_connected{hypervisor="local"}', 1)
    made = 'macbind_requests_total{code="ok",operation="POST /v1/allocations"}'
    ended = 'macbind_release_seconds_count{reason="ended"}'
    # What Prometheus has may be a second old; a series that nobody has counted in yet is not there.
    before, ended_before = (site.value(one, absent=0) for one in (made, ended))
    allocations = [client.allocate("farm", f"vm-{number}") for number in range(3)]
    site.until_scraped('macbind_pool_addresses{pool="farm", state="allocated"}', 3)
    site.until_scraped(made, before + 3)
    boot(site.libvirtd, guest.template(name="vm-0", mac=str(allocations[0].mac)))
    until(lambda: client.get("vm-0").domain_uuid, SOON_S, "the domain to be seen")
    site.libvirtd.virsh("destroy", "vm-0")
    client.wait_free("vm-0", generation=allocations[0].generation, timeout_s=SOON_S)
    site.until_scraped(ended, ended_before + 1)
    site.until_scraped('macbind_pool_addresses{pool="farm", state="allocated"}', 2)
    (took_s,) = site.prometheus.query('macbind_release_seconds_sum{reason="ended"}').values()
    assert 0 < took_s < SOON_S
    rates = client.status().rates
    assert rates is not None
    assert rates.destroy_to_free_p50_s == rates.destroy_to_free_p99_s == took_s
    assert rates.waiting == 0
    for one in allocations[1:]:
        client.release(one.name)
    assert site.prometheus.query("sum(macbind_dhcpd_state)") == {(): 1}
    assert list(site.prometheus.query("macbind_dhcpd_leader").values()) == [1]


def test_a_release_that_waits_for_dhcpd_is_timed_until_dhcpd_confirms(site: Site) -> None:
    """While dhcpd stands still nothing is counted; afterwards the whole wait is in the sum."""
    client = site.client
    client.allocate("farm", "waits")
    rates = client.status().rates
    assert rates is not None
    assert rates.allocations_per_minute >= 1
    count, total = (f'macbind_release_seconds_{one}{{reason="asked"}}' for one in ("count", "sum"))
    backlog = 'macbind_dhcpd_backlog_addresses{dhcpd="main"}'
    before, before_s = site.value(count), site.value(total)
    site.farm.dhcpd.freeze()
    try:
        released = site.lab.popen(
            [*site.farm.command, "release", "waits", "--socket", str(site.farm.socket)],
            output=site.farm.directory / "release.log",
        )
        until(lambda: site.value(backlog) == 1, SOON_S, "the release to wait")
        assert (
            site.value("macbind_requests_waiting") == 1
        )  # who asks waits from before the release is recorded
        waits = client.status().rates
        assert waits is not None
        assert waits.waiting == 1
        assert site.value(count) == before
    finally:
        site.farm.dhcpd.thaw()
    assert released.wait(60) == 0
    until(lambda: site.value(count) == before + 1, SOON_S, "the release to be counted")
    assert site.value(total) > before_s
    assert site.value(backlog) == 0


def test_repairs_are_counted(site: Site) -> None:
    """A binding that somebody deletes in dhcpd is made anew by a comparison, and counted as mended."""
    series = 'macbind_bindings_repaired_total{dhcpd="main",repair="mended"}'
    before = site.value(series)
    site.client.allocate_group("farm", "lost", 3)
    site.farm.dhcpd.stop()
    site.farm.leases.write_text("")
    site.farm.dhcpd.start()
    until(lambda: site.value(series) == before + 3, SOON_S, "the comparison")
    site.client.release_group("lost")


# -- what is shipped ---------------------------------------------------------------------------------


def expressions() -> list[str]:
    """Every query of the dashboard, with its variables filled in as Grafana would."""
    text = DASHBOARD.read_text()
    found = [target["expr"] for panel in json.loads(text)["panels"] for target in panel.get("targets", ())]
    filled = {"$__rate_interval": "1m", "$instance": ".*", "$pool": ".*"}
    return [re.sub(r"\$\w+", lambda one: filled[one[0]], text) for text in found]


def named(text: str) -> set[str]:
    """Every metric of ours that a text names."""
    return set(re.findall(r"\bmacbind_[a-z_]+", text))


def test_every_query_of_the_dashboard_works(site: Site) -> None:
    """Each is evaluated by Prometheus, and names only metrics that the service really has."""
    site.until_scraped('up{job="macbind"}', 1)
    queries = expressions()
    assert len(queries) > 20
    for query in queries:
        site.prometheus.query(query)
    have = series_names(site.page())
    assert set().union(*map(named, queries)) <= have
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    assert set().union(*(named(json.dumps(one)) for one in variables)) <= have


def test_panels_of_the_dashboard_show_something(site: Site) -> None:
    """On a farm that has just worked, each panel has a series, but those of what did not happen there."""
    client = site.client
    client.allocate("farm", "shown")
    client.release("shown")
    with suppress(NotFound):
        client.get("shown")
    site.until_scraped('sum(macbind_requests_total{operation="POST /v1/release"}) > bool 0', 1)
    for query in expressions():
        if not ("last_answer" in query or "> 0)" in query or "code!=" in query):
            until(lambda: site.prometheus.query(query), SOON_S, f"a series of {query}", pause_s=0.2)  # noqa: B023


def test_alert_rules_name_metrics_that_exist(site: Site) -> None:
    """Each metric of the rules is one of the service's, and Prometheus has loaded the rules without alarm."""
    rules = SCRAPE.with_name("macbind.rules.yml").read_text()
    assert named(rules) <= series_names(site.page())
    answer = json.loads(site.lab.run(["curl", "-sS", f"http://127.0.0.1:{PORT}/api/v1/rules"]).stdout)
    loaded = [one for group in answer["data"]["groups"] for one in group["rules"]]
    assert len(loaded) == rules.count("- alert: ")
    assert {one["health"] for one in loaded} <= {"ok", "unknown"}


# -- the configuration -------------------------------------------------------------------------------


def test_a_port_that_is_taken_is_said_in_a_sentence(lab: Lab) -> None:
    """Neither `serve` nor `check` goes on with a port of another program, and both say how to find and mend it."""
    with open_directory() as place:
        farm = Farm(lab, place, pools=POOLS)
        taker = lab.popen(
            ["python3", "-m", "http.server", "--bind", "127.0.0.1", "9547"], output=place / "taker.log"
        )
        until(
            lambda: lab.run(["curl", "-s", "http://127.0.0.1:9547"], check=False).returncode == 0,
            SOON_S,
            "the taker",
        )
        line = farm.config.read_text().split("\n").index('listen = "127.0.0.1:9547"') + 1
        sentence = (
            f"macbind: {farm.config} line {line}: [metrics] listen: Another program listens at 127.0.0.1:9547. "
            "`ss -ltnp 'sport = :9547'` names it: end it, or choose another port."
        )
        for command in ("serve", "check"):
            done = farm.run(command)
            said = " ".join(
                done.stderr[done.stderr.index("macbind: ") :].split()
            )  # findings are logged before it
            assert (done.returncode, said) == (3, sentence)
        assert not farm.socket.exists()
        taker.end()
        assert farm.run("check").returncode == 0


def test_check_knows_the_service_itself_and_addresses_that_are_not_here(make_farm: MakeFarm) -> None:
    """A running service's own port is no fault; an address that no interface has is said, and may come later."""
    farm = make_farm(pools=POOLS)
    assert farm.macbind("check") == f"{farm.config} is right, and changes nothing.\n"
    farm.configure(pools=POOLS.replace("127.0.0.1:9547", "192.0.2.7:9547"))
    assert (
        "! [metrics] listen: No interface of this machine has 192.0.2.7 now; nobody finds the metrics."
        in farm.macbind("check")
    )
    assert farm.stop() == 0
    farm.start()
    farm.wait_serving()
    farm.lab.server.ip("address add 192.0.2.7/32 dev lo")
    assert "macbind_build_info" in farm.lab.run(["curl", "-sS", "http://192.0.2.7:9547/metrics"]).stdout


def test_ipv6_and_all_addresses(make_farm: MakeFarm) -> None:
    """`[::]` is every address of the machine, of both kinds."""
    farm = make_farm(pools=POOLS.replace("127.0.0.1:9547", "[::]:9547"))
    farm.lab.run(["sysctl", "-q", "-w", "net.ipv6.conf.lo.disable_ipv6=0"])
    for host in ("[::1]", "127.0.0.1", "10.0.0.1"):
        assert "macbind_build_info" in farm.lab.run(["curl", "-sS", f"http://{host}:9547/metrics"]).stdout


def test_the_listener_cannot_be_changed_while_the_service_runs(make_farm: MakeFarm) -> None:
    """A reload with another address is refused with its line, and the old one goes on."""
    farm = make_farm(pools=POOLS)
    farm.reload(pools=POOLS.replace(":9547", ":9548"))
    until(lambda: "config_refused" in farm.findings(), SOON_S, "the refusal")
    assert "[metrics] listen cannot be changed while the service runs." in farm.findings()["config_refused"]
    assert (
        'code="config_refused"} 1.0' in farm.lab.run(["curl", "-sS", "http://127.0.0.1:9547/metrics"]).stdout
    )


def test_nobody_listens_by_default(make_farm: MakeFarm) -> None:
    """Without [metrics] the service has no TCP port open."""
    farm = make_farm()
    assert f"pid={farm.pid}," not in farm.lab.run(["ss", "-Hltnp"]).stdout


# -- node_exporter -----------------------------------------------------------------------------------


def test_a_file_for_node_exporter_is_written_in_one_step(farm_alone: Farm, tmp_path: Path) -> None:
    """Its readers see an old or a new file, readable for everybody, with nothing that node_exporter has itself."""
    path = tmp_path / "macbind.prom"
    old = os.umask(0o077)
    try:
        farm_alone.macbind("metrics", "--textfile", str(path))
        before = path.stat().st_ino
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        farm_alone.macbind("metrics", "--textfile", str(path))
    finally:
        os.umask(old)
    assert path.stat().st_ino != before
    assert list(tmp_path.iterdir()) == [path]
    assert all(name.startswith("macbind_") for name in families(path.read_text()))
    assert promtool("check", "metrics", text=path.read_text()) == ""


def test_a_file_that_cannot_be_written_is_said(farm_alone: Farm, tmp_path: Path) -> None:
    """Another name, no directory, and a service that is away end with a sentence; the old file stays."""
    missing = tmp_path / "nowhere" / "macbind.prom"
    done = farm_alone.run("metrics", "--textfile", str(missing))
    assert done.returncode != 0
    assert f"--textfile {missing}: The file cannot be written: No such file or directory." in done.stderr
    done = farm_alone.run("metrics", "--textfile", str(tmp_path / "macbind.txt"))
    assert done.returncode != 0
    assert f"Write to {tmp_path / 'macbind.txt'}.prom." in done.stderr
    path = tmp_path / "macbind.prom"
    path.write_text("old\n")
    done = farm_alone.run("metrics", "--textfile", str(path), "--socket", str(tmp_path / "none.sock"))
    assert done.returncode != 0
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def farm_alone(make_farm: MakeFarm) -> Farm:
    """A farm with the defaults."""
    return make_farm()


def test_causes_are_those_of_the_page(site: Site) -> None:
    """Each reason of a release is there from the start, at 0 if none came."""
    shown = set(re.findall(r'macbind_release_seconds_count{reason="(\w+)"}', site.page()))
    assert shown == {one.value for one in ReleaseCause}
