"""`python -m bench`: every row, as a Markdown table."""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from sqlalchemy import text

from bench import destroy
from labkit.farm import Farm
from labkit.net import Lab
from macbind.addressing import MacAddress, MacScheme
from macbind.dhcpd.client import OmapiClient
from macbind.dhcpd.key import read_key
from macbind.dhcpd.omapi import Algorithm, create_host, delete, find_host
from macbind.model import HostReservation, host_name
from macbind.registry.engine import open_engine

POOLS = """
[subnet."10.0.0.0/8"]
routers = ["10.0.0.1"]

[pool.farm]
subnet = "10.0.0.0/8"
ranges = ["10.1.0.0/16"]
"""
SCHEME = MacScheme.for_subnet("00:16:3e", IPv4Network("10.0.0.0/8"))


@dataclass
class Row:
    """One claim: `ours` and `base` are the same quantity, one value per round."""

    what: str
    baseline: str
    unit: str
    target: str
    ours: list[float]
    base: list[float]

    def cells(self) -> list[str]:
        """The row's columns."""
        ratios = [mine / theirs for mine, theirs in zip(self.ours, self.base, strict=True)]
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        ours, base = statistics.median(self.ours), statistics.median(self.base)
        return [
            self.what,
            f"{ours:.4g} {self.unit}",
            self.baseline,
            f"{base:.4g} {self.unit}",
            f"{statistics.median(ratios):.2f} ({spread})",
            self.target,
        ]


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def bare_client(farm: Farm, lab: Lab) -> OmapiClient:
    """An OMAPI connection of the benchmark's own."""
    key = read_key(farm.directory / "macbind.key", "macbind")
    return OmapiClient(
        "main",
        lambda timeout_s: lab.open_socket("127.0.0.1", 7911, timeout_s),
        (key.name, Algorithm(key.algorithm), key.secret),
    )


def bare_host(number: int) -> HostReservation:
    """A reservation outside of the pool, named as ours are."""
    address = IPv4Address(int(IPv4Address("10.200.0.0")) + number)
    return HostReservation(host_name(address, 1), SCHEME.encode(address), address)


def remove_bare(omapi: OmapiClient, macs: Sequence[MacAddress]) -> None:
    """Deletes reservations: one round of look-ups, one of deletions."""
    found = omapi.exchange([find_host(mac) for mac in macs])
    omapi.exchange([delete(reply.handle) for reply in found])


def one_by_one(farm: Farm, omapi: OmapiClient, directory: Path, count: int, rounds: int) -> Row:
    """`Client.allocate` against what it cannot avoid: one OMAPI add and one durable commit."""
    row = Row("Client.allocate, one by one (p50)", "OMAPI add + SQLite FULL commit", "ms", "≤ 5", [], [])
    engine = open_engine(f"sqlite:///{directory / 'bare.db'}")
    with engine.begin() as db:
        db.execute(text("CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY, b TEXT)"))
    with farm.client() as client:
        for number in range(rounds):
            names = [f"single-{number}-{index}" for index in range(count)]
            row.ours.append(
                statistics.median(timed(lambda name=name: client.allocate("farm", name)) for name in names)  # type: ignore[misc]
                * 1000
            )
            for name in names:
                client.release(name)
            hosts = [bare_host(index) for index in range(count)]

            def bare(host: HostReservation) -> None:
                omapi.exchange([create_host(host)])
                with engine.begin() as db:
                    db.execute(text("INSERT INTO t (b) VALUES (:b)"), {"b": host.name})

            row.base.append(statistics.median(timed(lambda host=host: bare(host)) for host in hosts) * 1000)  # type: ignore[misc]
            remove_bare(omapi, [host.mac for host in hosts])
    engine.dispose()
    return row


def concurrent(farm: Farm, count: int, rounds: int) -> Row:
    """Throughput of 32 clients against that of one."""
    row = Row("Client.allocate, 32 clients", "one client", "/s", "≥ 4", [], [])
    with farm.client(60) as client:

        def allocate(name: str) -> None:
            client.allocate("farm", name)

        for number in range(rounds):
            few = [f"alone-{number}-{index}" for index in range(count)]
            row.base.append(count / timed(lambda few=few: list(map(allocate, few))))  # type: ignore[misc]
            many = [f"crowd-{number}-{index}" for index in range(count * 4)]
            with ThreadPoolExecutor(32) as pool:
                row.ours.append(count * 4 / timed(lambda many=many: list(pool.map(allocate, many))))  # type: ignore[misc]
            with ThreadPoolExecutor(32) as pool:
                list(pool.map(client.release, [*few, *many]))
    return row


def batch(farm: Farm, omapi: OmapiClient, count: int, rounds: int) -> tuple[Row, Row]:
    """One large group against the bare OMAPI windows on the same dhcpd."""
    add = Row(f"allocate_group of {count}", "bare windowed adds", "/s", "≥ 0.7", [], [])
    drop = Row(f"release of {count}", "bare windowed look-ups and deletions", "/s", "≥ 0.7", [], [])
    hosts = [bare_host(index) for index in range(count)]
    with farm.client(120) as client:
        for number in range(rounds):
            group = f"batch-{number}"
            add.ours.append(
                count / timed(lambda group=group: client.allocate_group("farm", group, count))  # type: ignore[misc]
            )
            drop.ours.append(count / timed(lambda group=group: client.release_group(group)))  # type: ignore[misc]
            add.base.append(count / timed(lambda: omapi.exchange([create_host(host) for host in hosts])))
            drop.base.append(count / timed(lambda: remove_bare(omapi, [host.mac for host in hosts])))
    return add, drop


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures every row and prints the table."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure against baselines in one run.")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds")
    quick = parser.parse_args(arguments).quick
    rounds, count, many = (2, 100, 2_000) if quick else (5, 300, 10_000)
    with tempfile.TemporaryDirectory(prefix="macbind-bench-") as name, Lab() as lab:
        directory = Path(name)
        with Farm(lab, directory, pools=POOLS) as farm, bare_client(farm, lab) as omapi:
            rows = [one_by_one(farm, omapi, directory, count, rounds), concurrent(farm, count, rounds)]
            rows += batch(farm, omapi, many, rounds)
        with tempfile.TemporaryDirectory(prefix="macbind-bench-") as other:
            destroyed = destroy.measure(Path(other), 10 if quick else 50)
    print("| what | macbind | baseline | | ratio (spread) | target |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(f"| {' | '.join(row.cells())} |")
    print(f"\n{destroy.table(*destroyed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
