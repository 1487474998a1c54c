"""From the end of a machine to its address being allocated and served again."""

import time
from typing import Any

import libvirt

from bench.rows import TOLD, By, Result, Row, at_most, p99
from bench.sites import directory, timed
from labkit.dhcp import DhcpClient
from labkit.farm import Farm
from labkit.guest import Guest
from labkit.net import Lab, Port
from labkit.virt import Libvirtd
from labkit.wait import until
from macbind.client import Client
from macbind.errors import AddressInUse
from macbind.virt.connection import run_event_loop

_POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
lease_time_s = 3600

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


def measure(*, quick: bool) -> Result:
    """Destroys machines one after the other, behind macbind's back."""
    count = 4 if quick else 50
    what = "libvirt says a machine is gone → its address is bound to the next one"
    whole = Row(
        "`virsh destroy` → its address is bound to the next machine (p50)",
        "libvirt's destroy itself",
        "ms",
        TOLD,
    )
    added = Row(
        f"{what} (p99 of {count})", "libvirt's destroy itself", "ms", at_most(50, "ms"), by=By.OURS, pick=p99
    )
    run_event_loop()
    with directory() as place, directory() as other, Lab() as lab, Libvirtd(lab, other) as libvirtd:
        watched = f'{_POOLS}\n[hypervisor.local]\nuri = "{libvirtd.uri}"\n'
        with Farm(lab, place, pools=watched) as farm, farm.client(30) as client:
            until(lambda: client.status().hypervisors[0].connected, 10, "macbind to watch the hypervisor")
            connection = libvirt.open(libvirtd.uri)
            try:
                stops, guest, heir = Stops(connection), Guest.build(), lab.port("heir")
                for number in range(count):
                    domain = _machine(client, connection, guest, f"vm-{number}")
                    destroy_s, total_s, added_s = _destroy(client, domain, stops, heir)
                    whole.ours.append(total_s * 1000)
                    added.ours.append(added_s * 1000)
                    for row in (whole, added):
                        row.base.append(destroy_s * 1000)
            finally:
                connection.close()
    return Result([whole, added])


def _machine(client: Client, connection: Any, guest: Guest, name: str) -> Any:
    """A running domain that macbind knows as the user of its address."""
    one = client.allocate("farm", name)
    domain = connection.createXML(guest.template(name=name, mac=str(one.mac)), 0)
    until(lambda: client.get(name).domain_uuid, 10, f"{name} to be seen")
    return domain


def _destroy(client: Client, domain: Any, stops: Stops, heir: Port) -> tuple[float, float, float]:
    """Destroys a domain and takes its address again.

    Returns:
        Seconds that libvirt's destroy took; that passed until the address was bound to the next holder; and that
        passed until then since libvirt's word that the domain has stopped.
    """
    name = domain.name()
    address = client.get(name).address
    began = time.perf_counter()
    destroy_s = timed(domain.destroy)
    while True:
        try:
            again = client.allocate("farm", "heir", address=address)
            break
        except AddressInUse:
            continue
    done = time.perf_counter()
    until(lambda: name in stops.at, 10, f"the event of {name}")
    served = DhcpClient(heir, mac=str(again.mac)).dora()
    assert served is not None
    assert served.address == address
    client.release("heir")
    return destroy_s, done - began, done - stops.at[name]
