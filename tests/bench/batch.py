"""Ten thousand machines in one call."""

from collections.abc import Sequence

from bench.rows import Result, Row, at_least
from bench.sites import add_bare, bare_client, bare_hosts, open_farm, remove_bare, timed


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
        f"`allocate_group` of {count:,}, {how}", "bare windowed OMAPI adds, same dhcpd", "/s", at_least(limit)
    )
    drop = Row(
        f"`release_group` of {count:,}, {how}",
        "bare windowed OMAPI look-ups and deletions, same dhcpd",
        "/s",
        at_least(limit),
    )
    hosts = bare_hosts(count)
    with (
        open_farm(dhcpd=f"fsync = {str(fsync).lower()}") as farm,
        bare_client(farm) as omapi,
        farm.client(120) as client,
    ):
        for number in range(rounds):
            group = f"batch-{number}"
            add.ours.append(count / timed(client.allocate_group, "farm", group, count))
            add.base.append(count / timed(add_bare, omapi, hosts))
            drop.ours.append(count / timed(client.release_group, group))
            drop.base.append(count / timed(remove_bare, omapi, hosts))
    return [add, drop]
