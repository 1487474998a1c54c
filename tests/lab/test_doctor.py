"""`macbind doctor`: each check finds what was broken for its own reason, and what it prints mends it."""

import json
import os
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from contract.test_dhcpd import small_disk
from lab.conftest import open_directory
from lab.test_health import dnsmasq
from labkit.dhcp import DhcpClient
from labkit.farm import MACBIND, Farm
from labkit.net import Lab, Port
from labkit.omshell import OmapiKey as Key
from labkit.postgres import Postgres
from labkit.services import Services
from labkit.wait import until
from macbind.dhcp.isc.key import OmapiKey, read_key

ROOT = Path(__file__).parents[2]
WELL, WARNING, ERROR = 0, 1, 2
SOON_S = 60.0
SUBNET = '[subnet."10.0.0.0/8"]\nrouters = ["10.0.0.1"]\ndomain_name_servers = ["10.0.0.1"]\n'
POOL = '[pool.farm]\nsubnet = "10.0.0.0/8"\nranges = ["10.1.1.3-10.1.1.250"]\n'
PRINTER = "00:11:22:33:44:55"


@dataclass
class Site:
    """A farm whose OMAPI port is closed, and the commands of an admin.

    Attributes:
        farm: The farm.
        port, other: Two machines.
        place: The directory of its files.
        env: What shell lines see.
        prefix: What `macbind doctor` is run by.
    """

    farm: Farm
    port: Port
    other: Port
    place: Path
    env: dict[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()

    def doctor(self, *words: str) -> dict[str, Any]:
        """The result of a run, by the names of the checks; the exit code as `exit`."""
        command = [*self.prefix, *MACBIND, "doctor", *words, "--json"]
        done = self.run(command)
        assert not done.stderr
        found = json.loads(done.stdout)
        assert found["exit"] == done.returncode
        return {"exit": done.returncode} | {one["check"]: one for one in found["checks"]}

    def shell(self, line: str) -> None:
        """Runs a shell line where the site is, as an admin does who copies it."""
        done = self.run(["sh", "-euc", line])
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"

    def run(self, command: list[str]) -> "subprocess.CompletedProcess[str]":
        """Runs a command where the site is."""
        return subprocess.run(
            self.farm.lab.server.argv(command),
            capture_output=True,
            text=True,
            env=self.env,
            cwd=self.place,
            timeout=120,
            check=False,
        )

    def close_port(self) -> None:
        """Loads the rules of the installation, in which root stands for the service's user."""
        rules = (ROOT / "dhcpd" / "omapi.nft").read_text().replace('{ "macbind" }', '{ "root" }')
        path = self.place / "omapi.nft"
        path.write_text(rules)
        self.farm.lab.server.run(["nft", "-f", str(path)])

    def start(self) -> None:
        """Starts the service, and waits until it serves."""
        self.farm.start()
        self.farm.wait_serving(SOON_S)

    def restart_dhcpd(self) -> None:
        """Restarts dhcpd, and waits until the service serves, if it runs."""
        key = read_key(self.place / "macbind.key", "macbind")
        self.farm.dhcpd.key = Key(key.name, b64encode(key.secret).decode(), key.algorithm)
        self.farm.dhcpd.restart()
        if self.farm.process is not None:
            self.farm.wait_serving(SOON_S)

    def host(self, script: str) -> None:
        """Does something with a host of PRINTER's over OMAPI, as root may here."""
        self.farm.dhcpd.omshell(
            f"new host\nset hardware-address = {PRINTER}\nset hardware-type = 1\n{script}\n"
        )


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """One site for the tests of this module, each of which leaves it well."""
    with open_directory() as place, Lab() as lab:
        port, other = lab.port("machine"), lab.port("other")
        farm = Farm(
            lab, place, pools=SUBNET + POOL, dhcpd='probe = "br0"\nprobe_interval_s = 1\nresync_s = 1\n'
        )
        site = Site(farm, port, other, place)
        clock = place / "clock"
        actions: dict[str, Callable[[], object]] = {
            "systemctl restart isc-dhcp-server": site.restart_dhcpd,
            "systemctl start macbind": site.start,
            "systemctl enable --now macbind-firewall": site.close_port,
            "timedatectl set-ntp true": lambda: clock.write_text("+0"),
        }
        with Services(place / "bin", actions) as services:
            macbind = services.directory / "macbind"
            macbind.write_text(f'#!/bin/sh\nexec {MACBIND[0]} -c "{MACBIND[2]}" "$@"\n')
            macbind.chmod(0o755)
            site.env = {
                **os.environ,
                "MACBIND_SOCKET": str(farm.socket),
                "MACBIND_CONFIG": str(farm.config),
                "PATH": f"{services.directory}:{os.environ['PATH']}",
            }
            with farm:
                site.close_port()
                yield site
                assert farm.defects() == []


Break = Callable[[Site], Any]


@dataclass(frozen=True)
class Case:
    """Something that is broken, and what finds it.

    Attributes:
        check: The check.
        code: The code of its finding.
        subject: What the finding is about.
        breaks: Breaks it; where no command mends it, a generator that mends it when it is resumed.
        exit: What `macbind doctor` exits with.
        says: What its sentence says.
        is_mended_by_commands: Whether what is printed mends it.
    """

    check: str
    code: str
    subject: str
    breaks: Callable[[Site], Any]
    exit: int = ERROR
    says: str = ""
    is_mended_by_commands: bool = True


def configuration(site: Site) -> Iterator[None]:
    """A key that there is not."""
    before = site.farm.config.read_text()
    site.farm.config.write_text(f"{before}colour = 1\n")
    yield
    site.farm.config.write_text(before)


def contradiction(site: Site) -> Iterator[None]:
    """The pool of an allocation is no longer configured."""
    before = site.farm.config.read_text()
    with site.farm.client() as client:
        client.allocate("farm", "kept")
        site.farm.config.write_text(before.replace("[pool.farm]", "[pool.other]").replace("10.1.1", "10.1.7"))
        yield
        site.farm.config.write_text(before)
        client.release("kept")


def stop_service(site: Site) -> None:
    """The service ends."""
    site.farm.stop()


def open_key(site: Site) -> None:
    """Everybody may read the key."""
    (site.place / "macbind.key").chmod(0o644)


def remove_key(site: Site) -> None:
    """The key is gone."""
    (site.place / "macbind.key").unlink()


def open_registry(site: Site) -> None:
    """Everybody may read the registry."""
    (site.place / "registry.db").chmod(0o644)


def edit_rendered(site: Site) -> None:
    """Somebody has edited what is rendered."""
    path = site.place / "macbind.conf"
    path.write_text(f"{path.read_text()}# by hand\n")


def stop_dhcpd(site: Site) -> None:
    """dhcpd ends."""
    site.farm.dhcpd.stop()


def other_conf(site: Site) -> Iterator[None]:
    """dhcpd is started with a configuration of the site's own, which does not include ours."""
    own, ours = site.place / "own.conf", site.farm.dhcpd.config
    own.write_text("subnet 10.0.0.0 netmask 255.0.0.0 { }\n")
    site.farm.dhcpd.stop()
    site.farm.dhcpd.config = own
    starts = site.farm.dhcpd.log().count("Server starting service.")
    site.farm.dhcpd.start()
    until(lambda: site.farm.dhcpd.log().count("Server starting service.") > starts, SOON_S, "dhcpd to serve")
    yield
    site.farm.dhcpd.config = ours
    site.restart_dhcpd()


def touch_conf(site: Site) -> None:
    """A file that dhcpd has read is written again."""
    (site.place / "macbind.key").touch()


def second_dhcpd(site: Site) -> None:
    """Somebody tries something out, on an interface of its own."""
    server, conf = site.farm.lab.server, site.place / "second.conf"
    conf.write_text("subnet 192.0.2.0 netmask 255.255.255.0 { }\n")
    (site.place / "second.leases").touch()
    server.ip("link add second type bridge", "addr replace 192.0.2.1/24 dev second", "link set second up")
    leases = ["-lf", str(site.place / "second.leases"), "--no-pid"]
    command = ["dhcpd", "-4", "-d", "-f", "-p", "6767", "-cf", str(conf), *leases, "second"]
    site.farm.lab.popen(command, output=site.place / "second.log")
    until(lambda: "starting service" in (site.place / "second.log").read_text(), SOON_S, "the second dhcpd")


def freeze_dhcpd(site: Site) -> None:
    """dhcpd hangs."""
    site.farm.dhcpd.freeze()


def foreign_host(site: Site) -> Iterator[None]:
    """Somebody makes a host with an address of the pool over OMAPI."""
    site.host('set name = "printer"\nset ip-address = 0a:01:01:07\ncreate')
    yield
    site.host("open\nremove")
    until(lambda: "foreign_host" not in site.farm.findings(), SOON_S, "the host to be gone")


def site_range(site: Site) -> Iterator[None]:
    """The site's own configuration hands out a part of the pool."""
    own, ours = site.place / "range.conf", site.farm.dhcpd.config
    own.write_text(
        f'subnet 10.0.0.0 netmask 255.0.0.0 {{ range 10.1.1.240 10.1.1.250; }}\ninclude "{ours}";\n'
    )
    site.farm.dhcpd.config = own
    site.restart_dhcpd()
    yield
    site.farm.dhcpd.config = ours
    site.restart_dhcpd()
    until(lambda: "foreign_range" not in site.farm.findings(), SOON_S, "the range to be gone")


def other_key(site: Site) -> Iterator[None]:
    """The key on disk is another one than dhcpd has read; the service, which would use it, is down."""
    site.farm.stop()
    key = OmapiKey.generate("macbind", "hmac-sha256")
    (site.place / "macbind.key").write_text(key.stanza)
    yield
    site.start()


def open_port(site: Site) -> None:
    """Somebody empties the rule set."""
    site.farm.lab.server.run(["nft", "flush", "ruleset"])


def second_server(site: Site) -> Iterator[None]:
    """dnsmasq answers, too."""
    with dnsmasq(site.other, site.place / "dnsmasq.log", "--dhcp-authoritative"):
        until(lambda: "second_dhcp_server" in site.farm.findings(), SOON_S, "dnsmasq to answer")
        yield
    site.other.flush()


def remove_leases(site: Site) -> None:
    """The lease file is deleted under dhcpd."""
    site.farm.leases.unlink()


def close_leases(site: Site) -> Iterator[None]:
    """The service runs as a user that may not read the lease file."""
    registry = site.place / "registry.db"
    os.chown(registry, 65534, 65534)
    site.farm.leases.chmod(0o600)
    yield
    os.chown(registry, 0, 0)


def slow_bridge(site: Site) -> None:
    """The kernel's own default, without spanning tree."""
    site.farm.lab.server.ip("link set br0 type bridge forward_delay 1500")


def spanning_tree(site: Site) -> Iterator[None]:
    """With spanning tree."""
    site.farm.lab.server.ip("link set br0 type bridge stp_state 1 forward_delay 1500")
    yield
    # With spanning tree the kernel takes no delay under 2 s, so one after the other.
    site.farm.lab.server.ip(
        "link set br0 type bridge stp_state 0", "link set br0 type bridge forward_delay 0"
    )
    states = ["sh", "-c", "cat /sys/class/net/br0/brif/*/state"]
    until(
        lambda: set(site.farm.lab.server.run(states).stdout.split()) == {"3"}, SOON_S, "all ports to forward"
    )


def clones(site: Site) -> Iterator[None]:
    """Two machines with one identifier, as dhcpd writes it down in a range of the site's own."""
    records = "".join(
        f"lease 198.51.100.10 {{\n  starts 1 2026/11/30 00:00:00;\n  ends never;\n  binding state active;\n"
        f'  hardware ethernet 52:54:00:00:00:0{number};\n  uid "clone";\n}}\n'
        for number in (1, 2)
    )
    site.farm.dhcpd.stop()
    before = site.farm.leases.read_text()
    site.farm.leases.write_text(before + records)
    yield
    site.farm.leases.write_text(before)
    site.restart_dhcpd()


def foreign_mac(site: Site) -> Iterator[None]:
    """A machine gives itself a MAC and the address of the pool."""
    before = site.other.mac
    site.other.mac = "00:16:3e:01:01:09"
    site.other.add_address("10.1.1.9/8")
    assert site.other.ping("10.0.0.1")
    yield
    with site.farm.client() as client:
        client.unreserve("found-10-1-1-9")
    site.other.flush()
    site.other.mac = before


def taken_address(site: Site) -> Iterator[None]:
    """A machine gives itself an address that another name has."""
    with site.farm.client() as client:
        address = client.allocate("farm", "holder").address
        site.other.add_address(f"{address}/8")
        assert site.other.ping("10.0.0.1")
        yield
        site.other.flush()
        client.release("holder")


def lose_leases(site: Site) -> Iterator[None]:
    """dhcpd loses its lease file while no service runs."""
    with site.farm.client() as client:
        client.allocate("farm", "forgotten")
    site.farm.stop()
    site.farm.dhcpd.restart(keep_leases=False)
    yield
    site.farm.stop()  # while it runs, the service looks after it
    assert site.doctor("leases")["leases"]["state"] == "well"
    site.start()
    with site.farm.client() as client:
        client.release("forgotten")


def wrong_clock(site: Site) -> Iterator[None]:
    """The machine's battery was empty."""
    clock = site.place / "clock"
    clock.write_text("@2001-01-01 00:00:00")
    site.env |= {
        "LD_PRELOAD": next(map(str, Path("/usr/lib").rglob("faketime/libfaketimeMT.so.1"))),  # for threads
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    yield
    for name in [one for one in site.env if one.startswith(("LD_PRELOAD", "FAKETIME", "NO_FAKE"))]:
        del site.env[name]


def forgetful_disk(site: Site) -> Iterator[None]:
    """The registry is on a file system in memory."""
    before = site.farm.config.read_text()
    with small_disk(site.place / "memory", "4m") as disk:
        site.farm.config.write_text(before.replace("registry.db", "memory/registry.db"))
        (disk / "registry.db").touch(mode=0o600)
        yield
        site.farm.config.write_text(before)


def old_release(site: Site) -> Iterator[None]:
    """The distribution is the last one that has dhcpd."""
    release = site.place / "os-release"
    release.write_text('PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nID=debian\n')
    mounted = f'mount --no-mtab --bind {release} /etc/os-release; exec "$@"'
    site.prefix = ("unshare", "--mount", "sh", "-euc", mounted, "sh")
    yield
    site.prefix = ()


def by_hand(
    check: str, code: str, subject: str, breaks: Callable[[Site], Any], status: int = ERROR, says: str = ""
) -> Case:
    """A case that no command mends."""
    return Case(check, code, subject, breaks, status, says, is_mended_by_commands=False)


CASES = [
    by_hand("configuration", "config_refused", "macbind.toml", configuration, says="colour"),
    by_hand("registry", "config_refused", "macbind.toml", contradiction, says="farm"),
    Case("service", "service_unavailable", "macbind", stop_service),
    Case("keys", "key_refused", "macbind.key", open_key, says="open to every user"),
    Case("keys", "key_refused", "macbind.key", remove_key, says="does not exist"),
    Case("secrets", "file_open", "registry.db", open_registry, says="mode 0644"),
    Case("rendered", "render_needed", "macbind.conf", edit_rendered, WARNING),
    Case("dhcpd", "dhcpd_not_running", "main", stop_dhcpd),
    Case("dhcpd-file", "conf_file_other", "main", other_conf, says="own.conf"),
    Case("dhcpd-age", "conf_file_old", "main", touch_conf, WARNING, says="macbind.key has changed"),
    Case("dhcpd-alone", "two_dhcpds", "second.conf", second_dhcpd),
    Case("answers", "dhcpd_deaf", "main", freeze_dhcpd, says="does not answer DHCP on br0"),
    by_hand("hosts", "foreign_host", "10.1.1.7", foreign_host, WARNING, says="printer"),
    by_hand("ranges", "foreign_range", "10.1.1.240-10.1.1.250", site_range, WARNING),
    Case("omapi", "key_refused", "main", other_key, says="does not take the key"),
    Case("omapi-port", "firewall_open", "omapi", open_port, says="port 7911"),
    by_hand("second-server", "second_dhcp_server", "10.0.0.77", second_server),
    Case("lease-file", "lease_file_missing", "dhcpd.leases", remove_leases),
    Case("lease-file", "lease_file_unreadable", "dhcpd.leases", close_leases, WARNING, says="nobody"),
    Case("bridges", "bridge_slow", "br0", slow_bridge, WARNING, says="for 15 s"),
    Case("bridges", "bridge_slow", "br0", spanning_tree, WARNING, says="for 30 s"),
    by_hand("clones", "client_id_shared", '"clone"', clones, WARNING, says="2 machines"),
    Case("macs", "foreign_mac", "00:16:3e:01:01:09", foreign_mac, WARNING, says="answers as 10.1.1.9"),
    by_hand("neighbours", "neighbours_differ", "10.1.1.3", taken_address, says="'holder'"),
    Case("leases", "leases_differ", "main", lose_leases, WARNING, says="lacks 1 binding of"),
    Case("clock", "clock_wrong", "clock", wrong_clock, says="2001-01-01"),
    by_hand("durability", "not_durable", "memory/registry.db", forgetful_disk, says="tmpfs"),
    by_hand("distribution", "dhcpd_discontinued", "isc-dhcp-server", old_release, WELL, says="trixie"),
]


@contextmanager
def broken(site: Site, case: Case) -> Iterator[None]:
    """The site while something is broken."""
    steps = case.breaks(site)
    if steps is None:
        yield
        return
    next(steps)
    try:
        yield
    finally:
        assert next(steps, None) is None


def is_well(site: Site, case: Case) -> bool:
    """Whether the check finds nothing, or is left out because the service looks after it."""
    result = site.doctor(case.check)[case.check]
    return result["state"] in ("well", "left out")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.check}-{case.code}")
def test_each_check_finds_what_was_broken_and_what_it_prints_mends_it(site: Site, case: Case) -> None:
    """Found for its own reason; the printed commands, run as they are, mend it where there are any."""
    until(lambda: is_well(site, case), SOON_S, f"{case.check} to be well")
    with broken(site, case):
        found = site.doctor(case.check)
        assert found["exit"] == case.exit
        (finding,) = found[case.check]["findings"]
        assert finding["code"] == case.code
        assert finding["subject"].removeprefix(f"{site.place}/") == case.subject
        assert case.says in finding["message"]
        assert bool(finding["commands"]) is case.is_mended_by_commands
        for line in finding["commands"]:
            site.shell(line)
        if case.is_mended_by_commands:
            until(lambda: is_well(site, case), SOON_S, f"{case.check} to be well again")
    until(lambda: is_well(site, case), SOON_S, f"{case.check} to be well again")


def test_a_site_that_is_well_says_so(site: Site) -> None:
    """Exit code 0, a line for each check, and ASCII where the terminal has nothing else."""
    until(lambda: not site.farm.findings(), SOON_S, "the service to find nothing")
    done = site.run([*MACBIND, "doctor"])
    assert done.returncode == WELL, done.stdout
    assert "✓ answers\n" in done.stdout
    assert "- hypervisors: left out, no hypervisor is configured" in done.stdout
    plain = subprocess.run(
        site.farm.lab.server.argv([*MACBIND, "doctor", "configuration"]),
        capture_output=True,
        text=True,
        env=site.env | {"PYTHONIOENCODING": "ascii"},
        timeout=60,
        check=True,
    )
    assert plain.stdout == "+ configuration\n"
    assert site.run([*MACBIND, "doctor", "-q"]).stdout == ""


def test_what_the_service_has_found_is_a_part_of_the_result(site: Site) -> None:
    """Once, with since when; where a check finds it, too, there."""
    site.host('set name = "printer"\nset ip-address = 0a:01:01:08\ncreate')
    until(lambda: "foreign_host" in site.farm.findings(), SOON_S, "the host to be found")
    found = site.doctor()
    assert found["exit"] == WARNING
    assert found["service"]["state"] == "well"
    (finding,) = found["hosts"]["findings"]
    assert finding["since"] is not None
    assert finding["count"] == 1
    assert [one["code"] for one in site.doctor("service")["service"]["findings"]] == ["foreign_host"]
    site.host("open\nremove")
    until(lambda: "foreign_host" not in site.farm.findings(), SOON_S, "the host to be gone")


def test_what_is_muted_counts_for_nothing_until_it_is_over(site: Site) -> None:
    """Not in the text and the exit code of doctor and status; in JSON, marked. Other findings are told of."""
    site.farm.lab.server.ip("link set br0 type bridge forward_delay 1500")
    assert site.doctor("bridges")["exit"] == WARNING
    site.farm.macbind("doctor", "--mute", "bridge_slow=br0", "--until", "2h")
    found = site.doctor("bridges")
    assert found["exit"] == WELL
    assert [one["muted"] for one in found["bridges"]["findings"]] == [True]
    shown = site.farm.macbind("doctor", "bridges")
    assert "forward delay" not in shown
    assert "1 muted" in shown
    (listed,) = site.farm.macbind_json("doctor", "--muted")
    assert (listed["code"], listed["subject"]) == ("bridge_slow", "br0")
    assert listed["actor"].startswith("root (uid 0")
    site.farm.macbind("doctor", "--unmute", "bridge_slow=br0")
    assert site.doctor("bridges")["exit"] == WARNING
    site.farm.macbind("doctor", "--mute", "bridge_slow", "--until", "2099-12-31")
    site.farm.macbind("doctor", "--mute", "bridge_slow", "--until", "1")
    until(lambda: site.doctor("bridges")["exit"] == WARNING, SOON_S, "the end of the silence")
    site.farm.lab.server.ip("link set br0 type bridge forward_delay 0")


def test_a_muted_finding_of_the_service_is_marked_by_the_service(site: Site) -> None:
    """`macbind status` exits with 0, and its JSON has the finding, whoever asks."""
    site.host('set name = "printer"\nset ip-address = 0a:01:01:08\ncreate')
    until(lambda: "foreign_host" in site.farm.findings(), SOON_S, "the host to be found")
    shown = site.farm.macbind("status", status=1)
    assert "! The host 'printer'" in shown
    assert "(since " in shown
    site.farm.macbind("doctor", "--mute", "foreign_host=10.1.1.8", "--until", "2h")
    shown = site.farm.macbind("status")
    assert "printer" not in shown
    assert "1 muted" in shown
    (finding,) = site.farm.macbind_json("status")["findings"]
    assert (finding["code"], finding["muted"], finding["severity"]) == ("foreign_host", True, "warning")
    site.farm.macbind("doctor", "--unmute", "foreign_host=10.1.1.8")
    site.host("open\nremove")
    until(lambda: not site.farm.findings(), SOON_S, "the host to be gone")


def test_a_finding_that_comes_back_is_counted(site: Site) -> None:
    """With the time of its latest coming."""

    def finding(*, is_there: bool) -> Any:
        with site.farm.client() as client:
            there = [one for one in client.status().findings if one.code == "foreign_host"]
        return (there[0] if there else True) if bool(there) is is_there else None

    seen = []
    for _ in range(2):
        site.host('set name = "scanner"\nset ip-address = 0a:01:01:0b\ncreate')
        seen.append(until(lambda: finding(is_there=True), SOON_S, "the host to be found"))
        site.host("open\nremove")
        until(lambda: finding(is_there=False), SOON_S, "the host to be gone")
    assert [one.count for one in seen] == [1, 2]
    assert seen[0].since < seen[1].since <= seen[1].last_seen


def test_a_start_runs_the_cheap_checks_and_goes_on(site: Site) -> None:
    """The log has what they find, with the commands; the service serves."""
    site.farm.lab.server.ip("link set br0 type bridge forward_delay 1500")
    site.farm.stop()
    site.start()
    told = [json.loads(line) for line in site.farm.log().splitlines() if '"bridge_slow"' in line]
    assert told[-1]["commands"] == ["ip link set dev br0 type bridge forward_delay 0"]
    site.farm.lab.server.ip("link set br0 type bridge forward_delay 0")


@pytest.mark.parametrize("hosts", [1, 2])
def test_a_database_that_forgets_is_found_and_mended(tmp_path: Path, hosts: int) -> None:
    """PostgreSQL with synchronous_commit off, or fsync; psql's command switches it on, by whatever host answers."""
    with Postgres() as database, ExitStack() as _:
        config = tmp_path / "macbind.toml"
        key = f'key_file = "{tmp_path}/key"\nconfig_file = "{tmp_path}/conf"\n'
        url = database.emptied()
        if hosts > 1:
            own = quote(str(database.directory), safe="")
            url = f"postgresql://macbind:{database.password}@127.0.0.1:1,{own}:5432/postgres"
        config.write_text(f'[registry]\nurl = "{url}"\n[dhcpd.main]\nport = 1\n{key}\n{SUBNET}\n{POOL}')
        config.chmod(0o600)
        env = {**os.environ, "MACBIND_CONFIG": str(config), "PGPASSWORD": database.password}

        def doctor() -> Any:
            done = subprocess.run(
                [*MACBIND, "doctor", "durability", "--json"],
                capture_output=True,
                text=True,
                env=env,
                check=False,
            )
            return json.loads(done.stdout)["checks"][-1]["findings"]

        assert doctor() == []
        for name, how in (
            ("synchronous_commit", "ALTER DATABASE postgres SET synchronous_commit = off"),
            ("fsync", "ALTER SYSTEM SET fsync = off"),
        ):
            database.run(how)
            database.run("SELECT pg_reload_conf()")
            until(doctor, SOON_S, "the check to find it")
            (finding,) = doctor()
            assert (finding["code"], finding["subject"]) == ("not_durable", name)
            assert database.password not in json.dumps(finding)
            for line in finding["commands"]:
                subprocess.run(["sh", "-euc", line], env=env, check=True, capture_output=True)
            until(lambda: doctor() == [], SOON_S, "the database to keep what it confirms")


def test_machines_that_ask_are_served_while_the_doctor_looks(site: Site) -> None:
    """A run changes nothing: a machine gets its address, and the registry is as before."""
    with site.farm.client() as client:
        until(lambda: not site.farm.findings(), SOON_S, "the service to find nothing")
        made = client.allocate("farm", "looked-at")
        assert site.doctor()["exit"] == WELL
        lease = DhcpClient(site.port, str(made.mac)).dora()
        assert lease is not None
        assert lease.address == made.address
        client.release("looked-at")
        assert client.status().findings == ()
