"""One machine on its way, and back again if it does not arrive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from macbind.errors import Conflict, HypervisorUnavailable, MacbindError, MachineFailed
from macbind.machine.telling import Telling
from macbind.machine.values import Machine, OnProgress, Progress, Step, Wait
from macbind.model import Allocation
from macbind.reach import EchoSocket, connects
from macbind.virt import running, xenstore
from macbind.virt.channels import Channel, Message, Seed
from macbind.virt.clone import Clone, Copying, Original, delete_clone, make_clone
from macbind.virt.connection import Hypervisor
from macbind.virt.domain import Mark, domain_name
from macbind.virt.seed import plan_seed, send_seed
from macbind.virt.template import Identity, Template, console_files

if TYPE_CHECKING:
    from macbind.client import Client

_PAUSE_S = 0.1
_QEMU_LOG = "/var/log/libvirt/qemu/{}.log"


class Halted(Exception):
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
class Order:
    """What one call launches."""

    client: Client
    hypervisor: Hypervisor
    template: Template
    originals: Sequence[Original]
    copying: Copying
    wait: Wait
    anti_spoofing: bool
    report: Reporter
    telling: Telling
    halt: threading.Event = field(default_factory=threading.Event)


class Journey:
    """One machine on its way, and what must be undone if it does not arrive."""

    def __init__(self, order: Order, allocation: Allocation, uuid: UUID) -> None:
        self._order, self._allocation, self._uuid = order, allocation, uuid
        self._name, self._domain = allocation.name, domain_name(allocation.name)
        self._clones: list[Clone] = []
        self._begun = False

    def bring_up(self) -> Machine:
        """Copies, starts, waits."""
        order, allocation = self._order, self._allocation
        self._proceed()
        order.report(self._name, Step.ALLOCATED)
        for original in order.originals:
            self._clone(original)
        if order.originals:
            order.report(self._name, Step.CLONED)
        message, before_it_runs = self._message()
        self._proceed()
        mark = Mark(self._name, allocation.pool, datetime.now(UTC), allocation.group)
        who = Identity(self._uuid, allocation.mac, allocation.address, mark)
        copies = {clone.target: clone for clone in self._clones}
        xml = order.template.machine(who, copies, anti_spoofing=order.anti_spoofing, message=message)
        self._begun = True  # before it is: when the call fails, it may yet have started
        running.start(order.hypervisor, self._domain, xml, before_it_runs)
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
            raise Halted

    def _clone(self, original: Original) -> None:
        self._proceed()
        clone = original.clone(self._domain, self._order.copying)
        with self._owning(clone):
            make_clone(self._order.hypervisor, original, clone, self._order.copying)

    @contextmanager
    def _owning(self, clone: Clone) -> Iterator[None]:
        """A volume that is being made is ours to delete, unless somebody else has made it."""
        try:
            yield
        except Conflict:
            raise
        except BaseException:
            self._clones.append(clone)  # it may exist, whole or in part
            raise
        self._clones.append(clone)

    def _message(self) -> tuple[Message | None, Callable[[int], None] | None]:
        """What its XML tells the machine, and what has to be written when it exists and does not run yet."""
        telling = self._order.telling
        if not telling.channels:
            return None, None
        who, told = telling.identity(self._order.client, self._allocation)
        lines = tuple(who.lines())
        disk = None
        if Channel.NOCLOUD in telling.channels:
            disk = self._seed(telling.seed_image(who, told, self._uuid))
        before_it_runs = None
        if Channel.XENSTORE in telling.channels:
            values = xenstore.keys(lines)
            before_it_runs = partial(xenstore.tell, values=values)
        return Message(telling.channels, lines, disk), before_it_runs

    def _seed(self, content: bytes) -> Seed:
        self._proceed()
        seed = plan_seed(self._order.hypervisor, self._order.telling.seed_pool, self._domain)
        with self._owning(seed):
            made = send_seed(self._order.hypervisor, seed, content)
        self._order.report(self._name, Step.SEEDED)
        return made

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
            hint=f"On the hypervisor, see {log}{where}.",
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
        problems += release(order.client, self._allocation)
        with suppress(Exception):  # who is told may be what failed
            order.report(self._name, Step.UNDONE)
        return problems


def release(client: Client, allocation: Allocation) -> list[str]:
    """Gives an address back; returns what went wrong, as sentences."""
    try:
        client.release(allocation.name, generation=allocation.generation, reason="launch failed")
    except MacbindError as error:
        return [f"{allocation.address} is not released yet: {error}"]
    return []
