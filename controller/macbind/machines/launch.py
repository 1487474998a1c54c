"""Launching: allocate, copy, start, wait; and back again if anything fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack
from uuid import UUID, uuid4, uuid5

from macbind.core.allocation import Allocation, check_name
from macbind.core.dhcp_options import NO_OPTIONS, DhcpOptions
from macbind.core.errors import (
    Conflict,
    DhcpdUnavailable,
    InvalidRequest,
    MacbindError,
    MachineFailed,
    NotFound,
    RequestError,
)
from macbind.core.labels import check_labels
from macbind.machines.files import read_text
from macbind.machines.guest_data import plan_guest_data
from macbind.machines.launch_one import Halted, Launch, LaunchPlan, release
from macbind.machines.progress import Reporter
from macbind.machines.values import DEFAULT_URI, How, Machine, Wait
from macbind.virt import running, spoofing
from macbind.virt.clones import Copying, find_originals
from macbind.virt.connection import Hypervisor
from macbind.virt.domain_xml import domain_name
from macbind.virt.template import Template

if TYPE_CHECKING:
    from macbind.client.client import Client

MOST_AT_ONCE = 32
"""Machines one call works on at the same moment; the others follow."""
_AT = " at "
_MAX_TEMPLATE = 4 << 20
"""Bytes; a domain's XML has some ten thousand."""
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
        how: See :class:`~macbind.machines.values.How`.

    Raises:
        RequestError: It is not possible: the template cannot be used, or the name is taken.
        PeerError: dhcpd, libvirt or the machine failed. What could not be undone is in the error's notes and
            its ``details['undo']``.
    """
    wanted = check_name(f"vm-{uuid4().hex[:12]}" if name is None else name)

    def allocate(token: str) -> list[Allocation]:
        return [client.allocate(pool, wanted, group=group, domain=token, **_wanted(how))]

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
        group: The group; destroy it as one with :func:`~macbind.machines.destroy_group`.
        count: How many.
        how: See :class:`~macbind.machines.values.How`.

    Raises:
        RequestError: It is not possible.
        PeerError: dhcpd, libvirt or one of the machines failed; all are gone again.
    """
    check_name(group, "group")
    if count < 1:
        raise InvalidRequest(f"{count} machines cannot be launched.", hint="Ask for one or more.")
    names = [f"{group}-{number}" for number in range(1, count + 1)]

    def allocate(token: str) -> list[Allocation]:
        return client.allocate_group(pool, group, count, domain=token, **_wanted(how))

    return _launch(client, template, names, allocate, how)


class _Wanted(TypedDict):
    options: DhcpOptions
    labels: Mapping[str, str]
    ttl_s: float | None


def _wanted(how: How) -> _Wanted:
    """What allocations are to be, beside their names."""
    return {
        "options": how.get("options", NO_OPTIONS),
        "labels": check_labels(how.get("labels", {})),
        "ttl_s": how.get("ttl_s"),
    }


def _launch(
    client: Client,
    template: str | Path,
    names: Sequence[str],
    allocate: Callable[[str], list[Allocation]],
    how: How,
) -> list[Machine]:
    with Hypervisor(how.get("uri", DEFAULT_URI)) as hypervisor:
        plan = _plan(client, hypervisor, template, how)
        for name in names:
            running.refuse_taken(hypervisor, domain_name(name))
        batch = uuid4()
        # The registry refuses a second allocation of a name for another domain: two launches cannot share one.
        token = launch_token(batch, hypervisor.uri)
        launches: list[Launch] = []
        try:
            allocations = _allocate(allocate, token)
            launches += [Launch(plan, one, uuid5(batch, one.name)) for one in allocations]
            return _all(plan, launches)
        except BaseException as error:
            plan.halt.set()
            if launches:
                kept = _kept(launches, error) if how.get("keep", False) else []
                undoing: Iterable[Callable[[], list[str]]] = [
                    one.take_down for one in launches if one not in kept
                ]
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


def _kept(launches: Sequence[Launch], error: BaseException) -> list[Launch]:
    """The machine that did not answer, which is to be looked at; the error says how to end it."""
    if not isinstance(error, MachineFailed) or error.details.get("step") != "wait":
        return []
    kept = [one for one in launches if one.name == error.details.get("machine")]
    error.details["kept"] = [one.name for one in kept]
    for one in kept:
        error.hint = f"It is kept; `macbind vm destroy {one.name}` ends it. {error.hint}"
    return kept


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


def _plan(client: Client, hypervisor: Hypervisor, template: str | Path, how: How) -> LaunchPlan:
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
    _ = hypervisor.driver  # known from now on, also where the connection breaks in the middle
    wait, spoof = how.get("wait", Wait()), how.get("anti_spoofing", False)
    if spoof:
        spoofing.prepare(hypervisor, parsed.filter, parsed.nic_type)
    originals = find_originals(hypervisor, parsed.disks)
    data = plan_guest_data(hypervisor, parsed, originals, how)
    report = Reporter(how.get("on_progress"))
    return LaunchPlan(client, hypervisor, parsed, originals, copying, wait, spoof, report, data)


def _read(hypervisor: Hypervisor, template: str | Path) -> tuple[str, bool]:
    """A template's XML, and whether it is a domain that runs."""
    if isinstance(template, Path):
        return read_text(template, "The template", _MAX_TEMPLATE), False
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


def _all(plan: LaunchPlan, launches: Sequence[Launch]) -> list[Machine]:
    """Brings all up at the same time; the first failure stops the others and is raised."""
    if len(launches) == 1:
        return [launches[0].bring_up()]
    with ThreadPoolExecutor(min(len(launches), MOST_AT_ONCE), thread_name_prefix="launch") as pool:
        futures = [pool.submit(one.bring_up) for one in launches]
        try:
            wait_for(futures, return_when=FIRST_EXCEPTION)
        finally:
            plan.halt.set()
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
