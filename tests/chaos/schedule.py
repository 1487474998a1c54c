"""What is broken when: drawn from the seed alone, so that the same seed pulls the same plugs."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chaos.faults import FAULTS
from chaos.site import Site

QUIET_S = 0.4
"""Work begins without a fault."""


@dataclass(frozen=True)
class Slot:
    """A fault from one moment of a round to another, in seconds."""

    fault: str
    begins: float
    ends: float


def draw(site: Site, number: int, length_s: float, weights: Mapping[str, float] | None = None) -> Sequence[Slot]:
    """The faults of a round.

    Args:
        site: Where; it decides what there is to break.
        number: The round's number.
        length_s: How long the round works.
        weights: Other weights of faults; what is not named is not drawn.
    """
    luck = random.Random(f"{site.seed} {site.kind.name} {number}")
    possible = {
        name: fault.weight if weights is None else weights[name]
        for name, fault in FAULTS.items()
        if fault.fits(site) and (weights is None or name in weights)
    }
    free_at: dict[str, float] = {}
    slots: list[Slot] = []
    now = QUIET_S
    while now < length_s:
        (name,) = luck.choices(list(possible), weights=list(possible.values()))
        lasts = luck.uniform(*FAULTS[name].lasts_s)
        what = FAULTS[name].what
        if now >= free_at.get(what, 0.0):
            slots.append(Slot(name, now, min(now + lasts, length_s)))
            free_at[what] = now + lasts + luck.uniform(0.1, 0.5)
        now += luck.uniform(0.1, 0.7)
    return slots
