"""Domains, machines and the domains of others, as the worker that starts and ends them knows them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid5

from chaos.worker import Caller, Watch
from macbind.core.allocation import Allocation

_WORLD = UUID("6d616362-696e-6420-6368-616f73000000")
XML = """\
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>16</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <on_reboot>destroy</on_reboot>
  <devices>
    <controller type='usb' model='none'/>
    <interface type='user'><mac address='{mac}'/><model type='virtio'/><rom enabled='no'/></interface>
    <memballoon model='none'/>
  </devices>
</domain>
"""


@dataclass
class Domain:
    """A domain, as far as this worker knows.

    Attributes:
        name: Its name.
        mac: Its MAC.
        persistent: Whether libvirt keeps its definition.
        saved: The file that it is saved in.
    """

    name: str
    mac: str
    persistent: bool = False
    saved: Path | None = None

    @property
    def uuid(self) -> str:
        """Its UUID: the same in every life."""
        return str(uuid5(_WORLD, self.name))


@dataclass
class Machine:
    """A domain and its allocation."""

    allocation: Allocation
    domain: Domain
    claimed: bool = False
    watch: Watch = field(default_factory=Watch)


@dataclass
class Other:
    """A domain of somebody else.

    Attributes:
        domain: It.
        ends_at: When it is destroyed.
        owner: The machine whose MAC it has; None if nobody has it.
        address: The address whose MAC it has.
        runs: Whether it is a squatter that has certainly started.
        known: Whether macbind must know of it.
        watch: Since when it could.
    """

    domain: Domain
    ends_at: float
    owner: Machine | None
    address: str
    runs: bool = False
    known: bool = False
    watch: Watch = field(default_factory=Watch)


@dataclass
class Ended:
    """A claimed machine that was destroyed: when, in which state of all the rest, and how long that is looked at."""

    machine: Machine
    at: float
    state: object
    watch: Watch


class Written:
    """An operation with libvirt, as the journal has it. A context manager."""

    def __init__(self, caller: Caller, number: int, kind: str, name: str) -> None:
        self._caller, self._number, self._kind, self._name = caller, number, kind, name
        self.lost: Callable[[], None] = lambda: None

    def __enter__(self) -> None:
        self._caller.journal.write("start", self._number, kind=self._kind, names=[self._name])

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self._caller.journal.write("ok", self._number, made=[])
            return
        self._caller.journal.write("error", self._number, code="libvirt", message=str(error)[:200])
        self.lost()
