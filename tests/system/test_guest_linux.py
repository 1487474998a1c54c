"""The script for Linux in a Debian with systemd: at boot, before the network, and for its network managers."""

import shutil
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from labkit.debian import image
from labkit.installed import CACHE
from labkit.mac2ip import SCHEMES
from labkit.net import Lab, Port
from labkit.netns import run_command
from labkit.nspawn import Machine
from labkit.wait import until
from macbind.core.ipv6 import link_local
from macbind.core.mac_address import MacAddress
from macbind.guest.linux import render, unit

ADDRESS, MAC = "10.1.1.3", "00:16:3e:01:01:03"
CLONE, CLONE_MAC = "10.1.1.4", "00:16:3e:01:01:04"
FOREIGN_MAC = "b8:27:eb:01:01:04"
TEMPLATES_INTERFACES = """\
auto lo
iface lo inet loopback

allow-hotplug eth0
iface eth0 inet static
    address 10.1.1.200/8
    gateway 10.0.0.1
iface eth0 inet6 manual
"""
PRIVATE = "[connection]\nipv6.addr-gen-mode=1\nipv6.ip6-privacy=2\n"
"""What a distribution may have NetworkManager do by default: IPv6 addresses that nobody can know before."""
CLOUD_INIT = "network: {version: 2, ethernets: {eth0: {dhcp4: true}}}\n"


@pytest.fixture(scope="module")
def port() -> Iterator[Port]:
    """A cable to a bridge where no DHCP server is."""
    with Lab() as lab:
        port = lab.port("debian", MAC)
        lab.run(["sysctl", "-q", "-w", "net.ipv6.conf.eth0.disable_ipv6=0"], port)
        yield port


@pytest.fixture(scope="module")
def debian(port: Port, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A Debian on that cable, made as a template: script and unit are installed, NetworkManager is enabled."""
    place = tmp_path_factory.mktemp("guest")
    root = place / "added"
    for path, mode, text in (
        ("usr/local/sbin/mac2ip", 0o755, render(SCHEMES, persist=["networkmanager"])),
        ("etc/systemd/system/mac2ip.service", 0o644, unit()),
        ("etc/default/mac2ip", 0o644, "MAC2IP_OPTIONS=--hostname=vm-%\n"),
        ("etc/NetworkManager/conf.d/private.conf", 0o644, PRIVATE),
    ):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
    manager = "usr/lib/systemd/system/NetworkManager.service"
    (root / manager).parent.mkdir(parents=True)
    shutil.copy(image(CACHE) / manager, root / manager)
    run_command(["systemctl", f"--root={root}", "--quiet", "enable", "mac2ip", "NetworkManager"])
    # One has nothing to do here, the other would wait for an IPv6 router.
    for service in ("isc-dhcp-server", "systemd-networkd-wait-online"):
        (root / f"etc/systemd/system/{service}.service").symlink_to("/dev/null")
    with Machine(port.lab, image(CACHE), place, port=port, added=root) as machine:
        yield machine


def write(machine: Machine, path: str, text: str) -> None:
    """A file in the machine."""
    machine.run("sh", "-c", f"cat >{path}", stdin=text)


def read(machine: Machine, path: str) -> str:
    """What is in a file of the machine."""
    return machine.run("cat", path).stdout


def started(machine: Machine, service: str, what: str) -> int:
    """When a unit came to a state, in microseconds since the boot."""
    return int(machine.unit(service, f"{what}Monotonic"))


def answers(machine: Machine, address: str) -> bool:
    """Whether the machine answers a ping and takes TCP connections at this address."""
    assert machine.lab.ping(address, 10)
    machine.run("systemd-run", "--quiet", "--unit=web", "systemd-socket-activate", "--accept", "--inetd",
                f"--listen={address}:80", "cat")  # fmt: skip
    until(
        lambda: machine.run("sh", "-c", f"ss -Hlt src {address}:80", status=None).stdout, 60, "the web server"
    )
    with machine.lab.open_socket(address, 80):
        return True


def default_routes(machine: Machine) -> list[str]:
    """The machine's default routes."""
    return machine.run("ip", "route", "show", "default").stdout.splitlines()


def wait_for_link_local(machine: Machine, mac: str) -> None:
    """Until the machine has the IPv6 address that macbind tells of its MAC."""
    asked = ["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]
    wanted = str(link_local(MacAddress.parse(mac)))
    until(lambda: wanted in machine.run(*asked).stdout, 60, f"the address {wanted}")


def test_at_boot_before_networkmanager(debian: Machine) -> None:
    """The unit ends before NetworkManager starts, which then brings up the profile it has written."""
    assert debian.run("systemd-analyze", "verify", "/etc/systemd/system/mac2ip.service").stderr == ""
    assert debian.unit("mac2ip", "Result") == "success", debian.journal("mac2ip")
    until(
        lambda: (
            "activated"
            in debian.run("nmcli", "-g", "GENERAL.STATE", "connection", "show", "macbind-eth0").stdout
        ),
        60,
        "NetworkManager to bring up the profile",
    )
    assert started(debian, "mac2ip", "ActiveEnterTimestamp") > 0
    assert started(debian, "mac2ip", "ActiveEnterTimestamp") < started(
        debian, "NetworkManager", "ExecMainStartTimestamp"
    )
    shown = debian.run(
        "nmcli", "-g", "IP4.ADDRESS,IP4.GATEWAY,IP4.DNS,IP4.SEARCHES", "device", "show", "eth0"
    ).stdout
    assert shown.split() == [f"{ADDRESS}/8", "10.1.0.1", "10.0.0.53", "farm.example.org"]
    wait_for_link_local(debian, MAC)
    assert len(default_routes(debian)) == 1
    assert answers(debian, ADDRESS)
    connection = ("nmcli", "-g", "GENERAL.DBUS-PATH", "connection", "show", "macbind-eth0")
    before, routes = debian.run(*connection).stdout, default_routes(debian)
    debian.run("mac2ip")
    assert (debian.run(*connection).stdout, default_routes(debian)) == (before, routes)
    assert debian.run("hostname").stdout == "vm-10-1-1-3\n"
    assert read(debian, "/etc/hostname") == "vm-10-1-1-3\n"


def test_copy_of_the_image_before_networkd(debian: Machine, port: Port) -> None:
    """With another MAC and another manager, the same disk has the other address; old files are no obstacle."""
    debian.run("systemctl", "disable", "--quiet", "NetworkManager")
    debian.run("systemctl", "enable", "--quiet", "systemd-networkd")
    debian.run("mv", "/etc/network/interfaces", "/var/tmp/")
    debian.run("rm", "/etc/default/mac2ip")
    write(debian, "/usr/local/sbin/mac2ip", render(SCHEMES, persist=["auto"]))
    write(debian, "/etc/systemd/network/05-macbind-ens9.network", "[Match]\nName=*\n[Network]\nDHCP=yes\n")
    port.flush()
    port.mac = CLONE_MAC
    debian.reboot()
    assert debian.unit("mac2ip", "Result") == "success", debian.journal("mac2ip")
    assert started(debian, "mac2ip", "ActiveEnterTimestamp") < started(
        debian, "systemd-networkd", "ExecMainStartTimestamp"
    )
    mine = "Network File: /etc/systemd/network/05-macbind-eth0.network"
    until(lambda: mine in status(debian) and "routable" in status(debian), 60, "networkd to configure eth0")
    assert "ens9" not in debian.run("ls", "/etc/systemd/network").stdout
    assert [str(one) for one in port.addresses()] == [f"{CLONE}/8"]
    wait_for_link_local(debian, CLONE_MAC)
    assert len(default_routes(debian)) == 1
    assert answers(debian, CLONE)
    assert not debian.lab.ping(ADDRESS, 0.3)


def test_networkd_uses_it_for_this_card_only(debian: Machine, port: Port) -> None:
    """A bridge with the card's MAC stays without address, and so does a copy of the machine that mac2ip refuses."""
    debian.run("ip", "link", "add", "twin", "address", CLONE_MAC, "type", "bridge")
    debian.run("ip", "link", "set", "twin", "up")
    until(lambda: "unmanaged" in status(debian, "twin"), 60, "networkd to look at the bridge")
    assert "Network File: n/a" in status(debian, "twin")
    debian.run("ip", "link", "del", "twin")
    port.flush()
    port.mac = FOREIGN_MAC
    debian.run("mac2ip", status=3)
    debian.run("systemctl", "restart", "systemd-networkd")
    until(lambda: "unmanaged" in status(debian), 60, "networkd to leave eth0 alone")
    assert not port.addresses()
    port.mac = CLONE_MAC
    debian.run("systemctl", "restart", "systemd-networkd")
    until(lambda: "routable" in status(debian), 60, "networkd to configure eth0")


def status(machine: Machine, card: str = "eth0") -> str:
    """What networkd says of an interface."""
    return machine.run("networkctl", "status", "--no-pager", "--lines=0", card).stdout


def test_twice_is_once(debian: Machine) -> None:
    """A second run changes no file and no route, and asks nobody; one that is only shown says there is nothing."""
    find = "find /etc -newer /run/mark -type f"
    debian.run("touch", "/run/mark")
    routes = default_routes(debian)
    debian.run("mac2ip")
    assert debian.run("sh", "-c", find).stdout == ""
    assert default_routes(debian) == routes
    shown = debian.run("mac2ip", "--dry-run").stdout
    assert "would write" not in shown
    assert "would ask" not in shown


def test_netplan_takes_what_is_written(debian: Machine) -> None:
    """netplan accepts the file and makes of it the first one that networkd looks at, before cloud-init's."""
    write(debian, "/etc/netplan/50-cloud-init.yaml", CLOUD_INIT)
    debian.run("mac2ip")
    first, second = sorted(debian.run("ls", "/run/systemd/network").stdout.split())
    assert (first, second) == ("10-netplan-0macbind-eth0.network", "10-netplan-eth0.network")
    made = read(debian, f"/run/systemd/network/{first}")
    for line in (
        f"MACAddress={CLONE_MAC}",
        f"Address={CLONE}/8",
        "Gateway=10.1.0.1",
        "DNS=10.0.0.53",
        "Domains=farm.example.org",
    ):
        assert line in made
    debian.run("rm", "-r", "/etc/netplan", "/run/systemd/network")


def test_ifupdown_takes_what_is_written(debian: Machine, port: Port) -> None:
    """The template's own stanza is a comment now, and ifup brings the interface up with ours; a copy does not."""
    debian.run("systemctl", "disable", "--now", "--quiet", "systemd-networkd.socket", "systemd-networkd")
    write(debian, "/etc/network/interfaces", TEMPLATES_INTERFACES)
    debian.run("mac2ip")
    query = debian.run("ifquery", "eth0").stdout
    assert f"address: {CLONE}\n" in query
    assert "netmask: 255.0.0.0\n" in query
    assert "gateway: 10.1.0.1\n" in query
    assert "10.1.1.200" not in query
    kept = read(debian, "/etc/network/interfaces")
    assert "# mac2ip: iface eth0 inet static" in kept
    assert "\niface eth0 inet6 manual\n" in kept
    assert debian.run("ifquery", "--list").stdout.split() == ["lo", "eth0"]
    debian.run("ifup", "eth0")
    addresses = debian.run("ip", "-4", "-brief", "address", "show", "eth0").stdout.split()
    assert addresses[2:] == [f"{CLONE}/8"]
    assert debian.lab.ping(CLONE)
    debian.run("ifdown", "eth0")
    port.mac = FOREIGN_MAC
    debian.run("ifup", "eth0", status=1)
    assert not port.addresses()
    port.mac = CLONE_MAC


def test_taken_address_is_refused_at_boot_time(debian: Machine) -> None:
    """The unit fails with the script's status when somebody else answers, and nothing is configured."""
    lab = debian.lab
    squatter = lab.port("squatter", "02:00:00:00:00:99")
    squatter.add_address(f"{CLONE}/8")
    debian.run("ip", "addr", "flush", "dev", "eth0")
    debian.run("rm", "-rf", "/run/macbind", "/etc/network/interfaces.d/macbind")
    debian.run("systemctl", "restart", "mac2ip", status=1)
    assert debian.unit("mac2ip", "ExecMainStatus") == "5"
    assert "another machine (02:00:00:00:00:99) has" in debian.journal("mac2ip").lower()
    assert debian.run("ip", "-4", "-brief", "address", "show", "eth0").stdout.split()[2:] == []
    assert not (debian.root / "run/macbind").exists()
    assert debian.run("ls", "/etc/systemd/network").stdout == ""
    assert IPv4Address(CLONE) in [one.ip for one in squatter.addresses()]
