"""What was seen of the domains of every hypervisor, over its present connection."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from macbind.core.domain import NO_RUN, NOTHING_SAID, Claim, Domain, DomainEvent, DomainState, StopCause
from macbind.core.findings import HypervisorStatus
from macbind.core.mac_address import MacAddress
from macbind.core.ownership import Standing, in_use, standing

_ENDS = (StopCause.ENDED, StopCause.BY_ITSELF)


class Watching(Protocol):
    """What watches one hypervisor, as :class:`macbind.virt.watcher.Watcher` does."""

    @property
    def status(self) -> HypervisorStatus:
        """How things stand."""

    @property
    def tried(self) -> threading.Event:
        """Set when the first list is told of, or when there is none to be had."""

    def start(self) -> None:
        """Starts."""

    def stop(self) -> None:
        """Has it end soon."""

    def close(self, within_s: float = ...) -> None:
        """Ends."""

    def look(self, uuid: str) -> Domain | None:
        """Asks libvirt now for the domain."""

    def ask_again(self, uuid: str, at: float) -> None:
        """Has a domain looked at again at a moment, once all is handled that was said before."""


class Vanished(NamedTuple):
    """A domain that is not there, and nothing has said why.

    Attributes:
        domain: The domain as it was last seen.
        at: When it was first missed.
    """

    domain: Domain
    at: float


@dataclass(slots=True)
class Seen:
    """What was seen of a hypervisor over its present connection.

    Attributes:
        domains: Its domains by UUID; until the first list, those of the connection before.
        having: The UUIDs of those that have a MAC.
        since: Since when it has been watched; None until the first list.
        looked_at: When a domain was last looked at.
        missing_since: Since when the domain of an allocation has been missing or off, as far as was seen.
        again_at: When such a domain is looked for again (UTC), for people.
        runs: The number of the last run of a domain.
        listed_at: When the last list was begun.
        is_first: Whether no list was seen yet, over any connection.
        appeared: When a definition appeared that has not run since (UTC); not those of the very first list.
        ran: Domains that have run.
        persistent: Domains that had a stored definition when they were last seen.
        vanished: Domains that a list or a look did not find, and nothing has said why. A later look decides.
    """

    domains: dict[str, Domain] = field(default_factory=dict)
    having: dict[MacAddress, set[str]] = field(default_factory=dict)
    since: float | None = None
    looked_at: dict[str, float] = field(default_factory=dict)
    missing_since: dict[str, float] = field(default_factory=dict)
    again_at: dict[str, datetime] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    listed_at: float = float("-inf")
    is_first: bool = True
    appeared: dict[str, datetime] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    persistent: set[str] = field(default_factory=set)
    vanished: dict[str, Vanished] = field(default_factory=dict)

    def take_list(self, domains: Mapping[str, Domain], began_at: float) -> dict[str, Domain]:
        """Takes a list; returns it without what was looked at after it was begun.

        A domain that it lacks has vanished, as one has that a look did not find.
        """
        newer = {uuid: at for uuid, at in self.looked_at.items() if at > began_at}
        listed = {uuid: self._known(domain) for uuid, domain in domains.items() if uuid not in newer}
        for domain in listed.values():
            self._note_life(domain)
        kept = {uuid: domain for uuid, domain in self.domains.items() if uuid in newer}
        before = {uuid: Vanished(one, began_at) for uuid, one in self.domains.items()} | self.vanished
        self.vanished = {uuid: one for uuid, one in before.items() if uuid not in listed and uuid not in kept}
        self.domains, self.looked_at, self.having = listed | kept, newer, {}
        for domain in self.domains.values():
            self._note_macs(domain)
        runs = {uuid: domain.run for uuid, domain in listed.items() if domain.run != NO_RUN}
        known = {uuid: run for uuid, run in self.runs.items() if uuid in self.domains or uuid in newer}
        self.runs = known | runs
        if self.since is None:
            self.since = began_at
        self.is_first = False
        known_uuids = self.domains.keys() | self.vanished.keys() | self.missing_since.keys()
        self.appeared = {uuid: at for uuid, at in self.appeared.items() if uuid in known_uuids}
        self.ran &= known_uuids
        self.persistent &= known_uuids
        self.listed_at = began_at
        return listed

    def take_look(
        self, uuid: str, domain: Domain | None, event: DomainEvent, at: float, transition_s: float
    ) -> DomainEvent:
        """Takes a look; returns the event, without the cause if that is about an earlier run.

        A domain that is not there has vanished until something says why, or ``transition_s`` have passed. That it
        has ended does not say why a stored definition is gone.
        """
        self.looked_at[uuid] = at
        if event.started and event.run != NO_RUN:
            self.runs[uuid] = event.run
        # Xen reboots by a new run, which is announced before the end of the old one.
        is_old = event.cause is not None and event.run not in {NO_RUN, self.runs.get(uuid, event.run)}
        vanished = self.vanished.pop(uuid, None)
        if domain is None:
            before = self.domains.pop(uuid, None)
            if before is not None:
                self._forget_macs(before)
                vanished = Vanished(before, at)
            says_why = event.cause is not None and not (event.cause in _ENDS and uuid in self.persistent)
            if vanished is not None and not says_why and at - vanished.at < transition_s:
                self.vanished[uuid] = vanished
        else:
            domain = self._known(domain)
            self._note_life(domain, has_run=event.started or event.cause in _ENDS)
            if uuid in self.domains:
                self._forget_macs(self.domains[uuid])
            self.domains[uuid] = domain
            self._note_macs(domain)
            if domain.run != NO_RUN:
                self.runs[uuid] = domain.run
        return NOTHING_SAID if is_old else event

    def _note_macs(self, domain: Domain) -> None:
        for mac in domain.macs:
            self.having.setdefault(mac, set()).add(domain.uuid)

    def _forget_macs(self, domain: Domain) -> None:
        for mac in domain.macs:
            self.having[mac].discard(domain.uuid)
            if not self.having[mac]:
                del self.having[mac]

    def _known(self, domain: Domain) -> Domain:
        """A domain that cannot be read, with the name and the MACs it had."""
        before = self.domains.get(domain.uuid)
        if domain.state is not DomainState.UNREAD or before is None:
            return domain
        return replace(domain, name=before.name, macs=before.macs, live=before.live)

    def _note_life(self, domain: Domain, *, has_run: bool = False) -> None:
        """Notes which definitions are stored, which of them are new, and which have run."""
        before = self.domains.get(domain.uuid)
        if domain.is_persistent:
            self.persistent.add(domain.uuid)
        elif domain.state is not DomainState.UNREAD:
            self.persistent.discard(domain.uuid)
        if has_run or domain.state is DomainState.ACTIVE:
            self.appeared.pop(domain.uuid, None)
            self.ran.add(domain.uuid)
        elif not self.is_first and (before is None or (before.macs and before.macs != domain.macs)):
            self.appeared[domain.uuid] = datetime.now(UTC)
            self.ran.discard(domain.uuid)

    def was_asked_since(self, uuid: str, at: float) -> bool:
        """Whether this hypervisor has said since a moment whether it has a domain."""
        return max(self.listed_at, self.looked_at.get(uuid, self.listed_at)) >= at

    def missing(self, uuid: str, domain: Domain | None, at: float, *, started: bool = False) -> float | None:
        """How long the domain of an allocation has been missing or off by now; None if it is neither."""
        if domain is not None and domain.state is not DomainState.OFF:
            self.missing_since.pop(uuid, None)
            self.again_at.pop(uuid, None)
            return None
        if started:
            self.missing_since[uuid] = at
        return at - self.missing_since.setdefault(uuid, at)

    def forget(self, claimed: AbstractSet[str | None]) -> None:
        """Forgets what was missing and is no allocation's domain any more."""
        self.missing_since = {uuid: at for uuid, at in self.missing_since.items() if uuid in claimed}
        self.again_at = {uuid: at for uuid, at in self.again_at.items() if uuid in claimed}


class Sightings:
    """What was seen of all hypervisors. Whoever uses ``of`` holds ``lock``; the questions take it themselves.

    Args:
        names: The hypervisors' names.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.lock = threading.Lock()
        self.of = {name: Seen() for name in names}

    def begin(self, hypervisor: str) -> None:
        """A hypervisor is connected anew: what happened before, nobody has seen."""
        with self.lock:
            old = self.of[hypervisor]
            self.of[hypervisor] = Seen(
                old.domains,
                old.having,
                is_first=old.is_first,
                appeared=old.appeared,
                ran=old.ran,
                persistent=old.persistent,
                vanished=old.vanished,
            )

    def domains(self) -> list[Domain]:
        """All domains."""
        with self.lock:
            return [domain for seen in self.of.values() for domain in seen.domains.values()]

    def having(self, macs: Iterable[MacAddress], hypervisor: str | None = None) -> list[Domain]:
        """The domains that have one of these MACs, of one hypervisor or of all; it looks at no others."""
        with self.lock:
            return [
                seen.domains[uuid]
                for name, seen in self.of.items()
                if hypervisor in (None, name)
                for uuid in sorted({uuid for mac in macs for uuid in seen.having.get(mac, ())})
            ]

    def vanished(self, hypervisor: str) -> set[str]:
        """The names of domains that a hypervisor has not shown once, without saying why."""
        with self.lock:
            return {one.domain.name for one in self.of[hypervisor].vanished.values()}

    def unread(self, hypervisor: str) -> set[str]:
        """The names of domains of which a hypervisor shows that they are there, and not even their MACs."""
        with self.lock:
            domains = self.of[hypervisor].domains.values()
            return {one.name for one in domains if one.state is DomainState.UNREAD and not one.macs}

    def watched_since(self) -> dict[str, float | None]:
        """Since when each has been watched without a break; None before the first list."""
        with self.lock:
            return {name: seen.since for name, seen in self.of.items()}

    def recorded(self, claim: Claim) -> Domain | None:
        """The recorded domain of an allocation as it is seen; None if it is not."""
        with self.lock:
            seen = self.of.get(claim.hypervisor or "")
            return None if seen is None else seen.domains.get(claim.uuid or "")

    def standing(self, claim: Claim, domain: Domain, *, keeps_off: bool) -> Standing:
        """What a domain is to an allocation; see :func:`macbind.core.ownership.standing`.

        Args:
            claim: The allocation.
            domain: The domain.
            keeps_off: Whether the pool keeps the address of a machine that is off.
        """
        with self.lock:
            seen = self.of.get(claim.hypervisor or "")
            recorded = None if seen is None else seen.domains.get(claim.uuid or "")
            # Why a vanished one is not there, perhaps saved to a file, nobody has said yet.
            is_known = seen is not None and seen.since is not None and claim.uuid not in seen.vanished
            appeared = self.of[domain.hypervisor].appeared.get(domain.uuid)
        is_newer = keeps_off or (appeared is not None and appeared >= claim.created_at)
        return standing(
            claim, domain, recorded, is_known=is_known, is_newer=is_newer, is_watched=seen is not None
        )

    def is_waiting(self, domain: Domain) -> bool:
        """Whether a domain was defined while somebody watched, and has not run since."""
        with self.lock:
            return domain.uuid in self.of[domain.hypervisor].appeared

    def was_persistent(self, claim: Claim) -> bool:
        """Whether the recorded domain of an allocation had a stored definition when it was last seen."""
        with self.lock:
            return (claim.uuid or "") in self.of[claim.hypervisor or ""].persistent

    def has_run(self, domain: Domain) -> bool:
        """Whether a domain has been seen to run since its definition appeared."""
        with self.lock:
            return domain.uuid in self.of[domain.hypervisor].ran

    def heir(self, claim: Claim, *, keeps_off: bool, may_live: bool) -> Domain | None:
        """The domain that goes on with an allocation when its recorded one does not; None if there is none.

        Args:
            claim: The allocation.
            keeps_off: Whether the pool keeps the address of a machine that is off.
            may_live: Whether the recorded domain may live on elsewhere: then nobody else has a right to it.
        """
        others = [
            one
            for one in self.having(claim.macs)
            if (one.hypervisor, one.uuid) != (claim.hypervisor, claim.uuid)
        ]
        same = [one for one in others if one.uuid == claim.uuid and one.state is DomainState.ACTIVE]
        if same or may_live:
            return same[0] if same else None
        ranks = [DomainState.ACTIVE, DomainState.HELD, DomainState.BETWEEN, DomainState.OFF]
        using = [
            one
            for one in others
            if one.state in ranks and in_use(one, keeps_off=keeps_off, is_waiting=self.is_waiting(one))
        ]
        return min(
            using,
            key=lambda one: (one.uuid != claim.uuid, ranks.index(one.state), one.hypervisor, one.name),
            default=None,
        )

    def is_elsewhere_unknown(self, claim: Claim, since: float) -> bool:
        """Whether another hypervisor has not said since a moment that it does not have the recorded domain."""
        with self.lock:
            return any(
                seen.since is None or not seen.was_asked_since(claim.uuid or "", since)
                for name, seen in self.of.items()
                if name != claim.hypervisor
            )
