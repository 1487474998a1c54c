"""Hypervisors and their domains, beside the registry and what dhcpd has on disk."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from urllib.parse import urlsplit

from macbind.core.errors import MacbindError
from macbind.core.findings import Finding
from macbind.core.mac_address import MacAddress
from macbind.core.pool import PoolMode
from macbind.doctor.network import held_in
from macbind.doctor.site import Site

_START_LIBVIRT = "systemctl restart libvirtd || systemctl restart virtqemud.socket"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")


def look_at_hypervisors(site: Site) -> Iterator[Finding]:
    """Whether each hypervisor can be reached."""
    from macbind.virt.connection import Hypervisor

    for name, one in site.configured.hypervisors.items():
        with Hypervisor(one.uri) as hypervisor:
            try:
                assert hypervisor.connection is not None
            except MacbindError as error:
                is_here = not urlsplit(one.uri).hostname
                yield Finding(
                    "hypervisor_unavailable",
                    error.message,
                    error.hint,
                    name,
                    (_START_LIBVIRT,) if is_here else (),
                )


def look_at_domains(site: Site) -> Iterator[Finding]:
    """Domains that run with a MAC of a pool that is not allocated."""
    with site.registry() as registry:
        taken = set() if registry is None else {mac for mac, _ in held_in(registry).values()}
    for hypervisor, name, mac in _domains(site):
        image = _image(site, mac)
        if image is None or mac in taken:
            continue
        yield Finding(
            "unallocated_mac",
            f"The domain '{name}' ({hypervisor}) runs with {mac}, the MAC of {image}, which is not allocated: DHCP "
            "does not serve it.",
            "End it, or reserve the address for it.",
            str(mac),
            (f"macbind reserve {name} {image}",) if _NAME.fullmatch(name) else (),
        )


def look_at_leases(site: Site) -> Iterator[Finding]:
    """What the registry has and dhcpd's lease file has not, or the other way round."""
    with site.registry() as registry:
        held = {} if registry is None else held_in(registry)
    for name in site.local_dhcpds():
        audit = site.audit(name)
        if audit is None or site.configured.dhcpds[name].leases_file is None:
            continue
        pools = [one for one in site.configured.pools_of(name) if one.mode is PoolMode.LIVE]
        wanted = {
            (address, mac) for address, (mac, _) in held.items() if any(address in one.plan for one in pools)
        }
        there = {(address, binding.mac) for address, binding in audit.ours}
        lacking, left = sorted(wanted - there), sorted(there - wanted)
        if lacking or left:
            yield Finding(
                "leases_differ",
                f"dhcpd '{name}' lacks {_count(lacking)} of the registry, and has {_count(left)} that no "
                f"allocation accounts for; the first is {(lacking or left)[0][0]}.",
                "Start macbind: it compares them, and mends that.",
                name,
                ("systemctl start macbind",),
            )


def _domains(site: Site) -> Iterator[tuple[str, str, MacAddress]]:
    """Hypervisor, name and MAC of every NIC of a domain that runs."""
    from macbind.virt.connection import Hypervisor
    from macbind.virt.running import readable

    for name, one in site.configured.hypervisors.items():
        with Hypervisor(one.uri) as hypervisor:
            try:
                found = list(readable(hypervisor))
            except MacbindError:
                continue  # another check says so
            for domain in found:
                if domain.domain.isActive():
                    yield from ((name, domain.name, mac) for mac in sorted(domain.macs))


def _image(site: Site, mac: MacAddress) -> IPv4Address | None:
    plans = [pool.plan for pool in site.configured.pools.values()]
    return next((ip for plan in plans if (ip := plan.assignable_of(mac)) is not None), None)


def _count(bindings: Sequence[object]) -> str:
    return "1 binding" if len(bindings) == 1 else f"{len(bindings)} bindings"
