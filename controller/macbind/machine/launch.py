"""Launching: allocate, copy, start, wait; and back again if anything fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack
from uuid import UUID, uuid4, uuid5

from macbind.errors import (
    Conflict,
    DhcpdUnavailable,
    InvalidRequest,
    MacbindError,
    NotFound,
    RequestError,
)
from macbind.machine.journey import Halted, Journey, Order, Reporter, release
from macbind.machine.telling import plan_telling
from macbind.machine.values import DEFAULT_URI, How, Machine, Wait
from macbind.model import NO_OPTIONS, Allocation, check_name
from macbind.virt import running
from macbind.virt.clone import Copying, find_originals
from macbind.virt.connection import Hypervisor
from macbind.virt.domain import domain_name
from macbind.virt.template import Template

if TYPE_CHECKING:
    from macbind.client import Client

MOST_AT_ONCE = 32
"""Machines one call works on at the same moment; the others follow."""
_AT = " at "
_MAX_TOKEN = 255


def launch(
    client: Client,
    template: str | Path,
    pool: str,
    *,
    name: str | None = None,
    group: str | None = None,
    **how: Unpack[How],
) -> Machine:
    """Launches a machine; when this returns, it runs and answers.

    Args:
        client: The connection to macbind.
        template: Domain XML as text, the path of a file with it, or the name of a domain. It is never changed.
        pool: Where the address comes from.
        name: The machine's name; made up if left out.
        group: A group to destroy it with.
        how: See :class:`~macbind.machine.values.How`.

    Raises:
        RequestError: It is not possible: the template cannot be used, or the name is taken.
        PeerError: dhcpd, libvirt or the machine failed. What could not be undone is in the error's notes and
            its ``details['undo']``.
    """
    wanted = check_name(f"vm-{uuid4().hex[:12]}" if name is None else name)

    def allocate(token: str) -> list[Allocation]:
        options, ttl_s = how.get("options", NO_OPTIONS), how.get("ttl_s")
        return [client.allocate(pool, wanted, options=options, group=group, domain=token, ttl_s=ttl_s)]

    return _launch(client, template, [wanted], allocate, how)[0]


def launch_many(
    client: Client, template: str | Path, pool: str, group: str, count: int, **how: Unpack[How]
) -> list[Machine]:
    """Launches several machines at the same time, all or none.

    They are named ``group-1``, ``group-2`` and so on.

    Args:
        client: The connection to macbind.
        template: See :func:`launch`.
        pool: Where the addresses come from.
        group: The group; destroy it as one with :func:`~macbind.machine.destroy_group`.
        count: How many.
        how: See :class:`~macbind.machine.values.How`.

    Raises:
        RequestError: It is not possible.
        PeerError: dhcpd, libvirt or one of the machines failed; all are gone again.
    """
    check_name(group, "group")
    if count < 1:
        raise InvalidRequest(f"{count} machines cannot be launched.", hint="Ask for one or more.")
    names = [f"{group}-{number}" for number in range(1, count + 1)]

    def allocate(token: str) -> list[Allocation]:
        options, ttl_s = how.get("options", NO_OPTIONS), how.get("ttl_s")
        return client.allocate_group(pool, group, count, options=options, domain=token, ttl_s=ttl_s)

    return _launch(client, template, names, allocate, how)


def _launch(
    client: Client,
    template: str | Path,
    names: Sequence[str],
    allocate: Callable[[str], list[Allocation]],
    how: How,
) -> list[Machine]:
    with Hypervisor(how.get("uri", DEFAULT_URI)) as hypervisor:
        order = _order(client, hypervisor, template, how)
        for name in names:
            running.refuse_taken(hypervisor, domain_name(name))
        batch = uuid4()
        # The registry refuses a second allocation of a name for another domain: two launches cannot share one.
        token = launch_token(batch, hypervisor.uri)
        launches: list[Journey] = []
        try:
            allocations = _allocate(allocate, token)
            launches += [Journey(order, one, uuid5(batch, one.name)) for one in allocations]
            return _all(order, launches)
        except BaseException as error:
            order.halt.set()
            if launches:
                undoing: Iterable[Callable[[], list[str]]] = [one.take_down for one in launches]
            elif isinstance(error, RequestError):
                undoing = []  # nothing was allocated
            else:
                if isinstance(error, DhcpdUnavailable):
                    error.hint = (
                        "Launch again when dhcpd is back."  # the service's would be to ask for the same
                    )
                undoing = [partial(_release_unknown, client, name, token) for name in names]
            _undo(undoing, error)
            raise


def launch_token(batch: UUID, uri: str) -> str:
    """What an allocation has for its domain until one is seen: which launch it is for, and where."""
    return f"{batch}{_AT}{uri}"[:_MAX_TOKEN]


def launched_elsewhere(allocation: Allocation, uri: str) -> str | None:
    """The URI at which a machine was being launched, if it is another one.

    Raises:
        Conflict: The allocation was not made for a launch.
    """
    batch, _, there = (allocation.domain or "").partition(_AT)
    try:
        return None if allocation.domain == launch_token(UUID(batch), uri) else there
    except ValueError:
        raise Conflict(
            f"'{allocation.name}' ({allocation.address}) is an allocation, not a machine that macbind launched.",
            hint=f"`macbind release {allocation.name}` releases it.",
            name=allocation.name,
            address=str(allocation.address),
        ) from None


def _order(client: Client, hypervisor: Hypervisor, template: str | Path, how: How) -> Order:
    try:
        copying = Copying(how.get("clone", Copying.LINKED))
    except ValueError:
        raise InvalidRequest(
            f"Disks cannot be cloned {how.get('clone')!r}.", hint="Say 'linked' or 'full'."
        ) from None
    xml, runs = _read(hypervisor, template)
    parsed = Template(xml, how.get("network"))
    if runs and parsed.disks:
        raise Conflict(
            f"The template '{template}' runs, and a disk that is written to cannot be copied.",
            hint="Shut it down first; a template must not change while machines made of it exist.",
            domain=str(template),
        )
    wait, spoof = how.get("wait", Wait()), how.get("anti_spoofing", False)
    if spoof:
        running.require_filter(hypervisor, parsed.filter)
    originals = find_originals(hypervisor, parsed.disks)
    telling = plan_telling(hypervisor, parsed, originals, how)
    report = Reporter(how.get("on_progress"))
    return Order(client, hypervisor, parsed, originals, copying, wait, spoof, report, telling)


def _read(hypervisor: Hypervisor, template: str | Path) -> tuple[str, bool]:
    """A template's XML, and whether it is a domain that runs."""
    if isinstance(template, Path):
        try:
            return template.read_text(encoding="utf-8"), False
        except (OSError, ValueError) as error:
            raise InvalidRequest(
                f"The template {template} cannot be read: {error}.",
                hint="Give the path of a domain XML file.",
            ) from error
    if "<" in template:
        return template, False
    return running.definition_of(hypervisor, template)


def _allocate(allocate: Callable[[str], list[Allocation]], token: str) -> list[Allocation]:
    try:
        return allocate(token)
    except Conflict as error:
        name = error.details.get("name")
        if name is None:
            raise
        raise Conflict(
            f"The name '{name}' is taken ({error.details.get('address', 'allocated')}).",
            hint=f"Use another name; or, if it is a machine's that is no longer needed, `macbind vm destroy {name}`.",
            **error.details,
        ) from error


def _all(order: Order, launches: Sequence[Journey]) -> list[Machine]:
    """Brings all up at the same time; the first failure stops the others and is raised."""
    if len(launches) == 1:
        return [launches[0].bring_up()]
    with ThreadPoolExecutor(min(len(launches), MOST_AT_ONCE), thread_name_prefix="launch") as pool:
        futures = [pool.submit(one.bring_up) for one in launches]
        try:
            wait_for(futures, return_when=FIRST_EXCEPTION)
        finally:
            order.halt.set()
    failed = [error for future in futures if (error := _failure(future)) is not None]
    for other in failed[1:]:
        failed[0].add_note(str(other))
    if failed:
        raise failed[0]
    return [future.result() for future in futures]


def _failure(future: Future[Machine]) -> BaseException | None:
    error = future.exception()
    return None if isinstance(error, Halted) else error


def _release_unknown(client: Client, name: str, token: str) -> list[str]:
    """Releases an allocation whose making was not confirmed, if it was made and is ours."""
    try:
        found = client.get(name)
    except NotFound:
        return []
    except MacbindError as error:
        return [f"Whether '{name}' is allocated is unknown: {error}"]
    return release(client, found) if found.domain == token else []


def _undo(undoing: Iterable[Callable[[], list[str]]], error: BaseException) -> None:
    """Undoes at the same time, in threads, so that a second Ctrl-C cannot cut it short; notes what failed."""
    jobs = list(undoing)
    if not jobs:
        return
    with ThreadPoolExecutor(min(len(jobs), MOST_AT_ONCE), thread_name_prefix="undo") as pool:
        problems = [problem for some in pool.map(lambda job: job(), jobs) for problem in some]
    for problem in problems:
        error.add_note(f"Not undone: {problem}")
    if problems and isinstance(error, MacbindError):
        error.details["undo"] = problems
