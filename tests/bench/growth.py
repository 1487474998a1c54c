"""From a hundred machines to a hundred thousand."""

import re
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench import fill, plots
from bench.least import rows_of
from bench.rows import TOLD, By, Result, Row, at_most
from bench.sites import bare_client, look_up, open_farm, restart, timed
from labkit.farm import Farm
from macbind.client.client import Client
from macbind.dhcp.isc.lease_file import parse
from macbind.registry.database import sqlite_path

_PAGE = 50
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


@dataclass
class Times:
    """What one population cost, one value per round: milliseconds, seconds (`start`), MiB (`memory`)."""

    population: int
    allocate: list[float] = field(default_factory=list)
    release: list[float] = field(default_factory=list)
    page: list[float] = field(default_factory=list)
    reconcile: list[float] = field(default_factory=list)
    look_ups: list[float] = field(default_factory=list)
    least: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


def measure(*, quick: bool) -> Result:
    """What does the population cost? Farms of every size are measured in turns."""
    rounds, count, populations = (
        (2, 20, (100, 1_000, 5_000)) if quick else (3, 60, (100, 1_000, 10_000, 100_000))
    )
    all_times = [Times(population) for population in populations]
    with ExitStack() as stack:
        farms = [stack.enter_context(open_farm(population=one)) for one in populations]
        clients = [stack.enter_context(farm.client(60)) for farm in farms]
        for number in range(rounds):
            _requests(clients, farms, all_times, [f"vm-{number}-{index}" for index in range(count)])
            for farm, times in zip(farms, all_times, strict=True):
                _whole(farm, times)
    return Result(_rows(all_times[0], all_times[-1]), {"growth": lambda file: plots.growth(all_times, file)})


def _requests(clients: list[Client], farms: list[Farm], all_times: list[Times], names: list[str]) -> None:
    """The median of each kind of request in every farm; request by request they take turns."""
    middles = [
        fill.lowest(farm.settings.pools["farm"], times.population)[times.population // 2 - 1]
        for farm, times in zip(farms, all_times, strict=True)
    ]

    def each(request: Callable[[Client, str, int], object]) -> list[float]:
        taken: list[list[float]] = [[] for _ in clients]
        for name in names:
            for index, client in enumerate(clients):
                taken[index].append(timed(request, client, name, index) * 1000)
        return [statistics.median(values) for values in taken]

    allocate = each(lambda client, name, _: client.allocate("farm", name))
    page = each(lambda client, _, index: _read_page(client, str(middles[index])))
    release = each(lambda client, name, _: client.release(name))
    for times, one, two, three in zip(all_times, allocate, release, page, strict=True):
        times.allocate.append(one)
        times.release.append(two)
        times.page.append(three)


def _read_page(client: Client, after: str) -> None:
    """A page of the list, of one length in every population."""
    page = client._transport.call("GET", "/v1/allocations", params={"after": after, "limit": _PAGE})
    assert len(page["allocations"]) == _PAGE


def _whole(farm: Farm, times: Times) -> None:
    """A restart, the comparison that follows it, and as many bare look-ups as that needs at least."""
    ready_s, compared_s = restart(farm)
    times.start.append(ready_s)
    times.reconcile.append(compared_s * 1000)
    peak = _PEAK.search(Path(f"/proc/{farm.pid}/status").read_text())
    assert peak is not None
    times.memory.append(int(peak[1]) / 1024)
    pool = farm.settings.pools["farm"]
    macs = [pool.plan.scheme.encode(one) for one in fill.lowest(pool, times.population)]
    with bare_client(farm) as omapi:
        times.look_ups.append(timed(look_up, omapi, macs) * 1000)
    file = sqlite_path(farm.registry)
    assert file is not None
    reading_s = timed(lambda: parse(farm.leases.read_bytes())) + timed(rows_of, file)
    times.least.append(times.look_ups[-1] + reading_s * 1000)


def _rows(few: Times, many: Times) -> list[Row]:
    whom, base = f"with {many.population:,} machines", f"with {few.population:,}"
    return [
        Row(f"`Client.allocate` {whom}", base, "ms", at_most(1.5), many.allocate, few.allocate),
        Row(f"`Client.release` {whom}", base, "ms", at_most(1.5), many.release, few.release),
        Row(f"a page of {_PAGE} of the list {whom}", base, "ms", at_most(1.5), many.page, few.page),
        Row(
            f"full comparison with dhcpd {whom}",
            "as many bare look-ups",
            "ms",
            at_most(1.3),
            many.reconcile,
            many.look_ups,
        ),
        Row(
            "- the least: look-ups, the lease file read, and the rows fetched by bare SQLite",
            "as many bare look-ups",
            "ms",
            TOLD,
            many.least,
            many.look_ups,
            detail=True,
        ),
        Row(f"start of the service {whom}", base, "s", at_most(3, "s"), many.start, few.start, by=By.OURS),
        Row(
            f"its memory at the most {whom}",
            base,
            "MiB",
            at_most(200, "MiB"),
            many.memory,
            few.memory,
            by=By.OURS,
        ),
    ]
