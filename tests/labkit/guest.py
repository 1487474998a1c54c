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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Self

from labkit.net import Lab
from labkit.netns import run_command
from labkit.virt import CACHE, Console, Libvirtd
from labkit.wait import until

GREETING_PORT, REBOOT_PORT, SHOW_PORT = 22, 23, 24
BOOT_DEADLINE_S = 60.0  # a boot costs 2 s of processor time; ten at once on two slow processors need 20

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
        """The newest Debian cloud kernel with our initramfs, which is made once for each kernel and recipe.

        Raises:
            FileNotFoundError: Kernel or busybox is not installed; the message names the package.
        """
        kernel = _newest_kernel()
        image = b"".join(_archive(kernel.name.removeprefix("vmlinuz-")))
        initramfs = cache / f"{kernel.name}-{hashlib.sha256(image).hexdigest()[:16]}.cpio"
        if not initramfs.exists():
            cache.mkdir(parents=True, exist_ok=True)
            half_made = initramfs.with_suffix(f".{os.getpid()}")
            half_made.write_bytes(image)
            half_made.replace(initramfs)
        return cls(kernel, initramfs)

    def with_files(self, place: Path, files: Mapping[str, str | bytes]) -> Self:
        """The same guest with more files in its root, each executable, by their paths there.

        `place` is where its initramfs goes. The kernel unpacks one archive after the other.
        """
        folders = sorted({str(folder) for name in files for folder in Path(name).parents} - {"."})
        more = [_member(name, stat.S_IFDIR | 0o755) for name in folders]
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            more.append(_member(name, stat.S_IFREG | 0o755, data))
        archive = b"".join([*more, _member("TRAILER!!!", 0)])
        first = self.initramfs.read_bytes()
        place.write_bytes(first + b"\0" * (-len(first) % 4) + archive)
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


def greeting(lab: Lab, address: IPv4Address | str, port: int = GREETING_PORT, timeout_s: float = 5.0) -> str:
    """What the service on a TCP port says before it closes the connection; OSError when it cannot be had."""
    with lab.open_socket(str(address), port, timeout_s) as sock, sock.makefile() as stream:
        return stream.read()


def shown(lab: Lab, address: IPv4Address | str, path: str, timeout_s: float = 30.0) -> bytes:
    """The content of a file in the guest, empty if it cannot be read; seed disks are mounted below /seed."""
    with lab.open_socket(str(address), SHOW_PORT, timeout_s) as sock, sock.makefile("rwb") as stream:
        stream.write(f"{path}\n".encode())
        stream.flush()
        return stream.read()


def tcp_answers(
    lab: Lab, address: IPv4Address | str, port: int = GREETING_PORT, timeout_s: float = 5.0
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
    boots = console.leases()
    lab.open_socket(str(address), REBOOT_PORT).close()
    until(lambda: console.leases() > boots, deadline_s, f"{address} to come back")


def _newest_kernel() -> Path:
    def version(kernel: Path) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", kernel.name)]

    kernels = sorted(Path("/boot").glob("vmlinuz-*-cloud-amd64"), key=version)
    if not kernels:
        raise FileNotFoundError(
            "no /boot/vmlinuz-*-cloud-amd64: the package linux-image-cloud-amd64 is missing"
        )
    if not _BUSYBOX.exists():
        raise FileNotFoundError(f"no {_BUSYBOX}: the package busybox-static is missing")
    return kernels[-1]


def _archive(version: str) -> Iterator[bytes]:
    """The members of the initramfs, in the format that the kernel calls newc."""
    for folder in _FOLDERS:
        yield _member(folder, stat.S_IFDIR | 0o755)
    yield _member("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    yield _member("bin/busybox", stat.S_IFREG | 0o755, _BUSYBOX.read_bytes())
    for applet in _APPLETS:
        yield _member(f"bin/{applet}", stat.S_IFLNK | 0o777, b"busybox")
    for script in sorted(path for path in _SCRIPTS.rglob("*") if path.is_file()):
        yield _member(str(script.relative_to(_SCRIPTS)), stat.S_IFREG | 0o755, script.read_bytes())
    modules = _modules(version, _MODULES)
    late = [module for module in _modules(version, _LATE_MODULES) if module not in modules]
    for module in (*modules, *late):
        yield _member(f"modules/{module.name}", stat.S_IFREG | 0o644, module.read_bytes())
    for name, part in (("order", modules), ("late", late)):
        order = "".join(f"{module.name}\n" for module in part)
        yield _member(f"modules/{name}", stat.S_IFREG | 0o644, order.encode())
    yield _member("TRAILER!!!", 0)


def _modules(version: str, names: Sequence[str]) -> list[Path]:
    """The kernel modules in the order in which they can be loaded."""
    found: dict[Path, None] = {}
    for name in names:
        said = run_command(["/usr/sbin/modprobe", "--set-version", version, "--show-depends", name]).stdout
        lines = (line.split() for line in said.splitlines())
        found.update({Path(words[1]): None for words in lines if words[0] == "insmod"})
    return list(found)


def _member(name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    encoded = name.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, major and minor of the file system and of the device, length
    # of the name, checksum. All inodes are 0: with one link each they are never compared.
    numbers = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    return _aligned(header + encoded) + _aligned(content)


def _aligned(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
