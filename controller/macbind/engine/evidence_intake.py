"""Takes what an audit of a DHCP server shows of others into the registry, so that ``allocate`` passes over it.

Only differences are written, in pieces, so that requests go on meanwhile. What was not looked at is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Address

from macbind.core.evidence import Evidence, Source
from macbind.dhcp.port import Audit
from macbind.registry import evidence
from macbind.registry.free_space import chunks
from macbind.registry.store import Registry
from macbind.registry.transaction import View


class EvidenceIntake:
    """The evidence that one DHCP server gives.

    Args:
        dhcpd: Its name in the configuration.
        registry: The registry.
        still_has: Asks the server whether it goes on with hosts and ranges that its files no longer show.
    """

    def __init__(
        self,
        dhcpd: str,
        registry: Registry,
        still_has: Callable[[Sequence[Evidence]], Sequence[bool]] = lambda gone: [False] * len(gone),
    ) -> None:
        self._dhcpd, self._registry, self._still_has = dhcpd, registry, still_has

    def take(self, audit: Audit, between: Callable[[], bool]) -> bool:
        """Brings the registry's evidence in line with an audit.

        Args:
            audit: What was seen.
            between: Called between pieces; False ends it.

        Returns:
            Whether it was not ended.
        """
        sources = sorted(audit.looked.union(one.source for one in audit.evidence))
        with self._registry.read() as view:
            changes = [(source, self._difference(view, source, audit)) for source in sources]
        size = self._registry.sizes.batch
        for source, found in changes:
            for new in chunks(found.new, size):
                if not between():
                    return False
                with self._registry.write("writer") as txn:
                    evidence.add(txn, new)
            for some in chunks(found.gone if source in audit.looked else (), size):
                if not between():
                    return False
                gone = self._really_gone(source, some)
                with self._registry.write("writer") as txn:
                    evidence.withdraw(txn, source, self._dhcpd, gone)
        return True

    def _difference(self, view: View, source: Source, audit: Audit) -> evidence.Difference:
        shown = [one for one in audit.evidence if one.source is source]
        ended = audit.ended if source is Source.LEASE else ()
        if source is Source.LEASE:
            shown = evidence.of_others(view, shown)
        return evidence.difference(view, source, self._dhcpd, shown, datetime.now(UTC), ended=ended)

    def _really_gone(self, source: Source, addresses: Sequence[IPv4Address]) -> Sequence[IPv4Address]:
        """Those that the server does not go on with, whatever its files say."""
        if source not in (Source.HOST, Source.RANGE):
            return addresses
        with self._registry.read() as view:
            known = [
                one
                for one in evidence.of_addresses(view, addresses)
                if (one.source, one.origin) == (source, self._dhcpd)
            ]
        there = self._still_has(known)
        return [one.address for one, is_there in zip(known, there, strict=True) if not is_there]
