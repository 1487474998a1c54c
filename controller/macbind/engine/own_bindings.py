"""Tells the bindings that this registry has made from those that only look like it.

Two registries may tell one DHCP server: a copy of the configuration on a second machine is enough. A registry may be
older than what the server holds: it was restored from a backup, or its standby had not heard of the last changes. The
machines of bindings that this registry never made may run. So such a binding is somebody else's: it is left alone,
its address is passed over, and an admin is told. The same holds for what a torn record has left of one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address

from macbind.core.address_plan import AddressPlan
from macbind.core.binding import Binding, owner_of
from macbind.core.evidence import Evidence, Source
from macbind.core.findings import Finding
from macbind.core.mac_address import MacAddress
from macbind.dhcp.port import Audit
from macbind.registry.generations import Owner, begin_above, never_made
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
    torn = {name: owner for name in audit.maimed if (owner := owner_of(name)) is not None}
    with registry.read() as view:
        strange = never_made(view, owners.union(torn.values()))
    if not strange:
        return audit
    _begin_above(registry, strange)
    others = [one for _, one in audit.ours if one.owner in strange]
    remains = {name: owner[0] for name, owner in torn.items() if owner in strange}
    now = datetime.now(UTC)
    taken: list[tuple[IPv4Address, MacAddress | None, str]] = [
        (address, one.mac, one.name) for one in others for address in _reached(plans, one)
    ]
    taken += [(address, None, name) for name, address in remains.items() if _is_in(plans, address)]
    listed = {one.name: (f"'{one.name}' for {one.mac}", one.address) for one in others}
    listed |= {name: (f"'{name}', torn in its lease file", address) for name, address in remains.items()}
    return replace(
        audit,
        ours=[(address, one) for address, one in audit.ours if one.owner not in strange],
        maimed=[name for name in audit.maimed if name not in remains],
        foreign=audit.foreign + len(listed),
        findings=[_finding(dhcpd, listed), *audit.findings],
        evidence=[
            *audit.evidence,
            *(Evidence(Source.HOST, dhcpd, address, mac, name, now, now) for address, mac, name in taken),
        ],
    )


def _begin_above(registry: Registry, strange: Collection[Owner]) -> None:
    with registry.write("writer") as txn:
        for pool in txn.pools.values():
            seen = [generation for address, generation in strange if address in pool.plan.subnet]
            if seen:
                begin_above(txn, pool, max(seen))


def _is_in(plans: Sequence[AddressPlan], address: IPv4Address) -> bool:
    return any(address in plan for plan in plans)


def _reached(plans: Sequence[AddressPlan], one: Binding) -> set[IPv4Address]:
    """The addresses of pools that a binding of somebody else takes: the one it gives, and the one of its MAC."""
    given = {one.address} if one.address is not None and _is_in(plans, one.address) else set()
    images = {plan.assignable_of(one.mac) for plan in plans}
    return given | {image for image in images if image is not None}


def _finding(dhcpd: str, listed: Mapping[str, tuple[str, IPv4Address | None]]) -> Finding:
    """What an admin is told.

    Args:
        dhcpd: The server.
        listed: By the names of the bindings what is said of each, and which address it gives.
    """
    first, address = listed[min(listed)]
    more = f" There are {len(listed)} of these." if len(listed) > 1 else ""
    return Finding(
        "other_registry",
        f"dhcpd '{dhcpd}' has the binding {first}, which this registry never made: another macbind tells this dhcpd, "
        f"or the registry is older than dhcpd's bindings. It is left alone, and its address is passed over.{more}",
        "Let one registry tell a dhcpd. If the other one is gone for good, `macbind recover` takes all of them over, "
        f"`macbind reserve NAME {address or 'ADDRESS'}` a single one; `macbind unreserve NAME` then ends it.",
        dhcpd,
    )
