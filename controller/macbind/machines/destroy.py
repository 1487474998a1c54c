"""Destroying machines, and listing them. Everything is found by names and marks, in whatever state it is.

A name may be released and taken again at any moment. So the machine that was found first is destroyed: its domain by
UUID, its allocation by generation. The allocation is looked at again after the domain, and before the disks go.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from macbind.core.allocation import Allocation, check_name
from macbind.core.errors import Conflict, MacbindError, NotFound
from macbind.machines.launch import MOST_AT_ONCE, launched_elsewhere
from macbind.machines.progress import OnProgress, Reporter, Step
from macbind.machines.values import DEFAULT_URI, Destroyed, ListedMachine, Machine
from macbind.virt import running
from macbind.virt.clones import Clone, clones_of, delete_clone
from macbind.virt.connection import Hypervisor
from macbind.virt.domain_xml import domain_name, mark_in

if TYPE_CHECKING:
    from macbind.client.client import Client


@dataclass(frozen=True, slots=True)
class _Found:
    """A machine that was found by its name; a later one of the name is not meant.

    Attributes:
        name: The name.
        held: Its allocation then.
        uuid: Its domain's UUID, if that is known already.
    """

    name: str
    held: Allocation | None
    uuid: UUID | None = None


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
        Conflict: The name belongs to a domain that macbind did not launch, or to a later machine meanwhile.
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
    return _destroy_all(client, machines, uri, Reporter(on_progress))


def _destroy_all(
    client: Client, machines: Sequence[Machine | str | _Found], uri: str, report: Reporter
) -> list[Destroyed]:
    if not machines:
        return []

    def one(machine: Machine | str | _Found) -> Destroyed | MacbindError:
        try:
            return _destroy(client, machine, uri, report)
        except MacbindError as error:
            return error

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
    found = {one.name: _Found(one.name, one) for one in client.list(group=group)}
    with Hypervisor(uri) as hypervisor:
        marked = [(one.mark, one.uuid) for one in running.readable(hypervisor) if one.mark is not None]
    for mark, uuid in marked:
        # Whoever may write metadata may write a group there: an allocation of that name knows better.
        if mark.group == group and mark.name not in found and _held(client, mark.name) is None:
            found[mark.name] = _Found(mark.name, None, uuid)
    return _destroy_all(client, [found[name] for name in sorted(found)], uri, Reporter(on_progress))


def _destroy(client: Client, machine: Machine | str | _Found, uri: str, report: Reporter) -> Destroyed:
    if isinstance(machine, str):
        machine = _Found(check_name(machine), _held(client, machine))
    name = machine.name
    with Hypervisor(machine.uri if isinstance(machine, Machine) else uri) as hypervisor:
        if isinstance(machine, Machine):
            uuid: UUID | None = machine.uuid
            first: Allocation | None = machine.allocation
            held = _held(client, name)
            clones = () if _has_successor(hypervisor, machine, held) else machine.clones
        else:
            first = machine.held
            uuid = _own_domain(client, hypervisor, name, first)
            clones = tuple(clones_of(hypervisor, domain_name(name)))
            held = _held(client, name)
            if _is_later(held, first) or (machine.uuid is not None and uuid not in (None, machine.uuid)):
                raise Conflict(
                    f"'{name}' was released and allocated anew meanwhile.",
                    hint="Nothing was destroyed. Ask again if the machine is meant that has the name now.",
                    name=name,
                )
        if client.reason and held is not None and uuid is not None:
            client.remark(name, client.reason)  # its release may be recorded first by what watches libvirt
        existed = uuid is not None and running.destroy(hypervisor, uuid)
        if existed:
            report(name, Step.DESTROYED)
        if clones and _is_later(_held(client, name), first):
            clones = ()  # another one has destroyed it, too, and a third has launched the next
        deleted, problems = _delete(hypervisor, clones)
    if deleted:
        report(name, Step.DELETED)
    # It may have been renumbered since.
    same = held is not None and not _is_later(held, first)
    released = _release(client, name, held if same else first)
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


def _release(client: Client, name: str, one: Allocation | None) -> list[Allocation]:
    """Releases an allocation; where there was none, waits for those of the name that were released before."""
    if one is not None:
        meant = [one.generation]
    else:
        some = client.list(search=name, released=True)
        meant = [old.generation for old in some if old.name == name and old.released_at is not None]
    reason = client.reason or "machine destroyed"
    done = [client.release(name, generation=generation, reason=reason) for generation in meant]
    return [gone for each in done for gone in each.allocations]


def _is_later(now: Allocation | None, first: Allocation | None) -> bool:
    """Whether an allocation of the name was made later than the first; a renumbered one was not."""
    return now is not None and (first is None or now.created_at != first.created_at)


def _held(client: Client, name: str) -> Allocation | None:
    try:
        return client.get(name)
    except NotFound:
        return None


def _has_successor(hypervisor: Hypervisor, machine: Machine, held: Allocation | None) -> bool:
    """Whether a later machine has the name, and thereby the names of the clones."""
    if _is_later(held, machine.allocation):
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
            uuid = UUID(domain.UUIDString())
        _check_recorded(client, hypervisor, held, uuid)
        return uuid
    if held is None:
        return None
    for other in running.readable(hypervisor):
        if held.mac in other.macs or str(other.uuid) == held.domain_uuid:
            raise _foreign(other.name)
    there = _elsewhere(client, held, hypervisor.uri)
    if there is not None:
        raise Conflict(
            f"'{name}' ({held.address}) was launched at {there}, not at {hypervisor.uri}.",
            hint=f"Destroy it there: --uri '{there}'.",
            uri=there,
        )
    return None


def _check_recorded(client: Client, hypervisor: Hypervisor, held: Allocation | None, uuid: UUID) -> None:
    """Refuses a domain that only has the name while another one uses the allocation: anybody can write a mark.

    Raises:
        Conflict: Another one does.
    """
    if held is None or held.domain_uuid in (None, str(uuid)):
        return
    if hypervisor.find_uuid(UUID(held.domain_uuid)) is not None:
        there: str | None = hypervisor.uri
    else:
        there = _elsewhere(client, held, hypervisor.uri)
    if there is not None:
        raise Conflict(
            f"'{held.name}' ({held.address}) is used by another domain, {held.domain_uuid} at {there}.",
            hint=f"End the domain of that name, {uuid} at {hypervisor.uri}, with virsh.",
            uri=there,
        )


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
        for one in running.readable(hypervisor):
            mark = one.mark
            held = next((allocated[mac] for mac in sorted(one.macs) if mac in allocated), None)
            if held is None and mark is None:
                continue
            found.append(
                ListedMachine(
                    name=held.name if held is not None else mark.name if mark is not None else "",
                    domain=one.name,
                    uuid=str(one.uuid),
                    state=running.state_of(hypervisor, one.domain),
                    address=None if held is None else held.address,
                    mac=None if held is None else held.mac,
                    pool=held.pool if held is not None else mark.pool if mark is not None else "",
                    group=held.group if held is not None else mark.group if mark is not None else None,
                    uptime_s=None if mark is None else max(0.0, (now - mark.launched_at).total_seconds()),
                )
            )
    return sorted(found, key=lambda one: one.name)
