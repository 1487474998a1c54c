"""When machines were last seen, on a real dhcpd and a real libvirt; and machines that never ask for their address."""

import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labkit.clients import udhcpc
from labkit.farm import Farm
from labkit.guest import Guest, boot, wait_ping
from labkit.net import Lab
from labkit.virt import Libvirtd
from labkit.wait import until
from macbind.core.why import Reason
from macbind.engine.hearing import SETTLES
from macbind.service.machines_seen import ASKS_WITHIN

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]
"""
NEVER_ASKS = "#!/bin/sh\nexit 0\n"


def test_a_machine_that_asks_by_dhcp_is_seen(lab: Lab, tmp_path: Path) -> None:
    """It is told by list, show and why, outlives a restart, and the machine is not idle; another one is."""
    with tempfile.TemporaryDirectory(prefix="mb-") as name:
        place = Path(name)
        log = f'log = "{place / "dhcpd.log"}"\n'
        with Farm(lab, place, pools=POOLS, dhcpd=log) as farm, farm.client() as client:
            vm = client.allocate("farm", "vm")
            client.allocate("farm", "quiet")
            assert client.get("vm").last_seen is None
            assert udhcpc(lab.port("vm", mac=str(vm.mac))).address == vm.address
            until(lambda: client.get("vm").last_seen, 60, "dhcpd's log to tell of the machine")
            seen = client.get("vm")
            assert seen.seen_by in ("dhcp", "neighbours")
            assert farm.macbind("show", "vm").count("last seen:") == 1
            wide = {line.split()[2]: line.split()[9] for line in farm.macbind("list", "--wide").splitlines()}
            assert wide["NAME"] == "SEEN"
            assert wide["quiet"] == "-"
            assert wide["vm"][:-1].isdigit()
            assert Reason.SEEN in [one.code for one in client.why("vm")[0].reasons]

            until(
                lambda: {one.name for one in client.list(idle_s=2)} >= {"quiet"}, 60, "a machine to be idle"
            )
            assert list(client.list(idle_s=3600)) == []
            assert farm.macbind_json("list", "--idle", "1h") == []
            assert farm.run("list", "--idle", "soon").returncode == 4

            assert farm.stop() == 0
            farm.start()
            farm.wait_serving()
            again = client.get("vm")
            assert again.last_seen is not None
            assert seen.last_seen is not None
            assert again.last_seen >= seen.last_seen
            assert client.get("quiet").last_seen is None


def test_a_machine_that_answers_this_host_is_seen(lab: Lab) -> None:
    """The kernel's neighbour table tells of it, where no log is read and libvirt is not watched."""
    with (
        tempfile.TemporaryDirectory(prefix="mb-") as name,
        Farm(lab, Path(name), pools=POOLS) as farm,
        farm.client() as client,
    ):
        vm = client.allocate("farm", "vm")
        port = lab.port("vm", mac=str(vm.mac))
        port.add_address(f"{vm.address}/8")
        assert lab.ping(vm.address, 10)
        until(lambda: client.get("vm").seen_by == "neighbours", 60, "the kernel to tell of the machine")


@pytest.mark.timeout(500)
def test_a_machine_that_never_asks_is_found(lab: Lab) -> None:
    """It runs and is silent, while another one asks; the finding names it, and a restart raises no false alarm."""
    guest = Guest.build()
    with tempfile.TemporaryDirectory(prefix="mb-") as name:
        place = Path(name)
        (place / "virt").mkdir()
        (place / "farm").mkdir()
        silent = guest.with_files(place / "silent.img", {"mac2ip": NEVER_ASKS})
        log = f'log = "{place / "farm" / "dhcpd.log"}"\nprobe = "br0"\nprobe_interval_s = 1\n'
        with Libvirtd(lab, place / "virt") as libvirtd:
            pools = f'{POOLS}\n[hypervisor.local]\nuri = "{libvirtd.uri}"\n'
            with Farm(lab, place / "farm", pools=pools, dhcpd=log) as farm, farm.client(30) as client:
                until(lambda: client.status().hypervisors[0].connected, 60, "the hypervisor")
                lab.port("any")  # nobody is asked on a bridge without machines
                until(lambda: client.status().dhcpds[0].answered_at, 60, "dhcpd to be watched")
                heard_since = datetime.now(UTC) + SETTLES
                until(lambda: datetime.now(UTC) > heard_since, 60, "the log to count as followed")
                mute, vm = client.allocate("farm", "mute"), client.allocate("farm", "vm")
                boot(libvirtd, silent.template(name="mute", mac=str(mute.mac)))
                console = boot(libvirtd, guest.template(name="vm", mac=str(vm.mac)))
                wait_ping(lab, vm.address, console=console)
                until(lambda: client.get("mute").seen_by == "libvirt", 60, "libvirt to tell of the machine")
                assert "its domain runs" in farm.macbind("why", "mute")
                sentence = until(lambda: farm.findings().get("never_asked"), 240, "the machine to be missed")
                assert sentence is not None
                runs = re.match(r"The domain 'mute' on 'local' has run for (\d+) minutes, ", sentence)
                assert runs is not None, sentence
                assert int(runs[1]) * 60 >= ASKS_WITHIN.total_seconds(), "it may be about to ask"
                assert sentence.endswith(f"and never asked for its address {mute.address} ('mute') by DHCP.")

                assert farm.stop() == 0
                farm.start()
                farm.wait_serving()
                until(lambda: client.get("vm").seen_by is not None, 60, "machines to be looked at again")
                assert "never_asked" not in farm.findings()
