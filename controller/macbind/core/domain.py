"""libvirt domains as seen, and the allocations they use."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address

from macbind.core.mac_address import MacAddress


class DomainState(StrEnum):
    """A domain as libvirt sees it now."""

    ACTIVE = "active"
    """It runs, or is paused: it uses its addresses."""
    OFF = "off"
    """It is defined and does not run."""
    BETWEEN = "between"
    """It is transient, listed, and does not run: it is starting, rebooting or about to disappear."""
    HELD = "held"
    """It does not run but may go on from where it stopped: saved, or reverted to a snapshot."""
    MIGRATED = "migrated"
    """It does not run here because it was migrated away."""
    UNREAD = "unread"
    """It is listed, and libvirt cannot describe it in a way that can be read: it may be anything."""


NO_RUN = -1
"""What libvirt says instead of the number of a run where there is none."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A libvirt domain as just seen.

    Attributes:
        uuid: Its UUID, as text.
        name: Its name.
        hypervisor: The configured name of the hypervisor it is on.
        state: Whether it runs.
        macs: The MACs of its interfaces, of the running machine and of its stored definition.
        live: Those of the running machine only; of the definition if it does not run.
        unplugged: That of the NIC that a renumbering has unplugged, or has asked it to let go of.
        run: The number that libvirt gave this run of it; NO_RUN if it does not run.
        is_persistent: Whether it has a stored definition.
        autostart: Whether its host starts it by itself.
        problem: Why it cannot be read.
        is_slow: Whether that is because libvirt does not answer for it.
    """

    uuid: str
    name: str
    hypervisor: str
    state: DomainState
    macs: frozenset[MacAddress]
    live: frozenset[MacAddress]
    unplugged: frozenset[MacAddress] = frozenset()
    run: int = NO_RUN
    is_persistent: bool = False
    autostart: bool = False
    problem: str = ""
    is_slow: bool = False

    @property
    def may_go_on(self) -> bool:
        """Whether it runs on this hypervisor, or may go on there."""
        return self.state not in (DomainState.OFF, DomainState.MIGRATED)


class StopCause(StrEnum):
    """Why a domain stopped, by libvirt's event: what tells the end of a domain from its absence for a while."""

    ENDED = "ended"
    """Destroyed: somebody who may do so has ended it."""
    BY_ITSELF = "by itself"
    """Shut down, crashed or failed: it may be started again, by whoever looks after it."""
    SAVED = "saved"
    MIGRATED = "migrated"
    REVERTED = "reverted"
    UNDEFINED = "undefined"
    """Its definition was removed, and a managed save image with it."""


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """What an event of libvirt says of a domain, beside that it is to be looked at.

    Attributes:
        cause: Why it stopped, if the event says so.
        started: Whether the event says that it has been started.
        run: The number of the run that has started or stopped; NO_RUN if the event does not tell.
        said_at: When libvirt said so (monotonic, in seconds); None if nobody noted it. What is said does not
            depend on it.
    """

    cause: StopCause | None = None
    started: bool = False
    run: int = NO_RUN
    said_at: float | None = field(default=None, compare=False)

    @property
    def says_something(self) -> bool:
        """Whether it says more than that the domain is to be looked at."""
        return self.started or self.cause is not None


NOTHING_SAID = DomainEvent()
"""A look that no event has caused, or one that says no more than that."""


class Phase(StrEnum):
    """How far the domain of an allocation has come, as recorded with the allocation."""

    DEFINED = "defined"
    """It exists and has not been seen running."""
    EXPECTED = "expected"
    """As DEFINED, and the allocation was made for a domain of its name."""
    RUNNING = "running"
    """It has been seen running."""
    HELD = "held"
    """It was saved or reverted: it may come back, until it is undefined."""
    MIGRATED = "migrated"
    """It was migrated away: whatever happens to its traces here says nothing of it."""
    STOPPED = "stopped"
    """It has stopped by itself, or its definition was removed: for a short grace it may come back."""
    ENDED = "ended"
    """It has ended, by an event that says so; what is left of it is kept by the pool's policy."""


NOT_RUN_YET = (Phase.DEFINED, Phase.EXPECTED)
"""Phases of a domain that has never been seen to run: it proves nothing."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An allocation and the domain that uses it.

    Attributes:
        address, mac, generation, pool, name: Of the allocation.
        hypervisor, uuid: Of the domain; None if none was seen yet.
        phase: How far the domain has come; None if none was seen yet.
        pinned: Whether only a command may release the allocation.
        created_at: When the allocation was made (UTC).
        domain: The name of the domain; until one was seen, of that for which the allocation was made, if it was.
        renumbers_to: The MAC of the address it is renumbered to: its domain may have either, or none for a moment.
        doubted_at: Since when (UTC) its domain is missing or off without an event that says why, or has stopped; or
            since when it waits for a domain again, because the one it had has never run.
    """

    address: IPv4Address
    mac: MacAddress
    generation: int
    pool: str
    name: str
    hypervisor: str | None
    uuid: str | None
    phase: Phase | None
    pinned: bool
    created_at: datetime
    domain: str | None = None
    renumbers_to: MacAddress | None = None
    doubted_at: datetime | None = None

    @property
    def waits_since(self) -> datetime:
        """Since when (UTC) it waits for a domain, if it has none."""
        return self.created_at if self.doubted_at is None else max(self.created_at, self.doubted_at)

    @property
    def stopped_at(self) -> datetime | None:
        """When its domain stopped by itself (UTC): a sign of life from before says nothing. None if it has not."""
        return self.doubted_at if self.phase is Phase.STOPPED else None

    @property
    def macs(self) -> frozenset[MacAddress]:
        """The MACs its domain may have."""
        return frozenset({self.mac} if self.renumbers_to is None else {self.mac, self.renumbers_to})
