"""The audit of a dhcpd's lease file: our hosts, those of others in our way, addresses leased behind our back, damage.

Pure: a lease file and the pools come in; bindings, evidence and findings go out. Of many faults of one kind the
finding tells the first, and how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from ipaddress import IPv4Address

from macbind.core.address_plan import AddressPlan
from macbind.core.binding import BINDING_PREFIX, STATIC_BINDING_PREFIX, Binding, Lease, owner_of
from macbind.core.evidence import Evidence, Source
from macbind.core.findings import Finding
from macbind.core.mac_address import MacAddress
from macbind.dhcp.isc.lease_file import MAX_PROBLEMS, HostRecord, LeaseFile, paced
from macbind.dhcp.port import Audit

_LIVING = frozenset({"active", "abandoned", "bootp"})
"""States of a lease whose address a machine may use until its end. dhcpd abandons an address where a machine
answered that it does not know."""


def audit(
    dhcpd: str,
    file: LeaseFile,
    plans: Sequence[AddressPlan],
    now: datetime,
    between: Callable[[], object] = lambda: None,
) -> Audit:
    """What the lease file says about our bindings, about others, and to an admin.

    Args:
        dhcpd: The dhcpd's name in the configuration.
        file: Its lease file.
        plans: The address plans of the pools it serves.
        now: When it was read (UTC).
        between: Called every now and then during the work.
    """
    ours, maimed, others = divide(file, between)
    leases = [one for one in paced(file.leases.values(), between) if _in(plans, one.address)]
    living = [one for one in leases if lives(one, now)]
    findings = [
        *_damaged(dhcpd, file),
        *_in_our_way(dhcpd, others, plans),
        *_leased(dhcpd, living),
        *_masked(dhcpd, file),
    ]
    evidence = [
        *(_host_evidence(dhcpd, address, one, now) for one in others for address in _reached(plans, one)),
        *(_lease_evidence(dhcpd, one, now) for one in living),
    ]
    looked = frozenset({Source.HOST, Source.LEASE}) if file.complete else frozenset[Source]()
    ended = [one.address for one in leases if not lives(one, now)]
    foreign = sum(one.dynamic for one in others)
    return Audit(ours, maimed, foreign, findings, evidence, looked, ended)


def lives(lease: Lease, now: datetime) -> bool:
    """Whether a machine may use the leased address at this moment."""
    return lease.state in _LIVING and (lease.ends is None or lease.ends > now)


def divide(
    file: LeaseFile, between: Callable[[], object] = lambda: None
) -> tuple[list[tuple[IPv4Address, Binding]], list[str], list[HostRecord]]:
    """Divides the hosts in a lease file by their owners.

    Returns:
        Our bindings, each with the address in its name; the names of hosts of ours that a torn record left
        without a MAC, so that nobody is served by them; and the hosts made, or changed, by somebody else.
    """
    ours, maimed, others = [], [], []
    for record in paced(file.hosts.values(), between):
        host = record.binding
        if host is not None and (owner := host.owner) is not None:
            ours.append((owner[0], host))
        elif record.dynamic and record.mac is None and owner_of(record.name) is not None:
            maimed.append(record.name)
        elif record.dynamic or not record.name.startswith(BINDING_PREFIX):
            others.append(record)
    return ours, maimed, others


def _reached(plans: Sequence[AddressPlan], host: HostRecord) -> list[IPv4Address]:
    """The addresses of pools that a host of somebody else takes: those it gives, and the one of its MAC.

    dhcpd holds one host for a MAC. So the address of a foreign host's MAC cannot be served by us.
    """
    of_mac = None if host.mac is None else _assignable(plans, host.mac)
    given = [one for one in host.addresses if _in(plans, one)]
    return list(dict.fromkeys([*given, *([] if of_mac is None else [of_mac])]))


def _host_evidence(dhcpd: str, address: IPv4Address, host: HostRecord, now: datetime) -> Evidence:
    return Evidence(Source.HOST, dhcpd, address, host.mac, host.name, now, now)


def _lease_evidence(dhcpd: str, lease: Lease, now: datetime) -> Evidence:
    who = "a machine that dhcpd does not know" if lease.state == "abandoned" else "a client without Ethernet"
    holder = who if lease.mac is None else str(lease.mac)
    return Evidence(Source.LEASE, dhcpd, lease.address, lease.mac, holder, now, now, lease.ends)


def _damaged(dhcpd: str, file: LeaseFile) -> list[Finding]:
    """Parts of the file that cannot be understood."""
    if not file.problems:
        return []
    first = file.problems[0]
    return [
        Finding(
            "lease_file_damaged",
            f"The lease file of dhcpd '{dhcpd}' is damaged at line {first.line}: {first.text}."
            + _more(len(file.problems), most=MAX_PROBLEMS),
            "dhcpd mends it when it rewrites the file, within an hour, if the disk has space. If it restarts "
            "before, macbind makes its own bindings again, but leases and hosts of others are lost.",
            dhcpd,
        )
    ]


def _masked(dhcpd: str, file: LeaseFile) -> list[Finding]:
    """Hosts of a static pool that dhcpd leaves out because somebody deleted them."""
    masked = sorted(name for name in file.tombstones if name.startswith(STATIC_BINDING_PREFIX))
    if not masked:
        return []
    return [
        Finding(
            "host_masked",
            f"dhcpd '{dhcpd}' ignores the host '{masked[0]}' of its configuration, because somebody deleted "
            f"it over OMAPI.{_more(len(masked))}",
            "Stop dhcpd, remove the host's record with 'deleted;' from the lease file, and start it.",
            masked[0],
        )
    ]


def _in_our_way(dhcpd: str, hosts: Iterable[HostRecord], plans: Sequence[AddressPlan]) -> list[Finding]:
    """Hosts of others that have an address, or a MAC, that a pool hands out."""
    by_address = [(one, ip) for one in hosts for ip in one.addresses if _in(plans, ip)]
    taken = {host.name for host, _ in by_address}
    by_mac = [
        (one, one.mac, ip)
        for one in hosts
        if one.name not in taken and one.mac is not None and (ip := _assignable(plans, one.mac)) is not None
    ]
    hint = "Delete it (see omshell(1)), or exclude the address from the pool."
    found: list[Finding] = []
    if by_address:
        host, ip = by_address[0]
        found.append(
            Finding(
                "foreign_host",
                f"The host '{host.name}' of dhcpd '{dhcpd}', which macbind did not make, gives {ip} to "
                f"{host.mac}, and a pool hands {ip} out: it is passed over.{_more(len(by_address))}",
                hint,
                str(ip),
            )
        )
    if by_mac:
        host, mac, ip = by_mac[0]
        found.append(
            Finding(
                "foreign_host",
                f"The host '{host.name}' of dhcpd '{dhcpd}', which macbind did not make, has {mac}, the MAC of {ip}: "
                f"{ip} is passed over.{_more(len(by_mac))}",
                hint,
                str(ip),
            )
        )
    return found


def _leased(dhcpd: str, living: Sequence[Lease]) -> list[Finding]:
    """Dynamic leases of addresses that a pool hands out: from a time when dhcpd had a range there."""
    taken = [one for one in living if one.state != "abandoned"]
    if not taken:
        return []
    first = taken[0]
    until = "for ever" if first.ends is None else f"until {first.ends:%Y-%m-%d %H:%M:%S} UTC"
    return [
        Finding(
            "leased_address",
            f"dhcpd '{dhcpd}' has leased {first.address} to {first.mac} {until}, and a pool hands it out: "
            f"it is passed over until the lease ends.{_more(len(taken))}",
            "Take the address out of every range of dhcpd's configuration. To end the lease, `macbind reserve NAME "
            f"{first.address} --mac {first.mac}` and `macbind unreserve NAME`.",
            str(first.address),
        )
    ]


def _in(plans: Iterable[AddressPlan], address: IPv4Address) -> bool:
    return any(address in plan for plan in plans)


def _assignable(plans: Sequence[AddressPlan], mac: MacAddress) -> IPv4Address | None:
    return next((ip for plan in plans if (ip := plan.assignable_of(mac)) is not None), None)


def _more(count: int, most: int | None = None) -> str:
    at_least = "at least " if count == most else ""  # it is a part of all there are
    return f" There are {at_least}{count} of these." if count > 1 else ""
