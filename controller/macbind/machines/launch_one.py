"""Launches one machine of a call, and undoes that if it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from macbind.core.allocation import Allocation
from macbind.core.errors import Conflict, MacbindError
from macbind.machines.diagnosis import diagnose
from macbind.machines.guest_data import GuestData
from macbind.machines.progress import Reporter, Step
from macbind.machines.reachability import PAUSE_S, Awaited, lasting, wait_until_reachable
from macbind.machines.values import Machine, Wait
from macbind.virt import running, spoofing, xenstore
from macbind.virt.channel_xml import Message, Seed
from macbind.virt.channels import Channel
from macbind.virt.clones import Clone, Copying, Original, delete_clone, make_clone
from macbind.virt.connection import Hypervisor
from macbind.virt.domain_xml import Mark, domain_name
from macbind.virt.machine_xml import MachineIdentity, console_files, reboot_ends
from macbind.virt.seed_disks import plan_seed, send_seed
from macbind.virt.template import Template

if TYPE_CHECKING:
    from macbind.client.client import Client


class Halted(Exception):
    """Another machine of the same call failed."""


@dataclass(frozen=True)
class LaunchPlan:
    """What one call launches."""

    client: Client
    hypervisor: Hypervisor
    template: Template
    originals: Sequence[Original]
    copying: Copying
    wait: Wait
    anti_spoofing: bool
    report: Reporter
    guest_data: GuestData
    halt: threading.Event = field(default_factory=threading.Event)


class Launch:
    """One machine that is being launched, and what must be undone if that fails."""

    def __init__(self, plan: LaunchPlan, allocation: Allocation, uuid: UUID) -> None:
        self._plan, self._allocation, self._uuid = plan, allocation, uuid
        self.name, self._domain = allocation.name, domain_name(allocation.name)
        self._clones: list[Clone] = []
        self._begun = False

    def bring_up(self) -> Machine:
        """Copies, starts, waits."""
        plan, allocation = self._plan, self._allocation
        self._proceed()
        plan.report(self.name, Step.ALLOCATED)
        for original in plan.originals:
            self._clone(original)
        if plan.originals:
            plan.report(self.name, Step.CLONED)
        message, before_it_runs = self._message()
        self._proceed()
        mark = Mark(self.name, allocation.pool, datetime.now(UTC), allocation.group)
        who = MachineIdentity(self._uuid, allocation.mac, allocation.address, mark, allocation.ipv6)
        copies = {clone.target: clone for clone in self._clones}
        xml = plan.template.machine(who, copies, anti_spoofing=plan.anti_spoofing, message=message)
        self._check_allocation()
        self._begun = True  # before it is: when the call fails, it may yet have started
        running.start(plan.hypervisor, self._domain, xml, before_it_runs)
        if plan.anti_spoofing:
            spoofing.check_bound(plan.hypervisor, self._domain, allocation.mac)
        plan.report(self.name, Step.STARTED)
        wait_until_reachable(self._awaited(xml), plan.wait, plan.report)
        return Machine(
            name=self.name,
            domain=self._domain,
            uuid=self._uuid,
            address=allocation.address,
            mac=allocation.mac,
            clones=tuple(self._clones),
            uri=plan.hypervisor.uri,
            allocation=allocation,
        )

    def _check_allocation(self) -> None:
        """Starts no machine whose address was given away while its disks were copied.

        Raises:
            Conflict: It was released, or another has its name.
        """
        held = self._plan.client.get(self.name)
        if held.generation != self._allocation.generation:
            raise Conflict(
                f"'{self.name}' was released and allocated anew meanwhile.",
                hint="Launch again with another name.",
                name=self.name,
            )

    def _proceed(self) -> None:
        if self._plan.halt.is_set():
            raise Halted

    def _clone(self, original: Original) -> None:
        self._proceed()
        clone = original.clone(self._domain, self._plan.copying)
        with self._owning(clone):
            make_clone(self._plan.hypervisor, original, clone, self._plan.copying)

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
        data = self._plan.guest_data
        if not data.channels:
            return None, None
        who, settings = data.identity(self._plan.client, self._allocation)
        lines = tuple(who.lines())
        disk = None
        if Channel.NOCLOUD in data.channels:
            disk = self._seed(data.seed_image(who, settings, self._uuid))
        before_it_runs = None
        if Channel.XENSTORE in data.channels:
            values = xenstore.keys(lines)
            before_it_runs = partial(xenstore.tell, values=values)
        return Message(data.channels, lines, disk), before_it_runs

    def _seed(self, content: bytes) -> Seed:
        self._proceed()
        seed = plan_seed(self._plan.hypervisor, self._plan.guest_data.seed_pool, self._domain)
        with self._owning(seed):
            made = send_seed(self._plan.hypervisor, seed, content)
        self._plan.report(self.name, Step.SEEDED)
        return made

    def _awaited(self, xml: str) -> Awaited:
        plan, allocation = self._plan, self._allocation
        log, consoles = plan.hypervisor.log_of(self._domain), console_files(xml)
        places = [*([log] if log else []), *consoles]
        hint = f"On the hypervisor, see {', '.join(places)}." if places else "See what its console says."
        if reboot_ends(xml):
            hint = f"Its template says <on_reboot>destroy</on_reboot>: a reboot ends it. {hint}"
        return Awaited(
            self.name,
            allocation.address,
            allocation.mac,
            runs=lasting(lambda: running.lives(plan.hypervisor, self._uuid), plan.wait.timeout_s),
            hint=hint,
            details={"domain": self._domain, "log": log, "console": list(consoles)},
            pause=self._pause,
            explain=lambda: diagnose(
                plan.client, plan.hypervisor, self._uuid, allocation.mac, allocation.address
            ),
        )

    def _pause(self) -> None:
        self._plan.halt.wait(PAUSE_S)
        self._proceed()

    def take_down(self) -> list[str]:
        """Undoes everything in reverse; returns what could not be undone, as sentences."""
        plan, problems = self._plan, []
        try:
            if self._begun:
                running.destroy(plan.hypervisor, self._uuid)
        except MacbindError as error:
            kept = f"Its clones and its address {self._allocation.address} are kept, for it may run"
            return [f"{error.message} {kept}: `macbind vm destroy {self.name}`."]
        for clone in reversed(self._clones):
            try:
                delete_clone(plan.hypervisor, clone)
            except MacbindError as error:
                problems.append(str(error))
        problems += release(plan.client, self._allocation)
        with suppress(Exception):  # who is told may be what failed
            plan.report(self.name, Step.UNDONE)
        return problems


def release(client: Client, allocation: Allocation) -> list[str]:
    """Gives an address back; returns what went wrong, as sentences."""
    try:
        client.release(allocation.name, generation=allocation.generation, reason="launch failed")
    except MacbindError as error:
        return [f"{allocation.address} is not released yet: {error}"]
    return []
