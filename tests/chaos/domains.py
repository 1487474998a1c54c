"""A worker that starts and destroys libvirt domains: their addresses must come back without a word from it."""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from chaos.control import Phase
from chaos.worker import PAUSE_S, Caller, Orders
from labkit.netns import CommandFailed, run_command
from macbind.errors import MacbindError
from macbind.model import Allocation

MOST = 4
"""Domains at one time."""
XML = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <controller type='usb' model='none'/>
    <interface type='user'><mac address='{mac}'/><model type='virtio'/><rom enabled='no'/></interface>
    <memballoon model='none'/>
  </devices>
</domain>
"""


@dataclass
class Machine:
    """A domain and its allocation."""

    allocation: Allocation
    claimed: bool = False


class Farmer(Caller):
    """Allocates, starts, destroys. Domains are paused as soon as they exist, so they cost no processor time."""

    def __init__(self, orders: Orders) -> None:
        super().__init__(orders)
        self.machines: list[Machine] = []
        self.dying: list[Machine] = []
        self.left: list[str] = []
        """Names that macbind never saw a domain of: they end by command."""
        self.unsettled: list[str] = []

    def run(self) -> None:
        """Works while it is told to, rests when it is told to."""
        while (phase := self.control.phase) is not Phase.END:
            if phase is Phase.REST:
                self.control.rests(self.orders.number, self.control.round)
                time.sleep(PAUSE_S)
                continue
            # What fails is written down, and a domain whose end is unknown is destroyed again.
            with suppress(MacbindError, CommandFailed):
                self.step()
            time.sleep(PAUSE_S)

    def step(self) -> None:
        """One operation."""
        if self.dying:
            self._destroy(self.dying[0])
        elif self.unsettled and self.random.random() < 0.5:
            name = self.unsettled.pop()
            self._release(name)
        elif self.left:
            self._release(self.left.pop())
        elif len(self.machines) < MOST and self.random.random() < 0.6:
            self._start()
        else:
            self._end()

    def _start(self) -> None:
        pool, name = self.orders.pools[0], self.new_name()
        try:
            (one,) = self.ask("allocate", [name], lambda: [self.client.allocate(pool, name)], pool=pool)
        except MacbindError:
            self.unsettled.append(name)
            raise
        file = self.orders.place / f"{name}.xml"
        file.write_text(XML.format(name=name, mac=one.mac))
        machine = Machine(one)
        try:
            self._virsh("create", "--paused", str(file))
        except CommandFailed:
            self.dying.append(machine)  # it may exist all the same
            raise
        self.machines.append(machine)

    def _end(self) -> None:
        if not self.machines:
            return
        machine = self.random.choice(self.machines)
        name = machine.allocation.name
        machine.claimed = machine.claimed or self.client.get(name).domain_uuid is not None
        if not machine.claimed and self.random.random() < 0.9:
            return
        if machine.claimed:
            self.journal.write("claimed", self.operations, name=name)
        self.machines.remove(machine)
        self.dying.append(machine)
        self._destroy(machine)

    def _destroy(self, machine: Machine) -> None:
        name = machine.allocation.name
        self.operations += 1
        number = self.operations
        self.journal.write("start", number, kind="destroy", names=[name])
        try:
            self._virsh("destroy", name)
        except CommandFailed as error:
            if "failed to get domain" not in str(error):
                self.journal.write("error", number, code="libvirt", message=str(error)[:200])
                raise
        self.journal.write("ok", number, made=[])
        self.dying.remove(machine)
        if not machine.claimed:
            self.left.append(name)

    def _release(self, name: str) -> None:
        try:
            self.ask("release", [name], lambda: self.client.release(name))
        except MacbindError:
            self.unsettled.append(name)
            raise

    def _virsh(self, *arguments: str) -> Sequence[str]:
        command = ["virsh", "--quiet", "--connect", self.orders.uri, *arguments]
        return run_command(command, deadline_s=30.0).stdout.split()
