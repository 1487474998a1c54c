"""The laboratory's libvirt proves itself: real libvirtd, real QEMU, guests with addresses from a real dhcpd."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit.farm import Farm
from labkit.guest import Guest, boot, create_disk, greeting, reboot, tcp_answers, wait_ping
from labkit.net import Lab
from labkit.netns import CommandFailed, has_ended, run_command
from labkit.virt import Libvirtd, LibvirtdDied
from labkit.wait import until
from macbind.core.allocation import Allocation

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]
mac_prefix = "00:16:3e"
"""


@pytest.fixture(scope="module")
def guest() -> Guest:
    """Kernel and initramfs, made when the cache lacks them."""
    return Guest.build()


@pytest.fixture
def farm(lab: Lab, tmp_path: Path) -> Iterator[Farm]:
    """macbind and its dhcpd, serving."""
    with Farm(lab, tmp_path, pools=POOLS) as farm:
        yield farm


@pytest.fixture
def libvirtd(lab: Lab, tmp_path: Path) -> Iterator[Libvirtd]:
    """A libvirtd without guests."""
    with Libvirtd(lab, tmp_path / "virt") as libvirtd:
        yield libvirtd


def allocate(farm: Farm, *names: str) -> list[Allocation]:
    """An allocation for each name."""
    with farm.client() as client:
        return [client.allocate("farm", name) for name in names]


def heard(ear: socket.socket, wanted: bytes) -> bool:
    """Whether one of the frames received so far contains these bytes."""
    with contextlib.suppress(BlockingIOError):
        while wanted not in ear.recv(2048, socket.MSG_DONTWAIT):
            pass
        return True
    return False


def hosts_libvirt() -> set[Path]:
    """Every file in the host's places for libvirt."""
    places = ["/run/libvirt", "/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt"]
    return {*Path("/run").glob("libvirt*"), *(file for place in places for file in Path(place).rglob("*"))}


def mounts(below: Path) -> list[str]:
    """The mounts of this process that have to do with libvirt or with a directory."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if "libvirt" in line or str(below) in line]


def states(libvirtd: Libvirtd) -> dict[str, str]:
    """Every domain that libvirtd knows with its state."""
    return {
        name: libvirtd.virsh("domstate", name).strip()
        for name in libvirtd.virsh("list", "--all", "--name").split()
    }


def test_guest_gets_its_address_from_dhcpd_and_answers(
    lab: Lab, farm: Farm, libvirtd: Libvirtd, guest: Guest
) -> None:
    """A guest with an allocation's MAC gets its address by plain DHCP, answers, and is silent when destroyed."""
    (one,) = allocate(farm, "web")
    console = boot(libvirtd, guest.template(name="web", mac=str(one.mac)))
    wait_ping(lab, one.address, console=console)
    assert f"eth0 {one.address}/8 {one.mac}" in greeting(lab, one.address)
    assert states(libvirtd) == {"web": "running"}
    assert has_ended(libvirtd.guest_pid("web")) is False
    libvirtd.virsh("destroy", "web")
    assert states(libvirtd) == {}
    assert not lab.ping(one.address, deadline_s=0.3)
    assert not tcp_answers(lab, one.address, timeout_s=0.3)


def test_reboot_keeps_the_domain_and_shutdown_ends_it(
    lab: Lab, farm: Farm, libvirtd: Libvirtd, guest: Guest, tmp_path: Path
) -> None:
    """A guest that reboots keeps domain, process and address; the power button ends a domain that stays defined."""
    (one,) = allocate(farm, "web")
    disk = create_disk(tmp_path / "web.qcow2")
    xml = guest.disk_template(disk, name="web", mac=str(one.mac), client_id="ff00c0ffee")
    with lab.port("ear").packet_socket() as ear:
        console = boot(libvirtd, xml, persistent=True)
        wait_ping(lab, one.address, console=console)
        assert heard(ear, bytes.fromhex("3d05ff00c0ffee")), "option 61 with the client identifier"
    pid = libvirtd.guest_pid("web")
    reboot(lab, one.address, console)
    assert tcp_answers(lab, one.address)
    assert libvirtd.guest_pid("web") == pid
    libvirtd.virsh("shutdown", "web")
    until(lambda: states(libvirtd) == {"web": "shut off"}, 60, f"the guest to end; {console.tail()}")


def test_guests_outlive_libvirtd(lab: Lab, farm: Farm, libvirtd: Libvirtd, guest: Guest) -> None:
    """When libvirtd is killed its guest goes on serving, and the next libvirtd knows it and can destroy it."""
    (one,) = allocate(farm, "web")
    console = boot(libvirtd, guest.template(name="web", mac=str(one.mac)))
    wait_ping(lab, one.address, console=console)
    before, guest_pid = libvirtd.pid, libvirtd.guest_pid("web")
    libvirtd.kill()
    assert not libvirtd.alive
    with pytest.raises(LibvirtdDied, match="status -9"):
        _ = libvirtd.pid
    with pytest.raises(CommandFailed, match="failed to connect"):
        libvirtd.virsh("list")
    assert tcp_answers(lab, one.address)
    libvirtd.start()
    libvirtd.restart()
    assert libvirtd.pid != before
    assert libvirtd.guest_pid("web") == guest_pid
    assert states(libvirtd) == {"web": "running"}
    libvirtd.virsh("destroy", "web")
    until(lambda: has_ended(guest_pid), 60, "the guest to end")


def test_frozen_libvirtd_answers_when_it_is_thawed(libvirtd: Libvirtd) -> None:
    """While frozen libvirtd lets clients connect and answers none; thawed, it serves again."""
    libvirtd.freeze()
    with pytest.raises(subprocess.TimeoutExpired):
        libvirtd.virsh("list", deadline_s=0.5)
    assert libvirtd.alive
    libvirtd.thaw()
    assert states(libvirtd) == {}
    libvirtd.kill()
    assert not libvirtd.alive
    libvirtd.start()


def test_ten_guests_at_once(lab: Lab, farm: Farm, libvirtd: Libvirtd, guest: Guest) -> None:
    """Ten guests started together all get their own addresses."""
    names = [f"vm-{number}" for number in range(10)]
    machines = allocate(farm, *names)
    consoles = [boot(libvirtd, guest.template(name=one.name, mac=str(one.mac))) for one in machines]
    for one, console in zip(machines, consoles, strict=True):
        wait_ping(lab, one.address, console=console)
    assert [str(one.address) for one in machines] == [f"10.1.1.{number}" for number in range(3, 13)]
    assert set(states(libvirtd)) == set(names)


def test_two_libvirtds_in_one_lab_do_not_see_each_other(lab: Lab, tmp_path: Path, guest: Guest) -> None:
    """Each has its own domains; when one is gone with its guests, the other's go on."""
    with Libvirtd(lab, tmp_path / "a") as first:
        boot(first, guest.template(name="web"))
        with Libvirtd(lab, tmp_path / "b") as second:
            boot(second, guest.template(name="web"))
            assert first.guest_pid("web") != second.guest_pid("web")
            assert first.pid != second.pid
            gone = {second.pid, second.guest_pid("web")}
        assert all(has_ended(pid) for pid in gone)
        assert states(first) == {"web": "running"}


def test_nothing_of_libvirt_is_left_behind(lab: Lab, tmp_path: Path, guest: Guest) -> None:
    """Leaving ends libvirtd and its guests, whatever state they are in, and touches no file of the host's."""
    before = hosts_libvirt(), mounts(tmp_path)
    with Libvirtd(lab, tmp_path / "virt") as libvirtd:
        boot(libvirtd, guest.template(name="web"))
        boot(libvirtd, guest.template(name="db"), persistent=True)
        libvirtd.virsh("suspend", "db")
        libvirtd.kill()
        libvirtd.start()
        libvirtd.freeze()
        pids = lab.server.pids()
        assert {libvirtd.pid, libvirtd.guest_pid("web"), libvirtd.guest_pid("db")} <= pids
    until(lambda: not lab.server.pids(), 60, "all processes to end")
    links = run_command(["ip", "-n", lab.name, "-brief", "link"]).stdout
    assert "vnet" not in links
    assert (hosts_libvirt(), mounts(tmp_path)) == before


def test_lab_ends_a_libvirtd_that_was_forgotten(tmp_path: Path, guest: Guest) -> None:
    """Leaving the lab ends libvirtd and guests that nobody closed."""
    with Lab() as lab:
        libvirtd = Libvirtd(lab, tmp_path / "virt").__enter__()
        boot(libvirtd, guest.template(name="web"))
        pids = lab.server.pids()
        assert libvirtd.guest_pid("web") in pids
    until(lambda: all(has_ended(pid) for pid in pids), 60, "all processes to end")
    libvirtd.close()


def test_libvirtd_that_cannot_start_says_so(lab: Lab, tmp_path: Path) -> None:
    """A socket path that is too long is refused at once; a configuration it dislikes shows libvirtd's words."""
    with pytest.raises(ValueError, match="107 bytes"):
        Libvirtd(lab, tmp_path / ("long" * 30))
    with Libvirtd(lab, tmp_path / "virt") as libvirtd:
        libvirtd.stop()
        (libvirtd.directory / "etc" / "libvirtd.conf").write_text("nonsense\n")
        with pytest.raises(LibvirtdDied, match=r"libvirtd\.conf:1"):
            libvirtd.start()


def test_two_builds_make_the_same_guest(guest: Guest, tmp_path: Path) -> None:
    """The initramfs depends on nothing but its recipe, so a second build finds it in the cache."""
    fresh = Guest.build(tmp_path)
    assert fresh.initramfs.name == guest.initramfs.name
    assert fresh.initramfs.read_bytes() == guest.initramfs.read_bytes()
    changed = fresh.initramfs.stat().st_mtime_ns
    assert Guest.build(tmp_path).initramfs.stat().st_mtime_ns == changed
