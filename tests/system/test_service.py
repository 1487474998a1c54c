"""macbind and dhcpd under systemd: they come back by themselves, and can do what they must and no more."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from labkit.dhcp import DhcpClient, expect_silence
from labkit.installed import REPOSITORY, SOURCE, Installed
from labkit.net import Port
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.allocation import Allocation, State
from macbind.core.errors import Conflict

UNITS = (
    *("macbind.service", "macbind-firewall.service", "isc-dhcp-server.service"),
    *("macbind-firewall-check.service", "macbind-firewall-check.timer"),
)
PRINTER, PRINTER_MAC = "10.0.0.9", "b8:27:eb:00:00:01"
MOST_EXPOSURE = 2.0
OMAPI = ("10.0.0.1", 7911)


@pytest.fixture(scope="module")
def port(bare: Installed) -> Port:
    """A cable into the machines' network, for clients with any MAC."""
    return bare.lab.port("vm")


@pytest.fixture(scope="module")
def site(bare: Installed, port: Port) -> Installed:
    """A machine that serves, with a printer whose address is reserved."""
    bare.set_up("--range", "10.1.1.3-10.1.1.250", "--dns", "10.0.0.1")
    until(lambda: codes(bare) == set(), 60, "nothing to be found")
    with bare.client() as client:
        client.reserve("printer", PRINTER, mac=PRINTER_MAC)
    return bare


@pytest.fixture(scope="module")
def printer(site: Installed) -> DhcpClient:
    """A client that is always answered, to prove silence by."""
    return DhcpClient(site.lab.port("printer", PRINTER_MAC))


def allocate(site: Installed, name: str) -> Allocation:
    """An allocation that dhcpd has confirmed."""
    with site.client() as client:
        made = client.allocate("farm", name)
    assert made.state is State.BOUND
    return made


def served(port: Port, one: Allocation) -> bool:
    """Whether the machine with this MAC gets exactly this address by plain DHCP."""
    lease = DhcpClient(port, str(one.mac)).dora()
    return lease is not None and lease.address == one.address


@contextmanager
def changed(site: Installed, path: str, text: str, *then: str) -> Iterator[None]:
    """A file with this text, and a command that makes it count; afterwards the same without the file."""
    site.run("mkdir", "-p", path.rpartition("/")[0])
    site.run("sh", "-c", f"cat >{path}", stdin=text)
    try:
        site.run(*then)
        yield
    finally:
        site.run("rm", path)
        site.run(*then)


# -- the units -----------------------------------------------------------------------------------------------


def test_units_are_clean(site: Installed) -> None:
    """systemd has nothing to remark about the units as installed."""
    done = site.run("systemd-analyze", "verify", "--man=no", "--generators=yes", *UNITS)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("unit", ["macbind.service", "isc-dhcp-server.service"])
def test_exposure_is_low(site: Installed, unit: str, finding: Callable[[str], None]) -> None:
    """systemd's own judgement of what a broken into service could do is below 2.0 of 10."""
    judged = site.run("systemd-analyze", "security", "--no-pager", unit).stdout
    overall = re.search(r"Overall exposure level for \S+: ([0-9.]+)", judged)
    assert overall, judged
    finding(f"systemd-analyze security: {overall[0]}")
    assert float(overall[1]) < MOST_EXPOSURE
    page = (REPOSITORY / "controller/docs/operate/install.md").read_text()
    told = f"{unit.removesuffix('.service')} {overall[1]}"
    # Each version of systemd looks for more; the page has the number of one.
    assert told in page or site.run("systemctl", "--version").stdout.split()[1] != "252"


# -- the story -----------------------------------------------------------------------------------------------


def test_allocated_machine_boots_and_a_released_one_meets_silence(
    site: Installed, port: Port, printer: DhcpClient
) -> None:
    """From the command line in the machine to DHCP from outside: exactly that address, and after release none."""
    made = site.macbind_json("allocate", "farm", "story")
    lease = DhcpClient(port, made["mac"]).dora()
    assert lease is not None
    assert str(lease.address) == made["address"]
    site.run("macbind", "release", "story")
    expect_silence(DhcpClient(port, made["mac"]), witness=printer)


def test_confined_macbind_watches_dhcpd(site: Installed) -> None:
    """Its DHCP probe is answered, and what dhcpd says in the journal comes to an admin's knowledge."""
    until(lambda: (now := site.status()) and now.dhcpds[0].answered_at, 60, "the probe to be answered")
    site.run("sh", "-c", "echo 'lease {' >>/var/lib/dhcp/dhcpd.leases")
    site.run("systemctl", "restart", "isc-dhcp-server")
    until(
        lambda: (now := site.status()) and "lease_file_damaged" in {one.code for one in now.findings},
        60,
        "the finding from dhcpd's log",
    )
    site.wait_serving()


def test_a_lease_outlives_confined_macbind(site: Installed) -> None:
    """Started again, it refuses who has no token, until the lease has expired."""
    one = allocate(site, "leased")
    to = str(one.address + 20)
    with site.client() as client:
        begun = client.begin_renumber("leased", to, lease_s=3600)
        site.run("systemctl", "restart", "macbind")
        site.wait_serving()
        with pytest.raises(Conflict, match="'leased' is being renumbered"):
            client.abort_renumber("leased")
        assert begun.token is not None
        client.lease_renumber("leased", begun.token, lease_s=0.1)
        until(lambda: datetime.now(UTC) > lease_of(client), 60, "the lease to expire")
        client.abort_renumber("leased")
        client.release("leased")


def lease_of(client: Client) -> datetime:
    """When the lease of the renumbering under way expires."""
    (one,) = client.renumberings()
    assert one.lease_until is not None
    return one.lease_until


def test_killed_macbind_comes_back(site: Installed, port: Port) -> None:
    """Killed without a warning it is started again; what was allocated is served all the while, and it goes on."""
    before = allocate(site, "before-kill")
    pid = site.pid("macbind")
    site.run("systemctl", "kill", "--signal=KILL", "macbind")
    assert served(port, before)
    site.wait_restarted("macbind", pid)
    site.wait_serving()
    with site.client() as client:
        assert client.get("before-kill").address == before.address
    assert served(port, allocate(site, "after-kill"))


def test_killed_dhcpd_comes_back_with_every_reservation(site: Installed, port: Port) -> None:
    """dhcpd is started again, though its pid file was left and names a living process; macbind makes it serve."""
    one = allocate(site, "of-dhcpd")
    pid = site.pid("isc-dhcp-server")
    site.run("sh", "-c", "echo 1 >/run/dhcp-server/dhcpd.pid; rm /var/lib/dhcp/dhcpd.leases")
    site.run("systemctl", "kill", "--signal=KILL", "isc-dhcp-server")
    site.wait_restarted("isc-dhcp-server", pid)
    until(lambda: served(port, one), 60, "the machine to be served again")
    site.wait_serving()
    assert served(port, allocate(site, "of-dhcpd-2"))


def test_hung_macbind_is_restarted_by_the_watchdog(site: Installed, port: Port) -> None:
    """A process that stands still without ending is ended and started again, and goes on where it was."""
    one = allocate(site, "hung")
    drop_in = "/etc/systemd/system/macbind.service.d/watchdog.conf"
    reload = ("sh", "-c", "systemctl daemon-reload && systemctl restart macbind")
    with changed(site, drop_in, "[Service]\nWatchdogSec=20\n", *reload):
        site.wait_serving()
        pid = site.pid("macbind")
        # It is let alone while it says that it lives: READY was the first sign of it.
        signs: set[str] = set()

        def enough() -> bool:
            signs.add(sign_of_life(site))
            return len(signs) > 3

        until(enough, 60, "signs of life")
        assert site.pid("macbind") == pid
        site.run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "macbind")
        site.wait_restarted("macbind", pid, 180)
        site.wait_serving()
        until(lambda: "Watchdog timeout" in site.journal("macbind"), 60, "the journal to have the reason")
        assert served(port, one)
    site.wait_serving()


def sign_of_life(site: Installed) -> str:
    """When systemd has last heard that macbind lives."""
    return site.unit("macbind", "WatchdogTimestampMonotonic")


def test_reload_is_refused_and_kills_nobody(site: Installed, port: Port) -> None:
    """dhcpd would end at SIGHUP: systemd refuses to reload it, and it serves on as the same process."""
    pid = site.pid("isc-dhcp-server")
    refused = site.run("systemctl", "reload", "isc-dhcp-server", status=None)
    assert refused.returncode != 0
    assert "not applicable" in refused.stderr
    assert site.pid("isc-dhcp-server") == pid
    assert served(port, allocate(site, "not-reloaded"))


CONFIG = "/etc/macbind/macbind.toml"


@contextmanager
def edited(site: Installed, script: str) -> Iterator[str]:
    """The configuration changed by sed; yields its text. Afterwards the file is as before."""
    site.run("cp", "--preserve", CONFIG, "/etc/macbind/before")
    site.run("sed", "--in-place", script, CONFIG)
    try:
        yield site.run("cat", CONFIG).stdout
    finally:
        site.run("mv", "/etc/macbind/before", CONFIG)


def typo_in(text: str) -> str:
    """The sentence about the first misspelt key."""
    line = text.splitlines().index('rnages = ["10.1.1.3-10.1.1.250"]') + 1
    return f"{CONFIG} line {line}: [pool.farm] has no key 'rnages'."


def test_reload_with_a_typo_serves_on_and_says_what_is_wrong(site: Installed, port: Port) -> None:
    """`systemctl reload` fails, the old one serves on, and `systemctl status` has the sentence."""
    pid = site.pid("macbind")
    with edited(site, "s/^ranges/rnages/") as text:
        assert site.run("systemctl", "reload", "macbind", status=None).returncode == 1
        until(lambda: codes(site) == {"config_refused"}, 60, "the refusal")
        until(lambda: site.unit("macbind", "SubState") == "running", 60, "the reload to be over")
        shown = ("systemctl", "status", "macbind")
        until(lambda: typo_in(text) in site.run(*shown, status=None).stdout, 60, "the status")
        assert site.pid("macbind") == pid
        assert served(port, allocate(site, "with-a-typo"))
    site.run("systemctl", "reload", "macbind")
    until(lambda: codes(site) == set(), 60, "nothing to be found")
    serving = 'Status: "dhcpd main: serving"'
    until(lambda: serving in site.run(*shown).stdout, 60, "the status")
    assert site.pid("macbind") == pid


def status_of(site: Installed) -> str:
    """The JSON of `macbind status`, which ends with 1 while there are findings."""
    return site.run("macbind", "status", "--json", status=None).stdout


def test_reload_with_a_new_range_uses_it_at_once(site: Installed, port: Port) -> None:
    """When `systemctl reload` returns, an address of the new range is allocated and served by the same process."""
    pid = site.pid("macbind")
    with edited(site, "s/10.1.1.250/10.1.2.9/"):
        site.run("systemctl", "reload", "macbind")
        made = site.macbind_json("allocate", "farm", "of-new-range", "--address", "10.1.2.7")
        lease = DhcpClient(port, made["mac"]).dora()
        assert lease is not None
        assert str(lease.address) == "10.1.2.7"
        site.run("macbind", "release", "of-new-range")
    site.run("systemctl", "reload", "macbind")
    refused = site.run("macbind", "allocate", "farm", "--address", "10.1.2.7", status=4)
    assert "does not hand out 10.1.2.7" in refused.stderr
    assert site.pid("macbind") == pid


def test_restart_with_a_typo_is_no_crash_loop(site: Installed) -> None:
    """A service that is started with a typo fails once, says why, and comes when the file is mended."""
    with edited(site, "s/^ranges/rnages/") as text:
        assert site.run("systemctl", "restart", "macbind", status=None).returncode == 1
        state = [site.unit("macbind", name) for name in ("ActiveState", "SubState", "NRestarts")]
        assert state == ["failed", "failed", "0"]
        assert typo_in(text) in site.run("systemctl", "status", "macbind", status=None).stdout
    site.run("systemctl", "start", "macbind")
    site.wait_serving()


def test_stopped_dhcpd_does_not_take_macbind_along(site: Installed) -> None:
    """While an admin has stopped dhcpd, macbind runs and answers, and goes on when dhcpd is started."""
    pid = site.pid("macbind")
    site.run("systemctl", "stop", "isc-dhcp-server")
    try:
        until(
            lambda: (now := site.status()) and now.dhcpds[0].state != "serving", 60, "macbind to miss dhcpd"
        )
        assert site.unit("isc-dhcp-server", "ActiveState") == "inactive"
    finally:
        site.run("systemctl", "start", "isc-dhcp-server")
    site.wait_serving()
    assert site.pid("macbind") == pid


# -- dhcpd's unit --------------------------------------------------------------------------------------------


def test_what_an_admin_says_in_debians_file_counts_more(site: Installed) -> None:
    """INTERFACESv4 and DHCPDv4_CONF win over what init wrote; an empty INTERFACESv4 says nothing."""
    assert 'INTERFACESv4=""' in site.run("cat", "/etc/default/isc-dhcp-server").stdout
    restart = ("systemctl", "restart", "isc-dhcp-server")
    assert command_line(site).endswith("-cf /etc/dhcp/macbind.conf -lf /var/lib/dhcp/dhcpd.leases"
                                       " -pf /run/dhcp-server/dhcpd.pid br0")  # fmt: skip
    site.run("cp", "/etc/default/isc-dhcp-server", "/tmp/default")
    site.run("cp", "/etc/dhcp/macbind.conf", "/etc/dhcp/mine.conf")
    try:
        text = 'INTERFACESv4="lo br0"\nDHCPDv4_CONF=/etc/dhcp/mine.conf\n'
        site.run("sh", "-c", "cat >/etc/default/isc-dhcp-server", stdin=text)
        site.run(*restart)
        assert "-cf /etc/dhcp/mine.conf " in command_line(site)
        assert command_line(site).endswith(" lo br0")
    finally:
        site.run("cp", "/tmp/default", "/etc/default/isc-dhcp-server")
        site.run(*restart)
    site.wait_serving()


def command_line(site: Installed) -> str:
    """How dhcpd was started."""
    return (site.root / f"proc/{site.pid('isc-dhcp-server')}/cmdline").read_text().replace("\0", " ").strip()


def test_dhcpd_logs_each_line_once_while_it_serves(site: Installed, port: Port) -> None:
    """What dhcpd does is in the journal of its unit, under its name, and not twice."""
    one = allocate(site, "logged")
    assert served(port, one)

    def acknowledged() -> int:
        log = site.journal("isc-dhcp-server", "--identifier=dhcpd", "--output=cat")
        return sum(f"DHCPACK on {one.address} to {one.mac}" in line for line in log.splitlines())

    assert until(acknowledged, 60, "the journal to have it") == 1


def test_dhcpd_cannot_be_made_to_run_programs(site: Installed, port: Port) -> None:
    """An "execute" statement, which whoever reaches OMAPI could give a host, does nothing, and dhcpd serves on."""
    one = allocate(site, "victim")
    statement = 'execute("/usr/bin/touch", "/var/lib/dhcp/executed"); log(info, "statement reached");'
    site.run("sh", "-c", f"(cat /etc/dhcp/macbind.conf; echo '{statement}') >/etc/dhcp/executes.conf")
    drop_in = "/etc/systemd/system/isc-dhcp-server.service.d/zz-executes.conf"
    restart = ("sh", "-c", "systemctl daemon-reload && systemctl restart isc-dhcp-server")
    files = "-lf /var/lib/dhcp/dhcpd.leases -pf /run/dhcp-server/dhcpd.pid"
    command = f"/usr/sbin/dhcpd -4 -d -f -cf /etc/dhcp/executes.conf {files} br0"
    text = f"[Service]\nExecStart=\nExecStart={command}\n"
    with changed(site, drop_in, text, *restart):
        until(lambda: served(port, one), 90, "the machine to be served")
        until(lambda: "statement reached" in site.journal("isc-dhcp-server"), 60, "the statement to be run")
        assert site.run("test", "-e", "/var/lib/dhcp/executed", status=None).returncode == 1
        assert served(port, one)
    site.wait_serving()


# -- who may do what -----------------------------------------------------------------------------------------


def test_socket_is_for_root_and_the_group(site: Installed) -> None:
    """The socket is for macbind-users, who use it and read no secret; another user is told how to join."""
    socket = site.run("stat", "--format=%a %U:%G", "/run/macbind/macbind.sock").stdout
    assert socket == "660 macbind:macbind-users\n"
    refused = site.as_user("nobody", "macbind", "list", status=6)
    assert "Join the socket's group" in refused.stderr
    site.run("useradd", "--groups", "macbind-users", "operator-1")
    site.as_user("operator-1", "macbind", "allocate", "farm", "of-operator")
    assert "of-operator" in site.as_user("operator-1", "macbind", "list").stdout
    for secret in ("/etc/dhcp/macbind.key", "/etc/macbind/macbind.toml", "/var/lib/macbind/registry.db"):
        assert "Permission denied" in site.as_user("operator-1", "cat", secret, status=1).stderr


def test_omapi_port_is_closed_to_everybody_but_macbind(site: Installed, port: Port) -> None:
    """From the machines' network there is no answer; on the machine root and any other user are refused."""
    ask = "import socket, sys; socket.create_connection((sys.argv[1], 7911), timeout=1).close()"
    for address in ("127.0.0.1", OMAPI[0], "0", "::ffff:127.0.0.1"):
        site.as_user("macbind", "python3", "-c", ask, address)
        for user in ("root", "nobody", "www-data"):
            refused = site.as_user(user, "python3", "-c", ask, address, status=1)
            assert "ConnectionRefusedError" in refused.stderr
    port.add_address("10.0.0.77/8")
    with pytest.raises(TimeoutError):
        port.namespace.open_tcp(*OMAPI, timeout_s=1)
    assert port.ping(OMAPI[0])
    port.flush()


def test_rules_survive_a_reload_of_the_firewall(site: Installed) -> None:
    """When nftables.service empties the rule set to load Debian's anew, the port is closed again at once."""
    site.run("systemctl", "start", "nftables")
    for action in ("reload", "restart"):
        site.run("systemctl", action, "nftables")
        until(
            lambda: "tcp dport 7911" in site.run("nft", "list", "ruleset").stdout, 60, "the rules to be back"
        )
    site.run("systemctl", "stop", "nftables")
    assert "tcp dport 7911" in site.run("nft", "list", "ruleset").stdout
    site.run("systemctl", "start", "nftables")
    until(lambda: "tcp dport 7911" in site.run("nft", "list", "ruleset").stdout, 60, "the rules to be back")


def test_rules_that_another_program_removes_are_loaded_again_and_said(site: Installed) -> None:
    """Emptied behind its back, the rule set is mended within seconds, and `macbind status` has a finding."""
    site.run("nft", "flush", "ruleset")
    until(lambda: "tcp dport 7911" in site.run("nft", "list", "ruleset").stdout, 60, "the rules to be back")
    # A moment earlier, it says that they are gone.
    until(lambda: "and have been loaded again" in findings(site).get("firewall_open", ""), 60, "the finding")
    site.run("rm", "/run/macbind-firewall/lost")
    assert "firewall_open" not in codes(site)


def test_rules_that_cannot_be_loaded_are_a_finding_and_keep_dhcpd_down(site: Installed) -> None:
    """With rules that nft refuses, dhcpd does not start; whoever stops the firewall's unit is told so."""
    with changed(
        site, "/etc/systemd/system/macbind-firewall.service.d/no.conf",
        "[Service]\nExecStart=\nExecStart=/bin/false\n", "systemctl", "daemon-reload",
    ):  # fmt: skip
        site.run("systemctl", "stop", "macbind-firewall")
        assert site.unit("isc-dhcp-server", "ActiveState") == "inactive"
        refused = site.run("systemctl", "start", "isc-dhcp-server", status=None)
        assert refused.returncode != 0
        assert site.unit("isc-dhcp-server", "ActiveState") == "inactive"
    site.run("systemctl", "start", "isc-dhcp-server")
    site.wait_serving()
    assert "tcp dport 7911" in site.run("nft", "list", "ruleset").stdout


def test_a_tunnels_port_is_closed_like_dhcpds(site: Installed) -> None:
    """A port in omapi_ports, as the page on installation says of tunnels, is closed to everybody but macbind."""
    rules = "/etc/macbind/omapi.nft"
    listen = "import socket; s = socket.create_server(('127.0.0.1', 17911)); print(flush=True)\nwhile 1: s.accept()"
    ask = "import socket; socket.create_connection(('127.0.0.1', 17911), timeout=1).close()"
    site.run("sed", "-i", "s/^define omapi_ports = .*/define omapi_ports = { 7911, 17911 }/", rules)
    site.run("systemctl", "reload", "macbind-firewall")
    site.run("systemd-run", "--quiet", "--unit=tunnel", "python3", "-c", listen)
    try:
        until(
            lambda: site.as_user("macbind", "python3", "-c", ask, status=None).returncode == 0,
            60,
            "the tunnel",
        )
        for user in ("root", "nobody"):
            assert "ConnectionRefusedError" in site.as_user(user, "python3", "-c", ask, status=1).stderr
    finally:
        site.run("systemctl", "stop", "tunnel")
        site.run("sed", "-i", "s/^define omapi_ports = .*/define omapi_ports = { 7911 }/", rules)
        site.run("systemctl", "reload", "macbind-firewall")
    assert "firewall_open" not in codes(site)


def findings(site: Installed) -> dict[str, str]:
    """The sentence of each finding, by its code."""
    return {one["code"]: one["message"] for one in json.loads(status_of(site))["findings"]}


def codes(site: Installed) -> set[str]:
    """The codes of the findings."""
    return set(findings(site))


def test_rules_are_what_nft_understands(site: Installed) -> None:
    """The rules pass nft's check as they are in the source tree, and loading them again changes nothing."""
    site.run("nft", "--check", "--file", f"{SOURCE}/dhcpd/omapi.nft")
    rules = ("nft", "--stateless", "list", "table", "inet", "macbind")
    loaded = site.run(*rules).stdout
    site.run("nft", "--file", "/etc/macbind/omapi.nft")
    assert site.run(*rules).stdout == loaded


def test_apparmor_takes_the_rule_into_debians_profile(site: Installed) -> None:
    """The profile of dhcpd compiles with our rule in it. Whether the kernel enforces it is not for this machine."""
    profile = "/etc/apparmor.d/usr.sbin.dhcpd"
    compiled = site.run("apparmor_parser", "--skip-kernel-load", "--skip-cache", "--names", profile)
    assert compiled.stdout == "/usr/sbin/dhcpd\n"
    assert "owner /tmp/.macbind-check-*" in site.run("apparmor_parser", "--preprocess", profile).stdout


SANDBOX = """
import fcntl, json, os, socket, struct, subprocess
from ipaddress import IPv4Address
from pathlib import Path
from macbind.probes.arp import probe
from macbind import MacbindError

done = {}

def attempt(what, function):
    try:
        function()
        done[what] = True
    except (OSError, MacbindError):
        done[what] = False

for place in os.environ["PLACES"].split():
    attempt(f"write {place}", lambda: Path(place, "macbind-was-here").write_text(""))
for path in os.environ["FILES"].split():
    attempt(f"read {path}", lambda: Path(path).read_bytes())
attempt("become root", lambda: os.setuid(0))
SIOCSIFMTU = 0x8922
mtu = struct.pack("16si20x", b"lo", 1400)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as network:
    attempt("change the network", lambda: fcntl.ioctl(network, SIOCSIFMTU, mtu))
attempt("signal dhcpd", lambda: os.kill(int(os.environ["DHCPD"]), 0))
attempt("see dhcpd", lambda: Path("/proc", os.environ["DHCPD"], "stat").read_text())
attempt("see connections", lambda: Path("/proc/self/net/tcp").read_text().index(":1EE7"))
attempt("ask by ARP", lambda: probe("br0", [IPv4Address("10.0.0.200")]))
follow = ["journalctl", "--unit=isc-dhcp-server", "--lines=1", "--follow", "--output=cat"]
with subprocess.Popen(follow, stdout=subprocess.PIPE) as journal:
    done["follow dhcpd's log"] = bool(journal.stdout.readline())
    journal.kill()
libvirt = ["/usr/bin/python3", "-c", "import libvirt; libvirt.openReadOnly('test:///default').listAllDomains()"]
done["use libvirt"] = subprocess.run(libvirt).returncode == 0
print(json.dumps(done))
"""
MAY = {
    *("write /var/lib/macbind", "write /run/macbind", "write /var/cache/macbind/names", "write /tmp"),
    *("read /etc/macbind/macbind.toml", "read /etc/dhcp/macbind.key", "read /var/lib/dhcp/dhcpd.leases"),
    *("see connections", "ask by ARP", "follow dhcpd's log", "use libvirt"),
}
MAY_NOT = {
    *("write /etc", "write /etc/macbind", "write /etc/dhcp", "write /var/lib/dhcp", "write /var/log"),
    *("write /usr/local/lib/macbind", "write /run", "write /home", "write /root", "write /sys"),
    *("read /etc/shadow", "read /proc/kcore"),
    *("become root", "change the network", "signal dhcpd", "see dhcpd"),
}


CONFINED = """
[Service]
Type=oneshot
ExecStart=
ExecStart=/usr/local/lib/macbind/bin/python /etc/macbind/sandbox.py
Environment="PLACES={places}" "FILES={files}" "DHCPD={dhcpd}"
Restart=no
WatchdogSec=0
# The running service's, and not to be removed when this ends.
StateDirectory=
RuntimeDirectory=
ReadWritePaths=/var/lib/macbind /run/macbind
"""


def found_in(said: str) -> str:
    """What the program in the sandbox has printed, in a journal."""
    return next((line for line in said.splitlines() if line.startswith("{")), "")


def test_service_can_do_what_it_must_and_no_more(site: Installed) -> None:
    """Confined like the service, its own places, its inputs, raw frames and the journal work; the rest does not."""

    def named(verb: str) -> str:
        return " ".join(what.removeprefix(verb) for what in sorted(MAY | MAY_NOT) if what.startswith(verb))

    drop_in = CONFINED.format(places=named("write "), files=named("read "), dhcpd=site.pid("isc-dhcp-server"))
    site.run("sh", "-c", "cat >/etc/macbind/sandbox.py", stdin=SANDBOX)
    site.run("cp", "/usr/local/lib/systemd/system/macbind.service", "/run/systemd/system/sandbox.service")
    with changed(
        site, "/run/systemd/system/sandbox.service.d/it.conf", drop_in, "systemctl", "daemon-reload"
    ):
        site.run("systemctl", "start", "sandbox", status=None)
        until(lambda: found_in(site.journal("sandbox")), 60, "the journal to have what it could do")
    done = json.loads(found_in(site.journal("sandbox")))
    assert {what for what, could in done.items() if could} == MAY
    assert {what for what, could in done.items() if not could} == MAY_NOT
