"""Renumbers a machine from outside: nothing has to be installed in it, and nobody logs in.

The MAC follows from the address. So another address is another MAC, and a running machine gets that only with another
NIC: its NIC is unplugged, and one like it with the new MAC is plugged into the same slot. The system in the machine
sees a new NIC and asks for its address by DHCP, as at every start.

::

    reserve the new address ─► unplug ─► plug in ─► the definition, too ─► it answers ─► release the old address
          │                       └──────────┴──────────────┴──── else: the old NIC again, and all in reverse
          └─ until the end both addresses are the name's, in the registry and in dhcpd

Whatever ends in between, the name has both addresses. When the lease of the broken call has expired, the same call
goes on from where things are. What nobody goes on with, the service settles by the MAC the machine has.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from typing import TYPE_CHECKING
from uuid import UUID

from macbind.core.address_range import parse_address
from macbind.core.allocation import Allocation, Renumbering, check_name
from macbind.core.errors import AddressAnswered, Conflict, MacbindError, MachineFailed
from macbind.machines.exchange_nic import NicExchange, awaited
from macbind.machines.lease import LEASE_S, Lease
from macbind.machines.progress import OnProgress, Reporter, Step
from macbind.machines.reachability import wait_until_reachable
from macbind.machines.values import DEFAULT_URI, Renumbered, Wait
from macbind.probes.ping import EchoSocket, connects
from macbind.virt.connection import Hypervisor
from macbind.virt.nic_slot import DomainRef, NicSlot, find_user
from macbind.virt.nic_xml import NicAddress

if TYPE_CHECKING:
    from macbind.client.client import Client

WAIT = Wait(timeout_s=60.0)
"""How long a machine gets to exchange its NIC and to answer, unless told otherwise."""


def renumber(
    client: Client,
    name: str,
    to: IPv4Address | str,
    *,
    live: bool = False,
    uri: str = DEFAULT_URI,
    wait: Wait = WAIT,
    lease_s: float = LEASE_S,
    on_progress: OnProgress | None = None,
) -> Renumbered:
    """Gives a machine another address; when this returns, it answers there and its old address is free.

    If it does not answer in time, it gets its old NIC and address back. Repeated, it goes on with a renumbering that
    was broken off; a machine that has the address already is left alone.

    Args:
        client: The connection to macbind.
        name: The machine's name, or that of any allocation.
        to: An address of its pool, or of another pool on the same network.
        live: Whether the machine runs and is to exchange its NIC now. Otherwise it must be off, or not exist:
            its definition is changed.
        uri: The hypervisor's libvirt URI.
        wait: What it must do at its new address, within so many seconds from when its NIC is unplugged.
        lease_s: If this process dies, nobody else may go on for so many seconds.
        on_progress: Told of each step.

    Raises:
        RequestError: It is not possible; nothing was changed.
        PeerError: dhcpd, libvirt or the machine failed. What could not be undone is in the error's notes and its
            ``details['undo']``.
    """
    target = parse_address(str(to))
    held, pending = client.get(check_name(name)), _pending(client, name)
    if held.address == target and pending is None:
        return _unchanged(held)
    report = Reporter(on_progress)
    with Hypervisor(uri) as hypervisor:
        slot = _slot(hypervisor, held, pending)
        user = None if slot is None else slot.user
        _check_user(held, user, hypervisor, live=live)
        if live and pending is None:
            _check_silence(target, wait)
        lease = Lease(client, name, lease_s)
        begun = lease.begin(target)
        if begun.old == begun.new:  # another process has renumbered it while we were looking
            return _unchanged(begun.old)
        with lease:
            exchange = NicExchange(client, begun, lease, slot, wait, report)
            try:
                report(name, Step.RESERVED)
                exchange.go(live=live)
            except BaseException as error:
                _undo(exchange, error)
                raise
            finished = client.finish_renumber(name, lease.token)
        report(name, Step.RENUMBERED)
    domain = None if user is None else user.name
    return Renumbered(name, finished.new.address, finished.new.mac, begun.old.address, domain, changed=True)


def abort_renumbering(
    client: Client,
    name: str,
    *,
    uri: str = DEFAULT_URI,
    wait: Wait = WAIT,
    lease_s: float = LEASE_S,
    on_progress: OnProgress | None = None,
) -> Renumbered:
    """Ends a renumbering that was broken off: the machine gets its old NIC back, and the new address is free.

    It also plugs in a NIC that a machine let go of after its renumbering had been aborted.

    Args:
        client: The connection to macbind.
        name: The machine's name.
        uri: The hypervisor's libvirt URI.
        wait: What it must do at its old address before this returns, if it runs.
        lease_s: If this process dies, nobody else may go on for so many seconds.
        on_progress: Told of each step.

    Raises:
        RequestError: It is not possible; nothing was changed.
        PeerError: libvirt or the machine failed; both addresses are kept.
    """
    held, pending = client.get(check_name(name)), _pending(client, name)
    report = Reporter(on_progress)
    with Hypervisor(uri) as hypervisor:
        slot = _slot(hypervisor, held, pending)
        if pending is None:
            return _restored(held, slot, wait, report)
        if slot is None and held.domain_uuid is not None:
            raise _elsewhere(held, hypervisor)
        lease = Lease(client, name, lease_s)
        leased = lease.take()
        with lease:
            problems = NicExchange(client, leased, lease, slot, wait, report).back()
    if problems:
        raise MachineFailed(
            f"'{name}' could not be given back its address {held.address}: {problems[0]}",
            hint="Ask again; until then both addresses are kept.",
            step="undo",
            undo=problems,
        )
    domain = None if slot is None else slot.user.name
    return Renumbered(name, held.address, held.mac, leased.new.address, domain, changed=True)


def _pending(client: Client, name: str) -> Renumbering | None:
    return next((one for one in client.renumberings() if one.old.name == name), None)


def _slot(hypervisor: Hypervisor, held: Allocation, pending: Renumbering | None) -> NicSlot | None:
    """The place of the NIC in whichever domain has it now; None if none has."""
    macs = frozenset({held.mac} if pending is None else {held.mac, pending.new.mac})
    known = None if held.domain_uuid is None else UUID(held.domain_uuid)
    user = find_user(hypervisor, held.name, macs, known)
    return None if user is None else NicSlot(hypervisor, held.name, user, known)


def _unchanged(held: Allocation) -> Renumbered:
    return Renumbered(held.name, held.address, held.mac, held.address, None, changed=False)


def _restored(held: Allocation, slot: NicSlot | None, wait: Wait, report: Reporter) -> Renumbered:
    """Gives a machine its NIC back that it let go of after its renumbering had been aborted."""
    nic = NicAddress(held.mac, held.address, held.ipv6)
    changed = slot is not None and slot.is_active() and slot.restore(nic)
    if changed:
        report(held.name, Step.PLUGGED_IN)
        try:
            wait_until_reachable(awaited(held.name, slot, nic), wait, report)
        except MachineFailed as error:
            error.hint = (
                "It has its NIC again; a system that takes no part in hot-plugging finds it when it reboots."
            )
            raise
    domain = None if slot is None else slot.user.name
    return Renumbered(held.name, held.address, held.mac, held.address, domain, changed=changed)


def _check_user(held: Allocation, user: DomainRef | None, hypervisor: Hypervisor, *, live: bool) -> None:
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
            hint="Use --live to exchange its NIC now, or switch it off first.",
            domain=user.name,
        )
    elif user.saved:
        raise Conflict(
            f"The machine '{user.name}' has a saved state that contains the old NIC.",
            hint=f"Start it and use --live, or discard the state with `virsh -c '{hypervisor.uri}' "
            f"managedsave-remove {user.name}`.",
            domain=user.name,
        )
    elif live and not user.active:
        raise Conflict(
            f"The machine '{user.name}' is off.",
            hint="Leave out --live to change its definition.",
            domain=user.name,
        )


def _check_silence(target: IPv4Address, wait: Wait) -> None:
    """Refuses an address at which somebody answers already: that would be taken for the machine.

    Raises:
        AddressAnswered: Somebody does.
        NotPermitted: Your user may not ping.
    """
    what = None
    if wait.tcp is not None and connects(target, wait.tcp):
        what = f"takes connections at {target}:{wait.tcp}"
    elif wait.pings:
        with EchoSocket(target) as echo:
            what = f"answers a ping at {target}" if echo.answers() else None
    if what is not None:
        raise AddressAnswered(
            f"Somebody {what} already.",
            hint="Find out who uses the address, or choose another.",
            address=str(target),
        )


def _elsewhere(held: Allocation, hypervisor: Hypervisor) -> Conflict:
    return Conflict(
        f"No machine at {hypervisor.uri} has the MAC of '{held.name}', {held.mac}.",
        hint="Name its hypervisor with --uri.",
        name=held.name,
        mac=str(held.mac),
    )


def _undo(exchange: NicExchange, error: BaseException) -> None:
    """Undoes in a thread, so that a second Ctrl-C cannot cut it short; notes what failed."""
    with ThreadPoolExecutor(1, thread_name_prefix="undo") as pool:
        problems = pool.submit(exchange.back).result()
    for problem in problems:
        error.add_note(f"Not undone: {problem}")
    if problems and isinstance(error, MacbindError):
        error.details["undo"] = problems
