"""One machine after the other, through the whole stack."""

import statistics

from bench.rows import Result, Row, at_most, p99
from bench.sites import add_bare, bare_client, bare_database, bare_hosts, open_farm, remove_bare, timed


def measure(*, quick: bool) -> Result:
    """`Client.allocate` against the least that it could do: tell dhcpd, and commit a row."""
    rounds, count = (3, 60) if quick else (7, 200)
    whole = Row(
        "`Client.allocate`, one by one (p50)",
        "one bare signed OMAPI add + one bare SQLite FULL commit",
        "ms",
        at_most(5),
        headline=True,
    )
    tail = Row("its p99", "its p50", "ms", at_most(3))
    with open_farm() as farm, bare_client(farm) as omapi, bare_database(farm.directory) as commit:
        hosts = bare_hosts(count)
        with farm.client() as client:
            for number in range(rounds):
                names = [f"single-{number}-{index}" for index in range(count)]
                ours: list[float] = []
                base: list[float] = []
                for name, host in zip(names, hosts, strict=True):
                    ours.append(timed(client.allocate, "farm", name) * 1000)
                    base.append((timed(add_bare, omapi, [host]) + timed(commit, name)) * 1000)
                for name in names:
                    client.release(name)
                remove_bare(omapi, hosts)
                whole.ours.append(statistics.median(ours))
                whole.base.append(statistics.median(base))
                tail.ours.append(p99(ours))
                tail.base.append(statistics.median(ours))
    return Result([whole, tail])
