"""From the end of a machine to its address being allocated and served again."""

import statistics
import time
from contextlib import suppress
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
from macbind.client.client import Client
from macbind.core.allocation import Allocation
from macbind.core.errors import AddressInUse

_POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]
lease_time_s = 3600

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.1.3-10.1.1.250"]
"""


def measure(*, quick: bool) -> Result:
    """Destroys machines one after the other, behind macbind's back."""
    count = 4 if quick else 50
    rows = [
        Row(
            f"`virsh destroy` → its address is bound to the next machine, {name}",
            "libvirt's destroy itself",
            "ms",
            target,
            by=By.EXCESS,
            pick=pick,
            headline=name == "p50",
        )
        for name, target, pick in (
            ("p50", TOLD, statistics.median),
            (f"p99 of {count}", at_most(50, "ms more"), p99),
        )
    ]
    with directory() as place, directory() as other, Lab() as lab, Libvirtd(lab, other) as libvirtd:
        watched = f'{_POOLS}\n[hypervisor.local]\nuri = "{libvirtd.uri}"\n'
        with Farm(lab, place, pools=watched) as farm, farm.client(30) as client:
            until(lambda: client.status().hypervisors[0].connected, 10, "macbind to watch the hypervisor")
            connection = libvirt.open(libvirtd.uri)
            try:
                guest, heir = Guest.build(), lab.port("heir")
                for number in range(count):
                    domain = _machine(client, connection, guest, f"vm-{number}")
                    destroy_s, bound_s = _destroy(client, domain, heir)
                    for row in rows:
                        row.ours.append(bound_s * 1000)
                        row.base.append(destroy_s * 1000)
            finally:
                connection.close()
    return Result(rows)


def _machine(client: Client, connection: Any, guest: Guest, name: str) -> Any:
    """A running domain that macbind knows as the user of its address."""
    one = client.allocate("farm", name)
    domain = connection.createXML(guest.template(name=name, mac=str(one.mac)), 0)
    until(lambda: client.get(name).domain_uuid, 10, f"{name} to be seen")
    return domain


def _destroy(client: Client, domain: Any, heir: Port) -> tuple[float, float]:
    """Destroys a domain and takes its address again; the next machine is served.

    Returns:
        Seconds until libvirt's destroy returned, and until the address was bound to its next holder.
    """
    address = client.get(domain.name()).address

    def take() -> Allocation | None:
        with suppress(AddressInUse):
            return client.allocate("farm", "heir", address=address)
        return None

    began = time.perf_counter()
    destroy_s = timed(domain.destroy)
    again = until(take, 30, f"{address} to be free")
    bound_s = time.perf_counter() - began
    assert again is not None
    served = DhcpClient(heir, mac=str(again.mac)).dora()
    assert served is not None
    assert served.address == address
    client.release("heir")
    return destroy_s, bound_s
