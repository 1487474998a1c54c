"""The two places where names are kept: a hosts file of this controller, and the zones of a name server.

Every controller writes a hosts file of its own. One controller writes to the name server, the one that has the lead.
It compares a zone with the registry when it begins, after each failure, and now and then. Between two comparisons it
knows what the zone has, because it has written that itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from ipaddress import IPv4Address

import structlog
from typing_extensions import override

from macbind.core.findings import Finding
from macbind.core.host_names import HostNames
from macbind.core.name_records import Found, after, backward, difference, forward
from macbind.engine.names.keeper import Keeper
from macbind.engine.supervised import OnDefect
from macbind.names.hosts_file import HostsFile
from macbind.names.name_server import NameServer, Zone
from macbind.names.trouble import Contested
from macbind.registry.leader import Leader
from macbind.registry.store import Registry

_log = structlog.get_logger()


class HostsKeeper(Keeper):
    """Keeps the hosts file.

    Args:
        file: The file.
        registry: The truth.
        beat: Called whenever it goes on.
        on_defect: Called with a defect of ours.
    """

    def __init__(
        self, file: HostsFile, registry: Registry, beat: Callable[[], object], on_defect: OnDefect
    ) -> None:
        self._file = file
        super().__init__("hosts-file", registry, beat, on_defect)

    @override
    def _write(self, names: HostNames) -> None:
        self._file.keep(names)


class ZoneKeeper(Keeper):
    """Keeps the zones of a name server, while this controller leads.

    Args:
        server: The name server.
        domain: The domain of all names.
        zones: The zones, the forward one first.
        resync_s: How often all is compared even without a reason, in seconds.
        leader: The right to write.
        registry: The truth.
        beat: Called whenever it goes on.
        on_defect: Called with a defect of ours.
    """

    def __init__(
        self,
        server: NameServer,
        domain: str,
        zones: Sequence[Zone],
        resync_s: float,
        leader: Leader,
        registry: Registry,
        beat: Callable[[], object],
        on_defect: OnDefect,
    ) -> None:
        self._server, self._domain, self._zones = server, domain, tuple(zones)
        self._resync_s, self._leader = resync_s, leader
        self._there: dict[Zone, dict[str, Found]] = {}
        self._foreign: dict[Zone, dict[str, str]] = {}
        self._last: HostNames | None = None
        self._compare_at = 0.0
        super().__init__("name-server", registry, beat, on_defect)

    @override
    def _may_write(self) -> bool:
        known, self._last = self._last, None  # whoever has had the lead meanwhile may have changed everything
        if self._leader.acquire():
            self._leader.check()
            self._last = known
            return True
        self._foreign = {}
        return False

    @override
    def _lose(self) -> None:
        self._last, self._foreign = None, {}
        self._leader.release()

    @override
    def _found(self) -> tuple[Finding, ...]:
        return _of_others([one for some in self._foreign.values() for one in some.items()])

    @override
    def _write(self, names: HostNames) -> None:
        if self._last is None or time.monotonic() >= self._compare_at:
            self._there, self._last = {}, None
        before, self._last = self._last, None  # it is known only if all goes well
        for zone in self._zones:
            try:
                self._keep(zone, names, before)
            except Contested:
                self._there.pop(zone, None)
                self._keep(zone, names, None)
        self._last = names

    def _keep(self, zone: Zone, names: HostNames, before: HostNames | None) -> None:
        """Writes what differs in a zone: in all of it, or in what has changed since these names were there."""
        there, foreign = self._there.pop(zone, None), self._foreign.pop(zone, {})
        if there is None or before is None:
            there, foreign, before = self._server.names(zone), {}, None
            self._compare_at = time.monotonic() + self._resync_s
        bound = {name: address for name, address in names.held.items() if name in names.bound}
        held = dict(names.held)
        part = there
        if before is not None:
            changed = names.changed_since(before)
            bound, held = _only(changed, bound), _only(changed, held)
            owners = {*self._records(held, zone), *self._records(_only(changed, before.held), zone)}
            part = {owner: there[owner] for owner in owners if owner in there}
            foreign = {owner: record for owner, record in foreign.items() if owner not in owners}
        lacking = difference(self._server.owner, self._records(bound, zone), self._records(held, zone), part)
        made = 0
        for some in self._server.change(zone, lacking.changes):
            after(there, some, self._server.owner)
            made += len(some)
            self._leader.keep()
            if self._thread.stopping.is_set():
                return
        if made:
            _log.info("names", zone=zone.name, changed=made)
        self._there[zone], self._foreign[zone] = there, foreign | dict(lacking.foreign)

    def _records(self, names: Mapping[str, IPv4Address], zone: Zone) -> dict[str, str]:
        if zone.kind == "A":
            return forward(names, self._domain)
        return backward(names, self._domain, zone.name)


def _only(some: Collection[str], names: Mapping[str, IPv4Address]) -> dict[str, IPv4Address]:
    return {name: names[name] for name in some if name in names}


def _of_others(foreign: Sequence[tuple[str, str]]) -> tuple[Finding, ...]:
    if not foreign:
        return ()
    name, record = foreign[0]
    more = f" So are {len(foreign) - 1} more names." if len(foreign) > 1 else ""
    return (
        Finding(
            "names_foreign",
            f"The name server has records at {name} that macbind did not make; they are left alone, and {record} is "
            f"not there.{more}",
            "Remove them there, or give the machine another name.",
            "names",
        ),
    )
