"""Copies of a template's disks: volumes in the storage pool that holds the original.

A linked clone is a qcow2 overlay, made in an instant; the original must never change while it exists. A full
copy depends on nothing. Names are derived from the machine's, so that they are found again by any process.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree  # nosec B405  # reads only what a line below gives a reason for
from xml.etree.ElementTree import Element, SubElement  # nosec B405  # builds XML, reads none

from macbind.core.errors import Conflict, InvalidRequest
from macbind.virt.connection import Hypervisor, is_missing, libvirt
from macbind.virt.template import Disk

CLONE_PREFIX = "macbind-"
"""How the names of all volumes of machines begin."""


class Copying(StrEnum):
    """How a machine gets its disks."""

    LINKED = "linked"
    """qcow2 overlays over the template's disks."""
    FULL = "full"
    """Whole copies."""


@dataclass(frozen=True, slots=True)
class Clone:
    """A machine's own disk.

    Attributes:
        target: Its name in the guest, e.g. ``vda``.
        pool: Its storage pool.
        volume: Its volume.
        path: Its file.
        format: Its format.
    """

    target: str
    pool: str
    volume: str
    path: str
    format: str


@dataclass(frozen=True, slots=True)
class Original:
    """A template's disk as libvirt's storage driver knows it.

    Attributes:
        disk: The disk.
        pool: Its storage pool.
        volume: Its volume.
        path: Its file.
        format: Its format; the template's word counts, for that is how its guests see it.
        capacity: Bytes its guest sees.
    """

    disk: Disk
    pool: str
    volume: str
    path: str
    format: str
    capacity: int

    def clone(self, domain: str, copying: Copying) -> Clone:
        """What the clone of it will be."""
        volume = f"{CLONE_PREFIX}{domain}-{self.disk.target}"
        path = posixpath.join(posixpath.dirname(self.path), volume)
        kind = "qcow2" if copying is Copying.LINKED else self.format
        return Clone(self.disk.target, self.pool, volume, path, kind)


def find_originals(hypervisor: Hypervisor, disks: Iterable[Disk]) -> list[Original]:
    """Finds the volumes of a template's disks.

    Raises:
        InvalidRequest: One is not in an active storage pool; the hint says how to make it so.
    """
    return [_find_original(hypervisor, disk) for disk in disks]


def _find_original(hypervisor: Hypervisor, disk: Disk) -> Original:
    connection = hypervisor.connection
    with hypervisor.doing(f"The template's {disk} could not be looked up", step="template"):
        volume = (
            _by_path(connection, disk.path) if disk.volume is None else _by_name(connection, *disk.volume)
        )
        if volume is None:
            raise _outside(hypervisor.uri, connection, disk)
        pool = volume.storagePoolLookupByVolume()
        described = ElementTree.fromstring(volume.XMLDesc(0))  # noqa: S314  # nosec B314  # libvirt's own
        stored = described.find("./target/format")
        known = None if stored is None else stored.get("type")
        return Original(
            disk, pool.name(), volume.name(), volume.path(), disk.format or known or "raw", volume.info()[1]
        )


def _by_path(connection: Any, path: str | None) -> Any | None:
    found = _lookup(connection.storageVolLookupByPath, path)
    if found is not None:
        return found
    # libvirt knows only what was there when the pool was last looked through.
    for pool in _pools_at(connection, posixpath.dirname(path or "")):
        if pool.isActive():
            pool.refresh()
    return _lookup(connection.storageVolLookupByPath, path)


def _by_name(connection: Any, pool_name: str, name: str) -> Any | None:
    pool = _lookup(connection.storagePoolLookupByName, pool_name)
    if pool is None or not pool.isActive():
        return None
    found = _lookup(pool.storageVolLookupByName, name)
    if found is None:
        pool.refresh()
        found = _lookup(pool.storageVolLookupByName, name)
    return found


def _lookup(look: Any, key: str | None) -> Any | None:
    try:
        return look(key)
    except libvirt.libvirtError as error:
        if is_missing(error):
            return None
        raise


def _pools_at(connection: Any, folder: str) -> list[Any]:
    """The storage pools whose volumes lie in a directory."""
    found = []
    for pool in connection.listAllStoragePools():
        described = ElementTree.fromstring(pool.XMLDesc(0))  # noqa: S314  # nosec B314  # libvirt's own
        if posixpath.normpath(described.findtext("./target/path") or "/") == posixpath.normpath(folder):
            found.append(pool)
    return found


def _outside(uri: str, connection: Any, disk: Disk) -> InvalidRequest:
    virsh = f"virsh -c '{uri}'"
    if disk.volume is not None:
        pool, volume = disk.volume
        hint = f"See `{virsh} vol-list {pool}`; the pool must be active."
        return InvalidRequest(f"There is no volume '{volume}' in a storage pool '{pool}'.", hint=hint)
    folder = posixpath.dirname(disk.path or "")
    asleep = [pool.name() for pool in _pools_at(connection, folder) if not pool.isActive()]
    if asleep:
        hint = f"Start its pool: `{virsh} pool-start {asleep[0]}`."
    else:
        name = posixpath.basename(folder) or "templates"
        hint = f"Make its directory a pool, once: `{virsh} pool-create-as {name} dir --target {folder}`."
    return InvalidRequest(
        f"The template's {disk} does not exist, or is in no active storage pool.",
        hint=hint,
        path=disk.path,
    )


def make_clone(hypervisor: Hypervisor, original: Original, clone: Clone, copying: Copying) -> None:
    """Makes a clone.

    Raises:
        Conflict: There is a volume of that name; it was not touched.
        MachineFailed: It did not work, e.g. because the disk is full.
    """
    connection = hypervisor.connection
    with hypervisor.doing(f"The template's {original.disk} could not be copied", step="clone"):
        pool = connection.storagePoolLookupByName(original.pool)
        with making(clone):
            if copying is Copying.LINKED:
                pool.createXML(_volume_xml(original, clone, linked=True), 0)
            else:
                source = pool.storageVolLookupByName(original.volume)
                pool.createXMLFrom(_volume_xml(original, clone, linked=False), source, 0)


@contextmanager
def making(clone: Clone) -> Iterator[None]:
    """Tells apart the errors with which libvirt makes no volume: whatever has the name then is another's.

    Raises:
        Conflict: Nothing was made.
    """
    try:
        yield
    except libvirt.libvirtError as error:
        code = error.get_error_code()
        if code == libvirt.VIR_ERR_STORAGE_VOL_EXIST:
            raise Conflict(
                f"There is a volume '{clone.volume}' in the storage pool '{clone.pool}' already.",
                hint="A machine of this name was never destroyed: `macbind vm destroy` deletes what is left of it.",
                volume=clone.path,
            ) from error
        if code == libvirt.VIR_ERR_OPERATION_INVALID:  # there is such a file that the pool does not know
            raise Conflict(
                f"No volume '{clone.volume}' can be made in the storage pool '{clone.pool}': "
                f"{error.get_error_message()}.",
                hint="Delete that file if nobody needs it; and the pool must be active.",
                volume=clone.path,
            ) from error
        raise


def _volume_xml(original: Original, clone: Clone, *, linked: bool) -> str:
    root = Element("volume")
    SubElement(root, "name").text = clone.volume
    SubElement(root, "capacity", unit="bytes").text = str(original.capacity)
    SubElement(SubElement(root, "target"), "format", type=clone.format)
    if linked:
        backing = SubElement(root, "backingStore")
        SubElement(backing, "path").text = original.path
        SubElement(backing, "format", type=original.format)
    return ElementTree.tostring(root, encoding="unicode")


def delete_clone(hypervisor: Hypervisor, clone: Clone) -> bool:
    """Deletes a clone; False if it is gone already."""
    connection = hypervisor.connection
    with hypervisor.doing(f"The clone {clone.path} could not be deleted", step="delete", clone=clone.path):
        pool = _lookup(connection.storagePoolLookupByName, clone.pool)
        volume = None if pool is None else _lookup(pool.storageVolLookupByName, clone.volume)
        return volume is not None and _delete(volume)


def _delete(volume: Any) -> bool:
    try:
        volume.delete(0)
    except libvirt.libvirtError as error:
        if is_missing(error):
            return False
        raise
    return True


def clones_of(hypervisor: Hypervisor, domain: str) -> Sequence[Clone]:
    """All clones a machine has in active storage pools, found by their names."""
    connection = hypervisor.connection
    with hypervisor.doing(f"The clones of '{domain}' could not be looked up"):
        found = []
        for pool in connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE):
            for volume in pool.listAllVolumes():
                owner, _, target = volume.name().rpartition("-")
                if owner == f"{CLONE_PREFIX}{domain}":
                    found.append(Clone(target, pool.name(), volume.name(), volume.path(), ""))
        return found
