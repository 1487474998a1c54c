"""Exchanges a machine's NIC, and rolls back on failure.

Forward: the NIC of the running machine, the NIC in its definition, and then it must answer at the new address.
Backward: the same in reverse, and then the new address is released. Both directions look first and do what is left
to do, so a process can begin in any state that another one has left. Both hold the lease, or touch nothing.
"""

from __future__ import annotations

import time
from functools import partial
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from macbind.core.allocation import Renumbering
from macbind.core.errors import AddressAnswered, Conflict, MacbindError
from macbind.core.mac_address import MacAddress
from macbind.machines.lease import Lease
from macbind.machines.progress import Reporter, Step
from macbind.machines.reachability import PAUSE_S, TRANSITION_S, Awaited, lasting, wait_until_reachable
from macbind.machines.values import Wait
from macbind.probes.ping import EchoSocket, connects, neighbour
from macbind.virt.nic_plan import NicStep
from macbind.virt.nic_slot import DomainRef, NicSlot
from macbind.virt.nic_xml import NicAddress

if TYPE_CHECKING:
    from macbind.client.client import Client

_STALE_S = 10.0
"""How long a host remembers a neighbour that is gone, once it has tried to send to it."""
_STEPS = {NicStep.UNPLUG: Step.UNPLUGGED, NicStep.PLUG_IN: Step.PLUGGED_IN}


def awaited(name: str, slot: NicSlot | None, nic: NicAddress, *, sees_macs: bool = False) -> Awaited:
    """A machine that is to answer with a NIC.

    Args:
        name: Of the allocation.
        slot: The place of its NIC; None if there is no machine.
        nic: The NIC.
        sees_macs: Whether this host can tell machines by their MACs: whether it is on their network.
    """
    return Awaited(
        name,
        nic.address,
        nic.mac,
        runs=lasting(lambda: slot is None or slot.lives(), TRANSITION_S),
        hint="Its system must take a NIC that is plugged in while it runs, whatever its MAC, and ask for an address "
        "on it.",
        stranger=partial(_stranger, nic) if sees_macs else lambda: None,
    )


class NicExchange:
    """Gives one machine the NIC of its new address, or its old one back.

    Args:
        client: The connection to macbind.
        renumbering: What is under way.
        lease: Its lease.
        slot: The place of its NIC; None if there is no machine.
        wait: What the machine must do at its new address.
        report: Is told of each step.
    """

    def __init__(
        self,
        client: Client,
        renumbering: Renumbering,
        lease: Lease,
        slot: NicSlot | None,
        wait: Wait,
        report: Reporter,
    ) -> None:
        self._client, self._lease, self._slot, self._wait = client, lease, slot, wait
        self._name, self._report = renumbering.old.name, report
        self._old, self._new = (
            NicAddress(one.mac, one.address, one.ipv6) for one in (renumbering.old, renumbering.new)
        )
        self._sees_macs = self._rolls_back = False

    def go(self, *, live: bool) -> None:
        """Exchanges the NIC, and the definition's; waits until the machine answers, if it runs.

        Raises:
            MacbindError: It did not work; :meth:`back` undoes what was done.
        """
        if self._slot is None:
            return
        if live and _is_seen(self._old, self._wait):
            self._sees_macs = True
            _check_neighbours(self._new, self._wait)
        give_up_at = time.monotonic() + self._wait.timeout_s
        if live:
            self._exchange(self._slot, self._old, self._new, give_up_at)
        self._lease.check()
        if self._slot.redefine(self._old, self._new):
            self._say(self._name, Step.REDEFINED)
        if live:
            self._wait_for(self._new, give_up_at)
        elif self._slot.is_active():
            raise Conflict(
                f"The machine '{self._slot.user.name}' was started meanwhile.",
                hint="Use --live.",
                domain=self._name,
            )

    def back(self) -> list[str]:
        """Undoes everything in reverse; returns what could not be undone, as sentences."""
        self._rolls_back = True
        try:
            self._lease.take()
        except Conflict as error:  # somebody else's by now, or ended: the NIC is not ours to touch
            return [str(error)]
        except MacbindError:
            pass  # macbind is away, or the name is gone: the NIC is ours for what is left of the lease
        name, problems, active = self._name, [], False
        try:
            if self._slot is not None:
                user = self._slot.now()
                if user is None or user.saved:
                    return [self._lost(self._slot.user.name, user)]
                active = user.active
                self._slot.redefine(self._new, self._old)
                if active:
                    self._exchange(self._slot, self._new, self._old, time.monotonic() + self._wait.timeout_s)
        except MacbindError as error:
            kept = f"{self._old.address} and {self._new.address} are both kept for it"
            return [f"{error} {kept}: repeat the call, or `macbind renumber {name} --abort`."]
        try:
            if active:
                self._wait_for(self._old)
        except MacbindError as error:  # it has its NIC, and dhcpd serves it: the other address is not needed
            problems.append(error.message)
        try:
            self._client.abort_renumber(name, self._lease.token)
        except MacbindError as error:
            problems.append(f"{self._new.address} is not released yet: {error}")
        self._say(name, Step.UNDONE)
        return problems

    def _exchange(self, slot: NicSlot, old: NicAddress, new: NicAddress, give_up_at: float) -> None:
        slot.exchange(old, new, give_up_at, tell=self._tell, check=self._lease.check)

    def _wait_for(self, nic: NicAddress, give_up_at: float | None = None) -> None:
        machine = awaited(self._name, self._slot, nic, sees_macs=self._sees_macs)
        wait_until_reachable(machine, self._wait, self._say, give_up_at)

    def _lost(self, machine: str, user: DomainRef | None) -> str:
        """What is to be said of a machine that is not there: nobody knows which NIC it will have."""
        both, name = f"{self._old.address} and {self._new.address}", self._name
        abort = f"start it, and use `macbind renumber {name} --abort`"
        if user is None:
            return (
                f"The machine '{machine}' is gone. If it has ended, {both} are released; if it was saved or "
                f"migrated, both are kept for it: {abort}."
            )
        return f"The machine '{machine}' is saved, with the NIC it had then. {both} are both kept for it: {abort}."

    def _tell(self, done: NicStep) -> None:
        self._say(self._name, _STEPS[done])

    def _say(self, name: str, step: Step) -> None:
        try:
            self._report(name, step)
        except Exception:
            if not self._rolls_back:  # who is told may be what failed, and must not end the rollback, too
                raise


def _check_neighbours(new: NicAddress, wait: Wait) -> None:
    """Refuses an address that another machine has, though it may not answer.

    Raises:
        AddressAnswered: There is one.
    """
    _knock(new.address, wait)
    stale_until = time.monotonic() + _STALE_S
    while (mac := _stranger(new)) is not None:
        if time.monotonic() >= stale_until:
            raise AddressAnswered(
                f"Another machine, {mac}, has the address {new.address} already.",
                hint="Find out who uses the address, or choose another.",
                address=str(new.address),
            )
        time.sleep(PAUSE_S)


def _stranger(nic: NicAddress) -> MacAddress | None:
    """The MAC of another machine that has the address of a NIC."""
    mac = neighbour(nic.address)
    return None if mac == nic.mac else mac


def _is_seen(nic: NicAddress, wait: Wait) -> bool:
    """Whether this host sees the MAC of the machine at an address: it is on its network, with nobody between."""
    _knock(nic.address, wait)
    return neighbour(nic.address) == nic.mac


def _knock(address: IPv4Address, wait: Wait) -> None:
    """Sends something there, so that this host asks the network who has the address."""
    if wait.pings:
        with EchoSocket(address) as echo:
            echo.answers()
    elif wait.tcp is not None:
        connects(address, wait.tcp)
