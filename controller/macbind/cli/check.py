"""``macbind check``: what is wrong with a configuration, or what it would change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from macbind.cli.output import exit_code, say
from macbind.config import Settings, faults, load
from macbind.core.address_range import AddressRange
from macbind.core.errors import ConfigError
from macbind.daemon.scrape import check_listener, is_here
from macbind.daemon.tls import tls_context
from macbind.dhcp.isc.render import is_current
from macbind.dhcp.isc.shared_networks import unreached
from macbind.registry.store import Registry
from macbind.registry.sync import PoolChange

if TYPE_CHECKING:
    from macbind.cli.output import Output

_LISTED = 4
"""Ranges that are named before the rest is counted."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a configuration would change.

    Attributes:
        pools: Pools that change.
        dhcpds_added: The dhcpds that will be told everything.
        dhcpds_removed: The dhcpds that will no longer be waited for.
        render: The dhcpds whose configuration file is not up to date: they need ``macbind render`` and a restart.
        unreachable: A sentence for each subnet whose machines do not reach dhcpd, and for an address to listen at
            that this machine does not have.
    """

    pools: tuple[PoolChange, ...]
    dhcpds_added: tuple[str, ...]
    dhcpds_removed: tuple[str, ...]
    render: tuple[str, ...]
    unreachable: tuple[str, ...]


def check(output: Output, path: Path) -> None:
    """Prints the faults, one sentence each, and ends with the exit code of a ConfigError; or prints what changes.

    Raises:
        RegistryUnavailable: The registry cannot be asked.
    """
    try:
        found = _preview(load(path))
    except ConfigError as error:
        if output.json:
            output.value({"faults": [one.to_dict() for one in faults(error)]})
        for one in faults(error):
            say(f"macbind: {one}", err=True)
        raise typer.Exit(exit_code(error)) from error
    if output.json:
        output.value({"faults": [], "changes": found})
        return
    lines = list(_lines(found))
    say(f"{path} is right, and {'changes this:' if lines else 'changes nothing.'}")
    for line in lines:
        say(f"  {line}")
    for sentence in found.unreachable:
        say(f"! {sentence}")


def _preview(settings: Settings) -> Preview:
    registry = Registry(settings.registry.url)
    try:
        changes = registry.preview(settings.pools, settings.dhcpds)
    except ConfigError as error:
        raise settings.document.located(error) from error
    finally:
        registry.close()
    check_listener(settings)
    if settings.api.listen is not None:
        tls_context(settings)
    stale = tuple(name for name in settings.dhcpds if not is_current(settings, name))
    lost = tuple(sentence for name in settings.dhcpds for sentence in unreached(settings, name))
    lost += tuple(_listening_nowhere(settings))
    return Preview(changes.pools, changes.dhcpds_added, changes.dhcpds_removed, stale, lost)


def _listening_nowhere(settings: Settings) -> Iterator[str]:
    """A sentence if this machine does not have the address at which Prometheus is to find the service."""
    listen = settings.metrics.listen
    if listen is not None and not is_here(listen.address):
        yield f"[metrics] listen: No interface of this machine has {listen.address} now; nobody finds the metrics."


def _lines(found: Preview) -> Iterator[str]:
    for one in found.pools:
        if one.state == "gone":
            yield f"pool {one.pool}: is gone"
            continue
        if one.added:
            yield f"pool {one.pool}: {'new, ' * (one.state == 'new')}hands out {_ranges(one.added)}"
        if one.removed:
            yield f"pool {one.pool}: no longer hands out {_ranges(one.removed)}"
        if one.renewed:
            what = "1 binding is" if one.renewed == 1 else f"{one.renewed} bindings are"
            yield f"pool {one.pool}: {what} made anew"
    yield from (f"dhcpd {name}: new, is told every binding" for name in found.dhcpds_added)
    yield from (f"dhcpd {name}: is no longer told anything" for name in found.dhcpds_removed)
    for name in found.render:
        yield f"dhcpd {name}: its configuration file is not up to date, run `macbind render` and restart it"


def _ranges(ranges: Sequence[AddressRange]) -> str:
    named = ", ".join(map(str, ranges[:_LISTED]))
    return named if len(ranges) <= _LISTED else f"{named} and {len(ranges) - _LISTED} more ranges"
