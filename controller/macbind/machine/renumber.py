"""Moving a machine to another address, from outside: nothing has to be installed in it, and nobody logs in.

The MAC follows from the address, so another address is another MAC, and a running machine gets that only with another
network card: its card is unplugged and one like it, with the new MAC, plugged into the same slot. The system in
the machine sees a new card and asks for its address by DHCP, as at every start.

::

    reserve the new address ─► unplug ─► plug in ─► the definition, too ─► it answers ─► release the old address
          │                       └──────────┴──────────────┴──── else: the old card again, and all in reverse
          └─ until the end both addresses are the name's, in the registry and in dhcpd

Whatever ends in between, the name has both addresses and the same call goes on from where things are; what nobody
goes on with, the service settles by the MAC the machine has.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from macbind.addressing import parse_address
from macbind.errors import AddressAnswered, Conflict, HypervisorUnavailable, MacbindError, MachineFailed
from macbind.machine.journey import Reporter
from macbind.machine.values import DEFAULT_URI, OnProgress, Renumbered, Step, Wait
from macbind.model import Allocation, Move, check_name
from macbind.reach import EchoSocket, connects
from macbind.virt.connection import Hypervisor
from macbind.virt.hotplug import Found, Slot, find_user
from macbind.virt.interface import Place

if TYPE_CHECKING:
    from macbind.client import Client

WAIT = Wait(timeout_s=60.0)
"""How long a machine gets to change its card and to answer, unless told otherwise."""
_PAUSE_S = 0.1
_SLACK_S = 60.0
"""What the calls to libvirt and dhcpd may take on top of twice the time for the machine: there, and back again."""
_STEPS = {"unplugged": Step.UNPLUGGED, "plugged in": Step.PLUGGED_IN}


def renumber(
    client: Client,
    name: str,
    to: IPv4Address | str,
    *,
    live: bool = False,
    uri: str = DEFAULT_URI,
    wait: Wait = WAIT,
    on_progress: OnProgress | None = None,
) -> Renumbered:
    """Moves a machine to another address; when this returns, it answers there and its old address is free.

    If it does not answer in time, it gets its old card and address back. Repeated, it goes on with a move that was
    broken off; a machine that has the address already is left alone.

    Args:
        client: The connection to macbind.
        name: The machine's name, or that of any allocation.
        to: An address of its pool, or of another pool on the same network.
        live: Whether the machine runs and is to exchange its card now. Otherwise it must be off, or not exist:
            its definition is changed.
        uri: The hypervisor's libvirt URI.
        wait: What it must do at its new address, within so many seconds from when its card is unplugged.
        on_progress: Told of each step.

    Raises:
        RequestError: It is not possible; nothing was changed.
        PeerError: dhcpd, libvirt or the machine failed. What could not be undone is in the error's notes and its
            ``details['undo']``.
    """
    target = parse_address(str(to))
    held, pending = client.get(check_name(name)), _pending(client, name)
    if held.address == target and pending is None:
        return Renumbered(name, held.address, held.mac, held.address, None, changed=False)
    with Hypervisor(uri) as hypervisor:
        macs = frozenset({held.mac} if pending is None else {held.mac, pending.new.mac})
        user = find_user(hypervisor, name, macs)
        _check_user(held, user, hypervisor, live=live)
        if live and pending is None and wait.ping:
            _check_silence(target)
        report = Reporter(on_progress)
        move = client.begin_move(name, target, deadline_s=2 * wait.timeout_s + _SLACK_S)
        report(name, Step.RESERVED)
        slot = None if user is None else Slot(hypervisor, name, user)
        way = _Way(client, move, slot, wait, report)
        try:
            way.go(live=live)
        except BaseException as error:
            _undo(way, error)
            raise
        finished = client.finish_move(name, move.new.generation)
        report(name, Step.MOVED)
    domain = None if user is None else user.name
    return Renumbered(name, finished.new.address, finished.new.mac, held.address, domain, changed=True)


def abort_renumbering(
    client: Client,
    name: str,
    *,
    uri: str = DEFAULT_URI,
    wait: Wait = WAIT,
    on_progress: OnProgress | None = None,
) -> Renumbered:
    """Gives a move up that was broken off: the machine gets its old card back, and the new address is free.

    Args:
        client: The connection to macbind.
        name: The machine's name.
        uri: The hypervisor's libvirt URI.
        wait: What it must do at its old address before this returns, if it runs.
        on_progress: Told of each step.

    Raises:
        PeerError: libvirt or the machine failed; both addresses are kept.
    """
    held, move = client.get(check_name(name)), _pending(client, name)
    if move is None:
        return Renumbered(name, held.address, held.mac, held.address, None, changed=False)
    with Hypervisor(uri) as hypervisor:
        user = find_user(hypervisor, name, frozenset({move.old.mac, move.new.mac}))
        if user is None and held.domain_uuid is not None:
            raise _elsewhere(held, hypervisor)
        slot = None if user is None else Slot(hypervisor, name, user)
        problems = _Way(client, move, slot, wait, Reporter(on_progress)).back()
    if problems:
        raise MachineFailed(
            f"'{name}' could not be given back its address {held.address}: {problems[0]}",
            hint="Ask again; until then both addresses are kept.",
            step="undo",
            undo=problems,
        )
    domain = None if user is None else user.name
    return Renumbered(name, held.address, held.mac, move.new.address, domain, changed=True)


def _pending(client: Client, name: str) -> Move | None:
    return next((move for move in client.moves() if move.old.name == name), None)


def _check_user(held: Allocation, user: Found | None, hypervisor: Hypervisor, *, live: bool) -> None:
    """Refuses a machine that is not as the caller says.

    Raises:
        Conflict: It is not.
    """
    if user is None:
        if live or held.domain_uuid is not None:
            raise _elsewhere(held, hypervisor)
    elif user.active and not live:
        raise Conflict(
            f"The machine '{user.name}' runs.",
            hint="Say --live to exchange its network card now, or switch it off first.",
            domain=user.name,
        )
    elif user.saved:
        raise Conflict(
            f"The machine '{user.name}' is saved, and goes on with the network card it had.",
            hint=f"Start it and say --live, or forget its state: `virsh -c '{hypervisor.uri}' managedsave-remove "
            f"{user.name}`.",
            domain=user.name,
        )
    elif live and not user.active:
        raise Conflict(
            f"The machine '{user.name}' is off.",
            hint="Leave out --live to change its definition.",
            domain=user.name,
        )


def _check_silence(target: IPv4Address) -> None:
    """Refuses an address at which somebody answers already: that would be taken for the machine.

    Raises:
        AddressAnswered: Somebody does.
        NotPermitted: Your user may not ping.
    """
    with EchoSocket(target) as echo:
        if echo.answers():
            raise AddressAnswered(
                f"Somebody answers a ping at {target} already.",
                hint="Find out who uses the address, or choose another.",
                address=str(target),
            )


def _elsewhere(held: Allocation, hypervisor: Hypervisor) -> Conflict:
    return Conflict(
        f"No machine at {hypervisor.uri} has the MAC of '{held.name}', {held.mac}.",
        hint="Say where it is with --uri.",
        name=held.name,
        mac=str(held.mac),
    )


class _Way:
    """The way of one machine to its new address, and back."""

    def __init__(self, client: Client, move: Move, slot: Slot | None, wait: Wait, report: Reporter) -> None:
        self._client, self._move, self._slot = client, move, slot
        self._wait, self._report, self._name = wait, report, move.old.name
        self._old = Place(move.old.mac, move.old.address)
        self._new = Place(move.new.mac, move.new.address)

    def go(self, *, live: bool) -> None:
        """Exchanges the card, and the definition's; waits until the machine answers, if it runs."""
        if self._slot is None:
            return
        give_up_at = time.monotonic() + self._wait.timeout_s
        if live:
            self._slot.exchange(self._old, self._new, give_up_at, self._tell)
        if self._slot.redefine(self._old, self._new):
            self._report(self._name, Step.REDEFINED)
        if live:
            self._until_it_answers(self._new.address, give_up_at)
        elif self._slot.is_active():
            raise Conflict(
                f"The machine '{self._slot.user.name}' was started meanwhile.",
                hint="Say --live.",
                domain=self._name,
            )

    def back(self) -> list[str]:
        """Undoes everything in reverse; returns what could not be undone, as sentences."""
        name, problems = self._name, []
        try:
            if self._slot is not None:
                self._slot.redefine(self._new, self._old)
                if self._slot.is_active():
                    give_up_at = time.monotonic() + self._wait.timeout_s
                    self._slot.exchange(self._new, self._old, give_up_at, self._tell)
        except MacbindError as error:
            kept = f"{self._old.address} and {self._new.address} are both kept for it"
            return [f"{error} {kept}: repeat the call, or `macbind renumber {name} --abort`."]
        try:
            if self._slot is not None and self._slot.is_active():
                self._until_it_answers(self._old.address, time.monotonic() + self._wait.timeout_s)
        except MacbindError as error:
            problems.append(
                error.message
            )  # it has its card, and dhcpd serves it: the other address is not needed
        try:
            self._client.abort_move(name, generation=self._move.new.generation)
        except MacbindError as error:
            problems.append(f"{self._new.address} is not released yet: {error}")
        with suppress(Exception):  # who is told may be what failed
            self._report(name, Step.UNDONE)
        return problems

    def _tell(self, what: str) -> None:
        self._report(self._name, _STEPS[what])

    def _until_it_answers(self, address: IPv4Address, give_up_at: float) -> None:
        port = self._wait.tcp
        if self._wait.ping:
            with EchoSocket(address) as echo:
                self._until(echo.answers, give_up_at, f"answer a ping at {address}")
            self._report(self._name, Step.PINGED)
        if port is not None:
            self._until(lambda: connects(address, port), give_up_at, f"take connections at {address}:{port}")
            self._report(self._name, Step.CONNECTED)

    def _until(self, condition: Callable[[], bool], give_up_at: float, what: str) -> None:
        while not condition():
            if time.monotonic() >= give_up_at:
                raise self._failed(f"did not {what} within {self._wait.timeout_s:g} s")
            if self._has_ended():
                raise self._failed(f"stopped by itself before it could {what}")
            time.sleep(_PAUSE_S)

    def _has_ended(self) -> bool:
        try:
            return self._slot is not None and not self._slot.is_active()
        except HypervisorUnavailable:
            return False  # it cannot be asked; the machine may answer all the same

    def _failed(self, what: str) -> MachineFailed:
        return MachineFailed(
            f"The machine '{self._name}' {what}.",
            hint="Its system must take a network card that is plugged in while it runs, whatever its MAC, and ask "
            "for an address on it.",
            step="wait",
            machine=self._name,
            address=str(self._new.address),
            mac=str(self._new.mac),
        )


def _undo(way: _Way, error: BaseException) -> None:
    """Undoes in a thread, so that a second Ctrl-C cannot cut it short; notes what failed."""
    with ThreadPoolExecutor(1, thread_name_prefix="undo") as pool:
        problems = pool.submit(way.back).result()
    for problem in problems:
        error.add_note(f"Not undone: {problem}")
    if problems and isinstance(error, MacbindError):
        error.details["undo"] = problems
