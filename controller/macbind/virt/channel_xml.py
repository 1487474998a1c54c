"""What a machine is told beside its MAC, as parts of its domain XML. Pure.

The same lines go into a blob of QEMU's fw_cfg device, into SMBIOS OEM strings, or onto a seed disk for cloud-init;
those for Xenstore are no part of the XML. What an earlier launch has left in a template is recognised by its names
and taken out, whether or not a channel is chosen now: no machine may read what another one was told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree.ElementTree import Element, SubElement  # nosec B405  # builds XML, reads none

from macbind.core.errors import InvalidRequest
from macbind.guest.identity import IDENTITY_LINES
from macbind.virt.channels import Channel
from macbind.virt.domain_xml import QEMU_NAMESPACE

FW_CFG_NAME = "opt/org.macbind/identity"
"""The blob's name; QEMU asks for ``opt/`` and a reversed domain (docs/specs/fw_cfg.rst)."""
OEM_PREFIX = "macbind:"
"""How our OEM strings begin."""
SEED_TARGET = "seed"
"""What a seed disk has for a target in the name of its volume; no disk can have it."""
MOST_TEXT = 60_000
"""Bytes of all lines, commas twice: SMBIOS tables have at most 65,535 bytes together, QEMU's arguments 131,072."""

_COMMAND_LINE_TAG = f"{{{QEMU_NAMESPACE}}}commandline"
_ARGUMENT_TAG = f"{{{QEMU_NAMESPACE}}}arg"
_GARBLED = re.compile(r"[,\"'<>&]")
"""What libvirt's fw_cfg entries cannot have: it writes a comma as it is, and the others as XML does."""
_BLOB_ARGUMENT = f"name={FW_CFG_NAME},string="
_SEED = re.compile(rf"(.*/)?macbind-[^/]+-{SEED_TARGET}")
_QEMU_TYPES = ("kvm", "qemu", "hvf")
_PREFIXES = {"virtio": "vd", "ide": "hd", "xen": "xvd"}  # of the others: sd
_CDROM_BUSES = ("ide", "sata", "scsi", "usb")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_MOST_IDE = 4
_MOST_STRINGS = 255  # their number is one byte; QEMU would write its remainder


def check_channels(root: Element, channels: Iterable[Channel], keys: int = 0) -> None:
    """Checks that a template's machines can have these channels.

    Args:
        root: The template, from which :func:`forget` has taken what an earlier launch put in.
        channels: The channels.
        keys: How much data they are to carry beside who the machine is.

    Raises:
        InvalidRequest: They cannot; the hint says what can be.
    """
    kind = root.get("type", "")
    for channel in channels:
        if channel in (Channel.FW_CFG, Channel.SMBIOS) and kind not in _QEMU_TYPES:
            raise InvalidRequest(
                f"The channel {channel} is QEMU's, and the template's domain type is {kind!r}.",
                hint="Use nocloud, or xenstore for Xen.",
            )
        if channel is Channel.XENSTORE and kind != "xen":
            raise InvalidRequest(
                f"The channel xenstore is Xen's, and the template's domain type is {kind!r}.",
                hint="Use fw_cfg, smbios or nocloud.",
            )
        mode = next((one.get("mode") for one in root.iterfind("./os/smbios")), None)
        if channel is Channel.SMBIOS and mode == "host":
            raise InvalidRequest(
                "The template shows its machines the SMBIOS tables of the host, to which nothing can be added.",
                hint="Use another channel, or remove <smbios mode='host'/> from the template.",
            )
        own = len(root.findall("./sysinfo[@type='smbios']/oemStrings/entry"))
        if channel is Channel.SMBIOS and own + IDENTITY_LINES + keys > _MOST_STRINGS:
            raise InvalidRequest(
                f"The template has {own} OEM strings of its own, and no room for {keys} keys besides.",
                hint=f"SMBIOS counts {_MOST_STRINGS} at most; use another channel.",
            )
        if channel is Channel.NOCLOUD:
            _free_target(root, _bus(root))


def check_size(lines: Iterable[str]) -> None:
    """Checks that the lines fit into fw_cfg and SMBIOS.

    Raises:
        InvalidRequest: They do not.
    """
    size = sum(len(OEM_PREFIX) + len(line) + line.count(",") + 1 for line in lines)
    if size > MOST_TEXT:
        raise InvalidRequest(
            f"The machine's data is too much for fw_cfg and smbios: {size} bytes.",
            hint=f"Give it less than {MOST_TEXT} bytes, or use nocloud.",
        )


@dataclass(frozen=True, slots=True)
class Seed:
    """A seed disk as a domain refers to it.

    Attributes:
        path: Its file or block device on the hypervisor.
        is_block: Whether it is a block device.
    """

    path: str
    is_block: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """What one machine is told by its XML.

    Attributes:
        channels: How.
        lines: What; see :mod:`macbind.guest.identity`.
        seed: The seed disk, if there is one.
    """

    channels: Sequence[Channel] = ()
    lines: Sequence[str] = ()
    seed: Seed | None = None


def tell(root: Element, message: Message) -> None:
    """Puts a message into a domain from which :func:`forget` has taken every earlier one."""
    if Channel.FW_CFG in message.channels:
        _put_blob(root, "\n".join(message.lines))
    if Channel.SMBIOS in message.channels:
        sysinfo = _sysinfo(root, "smbios")
        strings = sysinfo.find("oemStrings")
        if strings is None:
            strings = SubElement(sysinfo, "oemStrings")
        for line in message.lines:
            SubElement(strings, "entry").text = f"{OEM_PREFIX}{line}"
        system = root.find("os")
        if system is None:
            system = SubElement(root, "os")
        smbios = system.find("smbios")
        if smbios is None:
            smbios = SubElement(system, "smbios")
        smbios.set("mode", "sysinfo")
    if message.seed is not None:
        _attach(root, message.seed)


def _put_blob(root: Element, text: str) -> None:
    """As libvirt means it to be done, or by QEMU's command line where libvirt would garble the text.

    libvirt marks a domain with arguments of its own as tainted, so that is not done without need.
    """
    if not _GARBLED.search(text):
        SubElement(_sysinfo(root, "fwcfg"), "entry", name=FW_CFG_NAME).text = text
        return
    line = root.find(_COMMAND_LINE_TAG)
    if line is None:
        line = SubElement(root, _COMMAND_LINE_TAG)
    SubElement(line, _ARGUMENT_TAG, value="-fw_cfg")
    # QEMU's arguments have a comma written twice.
    SubElement(line, _ARGUMENT_TAG, value=f"{_BLOB_ARGUMENT}{text.replace(',', ',,')}")


def _sysinfo(root: Element, kind: str) -> Element:
    found = root.find(f"./sysinfo[@type='{kind}']")
    return SubElement(root, "sysinfo", type=kind) if found is None else found


def _attach(root: Element, seed: Seed) -> None:
    """On the bus of the template's first disk: a guest that boots from it has a driver for it.

    A Debian cloud kernel, for one, has none for SATA, where a CD-ROM would be by custom.
    """
    devices = root.find("devices")
    if devices is None:
        devices = SubElement(root, "devices")
    bus = _bus(root)
    device = "cdrom" if bus in _CDROM_BUSES else "disk"
    disk = SubElement(devices, "disk", type="block" if seed.is_block else "file", device=device)
    if root.get("type") in _QEMU_TYPES:
        SubElement(disk, "driver", name="qemu", type="raw")
    SubElement(disk, "source", {"dev" if seed.is_block else "file": seed.path})
    SubElement(disk, "target", dev=_free_target(root, bus), bus=bus)
    SubElement(disk, "readonly")


def _bus(root: Element) -> str:
    for disk in root.iterfind("./devices/disk"):
        target = disk.find("target")
        if disk.get("device", "disk") in ("disk", "lun") and target is not None:
            known = target.get("bus")
            if known:
                return known
            name = target.get("dev", "")  # libvirt, too, infers the bus from it
            return next((bus for bus, prefix in _PREFIXES.items() if name.startswith(prefix)), "scsi")
    return "xen" if root.get("type") == "xen" else "virtio"


def _free_target(root: Element, bus: str) -> str:
    """Behind all others if there is room: libvirt sorts disks by their targets, and machines boot from the first."""
    prefix = _PREFIXES.get(bus, "sd")
    names = [f"{prefix}{letter}" for letter in (_LETTERS[:_MOST_IDE] if bus == "ide" else _LETTERS)]
    taken = {target.get("dev", "") for target in root.iterfind("./devices/disk/target")}
    last = max((index for index, name in enumerate(names) if name in taken), default=-1)
    for name in (*names[last + 1 :], *names):
        if name not in taken:
            return name
    raise InvalidRequest(
        f"The template's {bus} bus has no room for a seed disk.",
        hint="Remove a disk or CD-ROM from it, or put its first disk on another bus.",
    )


def forget(root: Element) -> None:
    """Takes out what an earlier launch has put in; what it only completed becomes again what it was."""
    for sysinfo in root.findall("./sysinfo[@type='fwcfg']"):
        ours = [one for one in sysinfo.findall("entry") if one.get("name") == FW_CFG_NAME]
        _remove(sysinfo, ours)
        if ours and not len(sysinfo):
            root.remove(sysinfo)
    for line in root.findall(_COMMAND_LINE_TAG):
        arguments = list(line)
        for before, one in pairwise(arguments):
            if one.get("value", "").startswith(_BLOB_ARGUMENT):
                _remove(line, (before, one))
        if arguments and not len(line):
            root.remove(line)
    for sysinfo in root.findall("./sysinfo[@type='smbios']"):
        ours = []
        for strings in sysinfo.findall("oemStrings"):
            found = [
                one for one in strings.findall("entry") if (one.text or "").strip().startswith(OEM_PREFIX)
            ]
            _remove(strings, found)
            ours += found
            if found and not len(strings):
                sysinfo.remove(strings)
        if ours and not len(sysinfo):
            root.remove(sysinfo)
            for system in root.findall("os"):  # there is no sysinfo left to show
                _remove(system, system.findall("smbios"))
                if not len(system):
                    root.remove(system)
    for devices in root.findall("devices"):
        _remove(devices, [disk for disk in devices.findall("disk") if _is_seed(disk)])


def _remove(parent: Element, children: Iterable[Element]) -> None:
    for child in children:
        parent.remove(child)


def _is_seed(disk: Element) -> bool:
    if disk.find("readonly") is None:
        return False
    source = disk.find("source")
    names = [] if source is None else [source.get(name) for name in ("file", "dev", "volume")]
    return any(_SEED.fullmatch(name) for name in names if name)
