"""What was measured, and what it is judged by. Pure: no clock, file or process."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path


def p99(values: Sequence[float]) -> float:
    """The value that 99 of 100 do not exceed (nearest rank); the largest of fewer than 100."""
    return sorted(values)[math.ceil(len(values) * 0.99) - 1]


@dataclass(frozen=True)
class Target:
    """A limit for the judged value. Without one the row is only told, and never missed."""

    text: str = "-"
    allows: Callable[[float], bool] = lambda _: True


TOLD = Target()


def at_most(limit: float, unit: str = "") -> Target:
    """Not more than this."""
    return Target(f"≤ {limit:g}{unit and ' ' + unit}", lambda value: value <= limit)


def at_least(limit: float, unit: str = "") -> Target:
    """Not less than this."""
    return Target(f"≥ {limit:g}{unit and ' ' + unit}", lambda value: value >= limit)


class By(Enum):
    """What of a round is held against the target."""

    RATIO = "ours / base"
    EXCESS = "ours - base"
    OURS = "ours"


@dataclass
class Row:
    """One claim. `ours` and `base` are the same quantity, in the same unit, one value per round.

    Attributes:
        what: What is measured.
        baseline: What it is measured against.
        unit: Of both: ms, s, /s, MiB, or nothing.
        target: What the judged value is held against.
        by: What of a round is judged. A row judged by its own values alone may have no base.
        pick: Which of the rounds' values speaks for the row.
        detail: Whether it belongs to the full table only.
        headline: Whether the README shows it.
    """

    what: str
    baseline: str
    unit: str
    target: Target
    ours: list[float] = field(default_factory=list)
    base: list[float] = field(default_factory=list)
    by: By = By.RATIO
    pick: Callable[[Sequence[float]], float] = statistics.median
    detail: bool = False
    headline: bool = False

    @property
    def judged(self) -> list[float]:
        """One value per round.

        Raises:
            ValueError: Nothing was measured, or the two sides have different numbers of rounds.
        """
        if not self.ours:
            raise ValueError(f"'{self.what}' has no value")
        if self.by is By.OURS:
            return self.ours
        pairs = zip(self.ours, self.base, strict=True)
        if self.by is By.EXCESS:
            return [ours - base for ours, base in pairs]
        return [ours / base for ours, base in pairs]

    @property
    def value(self) -> float:
        """What speaks for the row."""
        return self.pick(self.judged)

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.target.allows(self.value)


@dataclass
class Result:
    """What a group of rows found out.

    Attributes:
        rows: The rows.
        figures: What draws the group's figures into a file, by name.
    """

    rows: list[Row]
    figures: dict[str, Callable[[Path], None]] = field(default_factory=dict)
