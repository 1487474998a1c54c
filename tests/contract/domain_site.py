"""A registry and a domain tracker on libvirt's own `test://` driver: real events, no daemon.

`test:///default` is one hypervisor shared by the whole process, so domains have names of their own and are
removed after each test.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from uuid import uuid4

import libvirt

from labkit.wait import until
from macbind.config.tables import HypervisorSettings
from macbind.core.address_plan import AddressPlan
from macbind.core.allocation import SETTLE_AFTER_S, Allocation, Renumbering
from macbind.core.domain import Domain
from macbind.core.errors import HypervisorUnavailable
from macbind.core.mac_address import MacAddress
from macbind.core.pool import Pool, ReleasePolicy, Subnet
from macbind.engine.domain_tracker import DomainTracker
from macbind.engine.domains.life import Life
from macbind.engine.group_commit import GroupCommitter
from macbind.engine.life_signs import LifeSigns
from macbind.registry import evidence
from macbind.registry.allocate import Wanted, allocate
from macbind.registry.audit import history
from macbind.registry.pending_changes import confirm, pending_changes
from macbind.registry.queries import find
from macbind.registry.release import release
from macbind.registry.renumber import begin_renumber
from macbind.registry.store import Registry
from macbind.registry.transaction import Transaction

URI = "test:///default"
NETWORK = IPv4Network("10.77.0.0/16")
DEADLINE_S = 60.0
"""Less than the grace of a machine that has stopped by itself."""
TRANSITION_S = 0.3
"""Nothing takes so long on the test driver."""
OVER_S = -SETTLE_AFTER_S - 1
"""A lease that has expired so long ago that macbind settles its renumbering."""


def until_connected(tracker: DomainTracker) -> None:
    """Waits until the hypervisor of the tests has been scanned."""

    def is_connected() -> bool:
        return any(one.connected for one in tracker.status() if one.name == "test")

    until(is_connected, DEADLINE_S, "the hypervisor to be scanned")


class Bench:
    """A registry and a warden on the test driver; dhcpd plays no part, so releases stop at the registry."""

    def __init__(
        self,
        directory: Path,
        policy: ReleasePolicy = ReleasePolicy.DESTROY,
        transition_s: float = TRANSITION_S,
        grace_s: float = 120.0,
        others: Mapping[str, HypervisorSettings] | None = None,
    ) -> None:
        self.transition_s, self.grace_s, self.others = transition_s, grace_s, others or {}
        self.signs = LifeSigns()
        plan = AddressPlan.build(NETWORK, "00:16:3e", gateways=[NETWORK[1]])
        pool = Pool("farm", plan, Subnet(NETWORK), ("main",), release=policy, claim_timeout_s=900)
        url = f"sqlite:///{directory / 'registry.db'}"
        self.registry = Registry.open(url, {"farm": pool}, ["main"], ["test"])
        self.committer = GroupCommitter(self.registry, lambda: None)
        self.committer.start()
        self.driver: Any = libvirt.open(URI)
        self.warden = self._watch()

    def tracker(self) -> DomainTracker:
        """A new tracker that does not watch yet."""
        here = HypervisorSettings.model_construct(
            uri=URI, transition_s=self.transition_s, grace_s=self.grace_s
        )
        hypervisors = {"test": here, **self.others}
        return DomainTracker(self.registry, self.committer, hypervisors, life=Life(self.signs))

    def _watch(self) -> DomainTracker:
        warden = self.tracker()
        warden.start()
        until_connected(warden)
        return warden

    def look(self, uuid: str) -> Domain:
        """A domain as libvirt describes it now; the watcher may be at something else for a while."""

        def found() -> Domain | None:
            try:
                return self.warden.watchers["test"].look(uuid)
            except HypervisorUnavailable:
                return None

        return until(found, DEADLINE_S, f"{uuid} to be looked at")  # type: ignore[return-value]

    def restart_watching(self) -> None:
        """Stops watching and starts again, as a restart of the daemon does."""
        self.warden.close()
        self.warden = self._watch()

    def close(self) -> None:
        """Removes every domain of this test and stops."""
        for domain in self.driver.listAllDomains():
            if domain.name() != "test":
                if domain.isActive():
                    domain.destroy()
                self._gone(domain)
        self.warden.close()
        self.committer.close()
        self.registry.close()
        self.driver.close()

    @staticmethod
    def _gone(domain: Any) -> None:
        try:
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise

    def allocate(self, name: str, domain: str | None = None) -> Allocation:
        """Takes the first unoccupied address."""
        wanted = Wanted("farm", (name,), domain=domain)
        return self.committer.submit("test", lambda txn: allocate(txn, wanted)[0]).result()

    def held(self, name: str) -> Allocation:
        """The allocation as it is now."""
        with self.registry.read() as view:
            return find(view, names=[name])[0]

    def user(self, name: str) -> str | None:
        """The UUID of the recorded domain of an allocation."""
        return self.held(name).domain_uuid

    def release(self, name: str) -> None:
        """Releases an allocation by command; dhcpd confirms at once."""
        self.committer.submit("test", lambda txn: release(txn, name=name)).result()
        with self.registry.write("test") as txn:
            confirm(txn, "main", pending_changes(txn, "main", 10))

    def xml(self, name: str, *macs: MacAddress, uuid: str | None = None) -> str:
        """A domain with these interfaces."""
        interfaces = "".join(
            f"<interface type='network'><mac address='{mac}'/><source network='default'/></interface>"
            for mac in macs
        )
        return (
            f"<domain type='test'><name>{name}</name><uuid>{uuid or uuid4()}</uuid><memory>1024</memory>"
            f"<os><type>hvm</type></os><devices>{interfaces}</devices></domain>"
        )

    def is_in_use(self, mac: MacAddress) -> bool:
        """Whether there is evidence that a MAC is in use."""
        with self.registry.read() as view:
            return bool(evidence.of_mac(view, mac))

    def until_in_use(self, mac: MacAddress) -> None:
        """Waits until there is evidence that a MAC is in use."""
        until(lambda: self.is_in_use(mac), DEADLINE_S, f"{mac} to be seen in use")

    def until_unused(self, mac: MacAddress) -> None:
        """Waits until there is none; what is allocated next may have its address."""
        until(lambda: not self.is_in_use(mac), DEADLINE_S, f"{mac} to be seen unused")

    def is_held(self, name: str) -> bool:
        """Whether the name still holds its address."""
        with self.registry.read() as view:
            return bool(find(view, names=[name]))

    def until_used(self, name: str) -> None:
        """Waits until the domain of an allocation has been seen."""

        def used() -> bool:
            with self.registry.read() as view:
                return bool(find(view, names=[name])[0].domain)

        until(used, DEADLINE_S, f"a domain of {name} to be seen")

    def destroy_unheard(self, domain: Any) -> None:
        """Destroys a domain while nobody watches: when this returns, libvirt has told all that it has to say."""
        told = threading.Event()

        def heard(_connection: Any, _domain: Any, event: int, *_: Any) -> None:
            if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
                told.set()

        number = self.driver.domainEventRegisterAny(
            domain, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, heard, None
        )
        domain.destroy()
        assert told.wait(DEADLINE_S)
        self.driver.domainEventDeregisterAny(number)

    def renumber(self, name: str, to: str, lease_s: float = 3600) -> Renumbering:
        """Begins a renumbering; its time may be over already."""

        def work(txn: Transaction) -> Renumbering:
            return begin_renumber(txn, name, IPv4Address(to), "a-token", lease_s)

        return self.committer.submit("test", work).result()

    def settle(self) -> None:
        """Has renumberings settled whose time is over."""
        self.warden.settle_renumberings()

    def release_abandoned(self, name: str) -> str:
        """Has what no domain uses released, until the name holds nothing; returns the recorded reason."""

        def free() -> bool:
            self.warden.release_abandoned()
            return not self.is_held(name)

        until(free, DEADLINE_S, f"{name} to be released")
        return self.until_free(name)

    def holds(self, name: str) -> list[str]:
        """The addresses a name has, with that it is renumbered to."""
        with self.registry.read() as view:
            return [str(one.address) for one in find(view) if one.name == name]

    def until_free(self, name: str) -> str:
        """Waits until the name holds nothing; returns the recorded reason."""
        until(lambda: not self.is_held(name), DEADLINE_S, f"{name} to be released")
        with self.registry.read() as view:
            return str(history(view, name=name)[0].detail["reason"])

    def settled(self) -> None:
        """Waits until everything libvirt said so far has been handled.

        A look that no cause was given for comes after all events: so the last that is waited for is such a look, at
        a later definition.
        """
        name = f"marker-{uuid4().hex[:8]}"
        mac = self.allocate(name).mac
        domain = self.driver.defineXML(self.xml(name, mac))
        self.until_used(name)
        domain.undefine()
        until(lambda: not self.held(name).domain, DEADLINE_S, f"{name} to wait for a domain again")
        self.committer.submit("test", lambda txn: release(txn, name=name)).result()
