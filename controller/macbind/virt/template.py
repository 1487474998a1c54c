"""A template: anybody's domain, from which machines are made. Pure.

It may be written by hand, by virt-install, or dumped from a domain that runs. It is read and checked here;
:mod:`macbind.virt.machine_xml` makes it a machine's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from xml.etree import ElementTree  # nosec B405  # writes XML, reads none
from xml.etree.ElementTree import Element  # nosec B405  # the type only, reads none

from macbind.core.errors import InvalidRequest
from macbind.virt.channel_xml import Message, check_channels, forget, tell
from macbind.virt.channels import Channel, choice_in
from macbind.virt.domain_xml import RECORD_TAG, parse_domain
from macbind.virt.machine_xml import DiskCopy, MachineIdentity, filter_for, make_machine

_TARGET = re.compile(r"[a-z][a-z0-9]{1,15}")


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that every machine must have a copy of.

    Attributes:
        target: Its name in the guest, e.g. ``vda``.
        path: Its file; None if it is given as a volume.
        volume: Its storage pool and the volume in it; None if it is given as a file.
        format: The format the template says it has.
    """

    target: str
    path: str | None
    volume: tuple[str, str] | None
    format: str | None

    def __str__(self) -> str:
        return f"disk {self.target} ({self.path or '/'.join(self.volume or ())})"


class Template:
    """A template, read and found usable.

    Args:
        xml: Domain XML.
        network: The bridge or network of the NIC that gets the address; may be left out where all are on one.

    Raises:
        InvalidRequest: It is not domain XML, or macbind cannot make machines of it.
    """

    def __init__(self, xml: str, network: str | None = None) -> None:
        self._root = parse_domain(xml)
        self._nic = _choose_nic(self._root, network)
        self.disks = tuple(_disks_to_copy(self._root))
        self.choice = choice_in(self._root)
        forget(self._root)
        for metadata in self._root.findall("metadata"):
            for record in metadata.findall(
                RECORD_TAG
            ):  # of a machine that is being renumbered; its copies are not
                metadata.remove(record)

    def check(self, channels: Iterable[Channel], keys: int = 0) -> None:
        """Checks that its machines can have these channels; see :func:`~macbind.virt.channel_xml.check_channels`."""
        check_channels(self._root, channels, keys)

    @property
    def nic(self) -> int:
        """The number of the NIC that gets the address, from 0."""
        return self._nic

    @property
    def nic_type(self) -> str:
        """How that NIC is connected: ``bridge``, ``network``, ``direct`` and so on."""
        return self._root.findall("./devices/interface")[self._nic].get("type", "")

    @property
    def filter(self) -> str:
        """The network filter that anti-spoofing uses: the template's own, or macbind's for the standard one."""
        own = self._root.findall("./devices/interface")[self._nic].find("filterref")
        return filter_for(None if own is None else own.get("filter"))

    def machine(
        self,
        who: MachineIdentity,
        copies: Mapping[str, DiskCopy],
        *,
        anti_spoofing: bool = False,
        message: Message | None = None,
    ) -> str:
        """The domain XML of a machine.

        Args:
            who: Which machine.
            copies: The copy of each of ``disks``, by its target.
            anti_spoofing: Whether libvirt is to let it use its own MAC and IP only.
            message: What it is told by its XML.
        """
        root = deepcopy(self._root)
        make_machine(root, self._nic, who, copies, anti_spoofing=anti_spoofing)
        if message is not None:
            tell(root, message)
        return ElementTree.tostring(root, encoding="unicode")


def _choose_nic(root: Element, network: str | None) -> int:
    found = [
        [value for source in interface.iterfind("source") for value in map(source.get, _NETWORKS) if value]
        or [interface.get("type", "")]  # one that is on no network of the hypervisor, such as "user"
        for interface in root.iterfind("./devices/interface")
    ]
    if not found:
        raise InvalidRequest(
            "The template has no network interface, so its machines cannot have an address.",
            hint="Add an <interface> on the pool's network to it.",
        )
    known = ", ".join(sorted({name for names in found for name in names}))
    if network is None:
        if any(not set(found[0]) & set(others) for others in found[1:]):
            raise InvalidRequest(
                f"The template has {len(found)} NICs on different networks ({known}), and only one gets the address.",
                hint=f"Say which network is the pool's: --network {found[0][0]}.",
            )
        return 0
    for index, names in enumerate(found):
        if network in names:
            return index
    raise InvalidRequest(
        f"The template has no interface on '{network}'.", hint=f"Its interfaces are on {known}."
    )


_NETWORKS = ("bridge", "network", "dev")


def _disks_to_copy(root: Element) -> Iterable[Disk]:
    seen = set()
    for disk in root.iterfind("./devices/disk"):
        if disk.get("device", "disk") not in ("disk", "lun"):
            continue  # CD-ROM and floppy
        if disk.find("readonly") is not None or disk.find("shareable") is not None:
            continue
        found = _disk(disk)
        if found.target in seen:
            raise InvalidRequest(
                f"The template has two disks {found.target}.", hint="Give each <target> its own dev."
            )
        seen.add(found.target)
        yield found


def _disk(disk: Element) -> Disk:
    target, source, driver = disk.find("target"), disk.find("source"), disk.find("driver")
    name = "" if target is None else target.get("dev", "")
    if not _TARGET.fullmatch(name):
        raise InvalidRequest(
            f"A disk of the template has the target {name!r}.", hint="Give it one like <target dev='vda'/>."
        )
    if disk.find(".//encryption") is not None:
        raise InvalidRequest(
            f"The template's disk {name} is encrypted, and macbind cannot copy it.",
            hint="Use a template with plain disks.",
        )
    kind = None if driver is None else driver.get("type")
    if kind == "aio":  # Xen's word for a plain image that is read asynchronously
        kind = "raw"
    if source is not None:
        path, pool, volume = source.get("file"), source.get("pool"), source.get("volume")
        if disk.get("type", "file") == "file" and path:
            return Disk(name, path, None, kind)
        if disk.get("type") == "volume" and pool and volume:
            return Disk(name, None, (pool, volume), kind)
    raise InvalidRequest(
        f"The template's disk {name} is neither a file nor a volume, and macbind cannot copy it.",
        hint="Keep it in a storage pool; or mark it <readonly/> or <shareable/> if machines may share it.",
    )
