"""What must hold in a registry's tables at any moment, asked in SQL of its own.

Free extents, allocations and addresses that others use tile each pool exactly; an allocation's MAC is its
address's own unless it is pinned; a name has one live allocation, and one more while it is renumbered to that;
nothing is known of, or asked about, an address nobody holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from typing import Any

from sqlalchemy import create_engine, text

from macbind.core.pool import Pool

Interval = tuple[int, int]
_TAKEN, _GIVEN_UP = ("allocate", "reserve", "renumber"), ("release", "unreserve")


def joined(intervals: Iterable[Interval]) -> list[Interval]:
    """The same integers as sorted intervals that do not touch; an integer given twice is an error."""
    out: list[Interval] = []
    for lo, hi in sorted(intervals):
        assert lo <= hi, f"the interval {lo}-{hi} runs backwards"
        if out and lo <= out[-1][1]:
            raise AssertionError(f"{lo} is in two places")
        if out and lo == out[-1][1] + 1:
            out[-1] = (out[-1][0], hi)
        else:
            out.append((lo, hi))
    return out


@contextmanager
def _asking(url: str) -> Iterator[Callable[[str], Sequence[Any]]]:
    """Questions in SQL, all answered at one state of the database."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as db:
            snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ"
            db.execute(text(snapshot if engine.dialect.name == "postgresql" else "BEGIN"))
            yield lambda query: list(db.execute(text(query)))
            db.execute(text("COMMIT"))
    finally:
        engine.dispose()


def check_invariant(url: str, pools: Mapping[str, Pool]) -> None:
    """Raises an AssertionError that says what does not hold."""
    with _asking(url) as ask:
        numbers = {name: number for number, name in ask("SELECT id, name FROM pool")}
        revs = dict(ask("SELECT id, rev FROM pool"))
        extents = ask("SELECT pool_id, lo, hi FROM free_extent ORDER BY pool_id, lo")
        rows = ask(
            "SELECT ip, mac, pool_id, name, gen, pinned, free_at, released_at, renumbers_from, labels FROM allocation"
        )
        labels = dict(ask("SELECT ip, count(*) FROM label GROUP BY ip"))
        used = {ip for (ip,) in ask("SELECT DISTINCT ip FROM evidence")}
        known = [*ask("SELECT ip, gen FROM confirmed"), *ask("SELECT ip, seq FROM pending")]
    _check_tiles({numbers[name]: pool for name, pool in pools.items()}, extents, rows, used)
    generation = {}
    assert labels == {row.ip: row.labels for row in rows if row.labels}, "labels are not as allocations say"
    for row in rows:
        assert (row.free_at is None) == (row.released_at is None), row
        assert row.gen <= revs[row.pool_id], f"{row} has a generation nobody gave"
        generation[row.ip] = revs[row.pool_id]
    for ip, number in known:
        assert ip in generation, f"a dhcpd was told of {ip}, or is asked about it, but nobody holds it"
        assert number <= generation[ip], f"{ip} has a mark or record {number} nobody made"
    names = Counter(row.name for row in rows if row.free_at is None and row.renumbers_from is None)
    assert not names or max(names.values()) == 1, f"names held twice: {names.most_common(3)}"
    held = {row.ip: row.name for row in rows if row.free_at is None and row.renumbers_from is None}
    for row in rows:
        if row.renumbers_from is not None:
            assert row.free_at is None, f"{row} was released and is renumbered to"
            assert held.get(row.renumbers_from) == row.name, (
                f"{row} renumbers from what {row.name} does not hold"
            )


def _check_tiles(
    pools: Mapping[int, Pool], extents: Iterable[Any], rows: Sequence[Any], used: AbstractSet[int]
) -> None:
    tiles: dict[int, list[Interval]] = {number: [] for number in pools}
    for pool_id, lo, hi in extents:
        assert pool_id in pools, f"the extent {lo}-{hi} belongs to no configured pool"
        before = tiles[pool_id][-1:] or [(-2, -2)]
        assert before[0][1] + 1 < lo, f"the extents that meet at {lo} were not merged"
        tiles[pool_id].append((lo, hi))
    for row in rows:
        assert row.pool_id in pools, f"{row} belongs to no configured pool"
        pool = pools[row.pool_id]
        assert int(pool.plan.subnet[0]) < row.ip < int(pool.plan.subnet[-1]), (
            f"{row} is outside of its subnet"
        )
        own = row.mac == row.ip + pool.plan.scheme.offset
        assert own or row.pinned, f"{row} has a foreign MAC and is not pinned"
        if any(int(item.lo) <= row.ip <= int(item.hi) for item in pool.plan.assignable):
            tiles[row.pool_id].append((row.ip, row.ip))
        for number, other in pools.items():
            if number != row.pool_id:
                assert not any(int(one.lo) <= row.ip <= int(one.hi) for one in other.plan.assignable), row
    held = {row.ip for row in rows}
    for number, pool in pools.items():
        whole = [(int(item.lo), int(item.hi)) for item in pool.plan.assignable]
        passed = [ip for ip in used - held if any(lo <= ip <= hi for lo, hi in whole)]
        assert joined([*tiles[number], *((ip, ip) for ip in passed)]) == whole, (
            f"{pool.name}: free extents, allocations and what others use do not tile it"
        )


def check_history(url: str) -> None:
    """Raises an AssertionError where the audit log says that an address had two holders at a time.

    Every address is taken and given up in turns, and each generation of it is greater than the one before.
    """
    with _asking(url) as ask:
        every = ask("SELECT ip, action, gen FROM audit ORDER BY id")
    entries = [entry for entry in every if entry.action in (*_TAKEN, *_GIVEN_UP)]
    last: dict[int, tuple[str, int]] = {}
    for ip, action, gen in entries:
        before, last[ip] = last.get(ip), (action, gen)
        if action in _GIVEN_UP:
            assert before is None or (before[0] in _TAKEN and gen >= before[1]), (
                f"{ip}: {action} {gen} {before}"
            )
        elif before is not None:
            assert before[0] in _GIVEN_UP, f"{ip}: {action} {gen} after {before}"
            assert gen > before[1], f"{ip}: {action} {gen} after {before}"
