"""A template's domain XML becomes a machine's. Pure.

The template is anybody's domain: written by hand, by virt-install, or dumped from one that runs. What two
machines cannot both have is replaced or left out, so that libvirt makes it anew: name, UUID, MACs, tap devices,
ports, sockets, the UEFI variables' file. Everything else stays, PCI addresses included: a guest finds its
devices where the template's were.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol
from uuid import UUID
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from macbind.addressing import MacAddress
from macbind.errors import InvalidRequest
from macbind.virt.channels import Channel, Message, check_channels, choice_in, forget, tell
from macbind.virt.domain import RECORD_TAG, Mark, domain_name, parse_domain

ANTI_SPOOFING_FILTER = "clean-traffic"
"""The network filter that comes with libvirt and lets a machine use its own MAC and IP only."""
_TARGET = re.compile(r"[a-z][a-z0-9]{1,15}")
_CHARACTER_DEVICES = ("serial", "parallel", "console", "channel")


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


class DiskCopy(Protocol):
    """The copy of a disk."""

    @property
    def pool(self) -> str:
        """Its storage pool."""

    @property
    def volume(self) -> str:
        """Its volume."""

    @property
    def path(self) -> str:
        """Its file."""

    @property
    def format(self) -> str:
        """Its format."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a machine itself.

    Attributes:
        uuid: Of its domain.
        mac: Of its interface on the pool's network.
        address: Which goes with the MAC.
        mark: Whose machine it is.
    """

    uuid: UUID
    mac: MacAddress
    address: IPv4Address
    mark: Mark


class Template:
    """A template, read and found usable.

    Args:
        xml: Domain XML.
        network: The bridge or network of the interface that gets the address; by default the first one.

    Raises:
        InvalidRequest: It is not domain XML, or macbind cannot make machines of it.
    """

    def __init__(self, xml: str, network: str | None = None) -> None:
        self._root = parse_domain(xml)
        self._interface = _choose_interface(self._root, network)
        self.disks = tuple(_disks_to_copy(self._root))
        self.choice = choice_in(self._root)
        forget(self._root)
        for metadata in self._root.findall("metadata"):
            _drop(metadata, RECORD_TAG)  # of a machine that is being moved; its copies are not

    def check(self, channels: Iterable[Channel], keys: int = 0) -> None:
        """Checks that its machines can have these channels; see :func:`~macbind.virt.channels.check_channels`."""
        check_channels(self._root, channels, keys)

    @property
    def nic(self) -> int:
        """The number of the interface that gets the address, from 0."""
        return self._interface

    @property
    def filter(self) -> str:
        """The network filter that anti-spoofing uses: the template's own, or the standard one."""
        own = self._root.findall("./devices/interface")[self._interface].find("filterref")
        return ANTI_SPOOFING_FILTER if own is None else own.get("filter", "")

    def machine(
        self,
        who: Identity,
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
        name = domain_name(who.mark.name)
        root.attrib.pop("id", None)
        _set_only(root, "name", name)
        _set_only(root, "uuid", str(who.uuid))
        for entry in root.iterfind("./sysinfo/system/entry[@name='uuid']"):
            entry.text = str(who.uuid)  # libvirt wants them equal
        who.mark.put_into(root)
        _forget_firmware(root)
        for index, interface in enumerate(root.findall("./devices/interface")):
            _forget_interface(interface)
            if index == self._interface:
                interface.insert(0, Element("mac", address=str(who.mac)))
                _filter(interface, who.address, anti_spoofing)
        for disk in root.iterfind("./devices/disk"):
            target = disk.find("target")
            copy = copies.get(target.get("dev", "")) if target is not None else None
            if copy is not None:
                _use_copy(disk, copy)
        _forget_runtime(root)
        for tag in _CHARACTER_DEVICES:
            for device in root.iterfind(f"./devices/{tag}"):
                _forget_backend(device, name)
        if message is not None:
            tell(root, message)
        return ElementTree.tostring(root, encoding="unicode")


def _choose_interface(root: Element, network: str | None) -> int:
    found = [
        [value for source in interface.iterfind("source") for value in map(source.get, _NETWORKS) if value]
        for interface in root.iterfind("./devices/interface")
    ]
    if not found:
        raise InvalidRequest(
            "The template has no network interface, so its machines cannot have an address.",
            hint="Add an <interface> on the pool's network to it.",
        )
    if network is None:
        return 0
    for index, names in enumerate(found):
        if network in names:
            return index
    known = ", ".join(sorted({name for names in found for name in names})) or "no bridge or network"
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


def _set_only(root: Element, tag: str, text: str) -> None:
    """Makes one child of that name say the text, in its place if there was one."""
    element = root.find(tag)
    if element is None:
        element = Element(tag)
        root.insert(0, element)
    for other in root.findall(tag)[1:]:
        root.remove(other)
    element.clear()
    element.text = text


def _drop(parent: Element, *tags: str) -> None:
    for tag in tags:
        for child in parent.findall(tag):
            parent.remove(child)


def _forget_firmware(root: Element) -> None:
    """UEFI variables and the generation id, which tells a guest that it has been cloned, are made anew."""
    for os in root.findall("os"):
        for nvram in os.findall("nvram"):
            _drop(nvram, "source")
            nvram.text = None
            nvram.attrib.pop("type", None)
            if not nvram.attrib:
                os.remove(nvram)
    for genid in root.findall("genid"):
        genid.text = None


def _forget_interface(interface: Element) -> None:
    """Without MAC, tap device and port; a network filter knows the MAC by itself."""
    _drop(interface, "mac", "target")
    for source in interface.findall("source"):
        source.attrib.pop("portid", None)
    for parameters in interface.findall("./virtualport/parameters"):
        for name in ("interfaceid", "instanceid"):
            parameters.attrib.pop(name, None)
    for filterref in interface.findall("filterref"):
        for parameter in filterref.findall("parameter"):
            if parameter.get("name", "").upper() == "MAC":
                filterref.remove(parameter)


def _filter(interface: Element, address: IPv4Address, anti_spoofing: bool) -> None:
    """Binds the filter to the address: the template's own where there is one, the standard one if asked for."""
    filterref = interface.find("filterref")
    if filterref is None:
        if not anti_spoofing:
            return
        filterref = SubElement(interface, "filterref", filter=ANTI_SPOOFING_FILTER)
    old = [one for one in filterref.findall("parameter") if one.get("name") == "IP"]
    for one in old:
        filterref.remove(one)
    if old or anti_spoofing:
        SubElement(filterref, "parameter", name="IP", value=str(address))


def _use_copy(disk: Element, copy: DiskCopy) -> None:
    driver, source = disk.find("driver"), disk.find("source")
    if driver is None:
        driver = Element("driver", name="qemu")
        disk.insert(0, driver)
    driver.set("type", copy.format)
    if source is None:
        return
    if disk.get("type") == "volume":
        source.set("pool", copy.pool)
        source.set("volume", copy.volume)
    else:
        source.set("file", copy.path)


def _forget_runtime(root: Element) -> None:
    """What a running domain's XML has more than its definition, and fixed ports of the host."""
    for device in root.findall("./devices/*"):
        for alias in device.findall("alias"):
            if not alias.get("name", "").startswith("ua-"):  # the user's own
                device.remove(alias)
    for disk in root.iterfind("./devices/disk"):
        _drop(disk, "backingStore")
        for source in disk.iterfind("source"):
            source.attrib.pop("index", None)
    for graphics in root.iterfind("./devices/graphics"):
        if graphics.attrib.pop("port", None) is not None or "tlsPort" in graphics.attrib:
            graphics.attrib.pop("tlsPort", None)
            graphics.set("autoport", "yes")
        if "websocket" in graphics.attrib:
            graphics.set("websocket", "-1")
        graphics.attrib.pop("socket", None)
        for listen in graphics.iterfind("listen"):
            listen.attrib.pop("socket", None)
    for cid in root.iterfind("./devices/vsock/cid"):
        cid.attrib.pop("address", None)
        cid.set("auto", "yes")
    for label in root.iterfind("seclabel[@type='dynamic']"):
        _drop(label, "label", "imagelabel")


def _forget_backend(device: Element, name: str) -> None:
    """A terminal is allotted by the host; files and sockets get the machine's name into theirs."""
    device.attrib.pop("tty", None)
    for log in device.iterfind("log"):
        log.set("file", _own_path(log.get("file", ""), name))
    for source in device.findall("source"):
        match device.get("type"), source.get("mode"):
            case "pty", _:
                device.remove(source)
            case "file", _:
                source.set("path", _own_path(source.get("path", ""), name))
            case "unix", "bind" if device.tag == "channel":
                source.attrib.pop("path", None)  # libvirt makes one
            case "unix", "bind":
                source.set("path", _own_path(source.get("path", ""), name))


def _own_path(path: str, name: str) -> str:
    """``/var/log/console.log`` becomes ``/var/log/console.NAME.log``; devices stay."""
    folder, slash, file = path.rpartition("/")
    if not file or path.startswith("/dev/"):
        return path
    stem, dot, suffix = file.rpartition(".")
    return f"{folder}{slash}{stem}.{name}{dot}{suffix}" if stem else f"{folder}{slash}{file}.{name}"


def console_files(xml: str) -> tuple[str, ...]:
    """The files on the hypervisor into which a machine's consoles write."""
    devices = parse_domain(xml).find("devices")
    if devices is None:
        return ()
    paths = [
        path
        for tag in _CHARACTER_DEVICES
        for device in devices.iterfind(tag)
        for path in [
            *(log.get("file") for log in device.iterfind("log")),
            *(source.get("path") for source in device.iterfind("source") if device.get("type") == "file"),
        ]
        if path
    ]
    return tuple(dict.fromkeys(paths))
