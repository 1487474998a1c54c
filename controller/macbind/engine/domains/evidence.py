"""What the domains of a hypervisor show of addresses in use, for whoever allocates.

A domain that has the MAC of an address and is not the recorded user of its allocation uses the address, whether or
not the address is allocated: it is passed over for as long as the domain is there.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address

from macbind.core.domain import Domain, DomainState, StopCause
from macbind.core.evidence import Evidence, Source
from macbind.core.mac_address import MacAddress
from macbind.core.ownership import in_use
from macbind.core.pool import Pool, ReleasePolicy
from macbind.engine.domains.sightings import Sightings
from macbind.engine.group_commit import GroupCommitter
from macbind.registry import claims, evidence
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction, View

_SHOWS = (DomainState.ACTIVE, DomainState.HELD)
"""States of a domain that is not away: what it does from now on is seen."""


class DomainEvidence:
    """Keeps the evidence in step with what was seen.

    Args:
        registry: The truth.
        committer: Changes it.
        sightings: What was seen.
        actor: Who changes it, for the audit log.
    """

    def __init__(
        self, registry: Registry, committer: GroupCommitter, sightings: Sightings, actor: str
    ) -> None:
        self._registry, self._committer = registry, committer
        self._sightings, self._actor = sightings, actor

    def take_list(self, hypervisor: str) -> None:
        """Takes all that a hypervisor shows, and keeps what is known of domains that have only just vanished."""
        with self._registry.read() as view:
            known = evidence.all_of(view, source=Source.DOMAIN, origin=hypervisor)
            found = self._shown(view, hypervisor, None, known)
            shown, vanished = {one.address for one in found}, self._sightings.vanished(hypervisor)
            found += [one for one in known if one.holder in vanished and one.address not in shown]
            changed = evidence.difference(view, Source.DOMAIN, hypervisor, found, datetime.now(UTC))
            back = self._back(evidence.all_of(view, source=Source.AWAY))
        if changed or back:

            def work(txn: Transaction) -> None:
                evidence.replace(txn, Source.DOMAIN, hypervisor, found)
                evidence.withdraw_all(txn, Source.AWAY, back)

            self._commit(work)

    def take_look(
        self, hypervisor: str, macs: AbstractSet[MacAddress], cause: StopCause | None = None
    ) -> None:
        """Takes what a hypervisor shows of some MACs that a domain has, or had, and why it stopped.

        Without any, a domain is gone that was gone before, and its allocation may have been released since as one
        whose machine may still run. Then all that is known is looked at; that is hardly ever anything.
        """
        with self._registry.read() as view:
            if not macs:
                all_known = evidence.all_of(view, source=Source.DOMAIN, origin=hypervisor)
                macs = {one.mac for one in all_known if one.mac is not None}
            addresses = [one for mac in macs for _, one in [_address_of(view, mac)] if one is not None]
            if not addresses:
                return
            at_them = evidence.of_addresses(view, addresses)
            known = [one for one in at_them if (one.source, one.origin) == (Source.DOMAIN, hypervisor)]
            back = self._back([one for one in at_them if one.source is Source.AWAY])
            found = self._shown(view, hypervisor, macs, known)
        shown = {one.address: one.holder for one in found}
        had = {one.address: one.holder for one in known}
        new = [one for one in found if had.get(one.address) != one.holder]
        vanished = self._sightings.vanished(hypervisor)
        gone = [one for one, holder in had.items() if one not in shown and holder not in vanished]
        if cause in (StopCause.SAVED, StopCause.MIGRATED):
            away = [replace(one, source=Source.AWAY) for one in known if one.address in gone]
            here = self._back(away)
            new += [one for one in away if one.address not in here]
        if new or gone or back:

            def work(txn: Transaction) -> None:
                evidence.add(txn, new)
                evidence.withdraw(txn, Source.DOMAIN, hypervisor, gone)
                evidence.withdraw_all(txn, Source.AWAY, back)

            self._commit(work)

    def _back(self, away: Iterable[Evidence]) -> set[IPv4Address]:
        """The addresses whose saved or migrated domain a hypervisor shows again."""
        known = list(away)
        domains = self._sightings.having({one.mac for one in known if one.mac is not None})
        shown = {(mac, one.name) for one in domains if one.state in _SHOWS for mac in one.macs}
        return {one.address for one in known if (one.mac, one.holder) in shown}

    def _commit(self, work: object) -> None:
        self._committer.submit(self._actor, work).result()  # type: ignore[arg-type]

    def _shown(
        self,
        view: View,
        hypervisor: str,
        macs: AbstractSet[MacAddress] | None,
        known: Iterable[Evidence],
    ) -> list[Evidence]:
        """Evidence of all domains of a hypervisor that have some MACs, or any."""
        if macs is None:
            domains = [one for one in self._sightings.domains() if one.hypervisor == hypervisor]
        else:
            domains = self._sightings.having(macs, hypervisor)
        having = [
            (domain, mac)
            for domain in sorted(domains, key=lambda one: one.name)
            for mac in sorted(domain.macs)
            if macs is None or mac in macs
        ]
        users = {
            (mac, claim.hypervisor, claim.uuid)
            for claim in claims.of_macs(view, sorted({mac for _, mac in having}))
            for mac in claim.macs
        }
        now = datetime.now(UTC)
        before = {(one.address, one.holder): one for one in known}
        found: dict[IPv4Address, Evidence] = {}
        for domain, mac in having:
            pool, address = _address_of(view, mac)
            if pool is None or address is None or (mac, hypervisor, domain.uuid) in users:
                continue
            was_known = (address, domain.name) in before
            if address not in found and self._is_in_use(domain, pool, was_known=was_known):
                found[address] = Evidence(
                    Source.DOMAIN, hypervisor, address, mac, domain.name, since=now, seen_at=now
                )
        left = [one for (address, _), one in before.items() if address not in found]
        unread = self._sightings.unread(hypervisor) if left else set[str]()
        return [*found.values(), *(one for one in left if one.holder in unread)]

    def _is_in_use(self, domain: Domain, pool: Pool, *, was_known: bool) -> bool:
        if domain.state is DomainState.UNREAD:
            return True
        is_waiting = self._sightings.is_waiting(domain) or (was_known and not self._sightings.has_run(domain))
        return in_use(domain, keeps_off=pool.release is not ReleasePolicy.DESTROY, is_waiting=is_waiting)


def _address_of(view: View, mac: MacAddress) -> tuple[Pool | None, IPv4Address | None]:
    """The address that has this MAC, and its pool."""
    for pool in view.pools.values():
        address = pool.plan.assignable_of(mac)
        if address is not None:
            return pool, address
    return None, None
