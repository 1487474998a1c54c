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

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from macbind.addressing import parse_address
from macbind.errors import AddressAnswered, Conflict, MacbindError, MachineFailed
from macbind.machine.journey import Reporter
from macbind.machine.values import DEFAULT_URI, OnProgress, Renumbered, Step, Wait
from macbind.machine.way import Answers, Way
from macbind.model import Allocation, Move, check_name
from macbind.reach import EchoSocket
from macbind.virt.connection import Hypervisor
from macbind.virt.hotplug import Found, Slot, find_user
from macbind.virt.interface import Place

if TYPE_CHECKING:
    from macbind.client import Client

WAIT = Wait(timeout_s=60.0)
"""How long a machine gets to change its card and to answer, unless told otherwise."""


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
        slot = None if user is None else Slot(hypervisor, name, user)
        with _alone(name):
            way = Way.begin(client, name, target, slot, wait, report)
            old, new = way.move.old, way.move.new
            if old == new:  # another process has moved it there while we were looking
                return Renumbered(name, old.address, old.mac, old.address, None, changed=False)
            try:
                report(name, Step.RESERVED)
                way.go(live=live)
            except BaseException as error:
                _undo(way, error)
                raise
            finished = client.finish_move(name, new.generation)
        report(name, Step.MOVED)
    domain = None if user is None else user.name
    return Renumbered(name, finished.new.address, finished.new.mac, old.address, domain, changed=True)


def abort_renumbering(
    client: Client,
    name: str,
    *,
    uri: str = DEFAULT_URI,
    wait: Wait = WAIT,
    on_progress: OnProgress | None = None,
) -> Renumbered:
    """Gives a move up that was broken off: the machine gets its old card back, and the new address is free.

    It also plugs the card in again that a machine let go of after its move had been given up.

    Args:
        client: The connection to macbind.
        name: The machine's name.
        uri: The hypervisor's libvirt URI.
        wait: What it must do at its old address before this returns, if it runs.
        on_progress: Told of each step.

    Raises:
        RequestError: It is not possible; nothing was changed.
        PeerError: libvirt or the machine failed; both addresses are kept.
    """
    held, move = client.get(check_name(name)), _pending(client, name)
    report = Reporter(on_progress)
    with Hypervisor(uri) as hypervisor, _alone(name):
        user = find_user(
            hypervisor, name, frozenset({held.mac} if move is None else {held.mac, move.new.mac})
        )
        slot = None if user is None else Slot(hypervisor, name, user)
        if move is None:
            return _restored(held, slot, wait, report)
        if user is None and held.domain_uuid is not None:
            raise _elsewhere(held, hypervisor)
        way = Way(client, move, slot, wait, report, time.monotonic())
        way.renew()
        problems = way.back()
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


def _restored(held: Allocation, slot: Slot | None, wait: Wait, report: Reporter) -> Renumbered:
    """Gives a machine its card back that it let go of after its move had been given up."""
    place = Place(held.mac, held.address)
    changed = slot is not None and slot.is_active() and slot.restore(place)
    if changed:
        report(held.name, Step.PLUGGED_IN)
        try:
            Answers(held.name, slot, wait, report).wait_for(place)
        except MachineFailed as error:
            error.hint = (
                "It has its card again; a system that takes no part in hot-plugging finds it when it reboots."
            )
            raise
    domain = None if slot is None else slot.user.name
    return Renumbered(held.name, held.address, held.mac, held.address, domain, changed=changed)


_ALONE = threading.Lock()
_under_way: set[str] = set()


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Lets one thread of this process move a machine; of processes, macbind lets one.

    Raises:
        Conflict: Another thread is at it.
    """
    with _ALONE:
        if name in _under_way:
            raise Conflict(f"Another thread is moving '{name}'.", hint="Let it finish.", name=name)
        _under_way.add(name)
    try:
        yield
    finally:
        with _ALONE:
            _under_way.remove(name)


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


def _undo(way: Way, error: BaseException) -> None:
    """Undoes in a thread, so that a second Ctrl-C cannot cut it short; notes what failed."""
    with ThreadPoolExecutor(1, thread_name_prefix="undo") as pool:
        problems = pool.submit(way.back).result()
    for problem in problems:
        error.add_note(f"Not undone: {problem}")
    if problems and isinstance(error, MacbindError):
        error.details["undo"] = problems
