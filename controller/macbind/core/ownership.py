"""Whose machine it is: which domain counts for which allocation. Pure decisions.

A domain counts by its UUID, its hypervisor, its name where the allocation was made for one, and its MAC together. The
first that is right keeps the allocation for as long as it exists in any form. Any other with the MAC is a stranger:
an admin is told of it, and whatever its owner does changes nothing for the recorded domain's owner.

What :func:`standing` says of a domain that has one of the allocation's MACs; the first row that fits counts:

==========================  =====================================  ============================  ===========
recorded for the            the recorded domain                    this domain                   verdict
allocation
==========================  =====================================  ============================  ===========
this UUID and hypervisor    -                                      anything                      user
anything                    -                                      unreadable                    stranger
nobody, but another name    -                                      anything                      stranger
nobody                      -                                      runs, saved, transient        heir
nobody                      -                                      off, newer than the           heir
                                                                   allocation
nobody                      -                                      anything else                 stranger
this UUID, elsewhere        not there, between two states, or      runs                          heir
                            migrated
this UUID, elsewhere        not seen yet, of a hypervisor that is  runs                          heir
                            not configured any more
this UUID, elsewhere        saved to a file, so not there          anything                      stranger
this UUID, elsewhere        in any other form                      anything                      stranger
another UUID                not there, and has ended               runs, saved, transient        heir
another UUID                not there, stopped moments ago         in its place, of its name,    heir
                                                                   not older
another UUID                in any other form, or not seen yet     anything                      stranger
==========================  =====================================  ============================  ===========

A domain that a list lacks is not seen yet, until an event has said why or it was asked for again: it may have been
saved to a file. The file may be restored where it was saved, and everybody can copy a UUID. So what runs elsewhere
proves nothing.
An heir becomes the recorded user. A domain of the same name in the place of one that was there moments ago is what
tools make that remove a definition and define it again.
"""

from __future__ import annotations

from enum import Enum, auto
from uuid import UUID, uuid5

from macbind.core.domain import Claim, Domain, DomainState, Phase

_AT = " at "
_USES = (DomainState.ACTIVE, DomainState.BETWEEN, DomainState.HELD)
"""States in which a domain has its MAC in use, or goes on with it."""
_LEAVES = (DomainState.BETWEEN, DomainState.MIGRATED)
"""States in which a domain may live on at another place."""


class Standing(Enum):
    """What a domain is to an allocation."""

    USER = auto()
    """Its recorded user."""
    HEIR = auto()
    """It is to become the recorded user."""
    STRANGER = auto()
    """It has the MAC, or had it, and no right to it."""


def standing(
    claim: Claim,
    domain: Domain,
    recorded: Domain | None,
    *,
    is_known: bool,
    is_newer: bool,
    is_watched: bool = True,
) -> Standing:
    """What a domain is to an allocation.

    Args:
        claim: The allocation, and its record of a domain.
        domain: A domain as just seen.
        recorded: The recorded domain as it is seen on its hypervisor; None if it is not there.
        is_known: Whether that hypervisor has said that it is not there, so that None means something.
        is_newer: Whether ``domain`` has appeared since the allocation was made, and has not run.
        is_watched: Whether the recorded domain's hypervisor is in the configuration.
    """
    if (claim.hypervisor, claim.uuid) == (domain.hypervisor, domain.uuid):
        return Standing.USER
    if not claim.macs & domain.macs or domain.state is DomainState.UNREAD:
        return Standing.STRANGER
    may_begin = domain.state in _USES or (domain.state is DomainState.OFF and is_newer)
    if claim.uuid is None:
        is_heir = may_begin and is_wanted(claim, domain)
    elif claim.uuid == domain.uuid:
        is_missing = is_known and claim.phase is not Phase.HELD
        is_gone = is_missing or not is_watched or claim.phase is Phase.MIGRATED
        has_left = is_gone if recorded is None else recorded.state in _LEAVES
        is_heir = domain.state is DomainState.ACTIVE and has_left
    elif recorded is not None or not is_known:
        is_heir = False
    elif claim.phase is Phase.STOPPED:
        is_there = (domain.hypervisor, domain.name) == (claim.hypervisor, claim.domain)
        is_heir = may_begin and is_there
    else:
        is_heir = claim.phase is Phase.ENDED and domain.state in _USES
    return Standing.HEIR if is_heir else Standing.STRANGER


def is_wanted(claim: Claim, domain: Domain) -> bool:
    """Whether a domain is the one that an unused allocation was made for, or it was made for none.

    A launch notes its own number instead of a name, of which its domains' UUIDs are made.
    """
    if claim.domain is None:
        return True
    number, at, _ = claim.domain.partition(_AT)
    if at:
        try:
            return domain.uuid == str(uuid5(UUID(number), claim.name))
        except ValueError:
            pass  # a name with spaces
    return domain.name == claim.domain


def in_use(domain: Domain, *, keeps_off: bool, is_waiting: bool) -> bool:
    """Whether an address is in use because a domain has its MAC.

    What a machine has left behind where it migrated away says nothing of it.

    Args:
        domain: The domain.
        keeps_off: Whether the pool keeps the address of a machine that is off.
        is_waiting: Whether it has been defined, as far as is known, to be started for the first time.
    """
    if domain.state is DomainState.OFF:
        return keeps_off or is_waiting
    return domain.state in _USES
