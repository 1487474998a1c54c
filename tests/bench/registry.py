"""The registry by itself, in pools of every size and fill."""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from ipaddress import IPv4Network
from pathlib import Path

from bench import fill
from bench.rows import Result, Row, at_most
from bench.sites import directory
from macbind.core.address_plan import AddressPlan
from macbind.core.pool import Pool, Subnet
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.pending_changes import confirm, pending_changes
from macbind.registry.release import release
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction

_FULL = 1000
"""Of a full pool every so many-th address is free: 99.9 % are taken."""
_PATIENCE_S = 2.0
_GROUP = "bench"


def measure(*, quick: bool) -> Result:
    """One allocation or release in a transaction of its own, against an empty /24."""
    rounds, count = (3, 20) if quick else (5, 100)
    widest = 14 if quick else 8  # a /8 takes half a minute to fill, and 2 GB
    with ExitStack() as stack:
        place = stack.enter_context(directory())
        empty = _open(stack, place, 24, gap=None)
        rows: list[Row] = []
        pools = [("/16 half full", _open(stack, place, 16, gap=2))]
        pools.append((f"/{widest} 99.9 % full", _open(stack, place, widest, gap=_FULL)))
        for name, _ in pools:
            rows.append(Row(f"registry: allocate, {name}", "/24 empty", "ms", at_most(2)))
            rows.append(Row(f"registry: release, {name}", "/24 empty", "ms", at_most(2)))
        every = [empty, *(registry for _, registry in pools)]
        for _ in range(rounds):
            times = _round(every, count)
            for index, row in enumerate(rows):
                row.ours.append(times[1 + index // 2][index % 2])
                row.base.append(times[0][index % 2])
    return Result(rows)


def _open(stack: ExitStack, place: Path, length: int, *, gap: int | None) -> Registry:
    """A registry with one pool: a network of this prefix length; nothing taken, or all but every gap-th address."""
    plan = AddressPlan.build(IPv4Network(f"10.0.0.0/{length}"), "00:16:3e")
    pool = Pool("farm", plan, Subnet(plan.subnet), ("main",))
    url = f"sqlite:///{place / f'{length}.db'}"
    if gap is not None:
        fill.occupy(url, {"farm": pool}, "farm", plan.size, gap=gap)
    registry = Registry.open(url, {"farm": pool}, ["main"])
    stack.callback(registry.close)
    return registry


def _round(registries: list[Registry], count: int) -> list[tuple[float, float]]:
    """The median milliseconds of an allocation and of a release in each registry, taking turns."""
    names = [f"vm-{number}" for number in range(count)]
    taken = _in_turns(
        registries, names, lambda txn, name: allocate(txn, Wanted("farm", (name,), group=_GROUP))
    )
    freed = _in_turns(registries, names, lambda txn, name: release(txn, name=name))
    for registry in registries:
        with registry.write("bench") as txn:
            release(txn, group=_GROUP)
        _confirm(registry)
    return list(zip(taken, freed, strict=True))


def _in_turns(
    registries: list[Registry], names: list[str], change: Callable[[Transaction, str], object]
) -> list[float]:
    """The median milliseconds of a change in each registry; a slow one ends it before all names had their turn."""
    times: list[list[float]] = [[] for _ in registries]
    until = time.monotonic() + _PATIENCE_S
    for name in names:
        for registry, mine in zip(registries, times, strict=True):
            started = time.perf_counter()
            with registry.write("bench") as txn:
                change(txn, name)
            mine.append((time.perf_counter() - started) * 1000)
        if time.monotonic() > until:
            break
    for registry in registries:
        _confirm(registry)
    return [statistics.median(mine) for mine in times]


def _confirm(registry: Registry) -> None:
    """What dhcpd's writer would do: everything that is due is confirmed."""
    with registry.write("bench") as txn:
        confirm(txn, "main", pending_changes(txn, "main", 10_000))
