"""Allocations: one address with its MAC, held under a name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from typing import Any

from macbind.core.dhcp_options import NO_OPTIONS, DhcpOptions
from macbind.core.errors import InvalidRequest
from macbind.core.ipv6 import link_local
from macbind.core.mac_address import MacAddress

MAX_NAME = 128


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/+-]*")


def check_name(text: str, what: str = "name") -> str:
    """Returns ``text`` if it may name an allocation or a group.

    Raises:
        InvalidRequest: It is empty, too long or has other characters.
    """
    if len(text) > MAX_NAME or not _NAME.fullmatch(text):
        raise InvalidRequest(
            f"{text!r} cannot be a {what}.",
            hint=f"Use 1 to {MAX_NAME} letters, digits and . _ : @ / + -, beginning with a letter or digit.",
        )
    return text


class State(StrEnum):
    """Where an allocation stands; computed by comparing the registry with what each dhcpd has confirmed."""

    PENDING = "pending"
    """Allocated; a required dhcpd has yet to confirm the binding. Do not start the machine."""
    BOUND = "bound"
    """Every required dhcpd has confirmed. The machine may start."""
    RELEASING = "releasing"
    """Released; a dhcpd has yet to confirm that reservation and lease are gone. Not reusable."""
    COOLING = "cooling"
    """Gone from every dhcpd; rests until its cool-down ends or the pool runs short."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """One address with its MAC, held under a name.

    Attributes:
        address: The IPv4 address.
        mac: Its MAC: the pool's scheme applied to the address, unless pinned to a foreign one.
        name: The holder's key; unique among all live allocations.
        pool: Name of the pool.
        generation: Grows with every operation on an address, never repeats for it.
        state: Whether dhcpd has confirmed it.
        group: Allocations made together share a group.
        options: DHCP options of this machine on top of its pool's.
        domain: The libvirt domain that uses it, or is to; None if unknown.
        domain_uuid: That domain's UUID, once libvirt has shown it.
        pinned: Made by ``reserve``: only ``unreserve`` ends it.
        created_at: When it was allocated (UTC).
        expires_at: When it is released by itself (UTC), if ever; of one that is
            renumbered to, when that is settled by itself.
        released_at: When it was released (UTC); such an allocation is only waiting to disappear.
        gateway: The default gateway the machine is told; None if it is told none.
        ipv6: The address it makes of the pool's IPv6 prefix by SLAAC (RFC 4862); None if the pool has no prefix.
        link_local: Its link-local IPv6 address (RFC 4291). Both hold for a machine that makes them from its MAC.
        renumbers_from: The address whose holder is being renumbered to this one; the name has both meanwhile.
        doubted_at: Since when (UTC) its domain has not been seen to run although no event said that it ended; None
            if there is no such doubt.
        labels: What its holder has labelled it with: values by keys.
        last_seen: When its machine was last seen (UTC); None if it never was, or if nobody was asked. It is no part
            of what an allocation is: two that differ in it are equal.
        seen_by: By what it was last seen: ``dhcp``, ``libvirt`` or ``neighbours``.
        confirmed_by: The DHCP servers that have confirmed its binding, as far as is known; none once it is released.
    """

    address: IPv4Address
    mac: MacAddress
    name: str
    pool: str
    generation: int
    state: State
    created_at: datetime
    group: str | None = None
    options: DhcpOptions = NO_OPTIONS
    domain: str | None = None
    domain_uuid: str | None = None
    pinned: bool = False
    expires_at: datetime | None = None
    released_at: datetime | None = None
    gateway: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    renumbers_from: IPv4Address | None = None
    doubted_at: datetime | None = None
    labels: dict[str, str] = field(default_factory=dict, hash=False)
    last_seen: datetime | None = field(default=None, compare=False)
    seen_by: str | None = field(default=None, compare=False)
    confirmed_by: tuple[str, ...] = field(default=(), compare=False)
    link_local: IPv6Address = field(init=False, default=IPv6Address(0))

    def __post_init__(self) -> None:
        object.__setattr__(self, "link_local", link_local(self.mac))


def place_of(one: Allocation) -> dict[str, Any]:
    """Pool, group and labels of an allocation, as the audit log says them."""
    place: dict[str, Any] = {"pool": one.pool}
    if one.group is not None:
        place["group"] = one.group
    if one.labels:
        place["labels"] = one.labels
    return place


@dataclass(frozen=True, slots=True)
class Page:
    """Allocations in the order of their addresses.

    Attributes:
        allocations: The allocations.
        next: The address after which the next page begins; None if this page is the last.
    """

    allocations: list[Allocation]
    next: IPv4Address | None = None


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """What a machine is told of its place in the network, by DHCP or otherwise.

    Attributes:
        name: Its allocation's name.
        mac: Its MAC.
        interface: Its address with the prefix length of its subnet, ``10.1.1.3/16``.
        options: Everything it is told beside: its own options, its pool's and its subnet's.
    """

    name: str
    mac: MacAddress
    interface: IPv4Interface
    options: DhcpOptions


MAX_LEASE_S = 86_400.0
"""The longest lease of a renumbering: a day."""
SETTLE_AFTER_S = 120.0
"""How long anybody may go on with a renumbering whose lease has expired, before macbind settles it by itself."""


@dataclass(frozen=True, slots=True)
class Renumbering:
    """A name that gets another address; both are held until that is finished or aborted.

    Attributes:
        old: The allocation it had; when finished, as it was released.
        new: The allocation it gets; the same as ``old`` where there is nothing to do.
        lease_until: Until when only the holder of the token may go on (UTC); None when it has ended.
        token: The lease's token; None for everybody but its holder.
    """

    old: Allocation
    new: Allocation
    lease_until: datetime | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change: who did what to which address, and when (UTC).

    ``id`` is its number in the audit log, ``request`` what all changes of one request have in common.
    """

    at: datetime
    actor: str
    action: str
    address: IPv4Address | None
    generation: int | None
    name: str | None
    detail: dict[str, Any]
    id: int = 0
    request: str | None = None


@dataclass(frozen=True, slots=True)
class BulkItem:
    """What became of one allocation in a change of several.

    Attributes:
        allocation: The allocation; as it was released, or as it still is.
        error: Why nothing was done with it, as :meth:`MacbindError.to_dict` describes it; None if it was released.
    """

    allocation: Allocation
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """The answer to a release.

    Attributes:
        allocations: What was released; every dhcpd has confirmed that it is gone.
        already_gone: Whether there was nothing (left) to release.
    """

    allocations: tuple[Allocation, ...]
    already_gone: bool
