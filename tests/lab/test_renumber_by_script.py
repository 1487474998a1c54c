"""Machines that get another address while they run, without DHCP: by mac2ip, which a new card starts again."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address

import pytest

from labkit import systemd_guest
from labkit.farm import Farm
from labkit.guest import BOOT_DEADLINE_S, Guest, boot, greeting, wait_ping
from labkit.net import Lab
from labkit.virt import Console, Libvirtd
from labkit.wait import until
from macbind.cli.guest import guest_script
from macbind.client.client import Client
from macbind.core.errors import MachineFailed
from macbind.machines import Progress, Step, Wait, renumber
from macbind.virt.connection import run_event_loop

pytestmark = pytest.mark.timeout(600)

MDEV = "SUBSYSTEM=net;.* 0:0 600 @/mac2ip\n"
"""As the manual has it, but for the place of the script."""
SOON_S = 60.0


@dataclass
class Site:
    """A lab whose dhcpd nobody asks, and the two machines in it, by their names."""

    lab: Lab
    libvirtd: Libvirtd
    farm: Farm
    client: Client
    consoles: dict[str, Console]


def says(site: Site, address: IPv4Address) -> list[str]:
    """In which words a machine tells its cards, their addresses and MACs, and what mac2ip has found out."""
    return greeting(site.lab, address).partition("\n")[2].split()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One lab for all tests; both machines are started at once."""
    run_event_loop()  # its thread must not be born inside, where it would outlive the lab
    place = tmp_path_factory.mktemp("mb")
    for part in ("virt", "farm"):
        (place / part).mkdir()
    with (
        Lab() as lab,
        Libvirtd(lab, place / "virt") as libvirtd,
        Farm(lab, place / "farm") as farm,
        farm.client() as client,
    ):
        script, unit, rule = (
            guest_script(kind, lambda: farm.settings, (), channels=channels)[0]
            for kind, channels in (("linux", "all"), ("linux-unit", ""), ("linux-udev", ""))
        )
        small = Guest.build().with_files(place / "mdev.cpio", {"mac2ip": script, "etc/mdev.conf": MDEV})
        whole = systemd_guest.build(place / "udev.cpio", script, unit, rule)
        consoles = {}
        for name, guest, cmdline in (("mdev", small, ""), ("udev", whole, systemd_guest.CMDLINE)):
            mac = str(client.allocate("farm", name).mac)
            consoles[name] = boot(libvirtd, guest.template(name=name, mac=mac, cmdline=cmdline))
        yield Site(lab, libvirtd, farm, client, consoles)
        assert "DHCPDISCOVER" not in farm.dhcpd.log()
        assert farm.defects() == []


@pytest.mark.parametrize(
    ("name", "interface", "to"), [("udev", "enp1s0", "10.1.1.20"), ("mdev", "eth0", "10.1.1.30")]
)
def test_a_machine_without_dhcp_is_renumbered(site: Site, name: str, interface: str, to: str) -> None:
    """It answers at its new address, with its new MAC and nothing of the old; the old address is silent."""
    before = site.client.get(name)
    wait_ping(site.lab, before.address, 2 * BOOT_DEADLINE_S, console=site.consoles[name])
    site.farm.macbind("renumber", name, "--to", to, "--live", "--uri", site.libvirtd.uri, "--timeout", "110")
    now = site.client.get(name)
    assert str(now.address) == to
    assert now.mac != before.mac
    told = [interface, f"{to}/8", str(now.mac), f"mac={now.mac}"]
    # It answers a ping as soon as it has the address, and its script ends after that.
    until(lambda: says(site, now.address)[:4] == told, SOON_S, "its script to be done")
    assert not site.lab.ping(str(before.address), 1)


def test_a_machine_that_refused_its_new_address_goes_back(site: Site) -> None:
    """Somebody takes the address meanwhile, so the unit fails; the old card that comes back is configured."""
    old, strangers = site.client.get("udev"), list[str]()
    wait_ping(site.lab, old.address, 2 * BOOT_DEADLINE_S, console=site.consoles["udev"])
    stranger = site.lab.port("thief")

    def take(progress: Progress) -> None:
        if progress.step is Step.UNPLUGGED and not strangers:
            stranger.add_address("10.1.1.40/8")
            strangers.append(str(stranger.mac))

    go = partial(renumber, site.client, "udev", "10.1.1.40", live=True, uri=site.libvirtd.uri)
    with pytest.raises(MachineFailed, match=f"but {stranger.mac} has that address") as caught:
        site.lab.server.call(lambda: go(on_progress=take, wait=Wait(timeout_s=30)))
    assert "undo" not in caught.value.details
    said = f"another machine ({stranger.mac}) has 10.1.1.40, the address of 00:16:3e:01:01:28."
    until(lambda: said in site.consoles["udev"].text().lower(), SOON_S, "the refusal on its console")
    assert says(site, old.address)[1:3] == [f"{old.address}/8", str(old.mac)]
