"""Seed disks for cloud-init: made here, sent into a storage pool through libvirt, wherever the hypervisor is."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from typing import Any
from xml.etree import ElementTree  # nosec B405  # reads only what a line below gives a reason for
from xml.etree.ElementTree import Element, SubElement  # nosec B405  # builds XML, reads none

from macbind.core.errors import ConfigError, InvalidRequest
from macbind.guest.nocloud import VOLUME_ID
from macbind.virt.channel_xml import SEED_TARGET, Seed
from macbind.virt.clones import CLONE_PREFIX, Clone, Original, making
from macbind.virt.connection import Hypervisor, libvirt

_PIECE = 64 << 10
_FORMAT = "raw"
_ATTACHABLE = {libvirt.VIR_STORAGE_VOL_FILE: False, libvirt.VIR_STORAGE_VOL_BLOCK: True}


def image(files: Mapping[str, bytes]) -> bytes:
    """An ISO 9660 image with these files, whose whole names every system sees (Rock Ridge and Joliet).

    Raises:
        ConfigError: The library that makes it is not installed.
    """
    try:
        from pycdlib import PyCdlib
    except ImportError as error:
        raise ConfigError("pycdlib is not installed here.", hint="Install macbind[libvirt].") from error
    iso = PyCdlib()
    iso.new(interchange_level=3, vol_ident=VOLUME_ID, joliet=3, rock_ridge="1.09")
    for number, (name, content) in enumerate(files.items()):
        # The plain names of ISO 9660 know no hyphen.
        iso.add_fp(BytesIO(content), len(content), f"/FILE{number}.;1", rr_name=name, joliet_path=f"/{name}")
    made = BytesIO()
    iso.write_fp(made)
    iso.close()
    return made.getvalue()


def choose_pool(hypervisor: Hypervisor, wanted: str | None, originals: Sequence[Original]) -> str:
    """The storage pool for seed disks: the one asked for, or that of the template's first disk.

    Raises:
        InvalidRequest: It does not exist, is not active, or none is known.
    """
    if wanted is None:
        if originals:
            return originals[0].pool
        raise InvalidRequest(
            "The template has no disk of its own, so the storage pool for its seed disk is unknown.",
            hint="Name one: --seed-pool, or pool='...' in the template's <channels>.",
        )
    connection = hypervisor.connection
    with hypervisor.doing(f"The storage pool '{wanted}' could not be looked up", step="template"):
        active = [one.name() for one in connection.listAllStoragePools() if one.isActive()]
    if wanted not in active:
        raise InvalidRequest(
            f"{hypervisor.uri} has no active storage pool '{wanted}'.",
            hint=f"Active are: {', '.join(sorted(active)) or 'none'}.",
            pool=wanted,
        )
    return wanted


def plan_seed(hypervisor: Hypervisor, pool: str, domain: str) -> Clone:
    """What a machine's seed disk will be; it is found and deleted like its other disks."""
    volume = f"{CLONE_PREFIX}{domain}-{SEED_TARGET}"
    connection = hypervisor.connection
    with hypervisor.doing(f"The storage pool '{pool}' could not be read", step="seed"):
        xml = connection.storagePoolLookupByName(pool).XMLDesc(0)
    described = ElementTree.fromstring(xml)  # noqa: S314  # nosec B314  # libvirt's own
    path = posixpath.join(described.findtext("./target/path") or "", volume)
    return Clone(SEED_TARGET, pool, volume, path, _FORMAT)


def send_seed(hypervisor: Hypervisor, seed: Clone, content: bytes) -> Seed:
    """Makes a seed disk of an image.

    Raises:
        Conflict: There is a volume of that name; it was not touched.
        InvalidRequest: Volumes of this storage pool are neither files nor block devices.
        MachineFailed: It did not work, e.g. because the disk is full.
    """
    connection = hypervisor.connection
    with hypervisor.doing(f"The seed disk {seed.path} could not be made", step="seed"):
        pool = connection.storagePoolLookupByName(seed.pool)
        with making(seed):
            volume = pool.createXML(_volume_xml(seed, len(content)), 0)
        kind = volume.info()[0]
        if kind not in _ATTACHABLE:
            raise InvalidRequest(
                f"The storage pool '{seed.pool}' keeps neither files nor block devices, as a seed disk needs.",
                hint="Name another one: --seed-pool, or pool='...' in the template's <channels>.",
                pool=seed.pool,
            )
        _upload(connection, volume, content)
        return Seed(volume.path(), _ATTACHABLE[kind])


def _volume_xml(seed: Clone, size: int) -> str:
    root = Element("volume")
    SubElement(root, "name").text = seed.volume
    SubElement(root, "capacity", unit="bytes").text = str(size)
    SubElement(SubElement(root, "target"), "format", type=seed.format)
    return ElementTree.tostring(root, encoding="unicode")


def _upload(connection: Any, volume: Any, content: bytes) -> None:
    stream = connection.newStream(0)
    try:
        volume.upload(stream, 0, len(content), 0)
        sent = 0
        while sent < len(content):
            sent += stream.send(content[sent : sent + _PIECE])
        stream.finish()
    except libvirt.libvirtError:
        with suppress(libvirt.libvirtError):  # the first error counts
            stream.abort()
        raise
