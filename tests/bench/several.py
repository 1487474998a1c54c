"""Several controllers on one PostgreSQL: what a follower costs, and how soon a leader is succeeded."""

import signal
import statistics
import time
from collections.abc import Callable
from itertools import count

from bench.rows import By, Result, Row, at_most
from bench.sites import directory, timed
from labkit.farm import Farm
from labkit.several import DATABASE, DHCPD, Several, cut_off, join, open_several
from labkit.wait import until
from macbind.core.errors import RegistryUnavailable

_DEADLINE_S = 60.0
_numbers = count()


def measure(*, quick: bool) -> Result:
    """One machine after the other through the leader and through a follower; then each way to lose a leader."""
    rounds, machines = (3, 40) if quick else (5, 150)
    takeovers = 1 if quick else 3
    bound = Row(
        "allocate through a follower (p50)", "the same through the leader", "ms", at_most(1.5), headline=True
    )
    gone = Row("release through a follower (p50)", "the same through the leader", "ms", at_most(1.5))
    rows = [bound, gone]
    with directory() as place, open_several(place) as several:
        leader, follower = several.controllers
        for _ in range(rounds):
            _compare(leader, follower, machines, bound, gone)
        for what, limit_s, lose, mend in _LOSSES:
            row = Row(f"another controller serves after {what}", "-", "s", at_most(limit_s, "s"), by=By.OURS)
            rows.append(row)
            for _ in range(takeovers):
                row.ours.append(_take_over(several, lose, mend))
    return Result(rows)


def _compare(leader: Farm, follower: Farm, machines: int, bound: Row, gone: Row) -> None:
    times: dict[Farm, tuple[list[float], list[float]]] = {leader: ([], []), follower: ([], [])}
    with leader.client(_DEADLINE_S) as first, follower.client(_DEADLINE_S) as second:
        for number in range(machines):
            for one, client in ((leader, first), (follower, second)):
                name = f"vm-{one.socket.stem}-{number}"
                times[one][0].append(timed(client.allocate, "farm", name) * 1000)
                times[one][1].append(timed(client.release, name) * 1000)
    for row, index in ((bound, 0), (gone, 1)):
        row.ours.append(statistics.median(times[follower][index]))
        row.base.append(statistics.median(times[leader][index]))


def _take_over(several: Several, lose: Callable[[Farm], object], mend: Callable[[Farm], object]) -> float:
    """Seconds from the loss of the leader until a call through the other controller is answered."""
    leader = several.leading(several.controllers[0])["main"]
    other = next(one for one in several.controllers if one is not leader)
    with other.client(_DEADLINE_S) as client:
        name = f"takeover-{next(_numbers)}"
        client.allocate("farm", f"{name}-before")
        time.sleep(2)  # so that it is idle, and its last word is no longer ago than always
        lose(leader)
        seconds = timed(client.allocate, "farm", name)
    mend(leader)
    until(lambda: _stands_by(leader), _DEADLINE_S, "the one that was lost to stand by")
    return seconds


def _stands_by(one: Farm) -> bool:
    try:
        now = one.status()
    except RegistryUnavailable:  # it has not noticed yet that it is back
        return False
    return now is not None and now.dhcpds[0].state == "standby"


def _freeze(one: Farm) -> None:
    assert one.process is not None
    one.process.send_signal(signal.SIGSTOP)


def _thaw(one: Farm) -> None:
    assert one.process is not None
    one.process.send_signal(signal.SIGCONT)


_LOSSES: tuple[tuple[str, float, Callable[[Farm], object], Callable[[Farm], object]], ...] = (
    ("`kill -9` of the leader", 1.5, Farm.kill, Farm.start),
    ("SIGSTOP of the leader", 6, _freeze, _thaw),
    (
        "the leader is cut off from PostgreSQL",
        6,
        lambda one: cut_off(one, DATABASE),
        lambda one: join(one, DATABASE),
    ),
    ("the leader is cut off from dhcpd", 6, lambda one: cut_off(one, DHCPD), lambda one: join(one, DHCPD)),
)
