"""Ten thousand machines in one call."""

import json
from collections.abc import Sequence
from ipaddress import IPv4Address

from bench.least import BareRegistry, bare_registry
from bench.rows import TOLD, Result, Row, at_least
from bench.sites import add_bare, ask_for_leases, bare_client, bare_hosts, open_farm, remove_bare, timed
from macbind.core.binding import Binding
from macbind.core.mac_address import MacAddress
from macbind.dhcp.isc.connection import OmapiClient


def measure(*, quick: bool) -> Result:
    """A group against bare OMAPI windows on the same dhcpd, which flushes every change to disk or none."""
    rounds, count = (2, 1_000) if quick else (3, 10_000)
    rows: list[Row] = []
    for fsync, limit in ((True, 0.9), (False, 0.7)):
        rows += _with(count, rounds, fsync=fsync, limit=limit)
    return Result(rows)


def _with(count: int, rounds: int, *, fsync: bool, limit: float) -> Sequence[Row]:
    how = "dhcpd flushes each" if fsync else "`dont-use-fsync`"
    add = Row(
        f"`allocate_group` of {count:,}, {how}",
        "bare windowed OMAPI adds, same dhcpd",
        "/s",
        at_least(limit),
        headline=fsync,
    )
    drop = Row(
        f"`release_group` of {count:,}, {how}",
        "bare windowed OMAPI look-ups and deletions, same dhcpd",
        "/s",
        at_least(limit),
    )
    least_add = Row(
        f"- the least: bare adds, a registry's rows by bare SQLite, the answer as JSON, {how}",
        add.baseline,
        "/s",
        TOLD,
        base=add.base,
        detail=True,
    )
    least_drop = Row(
        f"- the least: bare deletions, questions for leases, the rows by bare SQLite, {how}",
        drop.baseline,
        "/s",
        TOLD,
        base=drop.base,
        detail=True,
    )
    hosts = bare_hosts(count)
    with (
        open_farm(dhcpd=f"fsync = {str(fsync).lower()}") as farm,
        bare_client(farm) as omapi,
        farm.client(120) as client,
        bare_registry(farm.directory) as registry,
    ):
        for number in range(rounds):
            group = f"batch-{number}"
            add.ours.append(count / timed(client.allocate_group, "farm", group, count))
            add.base.append(count / timed(add_bare, omapi, hosts))
            drop.ours.append(count / timed(client.release_group, group))
            drop.base.append(count / timed(remove_bare, omapi, hosts))
            least_add.ours.append(count / timed(_add, omapi, registry, hosts))
            least_drop.ours.append(count / timed(_drop, omapi, registry, hosts))
    return [add, least_add, drop, least_drop]


def _add(omapi: OmapiClient, registry: BareRegistry, hosts: Sequence[Binding]) -> None:
    registry.allocate(hosts)
    add_bare(omapi, hosts)
    registry.confirm(hosts)
    told = json.dumps([{"name": one.name, "address": str(one.address), "mac": str(one.mac)} for one in hosts])
    read = [(IPv4Address(one["address"]), MacAddress.parse(one["mac"])) for one in json.loads(told)]
    assert len(read) == len(hosts)


def _drop(omapi: OmapiClient, registry: BareRegistry, hosts: Sequence[Binding]) -> None:
    registry.release(hosts)
    remove_bare(omapi, hosts)
    ask_for_leases(omapi, hosts)
    registry.forget(hosts)
