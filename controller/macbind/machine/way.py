"""The way of one machine to another address, and back: card, definition, and who answers in the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Self

from macbind.addressing import MacAddress
from macbind.errors import (
    AddressAnswered,
    Conflict,
    DhcpdUnavailable,
    HypervisorUnavailable,
    MacbindError,
    MachineFailed,
)
from macbind.machine.journey import Reporter
from macbind.machine.values import Step, Wait
from macbind.model import MAX_MOVE_S, Move
from macbind.reach import EchoSocket, connects, neighbour
from macbind.virt.hotplug import Found, Slot
from macbind.virt.interface import Place

if TYPE_CHECKING:
    from macbind.client import Client

_PAUSE_S = 0.1
_SLACK_S = 60.0
"""What the calls to libvirt and dhcpd may take on top of the time for the machine."""
_STALE_S = 10.0
"""How long a host remembers a neighbour that is gone, once it has tried to send to it."""
_STEPS = {"unplugged": Step.UNPLUGGED, "plugged in": Step.PLUGGED_IN}


class Answers:
    """Waits until a machine answers at an address.

    Args:
        name: Of the allocation.
        slot: Where the machine is; None if there is none.
        wait: What it must do.
        report: Is told of it.
        sees_macs: Whether this host can tell machines by their MACs: whether it is on their network.
    """

    def __init__(
        self,
        name: str,
        slot: Slot | None,
        wait: Wait,
        report: Callable[[str, Step], object],
        *,
        sees_macs: bool = False,
    ) -> None:
        self._name, self._slot, self._wait, self._report = name, slot, wait, report
        self._sees_macs = sees_macs

    def stranger(self, place: Place) -> MacAddress | None:
        """The MAC of another machine that has this address, as far as can be seen from here."""
        mac = neighbour(place.address) if self._sees_macs else None
        return None if mac == place.mac else mac

    def wait_for(self, place: Place, give_up_at: float | None = None) -> None:
        """Waits until the machine answers there, and not another one.

        Raises:
            MachineFailed: It did not in time.
        """
        if give_up_at is None:
            give_up_at = time.monotonic() + self._wait.timeout_s
        address, port = place.address, self._wait.tcp
        if self._wait.ping:
            with EchoSocket(address) as echo:
                self._until(echo.answers, give_up_at, f"answer a ping at {address}", place)
            self._report(self._name, Step.PINGED)
        if port is not None:
            what = f"take connections at {address}:{port}"
            self._until(lambda: connects(address, port), give_up_at, what, place)
            self._report(self._name, Step.CONNECTED)

    def _until(self, condition: Callable[[], bool], give_up_at: float, what: str, place: Place) -> None:
        while not condition() or self.stranger(place) is not None:
            if time.monotonic() >= give_up_at:
                other = self.stranger(place)
                but = "" if other is None else f", but {other} has that address"
                raise self._failed(f"did not {what} within {self._wait.timeout_s:g} s{but}", place)
            if self._has_ended():
                raise self._failed(f"stopped by itself before it could {what}", place)
            time.sleep(_PAUSE_S)

    def _has_ended(self) -> bool:
        try:
            return self._slot is not None and not self._slot.is_active()
        except HypervisorUnavailable:
            return False  # it cannot be asked; the machine may answer all the same

    def _failed(self, what: str, place: Place) -> MachineFailed:
        return MachineFailed(
            f"The machine '{self._name}' {what}.",
            hint="Its system must take a network card that is plugged in while it runs, whatever its MAC, and ask "
            "for an address on it.",
            step="wait",
            machine=self._name,
            address=str(place.address),
            mac=str(place.mac),
        )


class Way:
    """The way of one machine to its new address, and back.

    Args:
        client: The connection to macbind.
        move: What is under way.
        slot: The place of its card; None if there is no machine.
        wait: What it must do where it arrives.
        report: Is told of each step.
        ends_at: Until when the move is this process's, of the monotonic clock.

    Attributes:
        move: What is under way.
    """

    def __init__(
        self,
        client: Client,
        move: Move,
        slot: Slot | None,
        wait: Wait,
        report: Reporter,
        ends_at: float,
    ) -> None:
        self.move, self._client, self._name, self._slot = move, client, move.old.name, slot
        self._wait, self._report, self._ends_at = wait, report, ends_at
        self._old = Place(move.old.mac, move.old.address)
        self._new = Place(move.new.mac, move.new.address)
        self._answers = Answers(self._name, slot, wait, self._say)
        self._turned_back = False

    @classmethod
    def begin(
        cls, client: Client, name: str, to: IPv4Address, slot: Slot | None, wait: Wait, report: Reporter
    ) -> Self:
        """Begins a move, or makes one that was broken off this process's.

        Raises:
            MacbindError: It cannot be begun.
        """
        ends_at = time.monotonic() + _lasts_s(wait)
        move = client.begin_move(name, to, deadline_s=_lasts_s(wait))
        return cls(client, move, slot, wait, report, ends_at)

    def renew(self) -> None:
        """Makes the move this process's for as long as a way takes from now on.

        Raises:
            MacbindError: It is another's, or has ended, or macbind cannot be asked.
        """
        ends_at = time.monotonic() + _lasts_s(self._wait)
        with suppress(DhcpdUnavailable):  # what it was to confirm is recorded, and not needed to go back
            self._client.begin_move(
                self._name,
                self._new.address,
                deadline_s=_lasts_s(self._wait),
                generation=self.move.new.generation,
            )
        self._ends_at = ends_at

    def go(self, *, live: bool) -> None:
        """Exchanges the card, and the definition's; waits until the machine answers, if it runs."""
        if self._slot is None:
            return
        if live and _is_seen(self._old, self._wait):
            self._answers = Answers(self._name, self._slot, self._wait, self._say, sees_macs=True)
            self._check_neighbours()
        give_up_at = time.monotonic() + self._wait.timeout_s
        if live:
            self._slot.exchange(self._old, self._new, give_up_at, self._tell, ends_at=self._ends_at)
        if self._slot.redefine(self._old, self._new):
            self._say(self._name, Step.REDEFINED)
        if live:
            self._answers.wait_for(self._new, give_up_at)
        elif self._slot.is_active():
            raise Conflict(
                f"The machine '{self._slot.user.name}' was started meanwhile.",
                hint="Say --live.",
                domain=self._name,
            )

    def _check_neighbours(self) -> None:
        """Refuses an address that another machine has, though it may not answer.

        Raises:
            AddressAnswered: There is one.
        """
        _knock(self._new.address, self._wait)
        stale_until = time.monotonic() + _STALE_S
        while (mac := self._answers.stranger(self._new)) is not None:
            if time.monotonic() >= stale_until:
                raise AddressAnswered(
                    f"Another machine, {mac}, has the address {self._new.address} already.",
                    hint="Find out who uses the address, or choose another.",
                    address=str(self._new.address),
                )
            time.sleep(_PAUSE_S)

    def back(self) -> list[str]:
        """Undoes everything in reverse; returns what could not be undone, as sentences."""
        self._turned_back = True
        kept = f"{self._old.address} and {self._new.address} are both kept for it"
        try:
            self.renew()  # to go back takes its time, too
        except Conflict as error:  # somebody else's by now, or ended: the card is not ours to touch
            return [str(error)]
        except MacbindError:
            pass  # macbind is away, or the name is gone: the card is ours for what was left of the time
        name, problems, active = self._name, [], False
        try:
            if self._slot is not None:
                user = self._slot.now()
                if user is None or user.saved:
                    return [self._lost(self._slot.user.name, user)]
                active = user.active
                self._give_back(self._slot, active=active)
        except MacbindError as error:
            return [f"{error} {kept}: repeat the call, or `macbind renumber {name} --abort`."]
        try:
            if active:
                self._answers.wait_for(self._old)
        except MacbindError as error:  # it has its card, and dhcpd serves it: the other address is not needed
            problems.append(error.message)
        try:
            self._client.abort_move(name, generation=self.move.new.generation)
        except MacbindError as error:
            problems.append(f"{self._new.address} is not released yet: {error}")
        self._say(name, Step.UNDONE)
        return problems

    def _give_back(self, slot: Slot, *, active: bool) -> None:
        slot.redefine(self._new, self._old)
        if active:
            give_up_at = time.monotonic() + self._wait.timeout_s
            slot.exchange(self._new, self._old, give_up_at, self._tell, ends_at=self._ends_at)

    def _lost(self, machine: str, user: Found | None) -> str:
        """What is to be said of a machine that is not there: nobody knows which card it will have."""
        both, name = f"{self._old.address} and {self._new.address}", self._name
        abort = f"start it, and say `macbind renumber {name} --abort`"
        if user is None:
            return (
                f"The machine '{machine}' is gone. If it has ended, {both} are released; if it was saved or "
                f"migrated, both are kept for it: {abort}."
            )
        return f"The machine '{machine}' is saved, with the card it had then. {both} are both kept for it: {abort}."

    def _tell(self, what: str) -> None:
        self._say(self._name, _STEPS[what])

    def _say(self, name: str, step: Step) -> None:
        try:
            self._report(name, step)
        except Exception:
            if not self._turned_back:  # who is told may be what failed, and must not end the way back, too
                raise


def _lasts_s(wait: Wait) -> float:
    """How long one way of a machine may take, in seconds: to exchange its card, and then to answer."""
    return min(2 * wait.timeout_s + _SLACK_S, MAX_MOVE_S)


def _is_seen(place: Place, wait: Wait) -> bool:
    """Whether this host sees the MAC of the machine at an address: it is on its network, with nobody between."""
    _knock(place.address, wait)
    return neighbour(place.address) == place.mac


def _knock(address: IPv4Address, wait: Wait) -> None:
    """Sends something there, so that this host asks the network who has the address."""
    if wait.ping:
        with EchoSocket(address) as echo:
            echo.answers()
    elif wait.tcp is not None:
        connects(address, wait.tcp)
