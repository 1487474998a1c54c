"""The network between dhcpd and the machines: bridges that are slow, and MACs of ours that nobody was given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from sqlalchemy import select

from macbind.core.errors import InvalidAddress, NetworkUnavailable
from macbind.core.findings import Finding
from macbind.core.mac_address import MacAddress
from macbind.doctor.site import Site
from macbind.probes.arp import probe
from macbind.probes.interfaces import interfaces, macs
from macbind.registry.store import Registry
from macbind.registry.tables import allocation as al

SYS_NET, NEIGHBOURS = Path("/sys/class/net"), Path("/proc/self/net/arp")
SLOW_S = 4.0
"""A machine waits for so long without harm: a DHCP client asks again within 4 s."""
_LEAST_WITH_STP_S = 2.0
_HUNDREDTHS = 100
_COMPLETE = 0x2
_MOST_ASKED = 50


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A machine that this one has spoken to."""

    address: IPv4Address
    mac: MacAddress
    interface: str


def look_at_bridges(site: Site) -> Iterator[Finding]:
    """Bridges on which machines wait: a new port is closed for the forward delay, and twice as long with STP."""
    for name in _own_interfaces(site):
        bridge = SYS_NET / name / "bridge"
        try:
            delay_s = int((bridge / "forward_delay").read_text(encoding="ascii")) / _HUNDREDTHS
            has_stp = int((bridge / "stp_state").read_text(encoding="ascii")) != 0
        except OSError:  # no bridge
            continue
        wait_s, best_s = (2 * delay_s, _LEAST_WITH_STP_S) if has_stp else (delay_s, 0.0)
        if wait_s > SLOW_S:
            stp = " with spanning tree" if has_stp else ""
            yield Finding(
                "bridge_slow",
                f"The bridge {name} passes nothing on for {wait_s:g} s after a machine was plugged in{stp}: its "
                "first questions for an address are lost.",
                "Shorten its forward delay, here and where the bridge is configured.",
                name,
                (f"ip link set dev {name} type bridge forward_delay {round(best_s * _HUNDREDTHS)}",),
            )


def look_at_macs(site: Site) -> Iterator[Finding]:
    """Neighbours with a MAC of a pool that is not allocated."""
    ours, held = set(macs().values()), _held(site)
    taken = {mac for mac, _ in held.values()}
    for one in _alive(
        one for one in neighbours() if one.mac not in ours and one.mac not in taken and _image(site, one.mac)
    ):
        image = _image(site, one.mac)
        yield Finding(
            "foreign_mac",
            f"A machine with {one.mac}, the MAC of {image}, answers as {one.address} on {one.interface}, and "
            f"{image} is not allocated.",
            "End that machine, or reserve the address for it.",
            str(one.mac),
            (f"macbind reserve found-{str(image).replace('.', '-')} {image}",)
            if image == one.address
            else (),
        )


def look_at_addresses(site: Site) -> Iterator[Finding]:
    """Neighbours with an address that is allocated, and another MAC than its holder's."""
    held, ours = _held(site), set(macs().values())
    wrong = (one for one in neighbours() if one.mac not in ours and _differs(held.get(one.address), one.mac))
    for one in _alive(wrong):
        mac, name = held[one.address]
        yield Finding(
            "neighbours_differ",
            f"{one.mac} answers for {one.address} on {one.interface}, which is allocated to '{name}' with {mac}: two "
            "machines may have one address.",
            f"End its use by {one.mac}, or give '{name}' another address with `macbind renumber`.",
            str(one.address),
        )


def neighbours() -> Iterator[Neighbour]:
    """The machines that the kernel knows on the networks of this one."""
    for line in NEIGHBOURS.read_text(encoding="ascii").splitlines()[1:]:
        words = line.split()
        try:
            if len(words) >= 6 and int(words[2], 16) & _COMPLETE:
                yield Neighbour(IPv4Address(words[0]), MacAddress.parse(words[3]), words[5])
        except (InvalidAddress, ValueError):  # no Ethernet
            continue


def held_in(registry: Registry) -> dict[IPv4Address, tuple[MacAddress, str]]:
    """MAC and name of each address that is allocated, also of one that is being released."""
    with registry.read() as view:
        rows = view.db.execute(select(al.c.ip, al.c.mac, al.c.name)).all()
    return {IPv4Address(ip): (MacAddress.from_bytes(mac.to_bytes(6)), name) for ip, mac, name in rows}


def _held(site: Site) -> dict[IPv4Address, tuple[MacAddress, str]]:
    with site.registry() as registry:
        return {} if registry is None else held_in(registry)


def _differs(holder: tuple[MacAddress, str] | None, mac: MacAddress) -> bool:
    return holder is not None and holder[0] != mac


def _alive(found: Iterator[Neighbour]) -> Iterator[Neighbour]:
    """Those that answer at this moment: the kernel remembers machines that have gone."""
    for one, _ in zip(found, range(_MOST_ASKED), strict=False):
        try:
            if probe(one.interface, [one.address]).get(one.address) == one.mac:
                yield one
        except NetworkUnavailable:
            continue


def _image(site: Site, mac: MacAddress) -> IPv4Address | None:
    plans = [pool.plan for pool in site.configured.pools.values()]
    return next((ip for plan in plans if (ip := plan.assignable_of(mac)) is not None), None)


def _own_interfaces(site: Site) -> list[str]:
    """The interfaces that machines are behind: with an address on a subnet, or asked on."""
    networks = list(site.configured.subnets)
    found = {
        name
        for name, addresses in interfaces().items()
        if any(address in network for address in addresses for network in networks)
    }
    found |= {one.probe for one in site.local_dhcpds().values() if one.probe is not None}
    found |= {one.arp_probe for one in site.configured.pools.values() if one.arp_probe is not None}
    return sorted(found)
