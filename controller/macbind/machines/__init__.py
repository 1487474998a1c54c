"""Machines: an address, copies of a template's disks, and a domain, born and destroyed as one thing.

::

    with machine(client, "web-template", "farm", wait=Wait(tcp=22)) as vm:
        ...                        # it runs, has its address and answers at vm.address

A launch allocates, copies, starts and waits, in this order; whatever fails is undone in reverse before the
caller is told. Destroying finds a machine's parts by their names, so any process can do it, also after a
crash of the one that launched. An address is given back only when libvirt has said that its domain is gone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from macbind.core.errors import MacbindError
from macbind.machines.destroy import destroy, destroy_all, destroy_group, list_machines
from macbind.machines.launch import launch, launch_many
from macbind.machines.progress import OnProgress, Progress, Step
from macbind.machines.renumber import abort_renumbering, renumber
from macbind.machines.values import (
    DEFAULT_URI,
    Destroyed,
    How,
    ListedMachine,
    Machine,
    Renumbered,
    Wait,
)
from macbind.virt.channels import Channel
from macbind.virt.clones import Clone, Copying

if TYPE_CHECKING:
    from macbind.client.client import Client

__all__ = [
    "DEFAULT_URI",
    "Channel",
    "Clone",
    "Copying",
    "Destroyed",
    "How",
    "ListedMachine",
    "Machine",
    "OnProgress",
    "Progress",
    "Renumbered",
    "Step",
    "Wait",
    "abort_renumbering",
    "destroy",
    "destroy_all",
    "destroy_group",
    "launch",
    "launch_many",
    "list_machines",
    "machine",
    "machines",
    "renumber",
]


@contextmanager
def machine(
    client: Client, template: str | Path, pool: str, name: str | None = None, **how: Unpack[How]
) -> Iterator[Machine]:
    """A machine for as long as the block lasts; see :func:`launch`."""
    vm = launch(client, template, pool, name=name, **how)
    with _destroying(client, [vm], how.get("on_progress")):
        yield vm


@contextmanager
def machines(
    client: Client, template: str | Path, pool: str, group: str, count: int, **how: Unpack[How]
) -> Iterator[list[Machine]]:
    """Several machines for as long as the block lasts; see :func:`launch_many`."""
    vms = launch_many(client, template, pool, group, count, **how)
    with _destroying(client, vms, how.get("on_progress")):
        yield vms


@contextmanager
def _destroying(client: Client, vms: Sequence[Machine], on_progress: OnProgress | None) -> Iterator[None]:
    """Destroys at the end; an error of the block is the one that counts, and gets a note if this fails, too."""
    try:
        yield
    except BaseException as error:
        try:
            destroy_all(client, vms, on_progress=on_progress)
        except MacbindError as problem:
            error.add_note(f"Not destroyed: {problem}")
        raise
    destroy_all(client, vms, on_progress=on_progress)
