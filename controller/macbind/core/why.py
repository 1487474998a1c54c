"""Why an address is as it is: the facts, the answer, and its reasons with stable codes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address

from macbind.core.allocation import Allocation, AuditEntry
from macbind.core.evidence import Evidence


class Reason(StrEnum):
    """What an answer says. A code never changes."""

    ALLOCATED = "allocated"
    """A name holds the address."""
    RESERVED = "reserved"
    """An admin has reserved the address."""
    RENUMBERING = "renumbering"
    """A name that has another address is being renumbered to this one."""
    RENUMBERS_TO = "renumbers_to"
    """The name is being renumbered to another address."""
    CONFIRMED = "confirmed"
    """A DHCP server has confirmed the binding."""
    WAITS_FOR_DHCPD = "waits_for_dhcpd"
    """A DHCP server has yet to confirm a binding, or its end."""
    DOMAIN = "domain"
    """A domain uses the allocation."""
    WAITS_FOR_DOMAIN = "waits_for_domain"
    """No domain was seen to use the allocation yet."""
    DOMAIN_MISSING = "domain_missing"
    """The domain is missing or off, and libvirt has not said why."""
    SEEN = "seen"
    """The machine was seen to use the address."""
    LABELS = "labels"
    """The allocation has labels."""
    EXPIRES = "expires"
    """The allocation is released by itself at a time."""
    OUTSIDE = "outside"
    """No subnet of the configuration has the address."""
    NETWORK_ADDRESS = "network_address"
    """It is the network address of its subnet."""
    BROADCAST_ADDRESS = "broadcast_address"
    """It is the broadcast address of its subnet."""
    GATEWAY = "gateway"
    """Machines have it as their gateway."""
    SERVER = "server"
    """An option names it as a DNS or boot server."""
    DYNAMIC = "dynamic"
    """dhcpd hands it out by itself."""
    EXCLUDED = "excluded"
    """A pool's table excludes it."""
    NOT_IN_RANGES = "not_in_ranges"
    """It is on a subnet, and no pool has it in its ranges."""
    RELEASED = "released"
    """It was released, and a DHCP server has yet to confirm the end of its binding."""
    RESTING = "resting"
    """It was released, and rests until a time or until its pool runs short."""
    PUT_ASIDE = "put_aside"
    """It was refused to its last holder, and rests for that."""
    USED_BY_OTHERS = "used_by_others"
    """Somebody uses it whom macbind did not give it to."""
    LAST_HOLDER = "last_holder"
    """Who had it last, and how that ended."""
    FREE = "free"
    """A pool may hand it out."""
    NAME_NOT_ALLOCATED = "name_not_allocated"
    """The name had an address, and has none now."""
    MAC_OF_NO_POOL = "mac_of_no_pool"
    """No pool makes the MAC, and nothing uses it."""
    IPV6_OF_NO_MAC = "ipv6_of_no_mac"
    """The IPv6 address was made from no MAC, or with no prefix of a pool."""


@dataclass(frozen=True, slots=True)
class Because:
    """One reason.

    Attributes:
        code: For programs.
        sentence: For people.
        where: Where the configuration says so: its file and line; None if it does not.
    """

    code: Reason
    sentence: str
    where: str | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """One event in the life of an address.

    Attributes:
        at: When (UTC).
        what: What happened.
        actor: Who did it; None if it was only seen.
    """

    at: datetime
    what: str
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class Why:
    """The answer to why an address, MAC, name or domain is as it is.

    Attributes:
        query: What was asked for.
        address: The address it is about; None if there is none.
        code: The code of the first reason.
        answer: The first reason in one sentence.
        reasons: All reasons, the first included.
        timeline: What happened with the address, oldest first.
        allocation: The allocation, also one that was released and is not gone yet.
        evidence: What shows that somebody uses the address.
    """

    query: str
    address: IPv4Address | None
    code: Reason
    answer: str
    reasons: tuple[Because, ...]
    timeline: tuple[Moment, ...] = ()
    allocation: Allocation | None = None
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Sign:
    """A machine was seen: what it did, and when (UTC)."""

    what: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one address.

    Attributes:
        query: What was asked for.
        address: The address.
        now: The time (UTC).
        pool: The pool that hands it out; None if none does.
        configured: Why no pool hands it out.
        allocation: Who holds it, or has held it and is not gone yet.
        confirmed: The DHCP servers that have confirmed the binding.
        missing: The DHCP servers that have yet to confirm, each with what is wrong with it, if anything is.
        free_at: Until when a released address rests (UTC).
        renumbers_to: The address its holder is being renumbered to.
        hypervisor: Where its domain was seen.
        phase: How far its domain has come.
        is_watched: Whether any hypervisor is watched.
        sign: The last sign of life of its machine.
        evidence: What shows that somebody uses it.
        history: Its audit log, newest first.
    """

    query: str
    address: IPv4Address
    now: datetime
    pool: str | None = None
    configured: tuple[Because, ...] = ()
    allocation: Allocation | None = None
    confirmed: tuple[str, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    free_at: datetime | None = None
    renumbers_to: IPv4Address | None = None
    hypervisor: str | None = None
    phase: str | None = None
    is_watched: bool = False
    sign: Sign | None = None
    evidence: tuple[Evidence, ...] = ()
    history: tuple[AuditEntry, ...] = ()

    def is_within(self, pools: frozenset[str]) -> bool:
        """Whether it is an address of these pools, and held in none but them."""
        theirs = {self.pool, None if self.allocation is None else self.allocation.pool} - {None}
        return bool(theirs) and theirs <= pools
