"""The servers that are measured, and what stands for the least that can be done instead."""

import json
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, ParamSpec

from bench import fill
from labkit.farm import Farm
from labkit.net import Lab
from labkit.wait import until
from macbind.core.binding import Binding, binding_name
from macbind.core.mac_address import MacAddress
from macbind.core.mac_scheme import MacScheme
from macbind.dhcp.isc.connection import OmapiClient
from macbind.dhcp.isc.key import read_key
from macbind.dhcp.isc.messages import ResultCode, create_host, delete, find_host, has_lease
from macbind.dhcp.isc.omapi import Algorithm

P = ParamSpec("P")

NETWORK = IPv4Network("10.0.0.0/8")
POOLS = f"""
[subnet."{NETWORK}"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "{NETWORK}"
ranges = ["10.16.0.0/12"]
"""
_SCHEME = MacScheme.for_subnet("00:16:3e", NETWORK)
_BARE = int(IPv4Address("10.200.0.0"))


def timed(work: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> float:
    """Seconds that the call took."""
    started = time.perf_counter()
    work(*args, **kwargs)
    return time.perf_counter() - started


@contextmanager
def directory() -> Iterator[Path]:
    """A directory whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="macbind-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def open_farm(*, population: int = 0, **tables: Any) -> Iterator[Farm]:
    """A serving farm in a lab of its own, in which `population` machines exist already."""
    with ExitStack() as stack:
        place = stack.enter_context(directory())
        lab = stack.enter_context(Lab())
        farm = Farm(lab, place, **{"pools": POOLS, "deadline_s": 120, **tables})
        if population:
            fill.populate(farm, population)
        yield stack.enter_context(farm)


@contextmanager
def bare_client(farm: Farm) -> Iterator[OmapiClient]:
    """An OMAPI connection of the benchmark's own to the farm's dhcpd."""
    key = read_key(farm.directory / "macbind.key", "macbind")

    def connect(timeout_s: float) -> Any:
        return farm.lab.open_socket("127.0.0.1", 7911, timeout_s)

    with OmapiClient("main", connect, (key.name, Algorithm(key.algorithm), key.secret)) as client:
        yield client


def bare_hosts(count: int) -> Sequence[Binding]:
    """Reservations outside of the pool, named as ours are."""
    addresses = [IPv4Address(_BARE + number) for number in range(count)]
    return [Binding(binding_name(one, 1), _SCHEME.encode(one), one) for one in addresses]


def add_bare(omapi: OmapiClient, hosts: Sequence[Binding]) -> None:
    """Makes reservations, as many at a time as dhcpd survives."""
    omapi.exchange([create_host(host) for host in hosts])


def look_up(omapi: OmapiClient, macs: Sequence[MacAddress]) -> None:
    """Looks reservations up, as many at a time as dhcpd survives; each must be there."""
    missing = [reply for reply in omapi.exchange([find_host(mac) for mac in macs]) if reply.result]
    assert not missing, missing[:1]


def remove_bare(omapi: OmapiClient, hosts: Sequence[Binding]) -> None:
    """Deletes reservations: one round of look-ups, one of deletions."""
    found = omapi.exchange([find_host(host.mac) for host in hosts])
    omapi.exchange([delete(reply.handle) for reply in found])


def ask_for_leases(omapi: OmapiClient, hosts: Sequence[Binding]) -> None:
    """Asks whether address or MAC of any of them has a lease; none has."""
    keys = [key for host in hosts for key in (host.address, host.mac) if key is not None]
    replies = omapi.exchange([has_lease(key) for key in keys])
    assert {reply.result for reply in replies} == {ResultCode.NOT_IMPLEMENTED}, "a lease, or no answer"


@contextmanager
def bare_database(place: Path) -> Iterator[Callable[[str], None]]:
    """What commits one row to SQLite, as durably as the registry and with nothing around it."""
    # Made in one thread and used in another, never by two at a time.
    db = sqlite3.connect(place / "bare.db", isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")

        def commit(value: str) -> None:
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT INTO t (b) VALUES (?)", (value,))
            db.execute("COMMIT")

        yield commit
    finally:
        db.close()


def restart(farm: Farm) -> tuple[float, float]:
    """Restarts the service.

    Returns:
        Seconds until it answers, and seconds that its comparison with dhcpd took.
    """
    farm.stop()
    said = len(farm.log())

    def event(name: str) -> dict[str, Any] | None:
        lines = (
            json.loads(line) for line in farm.log()[said:].splitlines(keepends=True) if line.endswith("\n")
        )
        return next((entry for entry in lines if entry["event"] == name), None)

    started = time.perf_counter()
    farm.start()
    until(lambda: event("ready"), 60, "the service to be ready")
    ready_s = time.perf_counter() - started
    compared = until(lambda: event("compared"), 120, "the comparison to end")
    assert compared is not None
    farm.wait_serving(farm.deadline_s)
    return ready_s, float(compared["seconds"])
