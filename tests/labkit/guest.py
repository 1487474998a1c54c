"""A guest that boots in seconds without KVM: a Debian kernel, busybox, and nothing else.

It brings every network card up, also one that is plugged in while it runs, asks for an address by plain DHCP until
it gets one, keeps renewing it, and answers on three ports: 22 says who the guest is, 23 reboots it, 24 shows one of
its files. A guest made with a file `mac2ip` (see `Guest.with_files`) runs that instead of asking by DHCP, and
with a file `etc/mdev.conf` it runs busybox's mdev as well. The power
button (`virsh shutdown`) switches it off. The scripts it runs are in `guestfs/`; its console is the guest's libvirt
log, see `Console`.

Nothing of macbind is inside, but what `with_files` adds.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from types import MappingProxyType
from typing import Self

from labkit.cpio import archive, end, member
from labkit.kernel import Kernel, kernel
from labkit.net import Lab
from labkit.netns import run_command
from labkit.virt import CACHE, Console, Libvirtd
from labkit.wait import until

GREETING_PORT, REBOOT_PORT, SHOW_PORT = 22, 23, 24
BOOT_DEADLINE_S = 150.0  # a boot costs 2 s of processor time; ten at once on two slow processors need 20

_SCRIPTS = Path(__file__).with_name("guestfs")
_BUSYBOX = Path("/bin/busybox")
_APPLETS = [
    "sh",
    "mount",
    "insmod",
    "cat",
    "ip",
    "mkdir",
    "nc",
    "udhcpc",
    "hostname",
    "acpid",
    "poweroff",
    "reboot",
    "sleep",
    "uevent",
    "mdev",
    # What a script that configures a machine may use, and any busybox system has.
    *("arping", "chmod", "cp", "grep", "id", "kill", "mkdir", "mv", "od", "readlink", "rm"),
]
_FOLDERS = (
    *("bin", "cards", "dev", "etc", "etc/acpi", "etc/acpi/PWRF", "macs"),
    *("modules", "proc", "run", "seed", "sys"),
)
# For the power button: button and evdev; for what the host hands over: qemu_fw_cfg.
_MODULES = ("virtio_pci", "virtio_net", "button", "evdev", "qemu_fw_cfg")
_LATE_MODULES = ("virtio_blk", "isofs")
"""Loaded when a file is first to be shown: other guests need not wait for them."""
_NAME = re.compile(r"<name>([^<]+)</name>")

_TEMPLATE = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initramfs}</initrd>
    <cmdline>console=ttyS0 quiet panic=1 nokaslr{cmdline}</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <controller type='usb' model='none'/>{disk}
    <interface type='bridge'>{mac}
      <source bridge='{bridge}'/>
      <model type='virtio'/>
    </interface>
    <serial type='stdio'><target port='0'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
"""
_DISK = """
    <disk type='file' device='disk'>
      <driver name='qemu' type='{format}'/>
      <source file='{file}'/>
      <target dev='vdb' bus='virtio'/>
    </disk>"""


@dataclass(frozen=True)
class Guest:
    """The two files a guest is booted from. `Guest.build()` makes them."""

    kernel: Path
    initramfs: Path

    @classmethod
    def build(cls, cache: Path = CACHE) -> Self:
        """Debian's kernel for clouds with our initramfs, which is made once for each kernel and recipe.

        Raises:
            MirrorFailed: The kernel is not there and cannot be downloaded.
            FileNotFoundError: busybox is not installed; the message names the package.
        """
        debians = kernel()
        image = b"".join(_archive(debians))
        initramfs = cache / f"{debians.image.name}-{hashlib.sha256(image).hexdigest()[:16]}.cpio"
        if not initramfs.exists():
            cache.mkdir(parents=True, exist_ok=True)
            half_made = initramfs.with_suffix(f".{os.getpid()}")
            half_made.write_bytes(image)
            half_made.replace(initramfs)
        return cls(debians.image, initramfs)

    def with_files(
        self, place: Path, files: Mapping[str, str | bytes], links: Mapping[str, str] = MappingProxyType({})
    ) -> Self:
        """The same guest with more files in its root, each executable, by their paths there.

        `place` is where its initramfs goes, `links` are symbolic links with what they point to. The kernel unpacks
        one archive after the other.
        """
        first = self.initramfs.read_bytes()
        place.write_bytes(first + b"\0" * (-len(first) % 4) + archive(files, links))
        return type(self)(self.kernel, place)

    def template(
        self,
        bridge: str = Lab.bridge,
        *,
        name: str = "template",
        mac: str | None = None,
        client_id: str | None = None,
        options: str = "",
        cmdline: str = "",
    ) -> str:
        """The XML of a guest without disk and with one card on `bridge`.

        Without `mac` libvirt invents one. `client_id`, in hexadecimal digits, is the DHCP client identifier it
        sends, as machines cloned from one image do. `options` are those of its `mac2ip`, if it has one, with
        commas between. `cmdline` is more for its kernel: with `macbind.faithful` it uses no card with a MAC it did
        not boot with, with `acpiphp.disable=1` it does not let go of a card.
        """
        words = [f"macbind.clientid={client_id}"] if client_id else []
        words += [f"macbind.options={options}"] if options else []
        return self._xml("", bridge, name, mac, [*words, *cmdline.split()])

    def disk_template(
        self,
        disk: Path,
        bridge: str = Lab.bridge,
        *,
        image_format: str = "qcow2",
        name: str = "template",
        mac: str | None = None,
        client_id: str | None = None,
    ) -> str:
        """The same with a disk, `vdb`, that it does not look at; see `create_disk`."""
        words = [f"macbind.clientid={client_id}"] if client_id else []
        return self._xml(_DISK.format(format=image_format, file=disk), bridge, name, mac, words)

    def _xml(self, disk: str, bridge: str, name: str, mac: str | None, words: list[str]) -> str:
        return _TEMPLATE.format(
            name=name,
            kernel=self.kernel,
            initramfs=self.initramfs,
            cmdline="".join(f" {word}" for word in words),
            disk=disk,
            mac=f"\n      <mac address='{mac}'/>" if mac else "",
            bridge=bridge,
        )


def create_disk(path: Path, *, image_format: str = "qcow2", size: str = "1M") -> Path:
    """Make an empty disk image."""
    run_command(["qemu-img", "create", "-q", "-f", image_format, str(path), size])
    return path


def boot(libvirtd: Libvirtd, xml: str, *, persistent: bool = False) -> Console:
    """Start a guest and return its console; it is transient unless told to be `persistent`."""
    found = _NAME.search(xml)
    if found is None:
        raise ValueError("this domain XML has no name")
    if persistent:
        libvirtd.virsh("define", "/dev/stdin", stdin=xml)
        libvirtd.virsh("start", found[1])
    else:
        libvirtd.virsh("create", "/dev/stdin", stdin=xml)
    return libvirtd.console(found[1])


def wait_ping(
    lab: Lab,
    address: IPv4Address | str,
    deadline_s: float = BOOT_DEADLINE_S,
    *,
    console: Console | None = None,
) -> None:
    """Return when `address` answers a ping; when it never does, the error shows the console's end."""
    if not lab.ping(address, deadline_s):
        seen = f"; its console ends:\n{console.tail()}" if console else ""
        raise TimeoutError(f"gave up after {deadline_s:g} s waiting for {address} to answer a ping{seen}")


def greeting(lab: Lab, address: IPv4Address | str, port: int = GREETING_PORT, timeout_s: float = 20.0) -> str:
    """What the service on a TCP port says before it closes the connection; OSError when it cannot be had."""
    with lab.open_socket(str(address), port, timeout_s) as sock, sock.makefile() as stream:
        return stream.read()


def shown(lab: Lab, address: IPv4Address | str, path: str, timeout_s: float = 60.0) -> bytes:
    """The content of a file in the guest, empty if it cannot be read; seed disks are mounted below /seed."""
    with lab.open_socket(str(address), SHOW_PORT, timeout_s) as sock, sock.makefile("rwb") as stream:
        stream.write(f"{path}\n".encode())
        stream.flush()
        return stream.read()


def tcp_answers(
    lab: Lab, address: IPv4Address | str, port: int = GREETING_PORT, timeout_s: float = 20.0
) -> bool:
    """Whether something listens on a TCP port and says anything."""
    try:
        return bool(greeting(lab, address, port, timeout_s))
    except OSError:
        return False


def reboot(
    lab: Lab, address: IPv4Address | str, console: Console, deadline_s: float = BOOT_DEADLINE_S
) -> None:
    """Let the guest reboot itself; returns when it has an address again."""
    boots = console.boots()
    lab.open_socket(str(address), REBOOT_PORT).close()
    until(lambda: console.leases() > boots, deadline_s, f"{address} to come back")


def _archive(debians: Kernel) -> Iterator[bytes]:
    """The members of the initramfs, in the format that the kernel calls newc."""
    if not _BUSYBOX.exists():
        raise FileNotFoundError(f"no {_BUSYBOX}: the package busybox-static is missing")
    for folder in _FOLDERS:
        yield member(folder, stat.S_IFDIR | 0o755)
    yield member("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    yield member("bin/busybox", stat.S_IFREG | 0o755, _BUSYBOX.read_bytes())
    for applet in _APPLETS:
        yield member(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox")
    for script in sorted(path for path in _SCRIPTS.rglob("*") if path.is_file()):
        yield member(str(script.relative_to(_SCRIPTS)), stat.S_IFREG | 0o755, script.read_bytes())
    modules = debians.modules(_MODULES)
    late = [module for module in debians.modules(_LATE_MODULES) if module not in modules]
    for module in (*modules, *late):
        yield member(f"modules/{module.name}", stat.S_IFREG | 0o644, module.read_bytes())
    for name, part in (("order", modules), ("late", late)):
        order = "".join(f"{module.name}\n" for module in part)
        yield member(f"modules/{name}", stat.S_IFREG | 0o644, order.encode())
    yield end()
