"""Several hypervisors, of which one does not answer: the others and the service go on as ever."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from labkit.farm import Farm
from labkit.guest import Guest, boot, wait_ping
from labkit.net import Lab
from labkit.virt import Libvirtd
from labkit.wait import until
from macbind.client.client import Client
from macbind.core.allocation import Allocation
from macbind.core.findings import HypervisorStatus

pytestmark = pytest.mark.timeout(600)

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
lease_time_s = 3600

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]
"""
SOON_S = 60.0
HELD_S = 8.0
"""As long as an answer of a frozen hypervisor is waited for."""


@dataclass
class Site:
    """A farm whose macbind watches two libvirtds of the same lab."""

    lab: Lab
    one: Libvirtd
    two: Libvirtd
    farm: Farm
    client: Client

    def start(self, at: Libvirtd, name: str) -> Allocation:
        """Allocates an address and boots a guest with its MAC, until macbind has seen it."""
        made = self.client.allocate("farm", name)
        console = boot(at, Guest.build().template(name=name, mac=str(made.mac)))
        wait_ping(self.lab, made.address, console=console)
        until(lambda: self.client.get(name).domain_uuid, SOON_S, f"{name} to be seen")
        return made

    def hypervisor(self, name: str) -> HypervisorStatus:
        """How a hypervisor is."""
        return next(one for one in self.client.status().hypervisors if one.name == name)

    def until_free(self, made: Allocation) -> float:
        """Waits until an address is free; returns how long that took, in seconds."""
        began_at = time.monotonic()
        until(
            lambda: not list(self.client.list(address=made.address, released=True)),
            SOON_S,
            f"{made.address} to be free",
        )
        return time.monotonic() - began_at


@pytest.fixture
def site() -> Iterator[Site]:
    """One lab with dhcpd, two libvirtds and macbind."""
    with tempfile.TemporaryDirectory(prefix="mb-") as name, Lab() as lab:
        directory = Path(name)
        for part in ("v1", "v2", "farm"):
            (directory / part).mkdir()
        with Libvirtd(lab, directory / "v1") as one, Libvirtd(lab, directory / "v2") as two:
            watched = f'{POOLS}\n[hypervisor.one]\nuri = "{one.uri}"\n[hypervisor.two]\nuri = "{two.uri}"\n'
            with Farm(lab, directory / "farm", pools=watched) as farm, farm.client(30) as client:
                found = Site(lab, one, two, farm, client)
                until(
                    lambda: all(each.connected for each in client.status().hypervisors),
                    SOON_S,
                    "both to be watched",
                )
                yield found
                two.thaw()


def test_a_frozen_hypervisor_is_told_and_holds_nobody_up(site: Site) -> None:
    """A destroy elsewhere frees at once, the finding comes, and the service ends."""
    kept, freed = site.start(site.two, "kept"), site.start(site.one, "freed")
    site.two.freeze()
    site.one.virsh("destroy", "freed")
    assert site.until_free(freed) < HELD_S
    until(lambda: "hypervisor_unavailable" in site.farm.findings(), SOON_S, "the finding")
    assert site.farm.stop() == 0
    site.farm.start()
    site.farm.wait_serving()
    again = site.start(site.one, "again")
    site.one.virsh("destroy", "again")
    assert site.until_free(again) < HELD_S
    until(lambda: "hypervisor_unavailable" in site.farm.findings(), SOON_S, "the finding again")
    site.two.thaw()
    until(lambda: site.hypervisor("two").connected, SOON_S, "the hypervisor to be watched again")
    assert site.client.get("kept").generation == kept.generation
    site.two.virsh("destroy", "kept")
    site.until_free(kept)


def test_a_machine_of_another_hypervisor_changes_nothing(site: Site) -> None:
    """Saved here; a copy runs and ends there: the machine goes on with its address when it is restored."""
    victim = site.start(site.one, "victim")
    image = str(site.one.directory / "victim.save")
    site.one.virsh("save", "victim", image)
    copy = Guest.build().template(name="copy", mac=str(victim.mac))
    boot(site.two, copy)
    until(lambda: "shared_mac" in site.farm.findings(), SOON_S, "the finding")
    site.two.virsh("destroy", "copy")
    until(lambda: not site.farm.findings(), SOON_S, "the finding to end")
    site.one.virsh("restore", image)
    wait_ping(site.lab, victim.address)
    until(lambda: site.client.get("victim").domain == "victim", SOON_S, "its domain to be the recorded one")
    assert site.client.get("victim").generation == victim.generation
    site.one.virsh("destroy", "victim")
    site.until_free(victim)
