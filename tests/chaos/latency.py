"""What attackers cost the others: how long a call took in rounds with them and without, at the same site. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from chaos.history import Violation
from chaos.journal import Entry

MOST = 2.0
"""How many times as long a call may take while attackers are at work."""
ENOUGH = 100
"""So many calls of each kind of round are needed for a verdict."""
CHECK = "latency under attack"
_CALLS = ("allocate", "release")


@dataclass(frozen=True)
class Window:
    """When a round worked, and whether attackers were at work."""

    begins: float
    ends: float
    attacked: bool


@dataclass(frozen=True)
class Latency:
    """Of one site: how many calls there were and their median in seconds, without attackers and with them."""

    site: str
    calls: tuple[int, int]
    medians_s: tuple[float, float]

    @property
    def factor(self) -> float:
        """How many times as long a call took."""
        return self.medians_s[1] / self.medians_s[0]

    @property
    def is_decided(self) -> bool:
        """Whether there were enough calls in both kinds of round."""
        return min(self.calls) >= ENOUGH

    def violations(self) -> list[Violation]:
        """Whether the others noticed."""
        if not self.is_decided or self.factor <= MOST:
            return []
        without, with_them = (1000 * one for one in self.medians_s)
        what = f"{self.site}: a call took {with_them:.1f} ms with attackers, {without:.1f} ms without"
        return [Violation(CHECK, what)]


def measure(site: str, entries: Iterable[Entry], windows: Sequence[Window]) -> Latency:
    """How long the acknowledged calls of the workers w0, w1, … took, from the question to the answer."""
    began: dict[tuple[str, int], float] = {}
    took: defaultdict[bool, list[float]] = defaultdict(list)
    for entry in entries:
        key, at = (str(entry["w"]), int(entry["op"])), float(entry["t"])
        if entry["e"] == "start" and entry["kind"] in _CALLS and key[0].startswith("w"):
            began[key] = at
        elif entry["e"] == "ok" and key in began:
            since = began.pop(key)
            for window in windows:
                if window.begins <= since and at <= window.ends:
                    took[window.attacked].append(at - since)
    calls = len(took[False]), len(took[True])
    medians = (median(took[kind]) if took[kind] else 0.0 for kind in (False, True))
    return Latency(site, calls, (next(medians), next(medians)))
