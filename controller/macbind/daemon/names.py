"""What runs so that allocations are found by name, made from the configuration.

The name server's protocol is loaded only where one is configured.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from macbind.config.tables import NamesSettings
from macbind.core.errors import ConfigError
from macbind.core.findings import Finding
from macbind.daemon.dhcpd import HANGS_S
from macbind.daemon.watchdog import Heartbeat, Task
from macbind.dhcp.isc.key import only_key
from macbind.engine.names.keeper import Keeper
from macbind.engine.supervised import OnDefect
from macbind.registry.leader import leader_for
from macbind.registry.store import Registry

if TYPE_CHECKING:
    from macbind.names.name_server import TsigKey

_NUMBER = 0
"""Stands for the name server among those that are led; DHCP servers count from 1."""


class NamesParts:
    """The parts: one thread for the hosts file and one for the name server, where they are configured.

    Args:
        registry: The truth.
        on_defect: Called with a defect of ours.

    Attributes:
        tasks: Their progress, for the watchdog.
    """

    def __init__(self, registry: Registry, on_defect: OnDefect) -> None:
        self._registry, self._on_defect = registry, on_defect
        self._settings = NamesSettings()
        self.tasks: tuple[Task, ...] = ()
        self._keepers: tuple[Keeper, ...] = ()
        self._refused: tuple[Finding, ...] = ()

    def use(self, settings: NamesSettings) -> None:
        """Starts all that a configuration names, instead of what runs. The name server need not be there yet."""
        if settings == self._settings and settings.server is None:
            self.wake()  # the pools may have other host names
            return
        self.close()  # the key may be another one, even if nothing else is
        self._settings = settings
        self._make(settings)
        for one in self._keepers:
            one.start()

    def _make(self, settings: NamesSettings) -> None:
        domain, registry, on_defect = settings.domain, self._registry, self._on_defect
        if domain is None:
            return
        if settings.hosts_file is not None:
            from macbind.engine.names.places import HostsKeeper
            from macbind.names.hosts_file import HostsFile

            file = HostsFile(settings.hosts_file, domain)
            self._keepers += (HostsKeeper(file, registry, self._beat("hosts file"), on_defect),)
        if settings.server is not None:
            from macbind.engine.names.places import ZoneKeeper
            from macbind.names.name_server import NameServer, Zone

            signs = self._key(settings)
            if signs is None:
                return
            beat, leader = self._beat("name server"), leader_for(registry.url, _NUMBER)

            def goes_on() -> None:
                beat()
                leader.keep()

            server = NameServer(settings.server, signs, settings.owner, settings.ttl_s, goes_on)
            zones = [
                Zone(settings.zone or domain, "A"),
                *(Zone(one, "PTR") for one in settings.reverse_zones),
            ]
            kept = ZoneKeeper(server, domain, zones, settings.resync_s, leader, registry, beat, on_defect)
            self._keepers += (kept,)

    def _key(self, settings: NamesSettings) -> TsigKey | None:
        """The key that signs; None with a finding if there is none."""
        from macbind.names.name_server import TsigKey

        path = settings.tsig_key_file
        try:
            key = only_key(path)
        except ConfigError as error:
            self._refused = (_refused(error, path),)
            return None
        return TsigKey(key.name, key.algorithm, key.secret)

    def _beat(self, name: str) -> Heartbeat:
        beat = Heartbeat()
        self.tasks += (Task(name, HANGS_S, beat.silent_s),)
        return beat

    def close(self) -> None:
        """Ends all. Names stay as they are."""
        for one in self._keepers:
            one.close()
        self._keepers, self.tasks, self._refused = (), (), ()

    def wake(self) -> None:
        """Says that names may have changed."""
        for one in self._keepers:
            one.wake()

    def settled(self) -> Sequence[Future[None]]:
        """What is done when names are written as the registry has them now."""
        return [one.settled() for one in self._keepers]

    def findings(self) -> list[Finding]:
        """What an admin should look at."""
        found = [finding for one in self._keepers for finding in one.findings]
        return list(dict.fromkeys((*self._refused, *found)))


def _refused(error: ConfigError, path: Path) -> Finding:
    return Finding(
        "names_key_refused",
        error.message,
        f"Make a key with `tsig-keygen macbind`, put what it prints into {path}, let macbind's group read the file "
        "and nobody else, and reload macbind.",
        str(path),
    )
