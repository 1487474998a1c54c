"""Turns a template's domain XML into that of one machine. Pure.

What two machines cannot both have is replaced or left out, so that libvirt makes it anew: name, UUID, MACs, tap
devices, ports, sockets, the UEFI variables' file. Everything else stays, PCI addresses included: a guest finds its
devices where the template's were.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Protocol
from uuid import UUID
from xml.etree.ElementTree import Element, SubElement  # nosec B405  # builds XML, reads none

from macbind.core.ipv6 import link_local
from macbind.core.mac_address import MacAddress
from macbind.virt.domain_xml import Mark, domain_name, parse_domain

STANDARD_FILTER = "clean-traffic"
"""The network filter that comes with libvirt and lets a machine use its own MAC and IPv4 address only."""
ANTI_SPOOFING_FILTER = "macbind-clean-traffic"
"""The network filter of macbind's own: the standard one, and the IPv6 that a machine makes of its MAC."""
_TAP_DRIVERS = frozenset({"tap", "tap2"})
_XEN_DRIVERS = frozenset({"phy", "file"}) | _TAP_DRIVERS
"""Ways of Xen's to attach a disk that know nothing but a plain one."""
_CHARACTER_DEVICES = ("serial", "parallel", "console", "channel")


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
class MachineIdentity:
    """What makes a machine itself.

    Attributes:
        uuid: Of its domain.
        mac: Of its NIC on the pool's network.
        address: Which goes with the MAC.
        mark: Which machine it is.
        ipv6: The address it makes of its network's IPv6 prefix; None if there is none.
    """

    uuid: UUID
    mac: MacAddress
    address: IPv4Address
    mark: Mark
    ipv6: IPv6Address | None = None


def make_machine(
    root: Element, nic: int, who: MachineIdentity, copies: Mapping[str, DiskCopy], *, anti_spoofing: bool
) -> None:
    """Makes a template's domain a machine's.

    Args:
        root: The template, which is changed.
        nic: The number of the NIC that gets the address, from 0.
        who: Which machine.
        copies: The copy of each disk, by its target.
        anti_spoofing: Whether libvirt is to let it use its own MAC and IP only.
    """
    name = domain_name(who.mark.name)
    root.attrib.pop("id", None)
    _set_only(root, "name", name)
    _set_only(root, "uuid", str(who.uuid))
    for entry in root.iterfind("./sysinfo/system/entry[@name='uuid']"):
        entry.text = str(who.uuid)  # libvirt wants them equal
    who.mark.put_into(root)
    _forget_firmware(root)
    for index, interface in enumerate(root.findall("./devices/interface")):
        _forget_nic(interface)
        if index == nic:
            interface.insert(0, Element("mac", address=str(who.mac)))
            _bind_filter(interface, who, anti_spoofing)
    for disk in root.iterfind("./devices/disk"):
        target = disk.find("target")
        copy = copies.get(target.get("dev", "")) if target is not None else None
        if copy is not None:
            _use_copy(disk, copy)
    _forget_runtime(root)
    for tag in _CHARACTER_DEVICES:
        for device in root.iterfind(f"./devices/{tag}"):
            _forget_backend(device, name)


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


def _forget_nic(interface: Element) -> None:
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


def _bind_filter(interface: Element, who: MachineIdentity, anti_spoofing: bool) -> None:
    """Binds the filter to the addresses: the template's own where there is one, macbind's if asked for."""
    filterref = interface.find("filterref")
    if filterref is None:
        if not anti_spoofing:
            return
        filterref = SubElement(interface, "filterref")
    if anti_spoofing:
        filterref.set("filter", filter_for(filterref.get("filter")))
    ours = filterref.get("filter") == ANTI_SPOOFING_FILTER
    addresses: dict[str, list[IPv4Address | IPv6Address]] = {
        "IP": [who.address],
        "IPV6": [link_local(who.mac), *([who.ipv6] if who.ipv6 else [])],
    }
    for name, values in addresses.items():
        old = [one for one in filterref.findall("parameter") if one.get("name") == name]
        for one in old:
            filterref.remove(one)
        if old or ours or (anti_spoofing and name == "IP"):
            for value in values:
                SubElement(filterref, "parameter", name=name, value=str(value))


def filter_for(own: str | None) -> str:
    """The filter of a machine that is to be filtered, by the one that its template has."""
    return ANTI_SPOOFING_FILTER if own in (None, "", STANDARD_FILTER) else own


def _use_copy(disk: Element, copy: DiskCopy) -> None:
    driver, source = disk.find("driver"), disk.find("source")
    if driver is None:
        driver = Element("driver", name="qemu")
        disk.insert(0, driver)
    driver.set("type", copy.format)
    if driver.get("name") in _XEN_DRIVERS and (copy.format != "raw" or driver.get("name") in _TAP_DRIVERS):
        driver.set("name", "qemu")  # the only one that reads an image
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


def reboot_ends(xml: str) -> bool:
    """Whether the machine's own reboot is its end, as installers define it."""
    return parse_domain(xml).findtext("on_reboot") == "destroy"
