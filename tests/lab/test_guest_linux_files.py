"""What the script for Linux writes down for network managers: taken back on failure, and never another's address."""

import stat
from collections.abc import Iterator
from pathlib import Path
from socket import gethostname

import pytest

from labkit.box import ADDRESS, MAC, Box
from labkit.net import Lab, Port

MANAGERS = ("networkd", "networkmanager", "netplan", "ifupdown", "ifcfg")
each_manager = pytest.mark.parametrize("manager", MANAGERS)
SECRETIVE = """\
iface eth0 inet dhcp
    wpa-psk 0123456789abcdef
"""


@pytest.fixture(scope="module")
def network() -> Iterator[Lab]:
    """A bridge without a DHCP server."""
    with Lab() as lab:
        yield lab


@pytest.fixture
def box(network: Lab, tmp_path: Path) -> Iterator[Box]:
    """A machine with a pool's MAC, and the files of a template for every manager."""
    port = network.port(f"box-{len(network.ports)}", MAC)
    port.namespace.ip("link set eth0 down")
    box = Box(port, tmp_path)
    for path, mode, text in (
        ("network/interfaces", 0o644, "auto lo\niface lo inet loopback\n"),
        ("network/interfaces.d/wifi", 0o600, SECRETIVE),
        ("sysconfig/network", 0o644, "NETWORKING=yes\nHOSTNAME=template\n"),
        ("sysconfig/network-scripts/ifcfg-lo", 0o644, "DEVICE=lo\n"),
        ("systemd/network/05-macbind-ens9.network", 0o644, "[Match]\nName=*\n"),
        ("NetworkManager/system-connections/macbind-ens9.nmconnection", 0o600, "[connection]\n"),
        ("hostname", 0o640, "template\n"),
        ("hosts", 0o644, "127.0.0.1\tlocalhost\n127.0.1.1\ttemplate\n"),
        ("resolv.conf", 0o644, "nameserver 192.0.2.1\n"),
    ):
        file = tmp_path / "etc" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
    yield box
    network.server.ip(f"link set to-{port.name} down")


@pytest.fixture(scope="module")
def squatter(network: Lab) -> Port:
    """A machine that can take an address."""
    return network.port("squatter", "02:00:00:00:00:99")


def files(box: Box) -> dict[str, tuple[str, str]]:
    """What is in the machine's /etc and /run: mode and content of each file, by its path."""
    return {
        str(path.relative_to(box.place)): (stat.filemode(path.stat().st_mode), path.read_text())
        for part in ("etc", "run")
        for path in sorted((box.place / part).rglob("*"))
        if path.is_file()
    }


def holders(box: Box) -> list[str]:
    """The files that give somebody the address."""
    return [path for path, (_, text) in files(box).items() if ADDRESS in text and path.startswith("etc")]


@each_manager
def test_what_fails_at_the_end_leaves_every_file_as_it_was(box: Box, manager: str) -> None:
    """The last thing written cannot be written: files, modes, addresses, routes and the card are as before."""
    before = files(box)
    obstacle = box.place / "run/macbind/identity.mac2ip"
    obstacle.mkdir(parents=True)
    box.install(persist=[manager], channels=["xenstore"])
    done = box.run("--probes=0", "--hostname=vm-%", status=1)
    assert "mac2ip: /run/macbind/identity cannot be written: " in done.stderr
    assert "/run/macbind/identity.mac2ip: Is a directory" in done.stderr
    assert done.stderr.count("\n") == 1
    assert files(box) == before
    assert (box.addresses(), box.routes()) == ([], [])
    obstacle.rmdir()
    box.run("--probes=0", "--hostname=vm-%")
    assert holders(box)
    assert not list((box.place / "run/macbind").glob("undo*"))


def test_failure_gives_the_old_name_back(box: Box) -> None:
    """The machine's name is among what is taken back; a dry run says how it would be set."""
    box.install(channels=["xenstore"])
    assert "would run: hostname vm-10-1-1-3\n" in box.run("--dry-run", "--hostname=vm-%").stdout
    names = box.place / "names"
    tool = box.place / "tools/hostname"
    tool.unlink()
    tool.write_text(f'#!/bin/sh\necho "$1" >>{names}\n')
    tool.chmod(0o755)
    (box.place / "run/macbind/identity.mac2ip").mkdir(parents=True)
    box.run("--probes=0", "--hostname=vm-%", status=1)
    assert names.read_text().splitlines() == ["vm-10-1-1-3", gethostname()]


def test_failure_of_a_second_run_leaves_the_first(box: Box) -> None:
    """When the host says another address and that cannot be written down, the machine keeps the one it has."""
    box.install(persist=["networkd"], channels=["xenstore"])
    box.run("--probes=0")
    before, routes = files(box), box.routes()
    box.xen(mac=MAC, address="192.0.2.9/24", gateway="192.0.2.1", dns="192.0.2.53")
    obstacle = box.place / "run/macbind/identity.mac2ip"
    obstacle.mkdir()
    box.run("--probes=0", status=1)
    assert files(box) == before
    assert (box.addresses(), box.routes()) == ([f"{ADDRESS}/8"], routes)
    obstacle.rmdir()
    box.run("--probes=0")
    assert (box.addresses(), box.routes()) == (
        ["192.0.2.9/24"],
        ["default via 192.0.2.1 dev eth0 proto static"],
    )


@each_manager
def test_no_manager_gives_an_address_that_was_refused(box: Box, squatter: Port, manager: str) -> None:
    """Somebody else took the address since the last boot: what was written at that boot would bring it up again."""
    box.install(persist=[manager])
    box.run("--probes=0")
    assert holders(box)
    box.port.namespace.ip("addr flush dev eth0")
    squatter.add_address(f"{ADDRESS}/8")
    done = box.run(status=5)
    assert f"another machine ({squatter.mac}) has {ADDRESS}, the address of {MAC}." in done.stderr.lower()
    squatter.flush()
    assert holders(box) == []
    box.run("--probes=0")
    assert holders(box)


@each_manager
def test_no_file_is_good_for_a_copy_of_the_machine(box: Box, manager: str) -> None:
    """Whatever a template's disk says is for the template's MAC only: a copy whose MAC is refused stays silent."""
    box.install(persist=[manager])
    box.run("--probes=0")
    (holder,) = holders(box)
    condition = {
        "networkd": f"[Match]\nMACAddress={MAC}\nName=eth0\n",
        "networkmanager": f"[ethernet]\nmac-address={MAC}\n",
        "netplan": f'      match:\n        macaddress: "{MAC}"\n',
        "ifupdown": f"    pre-up grep -qix {MAC} /sys/class/net/$IFACE/address\n",
        "ifcfg": f"HWADDR={MAC}\n",
    }
    assert condition[manager] in (box.place / holder).read_text()


@pytest.mark.parametrize(
    ("renderer", "written"),
    [
        ("networkd", "/etc/netplan/90-macbind.yaml:"),
        ("NetworkManager", "/etc/NetworkManager/system-connections/macbind-eth0.nmconnection:"),
    ],
)
def test_netplan_is_passed_by_where_it_writes_for_networkmanager(
    box: Box, renderer: str, written: str
) -> None:
    """`auto` writes for whoever will bring the card up before it looks at other profiles."""
    (box.place / "etc/network/interfaces.d/wifi").unlink()
    (box.place / "etc/netplan").mkdir()
    (box.place / "etc/netplan/01.yaml").write_text(f"network:\n  version: 2\n  renderer: {renderer}\n")
    for tool in ("netplan", "systemctl"):  # All is enabled, nothing runs.
        program = box.place / "tools" / tool
        program.write_text('#!/bin/sh\n[ "$1" != is-active ]\n')
        program.chmod(0o755)
    box.install(persist=["auto"])
    assert f"would write {written}" in box.run("--dry-run").stdout


def test_secrets_of_other_files_stay_secret(box: Box) -> None:
    """What becomes a comment keeps its mode, and so does the machine's name."""
    box.install(persist=["ifupdown"])
    box.run("--probes=0", "--hostname=vm-%")
    mode, text = files(box)["etc/network/interfaces.d/wifi"]
    assert (mode, text) == ("-rw-------", "".join(f"# mac2ip: {line}\n" for line in SECRETIVE.splitlines()))
    assert files(box)["etc/hostname"] == ("-rw-r-----", "vm-10-1-1-3\n")
    assert "127.0.1.1\tvm-10-1-1-3\n" in files(box)["etc/hosts"][1]
    assert files(box)["etc/sysconfig/network"][1] == "NETWORKING=yes\nHOSTNAME=vm-10-1-1-3\n"


def test_ifcfg_as_text(box: Box) -> None:
    """What is written for Red Hat's initscripts; nothing on a Debian can read it."""
    scripts = box.place / "etc/sysconfig/network-scripts"
    (scripts / "ifcfg-eth7").write_text("# Written by mac2ip.\nDEVICE=eth7\n")
    (box.place / "etc/network/interfaces").unlink()
    (box.place / "etc/network/interfaces.d/wifi").unlink()
    box.install(persist=["auto"])
    box.run("--probes=0")
    assert (scripts / "ifcfg-eth0").read_text() == (
        f"# Written by mac2ip.\nDEVICE=eth0\nHWADDR={MAC}\nTYPE=Ethernet\nONBOOT=yes\nBOOTPROTO=none\n"
        f"IPADDR={ADDRESS}\nPREFIX=8\nNETMASK=255.0.0.0\nGATEWAY=10.1.0.1\nDNS1=10.0.0.53\n"
        "DOMAIN=farm.example.org\n"
    )
    assert sorted(path.name for path in scripts.iterdir()) == ["ifcfg-eth0", "ifcfg-lo"]
