"""The values machines are described with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TypedDict
from uuid import UUID

from macbind.core.allocation import Allocation
from macbind.core.dhcp_options import DhcpOptions
from macbind.core.errors import InvalidRequest
from macbind.core.mac_address import MacAddress
from macbind.machines.progress import OnProgress
from macbind.virt.channels import Channel
from macbind.virt.clones import Clone, Copying

_LAST_PORT = 65_535
DEFAULT_URI = "qemu:///system"


@dataclass(frozen=True, slots=True)
class Wait:
    """What a machine must do before it counts as launched.

    Attributes:
        ping: Answer ICMP echo; if left out, only where no port is asked for: many systems drop it.
        tcp: Take connections on this port.
        timeout_s: All of this within so many seconds from its start.
    """

    ping: bool | None = None
    tcp: int | None = None
    timeout_s: float = 120.0

    @property
    def pings(self) -> bool:
        """Whether an answer to ICMP echo is waited for."""
        return self.tcp is None if self.ping is None else self.ping

    def __post_init__(self) -> None:
        if self.tcp is not None and not 1 <= self.tcp <= _LAST_PORT:
            raise InvalidRequest(f"{self.tcp} is not a TCP port.", hint=f"Ports are 1 to {_LAST_PORT}.")
        if not 0 < self.timeout_s < math.inf:
            raise InvalidRequest(
                f"A machine cannot be given {self.timeout_s} s to answer.", hint="Give it some seconds."
            )


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that was launched.

    Attributes:
        name: Its name, and its allocation's.
        domain: Its domain's name.
        uuid: Its domain's UUID.
        address: Its address.
        mac: Its MAC.
        clones: Its own disks, a seed disk included.
        uri: The hypervisor's libvirt URI.
        allocation: Its allocation.
    """

    name: str
    domain: str
    uuid: UUID
    address: IPv4Address
    mac: MacAddress
    clones: tuple[Clone, ...]
    uri: str
    allocation: Allocation


@dataclass(frozen=True, slots=True)
class Destroyed:
    """What destroying a machine found, and what is gone now.

    Attributes:
        name: The machine's name.
        domain: Whether there was a domain.
        clones: The volumes deleted.
        addresses: The addresses released.
        already_gone: Whether there was nothing left of it.
    """

    name: str
    domain: bool
    clones: tuple[str, ...]
    addresses: tuple[IPv4Address, ...]
    already_gone: bool


@dataclass(frozen=True, slots=True)
class Renumbered:
    """A machine that has been given another address, or its old one back.

    Attributes:
        name: Its name, and its allocation's.
        address: The address it has now.
        mac: The MAC it has now.
        before: The address it had before, or was to have.
        domain: Its domain's name; None if it has none.
        changed: Whether anything had to be done.
    """

    name: str
    address: IPv4Address
    mac: MacAddress
    before: IPv4Address
    domain: str | None
    changed: bool


@dataclass(frozen=True, slots=True)
class ListedMachine:
    """A domain that uses an allocation, or that macbind launched.

    Attributes:
        name: The allocation's name.
        domain: The domain's name.
        uuid: The domain's UUID.
        state: What it does, e.g. ``running``.
        address: The address; None if the allocation is gone.
        mac: The MAC; None if the allocation is gone.
        pool: The pool.
        group: The group.
        uptime_s: Seconds since it was launched; None if macbind did not launch it.
    """

    name: str
    domain: str
    uuid: str
    state: str
    address: IPv4Address | None
    mac: MacAddress | None
    pool: str
    group: str | None
    uptime_s: float | None


class How(TypedDict, total=False):
    """How machines are launched; every entry may be left out.

    Attributes:
        uri: The hypervisor's libvirt URI; qemu:///system by default.
        wait: What they must do before they count as launched; answer a ping by default.
        clone: How they get their disks: ``linked`` (default) or ``full``.
        network: The bridge or network of the NIC that gets the address; must be said where they are on several.
        anti_spoofing: Whether libvirt is to let them use their own MAC and IP only.
        options: DHCP options of these machines.
        labels: Labels of their allocations.
        ttl_s: Their addresses are released by themselves after so many seconds.
        channels: By what they are told who they are, beside their MAC; what the template says by default.
        data: What they are told beside their identity, on top of the template's. No secrets: it can be read on
            the hypervisor.
        seed_pool: The storage pool of seed disks (channel nocloud); that of the first disk by default.
        user_data: cloud-init's user-data on the seed disk.
        on_progress: Told of each step.
        keep: Whether a machine that does not answer in time stays as it is, with disks and address, to be looked at.
    """

    uri: str
    wait: Wait
    clone: Copying | str
    network: str | None
    anti_spoofing: bool
    options: DhcpOptions
    labels: Mapping[str, str]
    ttl_s: float | None
    channels: Sequence[Channel | str] | None
    data: Mapping[str, str] | None
    seed_pool: str | None
    user_data: str | None
    on_progress: OnProgress | None
    keep: bool
