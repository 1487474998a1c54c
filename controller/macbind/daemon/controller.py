"""Everything that runs, made from the configuration, and changed when the configuration is loaded again.

A new configuration is tried on the registry, in a transaction that is rolled back, before anything is touched. Then
the parts end that it changes, the registry takes it, and new parts start. All other parts run on, and requests under
way finish. Whatever is refused leaves the old configuration in use.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from ipaddress import AddressValueError, IPv4Address
from typing import TYPE_CHECKING, Self

import structlog

from macbind.config import Settings, load
from macbind.core.errors import ConfigError, MacbindError, PeerError
from macbind.core.findings import Finding
from macbind.core.mac_address import MacAddress
from macbind.core.shared_configuration import Recorded, SharedConfiguration
from macbind.core.sizes import Sizes
from macbind.daemon.agreement import brought_home, offer, outdated_file, own_part
from macbind.daemon.company import Company
from macbind.daemon.dhcpd import HANGS_S, DhcpdParts
from macbind.daemon.follower import Follower
from macbind.daemon.housekeeper import Housekeeper
from macbind.daemon.names import NamesParts
from macbind.daemon.watchdog import Heartbeat, Task, Watchdog
from macbind.dhcp.isc.build import isc_dhcpd
from macbind.doctor.surroundings import look_around
from macbind.engine.confirmations import Confirmations
from macbind.engine.first_look import look_first
from macbind.engine.group_commit import GroupCommitter
from macbind.engine.last_seen import LastSeen
from macbind.engine.life_signs import LifeSigns
from macbind.probes.interfaces import interfaces
from macbind.registry.configuration import GIVES_UP, OutdatedFile
from macbind.registry.store import Registry
from macbind.registry.sync import Changes
from macbind.service import changes as service
from macbind.service.addresses import Addresses
from macbind.service.awaiting import Awaiting
from macbind.service.configurations import Configurations
from macbind.service.dhcp_servers import DhcpServers
from macbind.service.events import Changed, EventFeed
from macbind.service.housekeeping import Housekeeping
from macbind.service.imports import Imports
from macbind.service.machines_seen import MachinesSeen
from macbind.service.maps import Maps
from macbind.service.meters import Meters
from macbind.service.own_addresses import OwnAddresses
from macbind.service.peers import Peers
from macbind.service.renumbering import Renumberings
from macbind.service.status import StatusReport
from macbind.service.why import WhyReport

if TYPE_CHECKING:
    from macbind.engine.domain_tracker import DomainTracker

_log = structlog.get_logger()

_AT_START = (
    ("registry", "url"),
    ("service", "socket"),
    ("service", "socket_mode"),
    ("service", "socket_group"),
    ("metrics", "listen"),
    ("page", "listen"),
    ("page", "tokens"),
    ("page", "names"),
    ("api", "listen"),
    ("api", "tokens"),
)
"""Keys that a running service cannot change."""


class Controller:
    """Everything that runs, as a context manager: started on entry, taken down in reverse on exit.

    Args:
        settings: The configuration to begin with.
        sizes: How much is done at a time.
        take_over: Whether other controllers have to use this configuration, too.

    Raises:
        ConfigError: The registry contradicts the configuration, or other controllers use another one.
        RegistryUnavailable: The registry cannot be opened.

    Attributes:
        settings: The configuration in use.
        addresses, imports, renumberings, events, awaiting: The use cases.
        report, why, maps: What the service knows of itself, of single addresses, and of whole pools.
        configurations, servers: What all controllers share.
        registry: The truth.
        confirmations: Who waits for which DHCP server.
        meters: What is counted.
        answering: To be called while requests are answered.
        on_defect: Called when a part has stopped because of a defect.
        before_load: Called with a configuration before it comes into use; may refuse it.
        on_loaded: Called with another configuration when it has come into use.
        defect: The first defect.
    """

    def __init__(
        self,
        settings: Settings,
        sizes: Sizes = Sizes(),  # noqa: B008  # it is frozen
        *,
        take_over: bool = False,
    ) -> None:
        self.settings, self._meant_by = settings, "macbind serve --take-over" if take_over else None
        self._changing = threading.Lock()
        self.defect: BaseException | None = None
        self.on_defect: Callable[[], object] = lambda: None
        self.before_load: Callable[[Settings], object] = lambda _: None
        self.on_loaded: Callable[[Settings], object] = lambda _: None
        self.answering = Heartbeat()
        self.meters = Meters()
        self._changed = Changed()
        self.confirmations = Confirmations(self._changed.notify)
        self.registry = Registry(settings.registry.url, sizes=sizes)
        self._committer = GroupCommitter(self.registry, self._wake)
        self._dhcpds: Mapping[str, DhcpdParts] = {}
        self._life_signs = LifeSigns()
        self._tracker: DomainTracker | None = None
        self._peers = Peers()
        self._company = Company(
            self.registry,
            settings.service.socket,
            lambda: self._peers,
            self.confirmations,
            self._changed,
            self._on_defect,
        )
        self._names = NamesParts(self.registry, self._on_defect)
        self._changed.listener = self._names.wake
        changes = service.Changes(
            self._committer,
            self.confirmations,
            lambda: self._peers,
            self.meters.rates.allocated,
            self._names.settled,
        )
        self._last_seen = LastSeen()
        self._machines = MachinesSeen(self.registry, lambda: self._peers, self._last_seen)
        self.addresses = Addresses(self.registry, changes, self._machines)
        self.imports = Imports(changes, self._look_again)
        self.renumberings = Renumberings(self.registry, changes)
        self.report = StatusReport(
            self.registry,
            lambda: self._peers,
            lambda: look_around(self.settings),
            self._machines.findings,
            lambda: self.meters.rates.now(self.meters.waiting()),
            self._names.findings,
        )
        self.events = EventFeed(self.registry, lambda: self.report.status().findings, self._changed)
        self.awaiting = Awaiting(self.registry, self._changed)
        self.why = WhyReport(
            self.registry, lambda: self.settings, lambda: self._peers, self._life_signs, self._machines
        )
        self.maps = Maps(self.registry)
        self.configurations = Configurations(self.registry, self.apply)
        self._own_addresses = OwnAddresses(self.registry)
        self.servers = DhcpServers(self.registry, changes, lambda: self.settings.pools)
        housekeeping = Housekeeping(
            self.registry,
            self._committer,
            self.confirmations,
            lambda: self._peers,
            own_addresses=self._own_addresses,
            machines_seen=self._machines,
        )
        self.housekeeper = Housekeeper(
            housekeeping, self.report, self.load_again, lambda: self.settings, self._on_defect
        )
        self._follower = Follower(self.registry, self.follow, self._on_defect)
        self._watchdog = Watchdog(self._tasks)

    def __enter__(self) -> Self:
        with self._changing:
            self._start()
        return self

    def _start(self) -> None:
        try:
            self._begin()
        except MacbindError:
            self.registry.close()
            raise
        self._follower.start()  # from now on other controllers see this one
        try:
            self._look_first(self.settings)
            self._own_addresses.tend()
            self._machines.begin()
            self._company.start()
        except MacbindError:
            self._follower.close()
            self.registry.close()
            raise
        self._exchange_dhcpds({})
        self._committer.start()
        if self._tracker is not None:
            self._tracker.start()
            self._tracker.wait_until_seen()  # before the first address is handed out
        self.housekeeper.start()
        self._names.use(self.settings.names)
        self._compare_file()
        self._watchdog.start()

    def _begin(self) -> None:
        """Applies the file's configuration, or the one that is recorded if the file is outdated."""
        self._tracker = self._tracker_for(self.settings)
        try:
            self._apply(self.settings, self._meant_by)
        except OutdatedFile as found:
            self.settings = brought_home(found.recorded.shared, self.settings.document)
            self._tracker = self._tracker_for(self.settings)
            self._apply(self.settings)

    def __exit__(self, *_: object) -> None:
        self._watchdog.close()
        self._follower.close()
        self.housekeeper.close()
        self._names.close()
        if self._tracker is not None:
            self._tracker.close()
        self._committer.close()
        with suppress(PeerError):  # it is known only roughly in any case
            self._machines.close()
        for one in self._dhcpds.values():
            one.close()
        self._company.close()
        self.registry.close()

    def load_again(self) -> None:
        """Takes the configuration file as it is now into use, or says why the old one stays; never raises a refusal.

        Raises:
            PeerError: The registry cannot be used now; the old configuration stays meanwhile.
        """
        with self._changing:
            self._noting_refusal(lambda: self._change(load(self.settings.document.path)))

    def follow(self) -> None:
        """Takes the configuration into use that another controller has recorded, or says why it cannot be.

        Raises:
            PeerError: The registry cannot be used now.
        """
        with self._changing:
            if not self.registry.is_outdated():
                return  # a load was faster
            recorded = self.registry.configuration()
            own = own_part(self.settings)

            def change() -> None:
                try:
                    new = self.settings if recorded is None else brought_home(recorded.shared, own)
                    self._change(new, is_followed=True)
                except ConfigError as error:
                    self.registry.not_read = error
                    raise

            self._noting_refusal(change)

    def apply(self, shared: SharedConfiguration, actor: str) -> Recorded | None:
        """Takes a configuration into use and has all controllers use it; returns it as it is recorded.

        Raises:
            ConfigError: It cannot be used.
            PeerError: The registry cannot be used now.
        """
        with self._changing:
            self._change(brought_home(shared, own_part(self.settings)), meant_by=actor)
        return self.registry.configuration()

    def _noting_refusal(self, change: Callable[[], None]) -> None:
        try:
            change()
        except (ConfigError, PeerError) as error:
            refused = Finding(
                "config_refused",
                f"The configuration was not loaded, and the old one stays in use: {error.message}",
                error.hint,
                str(self.settings.document.path),
            )
            if refused != self.report.refused_configuration:
                _log.error("configuration refused", problem=str(error))
            self.report.refused_configuration = refused
            if isinstance(error, PeerError):
                raise

    def _compare_file(self) -> None:
        found = outdated_file(self.settings, self.registry.configuration())
        if found is not None and found != self.report.outdated_file:
            _log.warning("finding", code=found.code, finding=str(found))
        self.report.outdated_file = found

    def _change(self, new: Settings, *, meant_by: str | None = None, is_followed: bool = False) -> None:
        waits_for_nobody = GIVES_UP.set(lambda: True)
        try:
            try:
                self._exchange(new, meant_by, is_followed)
            except OutdatedFile as found:
                self._exchange(brought_home(found.recorded.shared, new.document), None, is_followed)
            self._compare_file()
        finally:
            GIVES_UP.reset(waits_for_nobody)

    def _exchange(self, new: Settings, meant_by: str | None, is_followed: bool) -> None:
        old = self.settings
        for table, key in _AT_START:
            if getattr(getattr(new, table), key) != getattr(getattr(old, table), key):
                raise new.document.error(
                    (table, key),
                    f"[{table}] {key} cannot be changed while the service runs.",
                    "Restart macbind, or undo the change.",
                )
        self.before_load(new)
        tracker = self._tracker if new.hypervisors == old.hypervisors else self._tracker_for(new)
        self._preview(new, meant_by)
        ended = {name: one for name, one in self._dhcpds.items() if new.dhcpds.get(name) != old.dhcpds[name]}
        for one in ended.values():
            one.close()
        try:
            if not is_followed:  # nothing can be written before it is in use
                self._look_first(new)
            changes = self._apply(new, meant_by)
        except (MacbindError, OutdatedFile):
            self._exchange_dhcpds(ended)  # what was allocated since the preview
            raise
        self.settings = new
        self._exchange_dhcpds(ended)
        self._names.use(new.names)
        waited_for = new.dhcpds.keys() - self.registry.taken_out
        self.confirmations.reconsider(self.registry, waited_for, changes.generations)
        self._wake()
        if tracker is not self._tracker:
            before, self._tracker = self._tracker, tracker
            if before is not None:
                before.close()
            if tracker is not None:
                tracker.start()
            self._use()
        renewed = sum(one.renewed for one in changes.pools)
        # Bound at the level from before, and said when all is as the file says.
        log = _log.bind(pools_changed=[one.pool for one in changes.pools], renewed=renewed)
        self.on_loaded(new)
        self.report.refused_configuration = None
        log.info("configuration loaded")
        if is_followed:
            self._look_first(new)

    def _preview(self, settings: Settings, meant_by: str | None) -> None:
        try:
            self.registry.preview(settings.pools, settings.dhcpds, offer(settings, meant_by=meant_by))
        except ConfigError as error:
            raise settings.document.located(error) from error

    def _apply(self, settings: Settings, meant_by: str | None = None) -> Changes:
        try:
            offered = offer(settings, meant_by=meant_by)
            return self.registry.apply(settings.pools, settings.dhcpds, settings.hypervisors, offered)
        except ConfigError as error:
            raise settings.document.located(error) from error

    def _look_first(self, settings: Settings) -> None:
        """Learns who else is in the pools of a configuration, before an address of them is handed out."""
        dhcpds = [isc_dhcpd(name, one) for name, one in settings.dhcpds.items()]
        look_first(dhcpds, settings.pools, self.registry)

    def _exchange_dhcpds(self, ended: Mapping[str, DhcpdParts]) -> None:
        """Starts the parts of every dhcpd that has none running."""
        before = self._dhcpds
        self._dhcpds = {
            name: before[name]
            if name in before and name not in ended
            else DhcpdParts(
                name,
                one,
                self.registry,
                self.confirmations,
                self._on_defect,
                partial(self._networks_of, name),
                self._servers,
                self._life_signs,
                self._last_seen,
                self.meters,
                self._company.presence,
            )
            for name, one in self.settings.dhcpds.items()
        }
        for name, parts in self._dhcpds.items():
            if parts is not before.get(name):
                parts.start()
        self._use()

    def _networks_of(self, dhcpd: str) -> list[IPv4Address]:
        """What a dhcpd offers to its probe: the network's own address, of whichever network it is asked on."""
        return [one.network.network_address for one in self.settings.subnets_of(dhcpd)]

    def _servers(self) -> list[IPv4Address]:
        """The addresses under which machines know our DHCP servers: all of this machine, and those configured."""
        found: list[IPv4Address] = []
        with suppress(OSError):  # the kernel does not say
            found += (address for some in interfaces().values() for address in some)
        for one in self.settings.dhcpds.values():
            with suppress(AddressValueError):
                found.append(IPv4Address(one.host))
        return found

    def _use(self) -> None:
        self._peers = Peers(
            {name: one.writer for name, one in self._dhcpds.items()},
            {name: one.monitor for name, one in self._dhcpds.items()},
            self._tracker,
        )

    def _look_again(self, macs: AbstractSet[MacAddress]) -> None:
        if self._tracker is not None:
            self._tracker.look_again(macs)

    def _tracker_for(self, settings: Settings) -> DomainTracker | None:
        if not settings.hypervisors:
            return None
        try:
            from macbind.engine.domain_tracker import DomainTracker
            from macbind.engine.domains.life import Life
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{settings.document.path}: [hypervisor.…] needs libvirt-python, which is not installed.",
                hint="Install macbind[libvirt], or remove the table.",
            ) from error
        return DomainTracker(
            self.registry,
            self._committer,
            settings.hypervisors,
            on_defect=self._on_defect,
            life=Life(self._life_signs),
        )

    def _wake(self) -> None:
        self._changed.notify()
        for one in self._dhcpds.values():
            one.writer.wake()

    def _tasks(self) -> list[Task]:
        return [
            Task("http", HANGS_S, self.answering.silent_s),
            *(one.task for one in self._dhcpds.values()),
            Task("committer", HANGS_S, lambda: self._committer.busy_s),
            Task("housekeeper", HANGS_S, self.housekeeper.progress.silent_s),
            *self._names.tasks,
            Task("configuration", HANGS_S, self._follower.progress.silent_s),
        ]

    def silent_s(self) -> dict[str, float]:
        """For how many seconds each part has shown no progress while it had something to do."""
        return {one.name: one.silent_s() for one in self._tasks()}

    def _on_defect(self, error: BaseException) -> None:
        self.defect = error
        self.on_defect()
