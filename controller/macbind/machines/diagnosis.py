"""Why a machine that runs does not answer: it never asked for its address, has another one, or is silent with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from typing import TYPE_CHECKING
from uuid import UUID

from macbind.core.errors import MacbindError
from macbind.core.mac_address import MacAddress
from macbind.probes.ping import addresses_of
from macbind.virt.connection import Hypervisor
from macbind.virt.nic_traffic import NicTraffic, traffic_of

if TYPE_CHECKING:
    from macbind.client.client import Client


class Cause(StrEnum):
    """Why a machine does not answer at its address."""

    NEVER_ASKED = "never_asked"
    """It has sent nothing."""
    SILENT = "silent"
    """It has its address, and lets nothing through."""
    OTHER_SERVER = "other_server"
    """It has another address, or another server answered."""
    UNKNOWN = "unknown"
    """It has sent something, and was not seen with any address."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is known of a machine that does not answer.

    Attributes:
        cause: Why it does not.
        sentence: The same for people, as it follows a colon; empty if nothing is known.
        hint: What to do.
    """

    cause: Cause
    sentence: str = ""
    hint: str = ""


def diagnose(
    client: Client, hypervisor: Hypervisor, uuid: UUID, mac: MacAddress, address: IPv4Address
) -> Diagnosis:
    """Looks at what libvirt, this host's neighbours and macbind's findings say of the machine."""
    try:
        traffic = traffic_of(hypervisor, uuid, mac)
    except MacbindError:  # the error that is being explained counts
        traffic = NicTraffic()
    try:
        findings = client.status().findings
        reports = [
            one.message for one in findings if str(mac) in one.message or one.code == "second_dhcp_server"
        ]
    except MacbindError:
        reports = []
    return judge(traffic, frozenset(addresses_of(mac)) | traffic.addresses, reports, mac, address)


def judge(
    traffic: NicTraffic,
    addresses: frozenset[IPv4Address],
    reports: list[str],
    mac: MacAddress,
    address: IPv4Address,
) -> Diagnosis:
    """Says why, by what was seen.

    Args:
        traffic: Of its NIC.
        addresses: By which it is known, wherever that was seen.
        reports: macbind's findings that name its MAC, or another DHCP server.
        mac: Its MAC.
        address: Its allocation's address.
    """
    if traffic.sent == 0:  # whatever neighbours remember of an earlier machine with this MAC
        return Diagnosis(
            Cause.NEVER_ASKED,
            "it has sent nothing, so it never asked for its address by DHCP",
            "See whether its system boots and brings up that NIC; a netplan or udev rule may wait for another MAC.",
        )
    if address in addresses:
        return Diagnosis(
            Cause.SILENT,
            "it has its address, and lets no answer through",
            "Its firewall may drop this; --tcp PORT waits for a service instead of a ping.",
        )
    if addresses:
        found = ", ".join(map(str, sorted(addresses)))
        return Diagnosis(
            Cause.OTHER_SERVER,
            f"it has {found}, so another DHCP server answered it, or it is set by hand",
            "Find that server, or name the network of the pool with --network.",
        )
    sent = "" if traffic.sent is None else f"it has sent {traffic.sent} packets, and "
    hint = f"Whether {mac} asked by DHCP, and who answered, is in dhcpd's log."
    return Diagnosis(
        Cause.UNKNOWN,
        f"{sent}it was not seen with its address" if sent else "",
        " ".join([*(f"macbind reports: {one}" for one in reports), hint]),
    )
