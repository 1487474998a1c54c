"""Adding and removing one machine after the other, against other ways to do it."""

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import plots
from bench.contestants import ALL, LEAST, OURS, Contestant
from bench.rows import TOLD, Result, Row, at_least
from labkit.wait import until

_REST_S = 0.1
_WORDS = {"add": "add a machine", "remove": "remove a machine"}


@dataclass
class Rates:
    """Operations per second, one value per round."""

    add: list[float] = field(default_factory=list)
    remove: list[float] = field(default_factory=list)

    def of(self, what: str) -> list[float]:
        """Those of one of the two operations."""
        return self.add if what == "add" else self.remove


def measure(*, quick: bool) -> Result:
    """All of them, with few and with many machines that exist already."""
    rounds, sizes = (2, (100, 1_000)) if quick else (3, (100, 10_000))
    rates = {size: _measure(size, rounds, divide=2 if quick else 1) for size in sizes}
    rows = [row for size in sizes for what in _WORDS for row in _rows(size, what, rates[size])]
    return Result(rows, {"peers": lambda file: plots.peers(rates, file)})


def _measure(size: int, rounds: int, *, divide: int) -> dict[str, Rates]:
    rates = {name: Rates() for name in ALL}
    with ExitStack() as stack:
        opened = {name: stack.enter_context(open_(size)) for name, (open_, _) in ALL.items()}
        for number in range(-1, rounds):
            for name, contestant in opened.items():
                count = max(2, ALL[name][1] // divide) if number >= 0 else 1  # the first round warms up
                add_s, remove_s = contestant.lab.server.call(partial(_round, contestant, range(count)))
                _settle(contestant)
                if number >= 0:
                    rates[name].add.append(count / add_s)
                    rates[name].remove.append(count / remove_s)
    return rates


def _round(contestant: Contestant, numbers: range) -> tuple[float, float]:
    """Seconds to add these machines one by one, and to remove them."""
    times = []
    for change in (contestant.add, contestant.remove):
        started = time.perf_counter()
        for number in numbers:
            change(number)
        times.append(time.perf_counter() - started)
    return times[0], times[1]


def _settle(contestant: Contestant) -> None:
    """Waits until its processes rest, so that nobody pays for what another's word came before.

    libvirt's does: its dnsmasq is still reading the hosts when virsh ends.
    """
    pids = contestant.lab.server.pids()
    used, since = -1, 0.0

    def rests() -> bool:
        nonlocal used, since
        now = sum(_ticks(pid) for pid in pids)
        if now != used:
            used, since = now, time.monotonic()
        return time.monotonic() - since > _REST_S

    until(rests, 20, "a contestant to rest")


def _ticks(pid: int) -> int:
    """The processor time of a process, in clock ticks; 0 once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[11]) + int(fields[12])


def _rows(size: int, what: str, rates: dict[str, Rates]) -> list[Row]:
    """Ours against the fastest of the others, and in detail against each."""
    ours = rates[OURS].of(what)
    others = {name: one.of(what) for name, one in rates.items() if name not in (OURS, LEAST)}
    fastest = max(others, key=lambda name: statistics.median(others[name]))
    label = f"{_WORDS[what]}, {size:,} exist"
    best = Row(label, f"the fastest of {len(others)}: {fastest}", "/s", at_least(1), ours, others[fastest])
    least = rates[LEAST].of(what)
    return [
        best,
        Row(
            f"- the least with a registry: {LEAST}, {size:,} exist",
            fastest,
            "/s",
            TOLD,
            least,
            others[fastest],
            detail=True,
        ),
        *(Row(label, name, "/s", at_least(1), ours, base, detail=True) for name, base in others.items()),
    ]
