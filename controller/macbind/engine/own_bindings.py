"""Tells the bindings that this registry has made from those that only look like it.

Two registries may tell one DHCP server: a copy of the configuration on a second machine is enough. A registry may be
older than what the server holds: it was restored from a backup, or its standby had not heard of the last changes. The
machines of bindings that this registry never made may run. So such a binding is somebody else's: it is left alone,
its address is passed over, and an admin is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address

from macbind.core.address_plan import AddressPlan
from macbind.core.binding import Binding
from macbind.core.evidence import Evidence, Source
from macbind.core.findings import Finding
from macbind.dhcp.port import Audit
from macbind.registry.generations import begin_above, never_made
from macbind.registry.store import Registry


def set_apart(audit: Audit, dhcpd: str, plans: Sequence[AddressPlan], registry: Registry) -> Audit:
    """An audit in which only those bindings are ours that this registry has made.

    From now on its generations are above all that were seen, so that whatever is taken over is newer.

    Args:
        audit: What the DHCP server has on disk.
        dhcpd: The server's name in the configuration.
        plans: The address plans of the pools it serves.
        registry: The registry.
    """
    owners = {binding.owner for _, binding in audit.ours if binding.owner is not None}
    with registry.read() as view:
        strange = never_made(view, owners)
    if not strange:
        return audit
    others = [(address, one) for address, one in audit.ours if one.owner in strange]
    _begin_above(registry, others)
    now = datetime.now(UTC)
    evidence = [
        Evidence(Source.HOST, dhcpd, address, one.mac, one.name, now, now)
        for _, one in others
        for address in _reached(plans, one)
    ]
    return replace(
        audit,
        ours=[(address, one) for address, one in audit.ours if one.owner not in strange],
        foreign=audit.foreign + len(others),
        findings=[_finding(dhcpd, [one for _, one in others]), *audit.findings],
        evidence=[*audit.evidence, *evidence],
    )


def _begin_above(registry: Registry, others: Sequence[tuple[IPv4Address, Binding]]) -> None:
    with registry.write("writer") as txn:
        for pool in txn.pools.values():
            seen = [one.owner[1] for address, one in others if one.owner and address in pool.plan.subnet]
            if seen:
                begin_above(txn, pool, max(seen))


def _reached(plans: Sequence[AddressPlan], one: Binding) -> set[IPv4Address]:
    """The addresses of pools that a binding of somebody else takes: the one it gives, and the one of its MAC."""
    given = {one.address} if one.address is not None and any(one.address in plan for plan in plans) else set()
    images = {plan.assignable_of(one.mac) for plan in plans}
    return given | {image for image in images if image is not None}


def _finding(dhcpd: str, others: Sequence[Binding]) -> Finding:
    first = min(others, key=lambda one: one.name)
    more = f" There are {len(others)} of these." if len(others) > 1 else ""
    return Finding(
        "other_registry",
        f"dhcpd '{dhcpd}' has the binding '{first.name}' for {first.mac}, which this registry never made: another "
        f"macbind tells this dhcpd, or the registry is older than dhcpd's bindings. It is left alone, and its "
        f"address is passed over.{more}",
        f"Let one registry tell a dhcpd. `macbind reserve NAME {first.address or 'ADDRESS'}` takes a binding over; "
        "`macbind unreserve NAME` then ends it.",
        dhcpd,
    )
