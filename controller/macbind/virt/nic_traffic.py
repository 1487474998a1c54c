"""What libvirt can tell of a NIC's traffic: whether the machine has sent anything, and which addresses it uses."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Any
from uuid import UUID

from macbind.core.errors import InvalidAddress
from macbind.core.mac_address import MacAddress
from macbind.virt.connection import Hypervisor, libvirt

_SENT_PACKETS = 5
"""Where the packets that the machine sent stand in libvirt's statistics of an interface."""
_SOURCES = (libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE, libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP)
"""The leases of libvirt's own networks, and the hypervisor's neighbours."""


@dataclass(frozen=True, slots=True)
class NicTraffic:
    """What was seen of a NIC.

    Attributes:
        sent: Packets that the machine has sent; None if this driver does not count them.
        addresses: IPv4 addresses the hypervisor knows it by.
    """

    sent: int | None = None
    addresses: frozenset[IPv4Address] = frozenset()


def traffic_of(hypervisor: Hypervisor, uuid: UUID, mac: MacAddress) -> NicTraffic:
    """What is seen of the NIC of a domain; nothing where the driver cannot tell, or the domain is gone.

    Raises:
        HypervisorUnavailable: libvirt does not answer.
    """
    domain = hypervisor.find_uuid(uuid)
    if domain is None:
        return NicTraffic()
    sent, addresses = None, set()
    with suppress(libvirt.libvirtError):  # not every driver counts
        counted = domain.interfaceStats(str(mac))[_SENT_PACKETS]
        sent = counted if counted >= 0 else None
    for source in _SOURCES:
        with suppress(libvirt.libvirtError):  # nor knows addresses
            addresses |= _addresses(domain.interfaceAddresses(source, 0), mac)
    return NicTraffic(sent, frozenset(addresses))


def _addresses(interfaces: dict[str, Any], mac: MacAddress) -> set[IPv4Address]:
    found = set()
    for interface in interfaces.values():
        with suppress(InvalidAddress):
            if MacAddress.parse(interface.get("hwaddr") or "") == mac:
                for one in interface.get("addrs") or ():
                    with suppress(AddressValueError):  # IPv6
                        found.add(IPv4Address(one["addr"]))
    return found
