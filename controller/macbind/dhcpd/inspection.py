"""What a lease file tells an admin: hosts of others in our way, addresses leased behind our back, damage.

Pure: a lease file and the pools come in, findings go out. Of many faults of one kind the first is told, and how
many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from ipaddress import IPv4Address

from macbind.addressing import AddressPlan, MacAddress
from macbind.dhcpd.leases import HostRecord, LeaseFile
from macbind.model import STATIC_HOST_PREFIX, Finding, HostReservation, Lease, owner_of


def divide(
    file: LeaseFile,
) -> tuple[list[tuple[IPv4Address, HostReservation]], list[str], list[HostRecord]]:
    """Whose the hosts in a lease file are.

    Returns:
        Our host reservations, each with the address in its name; the names of hosts of ours that a torn record left
        without a MAC, so that nobody is served by them; and the hosts made over OMAPI by somebody else.
    """
    ours, maimed, others = [], [], []
    for record in file.hosts.values():
        host = record.reservation
        if host is not None and (owner := host.owner) is not None:
            ours.append((owner[0], host))
        elif record.dynamic and record.mac is None and owner_of(record.name) is not None:
            maimed.append(record.name)
        elif record.dynamic:
            others.append(record)
    return ours, maimed, others


def inspect(
    dhcpd: str, file: LeaseFile, others: Sequence[HostRecord], plans: Sequence[AddressPlan], now: datetime
) -> list[Finding]:
    """What an admin should look at.

    Args:
        dhcpd: The dhcpd's name in the configuration.
        file: Its lease file.
        others: The hosts of others in it.
        plans: The address plans of the pools it serves.
        now: When it was read (UTC).
    """
    found: list[Finding] = []
    if file.problems:
        first = file.problems[0]
        found.append(
            Finding(
                "lease_file_damaged",
                f"The lease file of dhcpd '{dhcpd}' is damaged at line {first.line}: {first.text}."
                + _more(len(file.problems)),
                "dhcpd mends it when it rewrites the file, within an hour, if the disk has space. If it restarts "
                "before, macbind makes its own reservations again, but leases and hosts of others are lost.",
            )
        )
    found += _in_our_way(dhcpd, others, plans)
    found += _leased(dhcpd, file.leases.values(), plans, now)
    masked = sorted(name for name in file.tombstones if name.startswith(STATIC_HOST_PREFIX))
    if masked:
        found.append(
            Finding(
                "host_masked",
                f"dhcpd '{dhcpd}' ignores the host '{masked[0]}' of its configuration, because somebody deleted "
                f"it over OMAPI.{_more(len(masked))}",
                "Stop dhcpd, remove the host's record with 'deleted;' from the lease file, and start it.",
            )
        )
    return found


def _in_our_way(dhcpd: str, hosts: Iterable[HostRecord], plans: Sequence[AddressPlan]) -> list[Finding]:
    """Hosts of others that have an address, or a MAC, that a pool hands out."""
    by_address = [(one, ip) for one in hosts for ip in one.addresses if any(ip in plan for plan in plans)]
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
                f"{host.mac}, and a pool hands {ip} out: two machines could get it.{_more(len(by_address))}",
                hint,
            )
        )
    if by_mac:
        host, mac, ip = by_mac[0]
        found.append(
            Finding(
                "foreign_host",
                f"The host '{host.name}' of dhcpd '{dhcpd}', which macbind did not make, has {mac}, the MAC of {ip}: "
                f"{ip} cannot be allocated.{_more(len(by_mac))}",
                hint,
            )
        )
    return found


def _leased(
    dhcpd: str, leases: Iterable[Lease], plans: Sequence[AddressPlan], now: datetime
) -> list[Finding]:
    """Dynamic leases of addresses that a pool hands out: from a time when dhcpd had a range there."""
    taken = [
        one
        for one in leases
        if one.state == "active"
        and (one.ends is None or one.ends > now)
        and any(one.address in plan for plan in plans)
    ]
    if not taken:
        return []
    first = taken[0]
    until = "for ever" if first.ends is None else f"until {first.ends:%Y-%m-%d %H:%M:%S} UTC"
    return [
        Finding(
            "leased_address",
            f"dhcpd '{dhcpd}' has leased {first.address} to {first.mac} {until}, and a pool hands it out: two "
            f"machines could use it.{_more(len(taken))}",
            "Take the address out of every range of dhcpd's configuration; to end the lease, reserve the address and "
            "unreserve it.",
        )
    ]


def _assignable(plans: Sequence[AddressPlan], mac: MacAddress) -> IPv4Address | None:
    return next((ip for plan in plans if (ip := plan.assignable_of(mac)) is not None), None)


def _more(count: int) -> str:
    return f" There are {count} of these." if count > 1 else ""
