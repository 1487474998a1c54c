"""Others who use addresses, and what must not be handed out meanwhile (pure).

Somebody is there from when he certainly uses addresses, and macbind could know it, until before he leaves. What was
asked for after he came and acknowledged before he left must be of another address.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from chaos.pools import pool_of


@dataclass
class Presence:
    """Times in which others use addresses, and macbind can know it.

    Attributes:
        what: What they are.
        who: Who it is.
        addresses: What they use.
        since: From when.
        until: Until when.
        chances: How many addresses of the same pools were handed out meanwhile.
    """

    what: str
    who: str
    addresses: frozenset[str]
    since: float
    until: float = inf
    chances: int = 0


@dataclass(frozen=True)
class Taking:
    """One address that was acknowledged to a name that did not have it before, and when that was asked for first."""

    name: str
    address: str
    asked: float
    acked: float


def handed_out(presences: Sequence[Presence], takings: Sequence[Taking]) -> Iterator[tuple[Presence, Taking]]:
    """What was handed out to somebody while others used it; counts the chances there were of that."""
    by_pool: defaultdict[str, list[Taking]] = defaultdict(list)
    for taking in takings:
        by_pool[pool_of(taking.address)].append(taking)
    for one in presences:
        some = [
            taking
            for pool in {pool_of(address) for address in one.addresses}
            for taking in by_pool[pool]
            if one.since <= taking.asked and taking.acked <= one.until
        ]
        one.chances = len(some)
        yield from ((one, taking) for taking in some if taking.address in one.addresses)
