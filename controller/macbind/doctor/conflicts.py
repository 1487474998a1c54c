"""What dhcpd's files give to others of our pools: what the service's comparison looks at, looked at once."""

from __future__ import annotations

from collections.abc import Iterator

from macbind.core.findings import Finding
from macbind.doctor.site import Site

_RANGES = frozenset({"foreign_range"})


def look_at_hosts(site: Site) -> Iterator[Finding]:
    """Hosts and leases of others in our pools, and what cannot be read or understood."""
    return (one for one in _found(site) if one.code not in _RANGES)


def look_at_ranges(site: Site) -> Iterator[Finding]:
    """Dynamic ranges over our pools."""
    return (one for one in _found(site) if one.code in _RANGES)


def _found(site: Site) -> Iterator[Finding]:
    for name in site.local_dhcpds():
        audit = site.audit(name)
        yield from () if audit is None else audit.findings
