"""Ends every lease of released addresses and MACs, so that the next machine can have the address.

Usually there is none. dhcpd is asked about all of them in windows of small answers; only a lease that exists is
looked up. Of a client with several leases OMAPI names none, so the lease file has to. A lease of another address
holds up nothing: dhcpd ends it in its time, and until then it is evidence that the other address is in use.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from ipaddress import IPv4Address

from macbind.core.mac_address import MacAddress
from macbind.dhcp.isc.messages import ResultCode, end_lease, find_lease, has_lease, lease_in
from macbind.dhcp.isc.work import Exchange, Work

_OCCUPIED = frozenset({"active", "expired", "released", "abandoned"})
"""Lease states that keep the next machine from getting the address until the lease's end."""

Key = IPv4Address | MacAddress
"""What a lease is looked up by."""


def end_leases(
    exchange: Exchange,
    works: Sequence[Work],
    leases_of: Callable[[Collection[MacAddress]], Iterable[tuple[MacAddress, IPv4Address]]],
) -> None:
    """Ends the leases of removed bindings; a work is refused where a lease of its address stays.

    Args:
        exchange: Asks dhcpd.
        works: Removals that are done.
        leases_of: The addresses that these MACs have or had a lease of, as far as macbind may look.
    """
    found: list[tuple[Work, Key]] = []
    several: dict[MacAddress, Work] = {}
    asked: list[tuple[Work, Key]] = [
        (work, key) for work in works for key in (work.change.address, work.change.mac)
    ]
    for (work, key), reply in zip(asked, exchange(has_lease(key) for _, key in asked), strict=True):
        match reply.result:
            case ResultCode.EXISTS:
                found.append((work, key))
            case ResultCode.SEVERAL_MATCH:
                several[work.change.mac] = work
            case ResultCode.NOT_IMPLEMENTED | ResultCode.NOT_FOUND:
                pass
            case _ if key == work.change.address:
                work.refuse("its leases cannot be looked up", reply.result)
            case _:
                pass
    if several:
        found += [(several[mac], address) for mac, address in leases_of(several.keys())]
    looks = exchange(find_lease(key) for _, key in found)
    ends: list[tuple[Work, bool, int]] = []
    for (work, _), look in zip(found, looks, strict=True):
        lease = lease_in(look)
        if lease is None or lease.state not in _OCCUPIED:
            continue
        is_own = lease.address == work.change.address
        if is_own or lease.mac == work.change.mac:  # the lease file may tell of an earlier holder
            ends.append((work, is_own, look.handle))
    for (work, is_own, _), reply in zip(
        ends, exchange(end_lease(handle) for *_, handle in ends), strict=True
    ):
        if reply.result and is_own:
            work.refuse("its lease cannot be ended", reply.result)
