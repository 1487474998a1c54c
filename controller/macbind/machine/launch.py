"""Launching: allocate, copy, start, wait; and back again if anything fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack
from uuid import UUID, uuid4, uuid5

from macbind.errors import (
    Conflict,
    HypervisorUnavailable,
    InvalidRequest,
    MacbindError,
    MachineFailed,
    NotFound,
    RequestError,
)
from macbind.machine.values import DEFAULT_URI, How, Machine, OnProgress, Progress, Step, Wait
from macbind.model import NO_OPTIONS, Allocation, check_name
from macbind.reach import EchoSocket, connects
from macbind.virt import running
from macbind.virt.clone import Clone, Copying, Original, delete_clone, find_originals, make_clone
from macbind.virt.connection import Hypervisor
from macbind.virt.domain import Mark, domain_name
from macbind.virt.template import Identity, Template, console_files

if TYPE_CHECKING:
    from macbind.client import Client

_PAUSE_S = 0.1
MOST_AT_ONCE = 32
"""Machines one call works on at the same moment; the others follow."""
_AT = " at "
_MAX_TOKEN = 255
_QEMU_LOG = "/var/log/libvirt/qemu/{}.log"


class _Halted(Exception):
    """Another machine of the same call failed."""


class Reporter:
    """Tells about progress, one step at a time.

    Args:
        tell: Who is told.
    """

    def __init__(self, tell: OnProgress | None) -> None:
        self._tell, self._began_at, self._lock = tell, time.monotonic(), threading.Lock()

    def __call__(self, machine: str, step: Step) -> None:
        """Tells of a step just done."""
        if self._tell is not None:
            with self._lock:
                self._tell(Progress(machine, step, time.monotonic() - self._began_at))


@dataclass(frozen=True)
class _Order:
    """What one call launches."""

    client: Client
    hypervisor: Hypervisor
    template: Template
    originals: Sequence[Original]
    copying: Copying
    wait: Wait
    anti_spoofing: bool
    report: Reporter
    halt: threading.Event = field(default_factory=threading.Event)


class _Launch:
    """One machine on its way, and what must be undone if it does not arrive."""

    def __init__(self, order: _Order, allocation: Allocation, uuid: UUID) -> None:
        self._order, self._allocation, self._uuid = order, allocation, uuid
        self._name, self._domain = allocation.name, domain_name(allocation.name)
        self._clones: list[Clone] = []
        self._begun = False

    def bring_up(self) -> Machine:
        """Copies, starts, waits."""
        order, allocation = self._order, self._allocation
        order.report(self._name, Step.ALLOCATED)
        for original in order.originals:
            self._clone(original)
        if order.originals:
            order.report(self._name, Step.CLONED)
        self._proceed()
        mark = Mark(self._name, allocation.pool, datetime.now(UTC), allocation.group)
        who = Identity(self._uuid, allocation.mac, allocation.address, mark)
        copies = {clone.target: clone for clone in self._clones}
        xml = order.template.machine(who, copies, anti_spoofing=order.anti_spoofing)
        self._begun = True  # before it is: when the call fails, it may yet have started
        running.start(order.hypervisor, self._domain, xml)
        order.report(self._name, Step.STARTED)
        self._wait(xml)
        return Machine(
            name=self._name,
            domain=self._domain,
            uuid=self._uuid,
            address=allocation.address,
            mac=allocation.mac,
            clones=tuple(self._clones),
            uri=order.hypervisor.uri,
            allocation=allocation,
        )

    def _proceed(self) -> None:
        if self._order.halt.is_set():
            raise _Halted

    def _clone(self, original: Original) -> None:
        self._proceed()
        clone = original.clone(self._domain, self._order.copying)
        try:
            make_clone(self._order.hypervisor, original, clone, self._order.copying)
        except Conflict:
            raise  # somebody else's, not ours to delete
        except BaseException:
            self._clones.append(clone)  # it may exist, whole or in part
            raise
        self._clones.append(clone)

    def _wait(self, xml: str) -> None:
        wait, address = self._order.wait, self._allocation.address
        give_up_at = time.monotonic() + wait.timeout_s
        if wait.ping:
            with EchoSocket(address) as echo:
                self._until(echo.answers, give_up_at, "answer a ping", xml)
            self._order.report(self._name, Step.PINGED)
        if wait.tcp is not None:
            port = wait.tcp
            self._until(lambda: connects(address, port), give_up_at, f"take connections on port {port}", xml)
            self._order.report(self._name, Step.CONNECTED)

    def _until(self, condition: Callable[[], bool], give_up_at: float, what: str, xml: str) -> None:
        while not condition():
            self._proceed()
            if time.monotonic() >= give_up_at:
                raise self._failed(f"did not {what} within {self._order.wait.timeout_s:g} s", xml)
            if self._has_ended():
                raise self._failed(f"stopped by itself before it could {what}", xml)
            self._order.halt.wait(_PAUSE_S)

    def _has_ended(self) -> bool:
        try:
            return not running.is_running(self._order.hypervisor, self._uuid)
        except HypervisorUnavailable:
            return False  # it cannot be asked; the machine may answer all the same

    def _failed(self, what: str, xml: str) -> MachineFailed:
        log, consoles = _QEMU_LOG.format(self._domain), console_files(xml)
        where = f"; its console wrote to {', '.join(consoles)}" if consoles else ""
        return MachineFailed(
            f"The machine '{self._name}' ({self._allocation.address}) {what}.",
            hint=f"On the hypervisor, see {log}{where}. Does the template ask for an address by DHCP?",
            step="wait",
            machine=self._name,
            domain=self._domain,
            address=str(self._allocation.address),
            mac=str(self._allocation.mac),
            log=log,
            console=list(consoles),
        )

    def take_down(self) -> list[str]:
        """Undoes everything in reverse; returns what could not be undone, as sentences."""
        order, problems = self._order, []
        try:
            if self._begun:
                running.destroy(order.hypervisor, self._uuid)
        except MacbindError as error:
            kept = f"Its clones and its address {self._allocation.address} are kept, for it may run"
            return [f"{error.message} {kept}: `macbind vm destroy {self._name}`."]
        for clone in reversed(self._clones):
            try:
                delete_clone(order.hypervisor, clone)
            except MacbindError as error:
                problems.append(str(error))
        problems += _release(order.client, self._allocation)
        with suppress(Exception):  # who is told may be what failed
            order.report(self._name, Step.UNDONE)
        return problems


def _release(client: Client, allocation: Allocation) -> list[str]:
    try:
        client.release(allocation.name, generation=allocation.generation, reason="launch failed")
    except MacbindError as error:
        return [f"{allocation.address} is not released yet: {error}"]
    return []


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
        launches: list[_Launch] = []
        try:
            allocations = _allocate(allocate, token)
            launches += [_Launch(order, one, uuid5(batch, one.name)) for one in allocations]
            return _all(order, launches)
        except BaseException as error:
            order.halt.set()
            if launches:
                undoing: Iterable[Callable[[], list[str]]] = [one.take_down for one in launches]
            elif isinstance(error, RequestError):
                undoing = []  # nothing was allocated
            else:
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
    batch, at, there = (allocation.domain or "").partition(_AT)
    if not at:
        raise Conflict(
            f"'{allocation.name}' ({allocation.address}) is an allocation, not a machine that macbind launched.",
            hint=f"`macbind release {allocation.name}` releases it.",
            name=allocation.name,
            address=str(allocation.address),
        )
    return None if allocation.domain == launch_token(UUID(batch), uri) else there


def _order(client: Client, hypervisor: Hypervisor, template: str | Path, how: How) -> _Order:
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
    originals = find_originals(hypervisor, parsed.disks)
    wait, spoof = how.get("wait", Wait()), how.get("anti_spoofing", False)
    return _Order(
        client, hypervisor, parsed, originals, copying, wait, spoof, Reporter(how.get("on_progress"))
    )


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


def _all(order: _Order, launches: Sequence[_Launch]) -> list[Machine]:
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
    if failed:
        raise failed[0]
    return [future.result() for future in futures]


def _failure(future: Future[Machine]) -> BaseException | None:
    error = future.exception()
    return None if isinstance(error, _Halted) else error


def _release_unknown(client: Client, name: str, token: str) -> list[str]:
    """Releases an allocation whose making was not confirmed, if it was made and is ours."""
    try:
        found = client.get(name)
    except NotFound:
        return []
    except MacbindError as error:
        return [f"Whether '{name}' is allocated is unknown: {error}"]
    return _release(client, found) if found.domain == token else []


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
