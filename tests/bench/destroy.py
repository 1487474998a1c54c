"""From libvirt's word that a domain has stopped to its address being allocated and served again."""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import libvirt

from labkit.dhcp import DhcpClient
from labkit.farm import Farm
from labkit.guest import Guest
from labkit.net import Lab
from labkit.virt import Libvirtd
from labkit.wait import until
from macbind.client import Client
from macbind.errors import AddressInUse
from macbind.virt.connection import run_event_loop

LEASE_S = 3600
POOLS = f"""
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
lease_time_s = {LEASE_S}

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]
"""


class Stops:
    """When libvirt last said that a domain stopped, by name."""

    def __init__(self, connection: Any) -> None:
        self.at: dict[str, float] = {}
        connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_event, None)

    def _on_event(self, _: Any, domain: Any, event: int, _detail: int, _opaque: Any) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
            self.at[domain.name()] = time.perf_counter()


def measure(directory: Path, count: int) -> tuple[list[float], list[float]]:
    """Destroys `count` machines one after the other.

    Returns:
        Seconds from libvirt's event to the address being bound for its next holder, and seconds that libvirt's
        own destroy took.
    """
    (directory / "virt").mkdir()
    (directory / "farm").mkdir()
    run_event_loop()
    with Lab() as lab, Libvirtd(lab, directory / "virt") as libvirtd:
        watched = f'{POOLS}\n[hypervisor.local]\nuri = "{libvirtd.uri}"\n'
        with Farm(lab, directory / "farm", pools=watched) as farm, farm.client(30) as client:
            until(lambda: client.status().hypervisors[0].connected, 10, "macbind to watch the hypervisor")
            connection = libvirt.open(libvirtd.uri)
            try:
                return _measure(lab, client, connection, Guest.build(), count)
            finally:
                connection.close()


def _measure(
    lab: Lab, client: Client, connection: Any, guest: Guest, count: int
) -> tuple[list[float], list[float]]:
    stops, reuse, destroy = Stops(connection), [], []
    port = lab.port("next")
    for number in range(count):
        name = f"vm-{number}"
        one = client.allocate("farm", name)
        domain = connection.createXML(guest.template(name=name, mac=str(one.mac)), 0)
        until(lambda name=name: client.get(name).domain_uuid, 10, f"{name} to be seen")  # type: ignore[misc]
        began = time.perf_counter()
        domain.destroy()
        destroy.append(time.perf_counter() - began)
        heir = f"heir-{number}"
        while True:
            try:
                again = client.allocate("farm", heir, address=one.address)
                break
            except AddressInUse:
                continue
        done = time.perf_counter()
        until(lambda name=name: name in stops.at, 10, f"the event of {name}")  # type: ignore[misc]
        reuse.append(done - stops.at[name])
        served = DhcpClient(port, mac=str(again.mac)).dora()
        assert served is not None
        assert served.address == one.address
        client.release(heir)
    return reuse, destroy


def table(reuse: Sequence[float], destroy: Sequence[float]) -> str:
    """The measurement as a Markdown table, beside what plain DHCP would need."""

    def cells(values: Sequence[float]) -> str:
        ordered = sorted(values)
        p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        return f"{statistics.median(ordered) * 1000:.1f} ms | {p99 * 1000:.1f} ms"

    return (
        f"| after {len(reuse)} x virsh destroy | p50 | p99 |\n| --- | --- | --- |\n"
        f"| libvirt's destroy itself | {cells(destroy)} |\n"
        f"| libvirt's event → address allocated again and served | {cells(reuse)} |\n"
        f"| plain DHCP: until the lease ends | {LEASE_S} s | {LEASE_S} s |"
    )
