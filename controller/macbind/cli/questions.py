"""Commands that only ask: list, show, free, pools, controllers, status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv6Address
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from macbind.cli import complete
from macbind.cli.findings import print_findings
from macbind.cli.formats import Form
from macbind.cli.options import INTERRUPTED, LabelFilter, Socket, Watch, connect, seconds
from macbind.cli.output import say, table, when
from macbind.cli.service_tables import CONTROLLERS, STATUS, Part, leads
from macbind.cli.show import Show, prints
from macbind.cli.tables import ALLOCATIONS, FREE, POOLS, SHOWN, Line, lines_of
from macbind.core.allocation import State
from macbind.core.errors import InvalidAddress, InvalidRequest, NotFound
from macbind.core.labels import read_wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from macbind.client.client import Client
    from macbind.core.allocation import Allocation, AuditEntry
    from macbind.core.findings import Status

Pool = Annotated[
    str | None,
    typer.Option("--pool", "-p", help="Only of this pool.", autocompletion=complete.pools),
]
Group = Annotated[
    str | None,
    typer.Option("--group", "-g", help="Only of this group.", autocompletion=complete.groups),
]


@prints(ALLOCATIONS)
def list_(
    ctx: typer.Context,
    pool: Pool = None,
    group: Group = None,
    search: Annotated[
        str | None,
        typer.Option(
            "--search",
            "-s",
            help="Only with this text in name, group, domain, address or MAC, in any spelling.",
            metavar="TEXT",
        ),
    ] = None,
    released: Annotated[
        bool, typer.Option("--released", help="Also released ones that are not gone yet.")
    ] = False,
    unclaimed: Annotated[
        bool, typer.Option("--unclaimed", help="Only those that no domain was seen to use.")
    ] = False,
    label: LabelFilter = None,
    idle: Annotated[
        str | None,
        typer.Option(
            "--idle",
            metavar="TIME",
            help="Only those of whose machines nothing was seen for so long: 90, 15m, 2h.",
        ),
    ] = None,
    wide: Annotated[
        bool,
        typer.Option(
            "--wide",
            help="Also gateways, IPv6 addresses, labels, and when last seen; short for -o wide.",
        ),
    ] = False,
    gaps: Annotated[bool, typer.Option("--gaps", help="Also the free space between them, as rows.")] = False,
    watch: Watch = False,
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """List allocations in the order of their addresses."""
    if gaps and (group is not None or search is not None or label or idle is not None):
        raise InvalidRequest(
            "--gaps shows the free space of pools, which has no group, no name, no label and no machine.",
            hint="Leave --group, --search, --label and --idle out, or --gaps.",
        )
    if wide and show.form is Form.TEXT:
        show = replace(show, form=Form.WIDE)
    with connect(socket) as client:

        def look() -> list[Line]:
            found = client.list(
                pool=pool,
                group=group,
                released=released,
                unclaimed=unclaimed,
                search=search,
                labels=read_wanted(label or ()),
                idle_s=seconds(idle),
            )
            if not gaps:
                return lines_of(found if show.order else islice(found, show.limit))
            pools = [pool] if pool is not None else [one.pool for one in client.pools()]
            return lines_of(found, (one for name in pools for one in client.free(name)))

        if not watch:
            show.print(look())
            return
        _keep_showing(ctx, client, show, look, _is_settled)


def _is_settled(lines: Sequence[Line]) -> bool:
    return not any(getattr(one.of, "state", None) in (State.PENDING, State.RELEASING) for one in lines)


def _keep_showing(ctx: typer.Context, client: Client, show: Show, look: Any, is_settled: Any) -> None:
    from macbind.cli.live import keep_showing

    try:
        keep_showing(client, show, look, is_settled)
    except KeyboardInterrupt:
        ctx.exit(INTERRUPTED)


@prints(FREE)
def free(
    pool: Annotated[str, typer.Argument(help="The pool.", autocompletion=complete.pools)],
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Show the free space of a pool as ranges of addresses."""
    with connect(socket) as client:
        found = client.free(pool)
        show.print(found, empty=f"The pool '{pool}' has no unoccupied address.")


@prints(SHOWN, without=frozenset({"sort", "limit"}))
def show_(
    what: Annotated[
        str,
        typer.Argument(
            help="A name, an address (IPv4 or IPv6) or a MAC.",
            metavar="NAME|ADDRESS|MAC",
            autocompletion=complete.anything,
        ),
    ],
    socket: Socket = None,
    *,
    show: Show,
) -> None:
    """Show one allocation and its history."""
    with connect(socket) as client:
        found = _find(client, what)
        new = next((one.new for one in client.renumberings() if one.old.address == found.address), None)
        history = list(client.history(address=found.address, limit=20))
    show.print(
        [Line(found, None if new is None else new.address)],
        whole={"allocation": found, "renumbers_to": new, "history": history},
        prose=lambda _: _tell(found, new, history),
    )


def _tell(found: Allocation, renumbers_to: Allocation | None, history: Sequence[AuditEntry]) -> None:
    """An allocation in lines."""
    facts: dict[str, Any] = {
        "name": found.name,
        "address": found.address,
        "mac": found.mac,
        "gateway": found.gateway,
        "link_local": found.link_local,
        "ipv6": found.ipv6,
        "pool": found.pool,
        "group": found.group,
        "state": found.state,
        "pinned": "yes" if found.pinned else "no",
        "generation": found.generation,
        "domain": found.domain,
        "domain not seen since": None if found.doubted_at is None else when(found.doubted_at),
        "created": when(found.created_at),
        "renumbers from": found.renumbers_from,
        "renumbers to": None if renumbers_to is None else renumbers_to.address,
        "labels": [f"{key}={value}" for key, value in found.labels.items()] or None,
        "confirmed by": list(found.confirmed_by) or None,
        "last seen": None if found.last_seen is None else f"{when(found.last_seen)} ({found.seen_by})",
        "expires" if found.renumbers_from is None else "settled": when(found.expires_at),
    }
    facts |= found.options.to_dict()
    for key, value in facts.items():
        if value is not None:
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            say(f"{key + ':':<21} {text}")
    say("history:")
    for entry in history:
        reason = f" ({entry.detail['reason']})" if "reason" in entry.detail else ""
        say(f"  {when(entry.at)}  {entry.action:<9} {entry.name or '':<20} by {entry.actor}{reason}")


@prints(POOLS)
def pools(ctx: typer.Context, watch: Watch = False, socket: Socket = None, *, show: Show) -> None:
    """Show how full the pools are."""
    with connect(socket) as client:
        if not watch:
            show.print(client.pools())
            return
        _keep_showing(
            ctx,
            client,
            show,
            lambda: list(client.pools()),
            lambda rows: not any(one.releasing for one in rows),
        )


@prints(CONTROLLERS)
def controllers(socket: Socket = None, *, show: Show) -> None:
    """Show all controllers that share the registry, and which dhcpds each leads."""
    with connect(socket) as client:
        show.print(client.controllers())


@prints(STATUS)
def status(socket: Socket = None, *, show: Show) -> None:
    """Show how service, dhcpds and pools are; exit 1 if something needs an admin."""
    with connect(socket) as client:
        now = client.status()
    show.print(_parts(now), whole=now, prose=lambda _: _tell_status(now))
    if any(finding.needs_admin for finding in now.findings):
        raise typer.Exit(1)


def _parts(now: Status) -> Iterator[Part]:
    for dhcpd in now.dhcpds:
        yield Part("dhcpd", dhcpd.name, dhcpd.state, dhcpd.since, dhcpd.problem or None)
    for pool in now.pools:
        yield Part("pool", pool.pool, f"{pool.free} free", None, f"{pool.allocated} of {pool.size} allocated")
    for one in now.hypervisors:
        yield Part("hypervisor", one.name, "connected" if one.connected else "away", one.since, one.uri)
    for each in now.controllers:
        yield Part(
            "controller", each.host, "alive" if each.is_alive else "silent", each.since, leads(each) or None
        )
    for finding in now.findings:
        yield Part("finding", finding.code, finding.severity, finding.since, str(finding))


def _tell_status(now: Status) -> None:
    """The service in tables."""
    say(f"macbind {now.version}, up since {when(now.started_at)}, registry {now.registry}")
    table(
        ["DHCPD", "STATE", "SINCE", "BACKLOG", "COMPARED", "ANSWERED"],
        [
            (one.name, one.state, one.since, one.backlog, one.compared_at, one.answered_at)
            for one in now.dhcpds
        ],
        "No dhcpd.",
    )
    table(
        ["POOL", "SIZE", "FREE", "ALLOCATED"],
        [(one.pool, one.size, one.free, one.allocated) for one in now.pools],
        "No pools.",
    )
    if now.hypervisors:
        table(
            ["HYPERVISOR", "CONNECTED", "SINCE", "DOMAINS", "URI"],
            [(one.name, one.connected, one.since, one.domains, one.uri) for one in now.hypervisors],
            "No hypervisor.",
        )
    if len(now.controllers) > 1:
        table(
            ["CONTROLLER", "SOCKET", "HEARD", "LEADS"],
            [(one.host, one.socket, one.heard_at, leads(one)) for one in now.controllers],
            "None.",
        )
    print_findings(now.findings)


def _find(client: Client, what: str) -> Allocation:
    from macbind.core.address_range import parse_address
    from macbind.core.ipv6 import mac_of
    from macbind.core.mac_address import MacAddress

    address = mac = ipv6 = None
    with suppress(InvalidAddress):
        address = parse_address(what)
    with suppress(InvalidAddress):
        mac = MacAddress.parse(what)
    with suppress(ValueError):
        ipv6 = IPv6Address(what.strip().partition("%")[0])  # people copy it with the zone: fe80::1%eth0
        mac = mac_of(ipv6)
    if address is None and mac is None:
        return client.get(what)
    for one in client.list(address=address, mac=mac, released=True):
        if ipv6 in (None, one.ipv6, one.link_local):
            return one
    with suppress(NotFound):  # a name may look like a MAC or an address
        return client.get(what)
    raise NotFound(f"{address or ipv6 or mac} is not allocated.", hint=f"`macbind why {what}` says why.")
