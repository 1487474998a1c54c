"""A farm of a million machines: the costs are measured, the farm is computed and simulated."""

import sqlite3
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Any

import libvirt

from bench.farm_simulation import Costs, Demand, on_paper, saturation, simulate
from bench.rows import TOLD, By, Result, Row, at_least
from bench.sites import POOLS, bare_database, directory, open_farm, timed
from labkit.dhcp import DhcpClient
from labkit.farm import Farm
from labkit.net import Lab
from labkit.postgres import Postgres
from labkit.usage import exact_processor_s, processor_s
from labkit.virt import Libvirtd
from labkit.wait import until
from macbind.client.client import Client
from macbind.registry.database import sqlite_path
from macbind.virt.agenda import Agenda
from macbind.virt.connection import run_event_loop
from macbind.virt.session import Session

CLIENTS = 32
_COMPARED = '"event": "compared"'
_KEPT = "SELECT count(*) FROM allocation WHERE free_at IS NULL"
_USED = f"{_KEPT} AND domain_uuid IS NOT NULL"
_numbers = count()
RATE = 50.0
_DEADLINE_S = 120.0
_DOMAIN = """<domain type='test'><name>{name}</name><memory>1024</memory><os><type>hvm</type></os><devices>
<interface type='network'><mac address='{mac}'/><source network='default'/></interface></devices></domain>"""


@dataclass(frozen=True)
class Spent:
    """What one of many equal things took: seconds of service and dhcpd, wall time, and bytes of the lease file."""

    service: float
    dhcpd: float
    wall: float
    leases: float


def spent(farm: Farm, times: int, work: Callable[[], object]) -> Spent:
    """Does it all, and divides."""

    def now() -> tuple[float, float, int]:
        return processor_s(farm.pid), exact_processor_s(farm.dhcpd.pid), farm.leases.stat().st_size

    before, wall = now(), timed(work)
    service, dhcpd, leases = (after - one for after, one in zip(now(), before, strict=True))
    return Spent(service / times, dhcpd / times, wall / times, leases / times)


@dataclass(frozen=True)
class Calls:
    """What calls take: one after the other, many at once, and many machines in one call."""

    nothing: Spent
    allocate: Spent
    release: Spent
    crowd: Spent
    group: Spent
    group_release: Spent


def measure_calls(farm: Farm, count: int) -> Calls:
    """Each kind of call on a farm that has nothing else to do."""
    names = [f"vm-{number}" for number in range(count)]
    with ExitStack() as stack:
        client = stack.enter_context(farm.client(_DEADLINE_S))
        crowd = [stack.enter_context(farm.client(_DEADLINE_S)) for _ in range(CLIENTS)]
        executor = stack.enter_context(ThreadPoolExecutor(CLIENTS))
        client.allocate_group("farm", "warm", 10)
        client.release_group("warm")

        def at_once(one: Client, number: int) -> None:
            for name in names[number::CLIENTS]:
                one.allocate("farm", name, group="crowd")

        nothing = spent(farm, count, lambda: [client.release(one) for one in names])
        allocate = spent(farm, count, lambda: [client.allocate("farm", one) for one in names])
        release = spent(farm, count, lambda: [client.release(one) for one in names])
        together = spent(farm, count, lambda: list(executor.map(at_once, crowd, range(CLIENTS))))
        client.release_group("crowd")
        group = spent(farm, 5 * count, lambda: client.allocate_group("farm", "group", 5 * count))
        group_release = spent(farm, 5 * count, lambda: client.release_group("group"))
    return Calls(nothing, allocate, release, together, group, group_release)


def costs_of(calls: Calls, flush_s: float) -> Costs:
    """What calls took, taken apart: what a call costs, what a transaction does, and what each machine adds."""
    request = calls.nothing.service
    alone, grouped = (calls.allocate, calls.release), (calls.group, calls.group_release)
    once = max(0.0, sum(one.service for one in alone) / 2 - request - sum(one.service for one in grouped) / 2)
    return Costs(
        request=request,
        once=once,
        allocate=max(0.0, calls.allocate.service - request - once),
        release=max(0.0, calls.release.service - request - once),
        flush=flush_s,
        add=calls.allocate.dhcpd,
        delete=calls.release.dhcpd,
    )


def measure_dhcp(farm: Farm, times: int) -> tuple[float, float]:
    """dhcpd's processor time for an exchange from DISCOVER to ACK, and for a renewal."""
    with farm.client(_DEADLINE_S) as client:
        one = client.allocate("farm", "renews")
    machine = DhcpClient(farm.lab.port("machine"), mac=str(one.mac))
    lease = machine.dora()
    assert lease is not None
    exchange = spent(farm, times, lambda: [machine.dora() for _ in range(times)])
    renewal = spent(farm, times, lambda: [machine.renew(lease) for _ in range(times)])
    return exchange.dhcpd, renewal.dhcpd


@dataclass(frozen=True)
class Standing:
    """What a standing machine costs: service and dhcpd at a comparison, and dhcpd at its start."""

    compare: float
    look_up: float
    start: float


def measure_standing(farm: Farm, population: int) -> Standing:
    """dhcpd is started anew, and everything is compared with it."""
    compared = farm.log().count(_COMPARED)
    service = processor_s(farm.pid)
    farm.dhcpd.restart()
    started = exact_processor_s(farm.dhcpd.pid)
    # The log says so without the service, whose time is measured.
    until(lambda: farm.log().count(_COMPARED) > compared, _DEADLINE_S, "the comparison")
    return Standing(
        (processor_s(farm.pid) - service) / population,
        (exact_processor_s(farm.dhcpd.pid) - started) / population,
        started / population,
    )


def measure_watching(few: int, many: int, release_s: float) -> tuple[float, float, float]:
    """The service's processor time for an event of a domain, what each known domain adds, and for one in a list.

    libvirtd is real; the domains are those of its own test driver, which start and end at once.
    """
    with directory() as place, directory() as other, Lab() as lab, Libvirtd(lab, other) as libvirtd:
        uri = libvirtd.uri.replace("qemu+unix:///system", "test+unix:///default")
        with Farm(lab, place, pools=f'{POOLS}\n[hypervisor.test]\nuri = "{uri}"\n') as farm:
            connection = libvirt.open(uri)
            try:
                _populate(farm, connection, "few", few)
                at_few = _event_s(farm, connection, few) - release_s / 2
                _populate(farm, connection, "many", many)
                at_many = _event_s(farm, connection, few) - release_s / 2
                scan = _scan_s(uri)
            finally:
                connection.close()
    each = max(0.0, at_many - at_few) / many
    return max(0.0, at_few - few * each), each, scan


def _scan_s(uri: str) -> float:
    """Processor time of reading a domain of a list, as a watcher does."""
    run_event_loop()
    session = Session("bench", uri, threading.Event())
    session.open(Agenda())
    try:
        handles, began = session.handles(), time.process_time()
        assert all(session.describe(one) for one in handles)
        return (time.process_time() - began) / len(handles)
    finally:
        session.close()
        session.end()


def _wait_seen(farm: Farm, domains: int) -> None:
    def is_seen() -> bool:
        now = farm.status()
        return now is not None and now.hypervisors[0].connected and now.hypervisors[0].domains == domains

    until(is_seen, _DEADLINE_S, f"{domains} domains to be seen", pause_s=0.2)


def _populate(farm: Farm, connection: Any, group: str, count: int) -> None:
    """Machines that run already when the service starts: their events need not be waited for."""
    with farm.client(_DEADLINE_S) as client:
        machines = client.allocate_group("farm", group, count)
        before = client.status().hypervisors[0].domains
    farm.stop()
    for one in machines:
        connection.createXML(_DOMAIN.format(name=one.name, mac=one.mac), 0)
    farm.start()
    _wait_seen(farm, before + count)
    farm.wait_serving()


def _event_s(farm: Farm, connection: Any, events: int) -> float:
    """Processor time of half a machine's events: one starts, one is destroyed, and its address is released."""
    with farm.client(_DEADLINE_S) as client:
        machines = client.allocate_group("farm", f"group-{next(_numbers)}", events)
        file = sqlite_path(farm.registry)
        assert file is not None

        def rows(query: str) -> int:
            # The registry says so without the service, whose time is measured.
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
                return int(db.execute(query).fetchone()[0])

        used = rows(_USED)

        def live() -> None:
            started = [
                connection.createXML(_DOMAIN.format(name=one.name, mac=one.mac), 0) for one in machines
            ]
            until(lambda: rows(_USED) == used + events, _DEADLINE_S, "the domains to be seen")
            for domain in started:
                domain.destroy()
            until(lambda: rows(_KEPT) == used, _DEADLINE_S, "the releases")

        return spent(farm, 2 * events, live).service


def measure(*, quick: bool) -> Result:
    """Measures the costs; then a million machines are computed and simulated with them."""
    times, population, few, many = (100, 5_000, 10, 200) if quick else (300, 20_000, 20, 1_000)
    measured = measure_costs(times, population, few, many)
    return Result([*_costs(measured), *_farms(measured, 300 if quick else 3_600)])


@dataclass(frozen=True)
class Measured:
    """What was measured: costs with a SQLite file and with PostgreSQL, and what they are made of."""

    costs: Costs
    with_postgres: Costs
    calls: Calls
    standing: Standing


def measure_costs(times: int, population: int, few: int, many: int) -> Measured:
    """All of it."""
    with open_farm(population=population) as farm, bare_database(farm.directory) as commit:
        flush = statistics.median(timed(commit, str(number)) for number in range(100))
        calls = measure_calls(farm, times)
        exchange, renewal = measure_dhcp(farm, times)
        standing = measure_standing(farm, population)
    costs = costs_of(calls, flush)
    event, each, scan = measure_watching(few, many, costs.once + costs.release)
    compare, look_up = standing.compare, standing.look_up
    costs = replace(costs, exchange=exchange, renewal=renewal, compare=compare, look_up=look_up)
    costs = replace(costs, event=event, event_each=each, scan=scan)
    with Postgres() as database, open_farm(registry=database.emptied()) as farm:
        other = costs_of(measure_calls(farm, times), _commit_s(database))
    names = ("request", "once", "allocate", "release", "flush")
    with_postgres = replace(costs, **{name: getattr(other, name) for name in names})
    return Measured(costs, with_postgres, calls, standing)


def _commit_s(database: Postgres) -> float:
    """The median of a row's way to PostgreSQL's disk."""
    with database.connected() as connection:
        connection.execute("CREATE TABLE bare (a int)")
        return statistics.median(timed(connection.execute, "INSERT INTO bare VALUES (1)") for _ in range(100))


def _told(what: str, unit: str, value: float, baseline: str = "", base: float | None = None) -> Row:
    return Row(what, baseline, unit, TOLD, [value], [] if base is None else [base], By.OURS, detail=True)


def _costs(measured: Measured) -> list[Row]:
    calls, standing, costs = measured.calls, measured.standing, measured.costs
    rows = [_told(f"- the farm: `{name}`", "ms", value * 1000) for name, value in asdict(costs).items()]
    rows += [
        _told(
            f"- the farm: the service's time for an {what}", "ms", one.service * 1000, "wall", one.wall * 1000
        )
        for what, one in (
            ("allocation, one by one", calls.allocate),
            (f"allocation, {CLIENTS} clients", calls.crowd),
            ("allocation in a group", calls.group),
            ("end, one by one", calls.release),
            ("end in a group", calls.group_release),
        )
    ]
    rows.append(_told("- the farm: bytes of dhcpd's lease file, an allocation", "", calls.allocate.leases))
    rows.append(_told("- the farm: bytes of dhcpd's lease file, a release", "", calls.release.leases))
    rows.append(_told("- the farm: dhcpd's start, each binding", "ms", standing.start * 1000))
    return rows


def _farms(measured: Measured, seconds: int) -> list[Row]:
    costs, base = measured.costs, Demand(rate=RATE, seconds=seconds)
    found, paper = simulate(costs, base), on_paper(costs, base)
    farm = f"{base.standing:,} machines, {RATE:g} born a second"
    rows = [
        Row(f"{farm}: {name} is busy", "on paper", "", TOLD, [busy], [paper[name].at(RATE)], By.OURS)
        for name, busy in found.utilisation.items()
    ]
    for call in ("allocate", "release"):
        p50, p99 = found.ms(call)
        rows.append(Row(f"{farm}: `{call}` takes, p99", "p50", "ms", TOLD, [p99], [p50], By.OURS))
    night = simulate(costs, replace(base, burst_s=60.0, seconds=min(seconds, 600)))
    p50, p99 = night.ms("allocate")
    rows.append(_told(f"- {farm}, a minute's at once: `allocate` takes, p99", "ms", p99, "p50", p50))
    rate, part = saturation(costs, base)
    rows.append(Row(f"births a second until {part} is full", "asked for", "/s", at_least(1), [rate], [RATE]))
    for what, some, demand in (
        ("two controllers on PostgreSQL", measured.with_postgres, replace(base, controllers=2)),
        ("one controller on PostgreSQL", measured.with_postgres, base),
        ("groups of 10", costs, replace(base, group=10)),
        ("two DHCP servers", costs, replace(base, servers=2)),
        ("leases of an hour", costs, replace(base, lease_s=3600.0)),
        (
            "dhcpd flushes",
            replace(costs, add=costs.add + costs.flush, delete=costs.delete + costs.flush),
            base,
        ),
    ):
        rate, part = saturation(some, demand)
        loads = on_paper(some, demand)
        first = min(loads, key=lambda name: loads[name].saturates_at)
        baseline = f"on paper, {first} first"
        what = f"- {what}: births a second until {part} is full"
        rows.append(_told(what, "/s", rate, baseline, loads[first].saturates_at))
    for standing in (1_000, 10_000):
        watched = replace(base, standing=standing, hypervisors=100)
        (rate, part), paper = saturation(costs, watched), on_paper(costs, watched)
        what = f"- {standing:,} machines watched: births a second until {part} is full"
        rows.append(_told(what, "/s", rate, "on paper", paper["service"].saturates_at))
    watched = replace(base, hypervisors=100, seconds=60)
    waits, most = simulate(costs, watched).backlog, on_paper(costs, watched)["service"].saturates_at
    rows.append(
        Row(f"{farm}, all watched: can be born on paper", "asked for", "/s", at_least(1), [most], [RATE])
    )
    rows.append(_told(f"- {farm}, all watched: calls without an answer after a minute", "", waits))
    scans = base.standing * costs.scan / base.scan_s
    rows.append(_told("- the lists of all hypervisors each minute, on paper", "processors", scans))
    return rows
