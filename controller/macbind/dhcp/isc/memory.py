"""What earlier looks at a dhcpd saw, and no later one has shown to be over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import IPv4Address

from macbind.core.evidence import Evidence, Source
from macbind.core.findings import Finding
from macbind.dhcp.isc.conf_look import ConfLook
from macbind.dhcp.port import Audit


@dataclass
class Memory:
    """The memory of one engine.

    dhcpd forgets the leases of a range that is taken out of its configuration when it starts: "no subnet". The
    machines that have them do not stop for that.
    """

    _leases: dict[IPv4Address, Evidence] = field(default_factory=dict)
    _on_disk: Sequence[Finding] = ()
    _in_conf: Sequence[Finding] = ()

    def after(self, audit: Audit, now: datetime) -> Audit:
        """A look at the lease file, completed with the leases that it no longer shows and that have not ended."""
        ended = frozenset(audit.ended)
        seen = {one.address: one for one in audit.evidence if one.source is Source.LEASE}
        kept = {
            address: one
            for address, one in self._leases.items()
            if address not in seen and address not in ended and one.counts_at(now)
        }
        self._leases, self._on_disk = seen | kept, audit.findings
        return replace(audit, evidence=[*audit.evidence, *kept.values()])

    def after_a_look_that_failed(self) -> Audit:
        """What still holds: nothing is withdrawn, and nothing is new."""
        return Audit(findings=self._on_disk)

    def with_conf(self, audit: Audit | None, look: ConfLook) -> Audit:
        """A look at the lease file, if there was one, together with one at the configuration."""
        findings = list(look.findings)
        if look.is_whole:
            self._in_conf = findings
        else:
            known = {one.code for one in findings}
            findings += [one for one in self._in_conf if one.code not in known]
        seen = Audit(looked=frozenset({Source.HOST})) if audit is None else audit
        looked = seen.looked | {Source.RANGE} if look.is_whole else seen.looked - {Source.HOST}
        return replace(
            seen,
            findings=[*seen.findings, *findings],
            evidence=[*seen.evidence, *look.evidence],
            looked=looked,
        )
