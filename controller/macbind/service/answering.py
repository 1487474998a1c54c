"""Whether machines answer at their addresses: all who are waited for are asked at once, by ARP.

A ping would need leave to send packets to all machines. A frame needs none, and no firewall of a machine drops it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from ipaddress import IPv4Address

from macbind.core.allocation import Allocation
from macbind.core.errors import MacbindError, NetworkUnavailable
from macbind.core.pool import Pool
from macbind.probes.arp import probe
from macbind.probes.interfaces import interfaces
from macbind.registry.awaited import Meant, bound
from macbind.registry.store import Registry


def answering(registry: Registry, meant: Collection[Meant]) -> dict[Meant, MacbindError | None]:
    """Those whose machine answers now with its own MAC, with None, and those of which nobody can say, with why."""
    found: dict[Meant, MacbindError | None] = {}
    asked: dict[str, list[tuple[Meant, Allocation]]] = defaultdict(list)
    with registry.read() as view:
        for one, held in bound(view, meant).items():
            if isinstance(held, MacbindError):
                found[one] = held
                continue
            interface = _towards(view.pool(held.pool))
            if interface is None:
                found[one] = _not_here(one[0], held.address)
            else:
                asked[interface].append((one, held))
    for interface, machines in asked.items():
        try:
            answers = probe(interface, [held.address for _, held in machines])
        except NetworkUnavailable as error:
            found.update((one, error) for one, _ in machines)
        else:
            found.update((one, None) for one, held in machines if answers.get(held.address) == held.mac)
    return found


def _towards(pool: Pool) -> str | None:
    """The interface of this host that a pool's machines are behind; None if there is none."""
    if pool.arp_probe is not None:
        return pool.arp_probe
    here = interfaces().items()
    return next((name for name, own in here if any(address in pool.subnet.network for address in own)), None)


def _not_here(name: str, address: IPv4Address) -> NetworkUnavailable:
    return NetworkUnavailable(
        f"'{name}' at {address} cannot be asked: this host has no interface with an address of its subnet.",
        hint="Name the interface as arp_probe of the pool, or ask from a host on that network.",
        name=name,
        address=str(address),
    )
