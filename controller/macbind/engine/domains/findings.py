"""What an admin is told of domains: MACs that are not theirs, or lost, and domains that are missing or unreadable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from macbind.core.domain import Claim, Domain, DomainState, Phase
from macbind.core.findings import Finding
from macbind.core.mac_address import MacAddress
from macbind.engine.domains.sightings import Sightings, Watching
from macbind.registry import claims
from macbind.registry.store import Registry
from macbind.registry.transaction import View

_VERBS = {DomainState.ACTIVE: "runs", DomainState.HELD: "is saved"}
"""The states of domains that have their MACs in use, in words."""


class DomainFindings:
    """Compares what was seen with the registry.

    Args:
        registry: The truth.
        watchers: What watches each hypervisor.
        sightings: What they have seen.
    """

    def __init__(self, registry: Registry, watchers: Mapping[str, Watching], sightings: Sightings) -> None:
        self._registry, self._watchers, self._sightings = registry, watchers, sightings

    def all(self) -> list[Finding]:
        """All findings about domains."""
        domains = self._sightings.domains()
        users: dict[MacAddress, list[Domain]] = {}
        for domain in domains:
            if domain.state in _VERBS:
                for mac in domain.macs:
                    users.setdefault(mac, []).append(domain)
        running = [one for one in domains if one.state is DomainState.ACTIVE]
        lost = {mac: one for one in running for mac in one.unplugged - one.live}
        with self._registry.read() as view:
            by_mac = {mac: claim for claim in claims.of_macs(view, list(users)) for mac in claim.macs}
            losers = [
                (claim, domain)
                for claim in claims.of_macs(view, list(lost))
                if claim.renumbers_to is None and claim.uuid == (domain := lost[claim.mac]).uuid
            ]
            doubted = [one for one in claims.doubted(view) if one.phase is not Phase.STOPPED]
            found = [_nic_lost(claim, domain) for claim, domain in losers]
            found += [self._missing(one) for one in doubted if not self._runs(one)]
            for mac, some in sorted(users.items()):
                found += _of_mac(view, mac, some, by_mac.get(mac))
        return found + [_unreadable(one) for one in domains if one.state is DomainState.UNREAD]

    def _runs(self, claim: Claim) -> bool:
        """Whether the domain of an allocation is not missing, but only its NIC."""
        domain = self._sightings.recorded(claim)
        return domain is not None and domain.state is DomainState.ACTIVE

    def _missing(self, claim: Claim) -> Finding:
        watcher = self._watchers.get(claim.hypervisor or "")
        if watcher is None or not watcher.status.connected:
            when = "when its hypervisor is connected"
        else:
            with self._sightings.lock:
                again_at = self._sightings.of[watcher.status.name].again_at.get(claim.uuid or "")
            is_due = again_at is None or again_at <= datetime.now(UTC)
            when = (
                "by every scan, until all hypervisors say that it is gone"
                if is_due
                else f"at {again_at:%H:%M:%S} UTC"
            )
        return Finding(
            "domain_missing",
            f"The domain of '{claim.name}' has not been seen to run on '{claim.hypervisor}' since "
            f"{claim.doubted_at:%Y-%m-%d %H:%M:%S} UTC, and no event said that it ended; it is asked for again "
            f"{when}.",
            f"{claim.address} is kept until then. If the machine is gone, `macbind release {claim.name}` frees it.",
            claim.name,
        )


def _of_mac(view: View, mac: MacAddress, domains: Sequence[Domain], claim: Claim | None) -> list[Finding]:
    """Findings about the domains that have one MAC in use."""
    strangers = [
        one
        for one in domains
        if claim is None or (claim.hypervisor, claim.uuid) != (one.hypervisor, one.uuid)
    ]
    running = [one for one in domains if one.state is DomainState.ACTIVE]
    if len(running) > 1:
        names = " and ".join(sorted(_named(one) for one in running))
        shared = Finding(
            "shared_mac",
            f"The domains {names} run with one MAC, {mac}.",
            "All but one must get another.",
            str(mac),
        )
        strangers = [one for one in strangers if one not in running]
        return [shared, *_of_strangers(view, mac, strangers, claim), *_unallocated(view, mac, running, claim)]
    return _of_strangers(view, mac, strangers, claim)


def _of_strangers(
    view: View, mac: MacAddress, strangers: Sequence[Domain], claim: Claim | None
) -> list[Finding]:
    if claim is None:
        return _unallocated(view, mac, strangers, claim)
    if claim.uuid is None:
        wanted = "" if claim.domain is None else f", for the domain '{claim.domain}'"
        return [
            Finding(
                "unallocated_mac",
                f"The domain {_named(one)} {_VERBS[one.state]} with {mac}, the MAC of {claim.address}, which is "
                f"allocated to '{claim.name}'{wanted}: it is not its machine.",
                f"Give it another MAC; or, if it is that machine, release '{claim.name}' and reserve the address.",
                str(mac),
            )
            for one in strangers
        ]
    return [
        Finding(
            "shared_mac",
            f"The domain {_named(one)} {_VERBS[one.state]} with {mac}, the MAC of '{claim.name}', whose domain is "
            f"'{claim.domain}' ({claim.hypervisor}).",
            "It must get another MAC, unless the other is gone for good: undefine that then.",
            str(mac),
        )
        for one in strangers
    ]


def _unallocated(
    view: View, mac: MacAddress, domains: Sequence[Domain], claim: Claim | None
) -> list[Finding]:
    plans = [pool.plan for pool in view.pools.values()]
    address = next((one for plan in plans if (one := plan.assignable_of(mac)) is not None), None)
    if claim is not None or address is None or not domains:
        return []
    names = " and ".join(sorted(_named(one) for one in domains))
    return [
        Finding(
            "unallocated_mac",
            f"The domain {names} {_VERBS[domains[0].state]} with {mac}, the MAC of {address}, which is not "
            "allocated: DHCP does not serve it.",
            "End it, or reserve the address for it; `macbind recover` shows what can be allocated again.",
            str(mac),
        )
    ]


def _named(domain: Domain) -> str:
    return f"'{domain.name}' ({domain.hypervisor})"


def _unreadable(domain: Domain) -> Finding:
    return Finding(
        "domain_unreadable",
        f"The domain {_named(domain)} cannot be read: {domain.problem.rstrip('.')}.",
        "What is allocated to it is kept meanwhile; other domains are not touched. See `virsh dumpxml`.",
        domain.name,
    )


def _nic_lost(claim: Claim, domain: Domain) -> Finding:
    return Finding(
        "nic_lost",
        f"The domain '{domain.name}' ({domain.hypervisor}) has let go of its NIC {claim.mac} after its "
        "renumbering was aborted; it runs without.",
        f"`macbind renumber {claim.name} --abort` plugs it in again; or switch the domain off and on.",
        claim.name,
        (f"macbind renumber {claim.name} --abort",),
    )
