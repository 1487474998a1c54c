"""The port to a DHCP server: all that macbind asks of one, whatever its engine.

A server holds *bindings*. The writer looks at them (:meth:`DhcpServer.observe`) and changes them
(:meth:`DhcpServer.apply`). The reconciler asks what the server would hold after its next start
(:meth:`DhcpServer.audit`). The monitor listens to what threatens the server (:meth:`DhcpServer.health`).
An engine keeps to itself how it asks: its protocol, its files and its result codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address
from typing import Protocol

from macbind.core.address_plan import AddressPlan
from macbind.core.binding import Binding
from macbind.core.binding_plan import Change
from macbind.core.errors import MacbindError
from macbind.core.evidence import Evidence, Source
from macbind.core.findings import Finding
from macbind.core.mac_address import MacAddress


@dataclass(frozen=True, slots=True)
class Audit:
    """What a DHCP server has on disk.

    A look never proves that a lease is over: a server forgets the leases of a range that was taken out of its
    configuration, and the machines go on. So a lease counts until its own end, or until it is ``ended``. Hosts and
    ranges that a look no longer shows are gone, if ``looked`` names their source.

    Attributes:
        ours: Our bindings, each with the address in its name. They were read before the audit returned.
        maimed: The names of bindings of ours that have lost their MAC, so that they serve nobody.
        foreign: How many bindings of others there are.
        findings: What an admin should look at.
        evidence: Every address of these pools that others have there, as far as the audit could look. Leases
            that an earlier audit of this engine saw are among them until they end. A lease names its MAC, which may
            be that of our own allocation of this very address.
        looked: The sources it could look at: what they no longer show is gone, except leases. Empty after a look
            that failed, which withdraws nothing.
        ended: Addresses whose lease is over, as the server has it written down: free, released or expired.
    """

    ours: Sequence[tuple[IPv4Address, Binding]] = ()
    maimed: Sequence[str] = ()
    foreign: int = 0
    findings: Sequence[Finding] = ()
    evidence: Sequence[Evidence] = ()
    looked: frozenset[Source] = frozenset()
    ended: Sequence[IPv4Address] = ()


class ExchangeKind(StrEnum):
    """What a machine and a DHCP server said to each other."""

    REQUEST = "DHCPREQUEST"
    ACK = "DHCPACK"
    DECLINE = "DHCPDECLINE"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A machine's exchange with a DHCP server, as the server has logged it. A machine may pretend to be another.

    Attributes:
        kind: What was said.
        mac: The machine.
        address: The address that it is about.
        server: The server that the machine means, if it names one.
        said: What the server said about it, e.g. why it gave no answer.
    """

    kind: ExchangeKind
    mac: MacAddress
    address: IPv4Address
    server: IPv4Address | None = None
    said: str = ""


class HealthWatch(Protocol):
    """A look at a DHCP server from outside. One thread uses it, which need not be the writer's."""

    def signs(self) -> list[Finding]:
        """What the server has said of itself since the last call, in its order.

        Raises:
            LogUnavailable: The server's log cannot be read now; a later call may succeed.
        """

    def exchanges(self) -> list[Exchange]:
        """What machines have exchanged with the server since the last call, as far as :meth:`signs` has read."""

    def askers(self) -> list[MacAddress] | None:
        """The machines that have asked the server since the last call, as far as :meth:`signs` has read.

        None where nobody listens to the server.
        """

    def findings(self) -> list[Finding]:
        """What threatens the server at this moment."""

    def is_here(self) -> bool:
        """Whether the server runs on this machine, so that its answers to machines are sent from here."""

    def close(self) -> None:
        """Ends the watch."""


class DhcpServer(Protocol):
    """One DHCP server. One thread uses it; every method may raise DhcpdUnavailable or DhcpdRefused.

    Attributes:
        name: Its name in the configuration.
    """

    name: str

    def connect(self) -> None:
        """(Re)connects; nothing known from an earlier connection is valid any more."""

    def close(self) -> None:
        """Drops the connection, if there is one."""

    def fileno(self) -> int:
        """A descriptor that becomes readable while idle only when the server has gone.

        An engine without a lasting connection returns a descriptor that it signals itself.
        """

    def observe(self, macs: Sequence[MacAddress]) -> list[Binding | None]:
        """The binding that the server holds for each MAC."""

    def apply(self, changes: Sequence[Change]) -> list[MacbindError | None]:
        """Carries out each change; None where the server confirmed it, else why it refused.

        A :class:`~macbind.core.errors.StorageFailed` says that the server could not write a change down.
        """

    def audit(self, plans: Sequence[AddressPlan], pause: Callable[[float], object]) -> Audit | None:
        """Reads what the server has on disk; None where macbind may not look.

        Args:
            plans: The address plans of the pools it serves.
            pause: Waits so many seconds, less if there is a reason; true if the audit is to end. It is called often:
                what must not wait for the end of the audit is done meanwhile.
        """

    def still_has(self, plans: Sequence[AddressPlan], gone: Sequence[Evidence]) -> list[bool]:
        """Whether the server goes on with hosts and ranges of others that its files no longer show.

        A server reads its configuration when it starts. What was changed there since does not count yet.

        Args:
            plans: The address plans of the pools it serves.
            gone: What is no longer shown.
        """

    def forget(self, names: Sequence[str]) -> int:
        """Deletes those of these bindings that have no MAC; returns how many it deleted."""

    def health(self) -> HealthWatch:
        """Begins to watch the server. Safe to call from any thread."""
