"""Destroying machines, and listing them. Everything is found by names and marks, in whatever state it is."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from macbind.errors import Conflict, MacbindError, NotFound
from macbind.machine.journey import Reporter
from macbind.machine.launch import MOST_AT_ONCE, launched_elsewhere
from macbind.machine.values import DEFAULT_URI, Destroyed, ListedMachine, Machine, OnProgress, Step
from macbind.model import Allocation, check_name
from macbind.virt import running
from macbind.virt.clone import Clone, clones_of, delete_clone
from macbind.virt.connection import Hypervisor
from macbind.virt.domain import domain_name, macs_in, mark_in

if TYPE_CHECKING:
    from macbind.client import Client


def destroy(
    client: Client, machine: Machine | str, *, uri: str = DEFAULT_URI, on_progress: OnProgress | None = None
) -> Destroyed:
    """Ends a machine as by pulling the plug, deletes its clones and releases its address.

    Args:
        client: The connection to macbind.
        machine: The machine, or its name. A machine is this one only, never a later one of its name.
        uri: The hypervisor's libvirt URI, for a name.
        on_progress: Told of each step.

    Returns:
        What there was; nothing at all is no error.

    Raises:
        Conflict: The name belongs to a domain that macbind did not launch.
        PeerError: libvirt or dhcpd failed; the same call may be repeated.
    """
    return _destroy(client, machine, uri, Reporter(on_progress))


def destroy_all(
    client: Client,
    machines: Sequence[Machine | str],
    *,
    uri: str = DEFAULT_URI,
    on_progress: OnProgress | None = None,
) -> list[Destroyed]:
    """Destroys machines at the same time.

    Raises:
        MacbindError: The first one that failed; the others were tried all the same, and those that failed,
            too, are in its notes.
    """
    if not machines:
        return []

    def one(machine: Machine | str) -> Destroyed | MacbindError:
        try:
            return _destroy(client, machine, uri, report)
        except MacbindError as error:
            return error

    report = Reporter(on_progress)
    with ThreadPoolExecutor(min(len(machines), MOST_AT_ONCE), thread_name_prefix="destroy") as pool:
        results = list(pool.map(one, machines))
    failed = [result for result in results if isinstance(result, MacbindError)]
    for other in failed[1:]:
        failed[0].add_note(str(other))
    if failed:
        raise failed[0]
    return [result for result in results if isinstance(result, Destroyed)]


def destroy_group(
    client: Client, group: str, *, uri: str = DEFAULT_URI, on_progress: OnProgress | None = None
) -> list[Destroyed]:
    """Destroys every machine of a group: those allocated, and those that run without being allocated."""
    check_name(group, "group")
    names = {one.name for one in client.list(group=group)}
    with Hypervisor(uri) as hypervisor:
        marks = [mark_in(xml) for _, xml in hypervisor.described()]
    names |= {mark.name for mark in marks if mark is not None and mark.group == group}
    return destroy_all(client, sorted(names), uri=uri, on_progress=on_progress)


def _destroy(client: Client, machine: Machine | str, uri: str, report: Reporter) -> Destroyed:
    name = machine.name if isinstance(machine, Machine) else check_name(machine)
    held = _held(client, name)
    with Hypervisor(machine.uri if isinstance(machine, Machine) else uri) as hypervisor:
        if isinstance(machine, Machine):
            uuid: UUID | None = machine.uuid
            # It may have moved to another address since.
            same = held is not None and held.created_at == machine.allocation.created_at
            now = held if same and held is not None else machine.allocation
            generation: int | None = now.generation
            clones = () if _has_successor(hypervisor, machine, held) else machine.clones
        else:
            uuid = _own_domain(client, hypervisor, name, held)
            generation = None if held is None else held.generation
            clones = tuple(clones_of(hypervisor, domain_name(name)))
        existed = uuid is not None and running.destroy(hypervisor, uuid)
        if existed:
            report(name, Step.DESTROYED)
        deleted, problems = _delete(hypervisor, clones)
    if deleted:
        report(name, Step.DELETED)
    released = client.release(name, generation=generation, reason="machine destroyed").allocations
    if released:
        report(name, Step.RELEASED)
    if problems:
        for problem in problems[1:]:
            problems[0].add_note(str(problem))
        raise problems[0]
    return Destroyed(
        name=name,
        domain=existed,
        clones=tuple(clone.path for clone in deleted),
        addresses=tuple(one.address for one in released),
        already_gone=not (existed or deleted or released),
    )


def _held(client: Client, name: str) -> Allocation | None:
    try:
        return client.get(name)
    except NotFound:
        return None


def _has_successor(hypervisor: Hypervisor, machine: Machine, held: Allocation | None) -> bool:
    """Whether a later machine has the name, and thereby the names of the clones."""
    if held is not None and held.created_at != machine.allocation.created_at:
        return True
    domain = hypervisor.find(machine.domain)
    return domain is not None and domain.UUIDString() != str(machine.uuid)


def _own_domain(client: Client, hypervisor: Hypervisor, name: str, held: Allocation | None) -> UUID | None:
    """The domain of a machine's name; None only if nothing can be running for it.

    Raises:
        Conflict: What has the name was not launched by macbind, or not at this hypervisor.
    """
    domain = hypervisor.find(domain_name(name))
    if domain is not None:
        with hypervisor.doing(f"The domain '{name}' could not be read"):
            mark = mark_in(domain.XMLDesc(0))
            if mark is None or mark.name != name:
                raise _foreign(domain.name())
            return UUID(domain.UUIDString())
    if held is None:
        return None
    for other, xml in hypervisor.described():
        if held.mac in macs_in(xml):
            raise _foreign(other.name())
    there = _elsewhere(client, held, hypervisor.uri)
    if there is not None:
        raise Conflict(
            f"'{name}' ({held.address}) was launched at {there}, not at {hypervisor.uri}.",
            hint=f"Destroy it there: --uri '{there}'.",
            uri=there,
        )
    return None


def _elsewhere(client: Client, held: Allocation, uri: str) -> str | None:
    """The other hypervisor a machine may run at."""
    if held.domain_uuid is None:
        return launched_elsewhere(held, uri)
    for watched in client.status().hypervisors:
        if watched.uri != uri:
            with Hypervisor(watched.uri) as other:
                if other.find_uuid(UUID(held.domain_uuid)) is not None:
                    return watched.uri
    return None


def _foreign(domain: str) -> Conflict:
    return Conflict(
        f"The domain '{domain}' is not one that macbind launched.",
        hint="End it with virsh; `macbind release` frees its address.",
        domain=domain,
    )


def _delete(hypervisor: Hypervisor, clones: Sequence[Clone]) -> tuple[list[Clone], list[MacbindError]]:
    deleted, problems = [], []
    for clone in reversed(clones):
        try:
            if delete_clone(hypervisor, clone):
                deleted.append(clone)
        except MacbindError as error:
            problems.append(error)
    return deleted, problems


def list_machines(client: Client, *, uri: str = DEFAULT_URI) -> list[ListedMachine]:
    """The domains of a hypervisor that use allocations, and those macbind launched, by name."""
    allocated = {one.mac: one for one in client.list()}
    now = datetime.now(UTC)
    found = []
    with Hypervisor(uri) as hypervisor:
        for domain, xml in hypervisor.described():
            mark = mark_in(xml)
            held = next((allocated[mac] for mac in sorted(macs_in(xml)) if mac in allocated), None)
            if held is None and mark is None:
                continue
            found.append(
                ListedMachine(
                    name=held.name if held is not None else mark.name if mark is not None else "",
                    domain=domain.name(),
                    uuid=domain.UUIDString(),
                    state=running.state_of(hypervisor, domain),
                    address=None if held is None else held.address,
                    mac=None if held is None else held.mac,
                    pool=held.pool if held is not None else mark.pool if mark is not None else "",
                    group=held.group if held is not None else mark.group if mark is not None else None,
                    uptime_s=None if mark is None else max(0.0, (now - mark.launched_at).total_seconds()),
                )
            )
    return sorted(found, key=lambda one: one.name)
