"""Health that means serving: a dhcpd that is deaf, full, damaged or not alone is told from one that serves."""

import os
import resource
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, TCP, UDP, IPOption_NOP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from contract.test_dhcpd import fill, small_disk
from lab.conftest import open_directory
from labkit.dhcp import DhcpClient
from labkit.farm import OMAPI_PORT, Farm
from labkit.net import Lab, Port
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.binding import probe_mac
from macbind.core.errors import StorageFailed
from macbind.core.findings import Finding, Status
from macbind.probes.dhcp import Answer, Probe, has_carrier, only_to_clients

SOON_S = 60.0
PROBE = 'probe = "br0"\nprobe_interval_s = 1\n'


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the farm of this test keeps its files."""
    with open_directory() as place:
        yield place


@contextmanager
def farm_with(lab: Lab, place: Path, dhcpd: str, leases: Path | None = None) -> Iterator[tuple[Farm, Client]]:
    """A serving farm with more lines in its [dhcpd.main] table, and its Python API."""
    with Farm(lab, place, dhcpd=dhcpd, leases=leases) as farm, farm.client() as client:
        yield farm, client
        assert farm.defects() == []


def finding(client: Client, code: str) -> Finding:
    """The finding of this kind, once there is one."""
    now = wait_status(client, lambda now: code in {one.code for one in now.findings}, f"the finding {code}")
    return next(one for one in now.findings if one.code == code)


def wait_status(client: Client, condition: Callable[[Status], object], what: str) -> Status:
    """The status that meets the condition first."""

    def met() -> Status | None:
        now = client.status()
        return now if condition(now) else None

    found = until(met, SOON_S, what)
    assert found is not None
    return found


def test_probe_says_when_dhcpd_answered_and_takes_nothing(lab: Lab, place: Path) -> None:
    """A probed dhcpd is seen to answer, again and again; no lease comes of it, and no machine is offered less."""
    port = lab.port("machine")
    with farm_with(lab, place, PROBE) as (farm, client):
        first = wait_status(client, lambda now: now.dhcpds[0].answered_at, "an answer").dhcpds[0].answered_at
        wait_status(client, lambda now: now.dhcpds[0].answered_at != first, "the next answer")
        wait_status(client, lambda now: now.findings == (), "nothing to be found")
        assert f"DHCPOFFER on 10.0.0.0 to {probe_mac('main')}" in farm.dhcpd.log()
        assert "DHCPREQUEST" not in farm.dhcpd.log()
        assert "\nlease " not in farm.leases.read_text()
        made = client.allocate("farm", "vm")
        lease = DhcpClient(port, str(made.mac)).dora()
        assert lease is not None
        assert lease.address == made.address
        assert "ANSWERED" in farm.macbind("status")


def test_dhcpd_that_is_deaf_is_told_from_one_that_serves(lab: Lab, place: Path) -> None:
    """Its interface made anew, dhcpd goes on to confirm over OMAPI and hears nobody: status and exit code say so."""
    lab.port("machine")
    with farm_with(lab, place, PROBE) as (farm, client):
        wait_status(client, lambda now: now.dhcpds[0].answered_at, "an answer")
        lab.server.ip(
            "link del br0",
            "link add br0 type bridge forward_delay 0",
            "addr add 10.0.0.1/8 brd + dev br0",
            "link set br0 up",
            "link set to-machine master br0",
        )
        now = wait_status(client, lambda now: now.dhcpds[0].state == "deaf", "dhcpd to be found deaf")
        told = finding(client, "dhcpd_deaf")
        assert told.message == "dhcpd 'main' does not answer DHCP on br0: machines get no address."
        assert "Restart it if its interface was made anew" in told.hint
        assert now.dhcpds[0].answered_at is not None
        assert client.allocate("farm", "vm").state == "bound"  # it still confirms
        shown = farm.run("status")
        assert shown.returncode == 1
        assert "✗ dhcpd 'main' does not answer DHCP on br0" in shown.stdout
        farm.dhcpd.restart()
        wait_status(client, lambda now: now.dhcpds[0].state == "serving", "dhcpd to serve again")
        wait_status(client, lambda now: now.findings == (), "nothing to be found")


RANGE = "10.0.77.1,10.0.77.9"


@contextmanager
def dnsmasq(port: Port, log: Path, *options: str) -> Iterator[None]:
    """Another DHCP server, in a namespace of its own behind this port of the bridge: libvirt's, a home router's."""
    server = [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--no-ping",
        "--leasefile-ro",
    ]
    command = [*server, f"--interface={port.interface}", f"--dhcp-range={RANGE},255.0.0.0,120", *options]
    port.add_address("10.0.0.77/8")
    process = port.lab.popen([*command, "--user=root", "--pid-file="], port, output=log)
    try:
        yield
    finally:
        process.end()


def test_second_server_is_found_and_does_not_count(lab: Lab, place: Path) -> None:
    """dnsmasq on the bridge is named with address, MAC and what it offers; while ours is frozen, ours is deaf."""
    lab.port("machine")
    port = lab.port("other")
    with (
        farm_with(lab, place, PROBE) as (farm, client),
        dnsmasq(port, place / "other.log", "--dhcp-authoritative"),
    ):
        told = finding(client, "second_dhcp_server")
        assert "answers on br0: 10.0.0.77 with MAC " in told.message
        assert "offered 10.0.77." in told.message
        wait_status(client, lambda now: now.dhcpds[0].state == "serving", "dhcpd to serve nevertheless")
        farm.dhcpd.freeze()
        wait_status(client, lambda now: now.dhcpds[0].state in ("deaf", "unavailable"), "dhcpd not to serve")
        finding(client, "dhcpd_deaf")
        farm.dhcpd.thaw()
        wait_status(client, lambda now: now.dhcpds[0].state == "serving", "dhcpd to serve again")


@contextmanager
def liar(port: Port) -> Iterator[None]:
    """A guest that answers every DISCOVER as our dhcpd would answer the probe: address, identifier and all."""

    def answer(question: Any) -> None:
        asked = question[BOOTP]
        reply = BOOTP(op=2, xid=asked.xid, chaddr=asked.chaddr, yiaddr="10.0.0.0", siaddr="10.0.0.1")
        options = [("message-type", "offer"), ("server_id", "10.0.0.1"), ("lease_time", 600), "end"]
        frame = Ether(src="02:66:66:66:66:66", dst="ff:ff:ff:ff:ff:ff") / IP(
            src="10.0.0.1", dst="255.255.255.255"
        )
        link.send(bytes(frame / UDP(sport=67, dport=68) / reply / DHCP(options=options)))

    def work() -> None:
        while not over.is_set():
            with suppress(TimeoutError):
                frame = Ether(link.recv(2048))
                if BOOTP in frame and frame[BOOTP].op == 1:
                    answer(frame)

    over = threading.Event()
    with port.open_packet_socket() as link:
        link.settimeout(0.2)
        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def test_guest_that_answers_for_a_frozen_dhcpd_is_not_believed(lab: Lab, place: Path) -> None:
    """Whatever a guest says, the kernel knows that this machine did not send it; the guest is a finding."""
    port = lab.port("guest")
    with farm_with(lab, place, PROBE) as (farm, client), liar(port):
        assert "02:66:66:66:66:66 offered 10.0.0.0" in finding(client, "second_dhcp_server").message
        farm.dhcpd.freeze()
        finding(client, "dhcpd_deaf")
        farm.dhcpd.thaw()


def test_bridge_without_machines_makes_nobody_deaf(lab: Lab, place: Path) -> None:
    """While no machine is plugged in, nothing can be asked, and nothing is made of it; with the first one it is."""
    with farm_with(lab, place, PROBE) as (farm, client):
        assert not lab.server.call(lambda: has_carrier("br0"))
        assert client.status().dhcpds[0].answered_at is None
        lab.port("machine")
        assert lab.server.call(lambda: has_carrier("br0"))
        wait_status(client, lambda now: now.dhcpds[0].answered_at, "an answer")
        assert "dhcpd_deaf" not in farm.log()


def test_probe_works_beyond_a_thousand_descriptors(lab: Lab) -> None:
    """However many clients are connected, an interface can be asked; here nobody answers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    with ExitStack() as open_files:
        for _ in range(1100):
            open_files.callback(os.close, os.open("/dev/null", os.O_RDONLY))

        def ask() -> Answer | None:
            with Probe("lo", probe_mac("main"), ()) as probe:
                return probe.ask(0.05)

        assert lab.server.call(ask) is None
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_probe_hears_what_is_sent_to_dhcp_clients_only(lab: Lab) -> None:
    """The kernel drops the rest, so a busy bridge costs nothing: other ports and protocols, fragments, ARP."""
    ip = IP(src="10.0.0.1", dst="255.255.255.255")
    noise = [
        Ether() / ARP(psrc="10.0.0.1"),
        Ether() / ip / UDP(sport=67, dport=67) / b"x",
        Ether() / ip / TCP(sport=67, dport=68),
        Ether()
        / IP(src="10.0.0.1", dst="10.0.0.2", frag=8, proto=17)
        / b"\0\x43\0\x44 the middle of another",
        Ether() / IPv6() / UDP(sport=67, dport=68) / b"x",
    ]
    wanted = (
        Ether() / IP(src="10.0.0.1", dst="10.0.0.2", options=[IPOption_NOP()] * 4) / UDP(dport=68) / b"here"
    )

    def heard() -> bytes:
        with (
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as listener,
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sender,
        ):
            only_to_clients(listener)
            listener.bind(("lo", 3))
            listener.settimeout(SOON_S)
            sender.bind(("lo", 0))
            for frame in (*noise, wanted):
                sender.send(bytes(frame))
            return listener.recv(2048)

    assert lab.server.call(heard).endswith(b"here")


def test_interface_that_cannot_be_asked_on_is_named(lab: Lab, place: Path) -> None:
    """A probe on an interface that is not there is a finding; dhcpd is not called deaf for it."""
    with farm_with(lab, place, 'probe = "br9"\n') as (_, client):
        told = finding(client, "network_unavailable")
        assert "the interface 'br9'" in told.message
        assert client.status().dhcpds[0].state == "serving"


def test_signs_in_the_log_become_findings(lab: Lab, place: Path) -> None:
    """A dhcpd that drops a part of its lease file at its start says so in its log, and macbind passes it on."""
    with farm_with(lab, place, f'log = "{place / "dhcpd.log"}"\n') as (farm, client):
        made = client.allocate_group("farm", "group", 3)
        with farm.compared_anew():
            farm.dhcpd.stop()
            whole = farm.leases.read_text()
            farm.leases.write_text(whole.replace("  fixed-address", "  fixed-address {", 1))
            farm.dhcpd.restart()
        told = finding(client, "lease_file_damaged")
        assert "dropped the rest" in told.message
        assert "dhcpd.leases line " in told.message
        assert all(farm.dhcpd.omshell_host(str(one.mac)) is not None for one in made)


def test_connection_of_somebody_else_to_the_omapi_port_is_found(lab: Lab, place: Path) -> None:
    """Who is connected to the port beside macbind is named with user and port, until they go."""
    with farm_with(lab, place, "") as (_, client):
        with closing(lab.open_socket("127.0.0.1", OMAPI_PORT)) as stranger:
            port = stranger.getsockname()[1]
            told = finding(client, "foreign_omapi_client")
            assert told.message == (
                f"A program of root (127.0.0.1 port {port}) is connected to the OMAPI port of dhcpd 'main'."
            )
        wait_status(client, lambda now: now.findings == (), "nothing to be found")


def test_full_disk_is_found_before_and_while_it_hurts(lab: Lab, place: Path) -> None:
    """Too little space to rewrite the lease file is a finding; so is what dhcpd could not write, until it can."""
    with (
        small_disk(place / "disk") as disk,
        farm_with(lab, place, "", disk / "dhcpd.leases") as (_, client),
    ):
        assert "needs 2 to rewrite its lease file" in finding(client, "disk_low").message
        filler = fill(disk)
        with pytest.raises(StorageFailed) as refused:
            client.allocate_group("farm", "group", 60)
        assert refused.value.details["result"] == 26
        told = finding(client, "storage_failed")
        assert "check the space and permissions of its directory" in told.hint
        filler.unlink()
        client.allocate_group("farm", "group", 3)
        wait_status(
            client,
            lambda now: {one.code for one in now.findings} == {"disk_low", "lease_file_damaged"},
            "the torn record to be all that is left of it",
        )


def test_lease_file_that_is_gone_is_found(lab: Lab, place: Path) -> None:
    """dhcpd goes on writing into a deleted file; that its reservations will be forgotten is told."""
    with farm_with(lab, place, "") as (farm, client):
        farm.leases.unlink()
        assert "it writes into a file that is gone" in finding(client, "lease_file_missing").hint


def test_lease_file_that_cannot_be_read_is_found(lab: Lab, place: Path) -> None:
    """A pipe in its place is a finding as long as it lasts; what was found before stays, and machines are served."""
    with farm_with(lab, place, "resync_s = 1\n") as (farm, client):
        farm.dhcpd.omshell(
            'new host\nset name = "printer"\nset hardware-address = 00:11:22:33:44:55\nset hardware-type = 1\n'
            "set ip-address = 0a:01:01:07\ncreate\n"
        )
        finding(client, "foreign_host")
        kept, pipe = farm.leases.with_suffix(".kept"), farm.leases.with_suffix(".pipe")
        os.mkfifo(pipe)
        kept.hardlink_to(farm.leases)
        pipe.rename(farm.leases)  # there is a file at any moment: that there is none is another finding
        assert "It is no ordinary file" in finding(client, "lease_file_unreadable").message
        before = client.status().dhcpds[0].compared_at
        wait_status(client, lambda now: now.dhcpds[0].compared_at != before, "another comparison")
        assert {one.code for one in client.status().findings} == {"foreign_host", "lease_file_unreadable"}
        assert client.allocate("farm", "vm").state == "bound"
        kept.rename(farm.leases)
        wait_status(
            client, lambda now: {one.code for one in now.findings} == {"foreign_host"}, "it to be read"
        )


def test_host_of_somebody_else_in_a_pool_is_found_and_left_alone(lab: Lab, place: Path) -> None:
    """A foreign host with an address of a pool is reported at the next comparison, and stays as it is."""
    with farm_with(lab, place, "resync_s = 1\n") as (farm, client):
        farm.dhcpd.omshell(
            'new host\nset name = "printer"\nset hardware-address = 00:11:22:33:44:55\nset hardware-type = 1\n'
            "set ip-address = 0a:01:01:07\ncreate\n"
        )
        told = finding(client, "foreign_host")
        assert told.message.startswith("The host 'printer' of dhcpd 'main', ")
        assert "10.1.1.7" in told.message
        assert told.message.endswith("it is passed over.")
        until(lambda: "1 foreign binding left alone" in farm.log(), SOON_S, "the comparison to say so")
        assert farm.dhcpd.omshell_host("00:11:22:33:44:55") is not None


def test_metrics_count_findings_by_kind(lab: Lab, place: Path) -> None:
    """Prometheus sees when dhcpd answered, that it does not, and how many findings of which kind there are."""
    lab.port("machine")
    with farm_with(lab, place, PROBE + "resync_s = 1\n") as (farm, client):
        wait_status(client, lambda now: now.dhcpds[0].answered_at, "an answer")
        farm.dhcpd.kill()
        finding(client, "dhcpd_deaf")
        finding(client, "dhcpd_unavailable")
        metrics = subprocess.run(
            ["curl", "-s", "--unix-socket", str(farm.socket), "http://macbind/metrics"],
            capture_output=True,
            text=True,
            check=True,
            timeout=SOON_S,
        ).stdout
        assert 'macbind_dhcpd_serving{dhcpd="main"} 0.0' in metrics
        assert 'macbind_dhcpd_state{dhcpd="main",state="unavailable"} 1.0' in metrics
        assert 'macbind_findings{code="dhcpd_deaf"} 1.0' in metrics
        assert 'macbind_findings{code="two_dhcpds"} 0.0' in metrics
        assert 'macbind_dhcpd_last_answer_timestamp_seconds{dhcpd="main"} 1' in metrics
