"""Which domain becomes the recorded user of an allocation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from macbind.core.domain import Claim, Domain, DomainState, Phase
from macbind.core.evidence import Source
from macbind.core.mac_address import MacAddress
from macbind.core.ownership import Standing
from macbind.core.pool import ReleasePolicy
from macbind.core.release_policy import is_yet_to_run
from macbind.engine.domains.sightings import Sightings
from macbind.engine.group_commit import GroupCommitter
from macbind.registry import claims, evidence
from macbind.registry.transaction import Transaction, View

_FIRST = {DomainState.ACTIVE: 0, DomainState.HELD: 1, DomainState.BETWEEN: 2}


def new_users(view: View, sightings: Sightings, domains: Iterable[Domain]) -> list[tuple[Claim, Domain]]:
    """The allocations that get another recorded user, or whose user has another name, of these domains."""
    by_mac: dict[MacAddress, list[Domain]] = defaultdict(list)
    for domain in domains:
        for mac in domain.macs:
            by_mac[mac].append(domain)
    found = []
    for claim in claims.of_macs(view, list(by_mac)):
        having = [domain for mac in sorted(claim.macs) for domain in by_mac.get(mac, ())]
        having.sort(key=lambda one: (_FIRST.get(one.state, 3), one.name))
        user = _user_of(view, sightings, claim, having)
        if user is not None:
            found.append((claim, user))
    return found


def _user_of(view: View, sightings: Sightings, claim: Claim, having: Sequence[Domain]) -> Domain | None:
    """The new user of an allocation among the domains that have its MAC."""
    keeps_off = view.pools[claim.pool].release is not ReleasePolicy.DESTROY
    heir = None
    for domain in having:
        match sightings.standing(claim, domain, keeps_off=keeps_off):
            case Standing.USER:
                is_renamed = domain.state is not DomainState.UNREAD and domain.name != claim.domain
                return domain if is_renamed else None
            case Standing.HEIR if heir is None and not _is_older(view, claim, domain):
                heir = domain
    return heir


def _is_older(view: View, claim: Claim, domain: Domain) -> bool:
    """Whether a domain had the MAC before the allocation was made: it is the machine of an earlier one."""
    if claim.uuid is not None or claim.pinned:
        return False
    return any(
        (one.source, one.origin, one.holder) == (Source.DOMAIN, domain.hypervisor, domain.name)
        and one.since < claim.created_at
        for one in evidence.of_addresses(view, [claim.address])
    )


def record_users(committer: GroupCommitter, actor: str, new: Sequence[tuple[Claim, Domain]]) -> None:
    """Records them, and the names they have."""

    def work(txn: Transaction) -> None:
        for claim, domain in new:
            if (claim.hypervisor, claim.uuid) == (domain.hypervisor, domain.uuid):
                claims.rename(txn, claim, domain.name)
            else:
                claims.record(txn, claim, domain, _phase(claim, domain))

    if new:
        committer.submit(actor, work).result()


def _phase(claim: Claim, domain: Domain) -> Phase:
    match domain.state:
        case DomainState.ACTIVE if not is_yet_to_run(claim, domain):
            return Phase.RUNNING
        case DomainState.HELD:
            return Phase.HELD
    if domain.uuid == claim.uuid:
        return claim.phase or Phase.RUNNING
    is_wanted = claim.phase is Phase.EXPECTED or (claim.uuid is None and claim.domain is not None)
    return Phase.EXPECTED if is_wanted else Phase.DEFINED
