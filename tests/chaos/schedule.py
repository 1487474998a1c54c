"""What is broken when: drawn from the seed alone, so that the same seed pulls the same plugs."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chaos.faults import FAULTS, STEP
from chaos.site import Kind

QUIET_S = 0.4
"""Work begins without a fault."""
STORM = 0.6
"""The share of a round in which something is broken. In the calm after it only the work goes on.

Under faults all the time nothing is served for long, so that what goes wrong without any fault would not show.
"""


@dataclass(frozen=True)
class Slot:
    """A fault from one moment of a round to another, in seconds."""

    fault: str
    begins: float
    ends: float


def draw(kind: Kind, seed: int, number: int, length_s: float) -> Sequence[Slot]:
    """The faults of a round: of those that the site has, by its weights, and deaths at a step all along.

    All of them are over when the calm begins.
    """
    length_s *= STORM
    luck = random.Random(f"{seed} {kind.name} {number}")
    weights = kind.weights
    possible = {
        name: fault.weight if weights is None else weights[name]
        for name, fault in FAULTS.items()
        if fault.fits(kind) and name != STEP and (weights is None or name in weights)
    }
    slots = _some(possible, luck, length_s, (0.3, 1.5)) if possible else []
    if weights is None:
        slots += _some({STEP: 1.0}, luck, length_s, (0.2, 0.4))
    return sorted(slots, key=lambda slot: slot.begins)


def _some(
    possible: Mapping[str, float], luck: random.Random, length_s: float, pause_s: tuple[float, float]
) -> list[Slot]:
    free_at: dict[str, float] = {}
    slots: list[Slot] = []
    now = QUIET_S
    while now < length_s:
        (name,) = luck.choices(list(possible), weights=list(possible.values()))
        fault, lasts = FAULTS[name], luck.uniform(*FAULTS[name].lasts_s)
        if now >= free_at.get(fault.what, 0.0):
            slots.append(Slot(name, now, min(now + lasts, length_s)))
            free_at[fault.what] = now + lasts + luck.uniform(0.1, 0.5)
        now += luck.uniform(*pause_s)
    return slots
