"""The script for Linux on network cards of its own: what it looks at, asks, configures, undoes and leaves alone."""

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from labkit.box import ADDRESS, MAC, Box
from labkit.net import Lab, Port
from labkit.wait import until
from labkit.xenstored import Xenstored
from macbind.guest.linux import CHANNELS
from macbind.virt import xenstore


@pytest.fixture(scope="module")
def network() -> Iterator[Lab]:
    """A bridge without a DHCP server."""
    with Lab() as lab:
        yield lab


@pytest.fixture
def box(network: Lab, tmp_path: Path) -> Iterator[Box]:
    """A machine with a pool's MAC, switched off; unplugged at the end."""
    port = network.port(f"box-{len(network.ports)}", MAC)
    port.namespace.ip("link set eth0 down")
    yield Box(port, tmp_path)
    network.server.ip(f"link set to-{port.name} down")


@pytest.fixture(scope="module")
def squatter(network: Lab) -> Port:
    """A machine that can take an address."""
    return network.port("squatter", "02:00:00:00:00:99")


@pytest.mark.parametrize(
    "shell",
    ["busybox sh", "dash"],
    ids=["arping of busybox", "the kernel's ARP"],
)
def test_an_address_in_use_is_refused(box: Box, squatter: Port, shell: str) -> None:
    """Whatever asks, another's address is refused with its MAC, the card is off again, and a free one is taken."""
    squatter.add_address(f"{ADDRESS}/8")
    done = box.run(status=5, shell=shell)
    squatter.flush()
    assert f"another machine ({squatter.mac}) has {ADDRESS}, the address of {MAC}." in done.stderr.lower()
    assert box.addresses() == []
    assert "DOWN" in box.link()
    assert not (box.place / "run/macbind").exists()
    done = box.run(shell=shell)
    assert done.stdout == f"mac2ip: eth0 {MAC} {ADDRESS}/8 gateway 10.1.0.1 (pool seed)\n"
    assert done.stderr == ""
    assert box.addresses() == [f"{ADDRESS}/8"]


def test_everything_is_configured_once(box: Box, network: Lab) -> None:
    """Address, route, DNS and name are there after the first run; the second changes nothing; a dry one says so."""
    (box.place / "etc/resolv.conf").write_text("nameserver 192.0.2.1\noptions edns0 trust-ad\n")
    shown = box.run("--dry-run", "--probes=0").stdout
    assert f"would run: ip addr add {ADDRESS}/8 brd + dev eth0" in shown
    assert box.addresses() == []
    box.run("--probes=0")
    assert box.addresses() == [f"{ADDRESS}/8"]
    assert box.routes() == ["default via 10.1.0.1 dev eth0 proto static"]
    resolver = box.place / "etc/resolv.conf"
    assert resolver.read_text() == "search farm.example.org\nnameserver 10.0.0.53\noptions edns0 trust-ad\n"
    assert network.ping(ADDRESS)
    before = resolver.stat().st_mtime_ns
    box.run()
    assert resolver.stat().st_mtime_ns == before
    assert box.run("--dry-run").stdout == f"mac2ip: eth0 {MAC} {ADDRESS}/8 gateway 10.1.0.1 (pool seed)\n"


def test_dns_that_cannot_be_set_costs_no_address(box: Box) -> None:
    """A resolver's file that cannot be written (an admin has locked it) is told; the machine is reachable."""
    (box.place / "etc/resolv.conf").mkdir()
    done = box.run("--probes=0")
    assert "mac2ip: The DNS servers (10.0.0.53) are not set: " in done.stderr
    assert "resolv.conf: Is a directory" in done.stderr
    assert box.addresses() == [f"{ADDRESS}/8"]


def test_default_routes_of_other_cards_stay(box: Box) -> None:
    """A card for management keeps its ways out, whatever their metrics; ours come behind, and that is said."""
    others = ["default via 192.0.2.1 dev mgmt", "default via 192.0.2.2 dev mgmt metric 1"]
    box.port.namespace.ip(
        "link add mgmt address b8:27:eb:00:00:01 type veth peer name zzm address b8:27:eb:00:00:02",
        "link set mgmt up",
        "addr add 192.0.2.9/24 dev mgmt",
        *(f"route add {route}" for route in others),
    )
    for said in ("mac2ip: eth0: the default route of another NIC comes before its own.\n", ""):
        assert box.run("--probes=0").stderr == said
        shown = [route.replace(" linkdown", "") for route in box.routes()]
        assert shown == [*others, "default via 10.1.0.1 dev eth0 proto static metric 2"]


def test_a_sleep_without_fractions_waits_no_longer(box: Box) -> None:
    """Where sleep knows whole seconds only, --wait still means seconds."""
    tool = box.place / "tools/sleep"
    tool.unlink()
    tool.write_text('#!/bin/sh\ncase $1 in *.*) exit 1 ;; esac\nexec busybox sleep "$1"\n')
    tool.chmod(0o755)
    box.port.mac = "02:00:00:00:00:06"
    begun = time.monotonic()
    box.run("--wait=5", status=3)
    assert 5 <= time.monotonic() - begun < 45  # if each of its looks took a whole second, 50


def test_cards_that_are_none_are_passed_over(box: Box) -> None:
    """A bridge, what is in it, a tunnel, taps and what lies on a card keep out of it; two cards are configured."""
    box.port.namespace.ip(
        "link set eth0 name enp0s31",
        "link add aaa type bridge",
        "link set aaa address 00:16:3e:02:02:01",
        "link add aab type vxlan id 7 dstport 0",
        "link set aab address 00:16:3e:02:02:02",
        "link add aac address 00:16:3e:02:02:03 type veth peer name zzc address b8:27:eb:00:00:01",
        "link set aac master aaa",
        "link add aad address 0a:58:ac:10:00:09 type veth peer name zzd address b8:27:eb:00:00:02",
        "link set zzd up",
        "tuntap add aae mode tap",
        "link set aae address 00:16:3e:02:02:04",
        "link add link enp0s31 name aaf address 00:16:3e:02:02:05 type macvlan",
        "link add link enp0s31 name aag address 00:16:3e:02:02:06 type macvtap",
    )
    shown = box.run("--probes=0").stdout.splitlines()
    assert shown == [
        "mac2ip: aad 0a:58:ac:10:00:09 172.16.0.9/12 gateway 172.16.0.1 (pool wide)",
        f"mac2ip: enp0s31 {MAC} {ADDRESS}/8 gateway 10.1.0.1 (pool seed)",
    ]
    assert box.routes() == [
        "default via 172.16.0.1 dev aad proto static",
        "default via 10.1.0.1 dev enp0s31 proto static metric 100",
    ]
    for manager, line in {
        "networkd": "Metric=100",
        "netplan": "metric: 100",
        "networkmanager": "route-metric=200",
        "ifupdown": "metric 100",
        "ifcfg": "DEFROUTE=no",
    }.items():
        box.install(persist=[manager])
        told = box.run("--dry-run").stdout
        assert told.count(line) == 1
        assert told.count(MAC) + told.count("iface enp0s31") > 0


def test_card_in_a_bridge_is_named(box: Box) -> None:
    """Where the only card with a pool's MAC is in a bridge, it is said why it is not configured."""
    box.port.namespace.ip("link add br0 type bridge", "link set eth0 master br0")
    done = box.run(status=3)
    assert done.stderr.endswith(f"The NICs are: eth0={MAC} (passed over: it is in a bridge or bond).\n")
    assert box.addresses() == []


def test_it_waits_for_its_card(box: Box) -> None:
    """--wait lets a card appear later; until then nothing is said."""
    box.port.mac = "02:00:00:00:00:05"
    process = subprocess.Popen(
        box.command("--wait=100", "--probes=0"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    box.port.namespace.ip("link set eth0 address 0a:58:ac:10:00:0a")
    said, complained = process.communicate(timeout=150)
    assert "172.16.0.10/12" in said
    assert complained == ""


def test_terminated_while_it_asks_it_leaves_nothing(box: Box) -> None:
    """systemd or an admin ends it in the middle: the card is off again, and nothing is configured."""
    ended = box.place / "ended"
    tool = box.place / "tools/sleep"
    tool.unlink()
    tool.write_text(f"#!/bin/sh\nuntil [ -e {ended} ]; do busybox sleep 0.02; done\n")
    tool.chmod(0o755)
    process = subprocess.Popen(box.command("--probes=9"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: "UP" in box.link(), 60, "the card to be switched on")
    process.terminate()
    ended.touch()  # however late that was, it was still asking
    process.communicate(timeout=60)
    assert process.returncode == 1
    assert "DOWN" in box.link()
    assert box.addresses() == []
    assert not (box.place / "run/macbind").exists()


def test_card_without_a_cable_is_configured_all_the_same(box: Box) -> None:
    """Nobody can be asked without a carrier; that is said, and the address is there when the cable is."""
    outer = f"to-{box.port.name}"
    box.port.lab.server.ip(f"link set {outer} down")
    done = box.run()
    assert (
        "eth0 has no carrier; the network could not be asked whether another machine has 10.1.1.3."
        in done.stderr
    )
    assert box.addresses() == [f"{ADDRESS}/8"]


def told(**changes: str) -> dict[str, str]:
    """What a host says of a machine with MAC."""
    said = {"mac": MAC, "address": "192.0.2.9/24", "gateway": "192.0.2.1", "dns": "192.0.2.53 192.0.2.54"}
    return {key: value for key, value in {**said, **changes}.items() if value}


def test_xenstore_and_a_new_address(box: Box) -> None:
    """The host's word counts more than the MAC; when it says another address, the one given before goes."""
    box.install(channels=CHANNELS)
    box.run("--probes=0")
    box.xen(**told(search="told.example.org", hostname="told", data__role="hub"))
    done = box.run("--probes=0", "--hostname=vm-%")
    assert done.stdout == f"mac2ip: eth0 {MAC} 192.0.2.9/24 gateway 192.0.2.1 (xenstore)\n"
    assert box.addresses() == ["192.0.2.9/24"]
    assert box.routes() == ["default via 192.0.2.1 dev eth0 proto static"]
    resolver = (box.place / "etc/resolv.conf").read_text()
    assert resolver == "search told.example.org\nnameserver 192.0.2.53\nnameserver 192.0.2.54\n"
    identity = box.place / "run/macbind/identity"
    assert "data.role=hub" in identity.read_text().splitlines()
    assert "hostname=told" in identity.read_text().splitlines()
    assert identity.stat().st_mode & 0o777 == 0o600
    assert box.run("--identity").stdout == identity.read_text()
    box.install(channels=["fw_cfg", "smbios"])
    assert "10.1.1.3/8" in box.run("--identity").stdout
    box.run("--probes=0")
    assert box.addresses() == [f"{ADDRESS}/8"]


def test_what_is_written_into_xenstore_is_read_back(box: Box, tmp_path: Path) -> None:
    """Domain 0 of a real xenstored is told as a guest is, and the script finds every line to the letter."""
    lines = [
        *(f"{key}={value}" for key, value in told(hostname="told").items()),
        "data.role=worker",
        "data.role.of=it",
        "data.only.deep.down=here",
        "data.awkward=a,b=c \"d\" 'e' <f> & \\g $h %i \\n",
        "data.empty=",
    ]
    (tmp_path / "store").mkdir()
    with Xenstored(tmp_path / "store") as store:
        xenstore.tell(0, xenstore.keys(lines), store.socket)
        for tool in ("xenstore-read", "xenstore-list"):
            program = tmp_path / "tools" / tool
            program.write_text(f'#!/bin/sh\nXENSTORED_PATH={store.socket} exec {shutil.which(tool)} "$@"\n')
            program.chmod(0o755)
        box.install(channels=["xenstore"])
        for shell in ("dash", "busybox sh"):
            assert sorted(box.run("--identity", shell=shell).stdout.splitlines()) == sorted(lines)


def test_gateway_outside_of_the_subnet(box: Box) -> None:
    """A gateway that is on no subnet of the machine is reached over the card; managers are told so."""
    box.install(channels=["xenstore"])
    box.xen(**told(address="192.0.2.9/32", gateway="198.51.100.1"))
    box.run("--probes=0")
    assert box.routes() == ["default via 198.51.100.1 dev eth0 proto static"]
    for manager, line in {"networkd": "GatewayOnLink=yes", "netplan": "on-link: true"}.items():
        box.install(persist=[manager], channels=["xenstore"])
        assert line in box.run("--dry-run").stdout


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"mac": "00:16:3e:01:01:04"},
            "it is about 00:16:3e:01:01:04, which is no NIC of this machine.",
        ),
        ({"mac": ""}, "it names no MAC."),
        ({"address": ""}, "'' is no address."),
        ({"address": "192.0.2.9"}, "'192.0.2.9' has no prefix length."),
        ({"address": "192.0.2.9/33"}, "'192.0.2.9/33' has no prefix length."),
        ({"address": "192.0.2.256/24"}, "'192.0.2.256/24' is no address."),
        ({"gateway": "192.0.2.1 192.0.2.2"}, "'192.0.2.1 192.0.2.2' is no address."),
        ({"dns": "192.0.2.53 $(reboot)"}, "'$(reboot)' is no address."),
        ({"search": "a|b"}, "'a|b' is no domain."),
        ({"hostname": "a.b"}, "'a.b' is no host name."),
        ({"hostname": "a" * 64}, f"'{'a' * 64}' is longer than a host name can be."),
    ],
    ids=lambda value: str(next(iter(value.items()))) if isinstance(value, Mapping) else "",
)
def test_what_the_host_says_is_checked(box: Box, changes: dict[str, str], reason: str) -> None:
    """What is not about this machine, or is not well formed, is not used and told; the MAC counts then."""
    box.install(channels=["xenstore"])
    box.xen(**told(**changes))
    done = box.run("--dry-run")
    assert f"What xenstore says is not used: {reason}" in done.stderr
    assert f"{ADDRESS}/8 gateway 10.1.0.1 (pool seed)" in done.stdout


def structure(kind: int, *strings: bytes, body: bytes = b"\x01") -> bytes:
    """One structure of an SMBIOS table."""
    text = b"".join(one + b"\0" for one in strings) or b"\0"
    return bytes([kind, 4 + len(body), 0x41, 0x42]) + body + text + b"\0"


def test_smbios_table_without_entries(box: Box) -> None:
    """Where the kernel shows the table as a whole only, the OEM strings are found among other structures."""
    lines = [b"macbind:" + f"{key}={value}".encode() for key, value in told().items()]
    table = box.place / "firmware/dmi/tables/DMI"
    table.parent.mkdir(parents=True)
    table.write_bytes(
        structure(0, b"SeaBIOS", b"macbind:mac=not here", body=bytes(range(20)))
        + structure(32, body=bytes(7))
        + structure(11, b"somebody's: macbind:", *lines[:2], body=b"\x03")
        + structure(11, *lines[2:], body=b"\x02")
        + structure(127, body=b"")
    )
    box.install(channels=["smbios"])
    assert "192.0.2.9/24 gateway 192.0.2.1 (smbios)" in box.run("--dry-run", "--probes=0").stdout


def test_systemd_resolved_is_told_and_its_link_kept(box: Box) -> None:
    """Where names are resolved by systemd-resolved, its configuration is written and resolv.conf stays a link."""
    resolver = box.place / "etc/resolv.conf"
    resolver.symlink_to("../run/systemd/resolve/stub-resolv.conf")
    said = box.run("--probes=0").stderr
    assert "The DNS servers (10.0.0.53) are not set: another program writes ../run/systemd/resolve/" in said
    box.install(persist=["resolved"])
    assert box.run("--probes=0").stderr == ""
    assert resolver.is_symlink()
    written = (box.place / "run/systemd/resolved.conf.d/macbind.conf").read_text()
    assert written == "[Resolve]\nDNS=10.0.0.53\nDomains=farm.example.org\n"


def test_systemd_resolved_that_cannot_be_told_reads_a_file(box: Box) -> None:
    """Early in a boot it may run and D-Bus not: its configuration is written then, and the address stays."""
    (box.place / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (box.place / "run/systemd/resolve").mkdir(parents=True)
    os.mknod(box.place / "run/systemd/resolve/io.systemd.Resolve", stat.S_IFSOCK)
    tool = box.place / "tools/resolvectl"
    tool.write_text("#!/bin/sh\necho 'sd_bus_open_system: Connection refused' >&2\nexit 1\n")
    tool.chmod(0o755)
    box.install(persist=["resolved"])
    done = box.run("--probes=0")
    assert "'resolvectl dns eth0 10.0.0.53' failed: sd_bus_open_system: Connection refused" in done.stderr
    assert box.addresses() == [f"{ADDRESS}/8"]
    written = (box.place / "run/systemd/resolved.conf.d/macbind.conf").read_text()
    assert written == "[Resolve]\nDNS=10.0.0.53\nDomains=farm.example.org\n"


def test_no_manager_to_write_for(box: Box) -> None:
    """--persist auto on a machine without any network manager ends with status 7 before anything is touched."""
    box.install(persist=["auto"])
    done = box.run(status=7)
    assert "No network manager was found on this machine." in done.stderr
    assert box.addresses() == []
