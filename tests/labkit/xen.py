"""A real Xen with a domain 0 in QEMU's software emulation, which boots in seconds.

      server namespace of a lab          QEMU, without KVM
    ┌───────────────────────────┐      ┌──────────────────────────────────────────────────────┐
    │  the lab's tools          │      │ Xen                                                  │
    │        │                  │      │ ┌─ domain 0, Debian's kernel ─────────┐ ┌─ web ────┐ │
    │       br0 10.0.0.1/8      │ tap  │ │ oxenstored  xenconsoled  libvirtd   │ │ PV guest │ │
    │        └──── dom0 ────────┼──────┼─┼─ eth0 ── br0 10.0.0.2/8 ── vif1.0 ──┼─┼─ eth0    │ │
    │                           │      │ └─────────────────────────────────────┘ └──────────┘ │
    └───────────────────────────┘      └──────────────────────────────────────────────────────┘

Domain 0 has this machine's own /usr, read-only by 9p, and so its Xen tools, libvirtd, dhcpd and Python. It has the
project and the directory of the run in their places, too, and only the latter to write to. Its other files are in
memory. What this machine does not have, and must not boot from, is unpacked below `.cache`: the hypervisor, a kernel
that can be domain 0, and libvirt's driver for Xen.
"""

import gzip
import socket
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile, rmtree
from types import TracebackType
from typing import Self

from labkit.alone import alone
from labkit.cpio import archive, libraries
from labkit.debian import archives, download, unpack
from labkit.guest import Guest
from labkit.kernel import CACHE, USUAL, kernel
from labkit.net import Lab, Process
from labkit.priority import set_nice
from labkit.wait import until

ROOT = Path(__file__).parents[2]
ADDRESS = "10.0.0.2"
"""Of domain 0."""
BOOT_S = 800.0  # 10 s on a processor of its own
COMMAND_S = 600.0
LOOK_S = 1.0
"""Between two looks into domain 0, which would be busy with nothing else."""

_FILES = Path(__file__).with_name("dom0fs")
_TOOLS = "/usr/lib/xen-*/bin/xl"
_DRIVER = "usr/lib/*/libvirt/connection-driver/libvirt_driver_libxl.so"
_OTHER_DRIVERS = ("network", "nwfilter", "secret", "storage")
"""libvirtd's, beside Xen's; QEMU's would find no QEMU to ask."""
_MODULES = (
    *("virtio_pci", "virtio_net", "9pnet_virtio", "9p", "bridge", "tun", "loop"),
    *("xen-netback", "xen-blkback", "xen-gntdev", "xen-gntalloc", "xen-evtchn", "xenfs"),
)
_GUEST_MODULES = ("xen-netfront",)
_GUEST_TOOLS = ("xenstore-read", "xenstore-list")
_XEN_OPTIONS = (
    "console=com1 com1=115200,8n1 dom0_mem=768M,max:768M noreboot=1 xpti=no pv-l1tf=no spec-ctrl=no"
)
_DOM0_OPTIONS = "console=hvc0 quiet loglevel=4 mitigations=off nokaslr"
# A Nehalem, because Xen hides from processors of AMD what libvirt needs to describe them. QEMU has no mitigation that
# they would need, so that Xen's and Linux's are off.
_QEMU = (
    *("setpriv", "--pdeathsig", "KILL", "--"),  # it must not outlive a test run that was killed
    *("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "Nehalem", "-m", "1400", "-smp", "1"),
    *("-display", "none", "-nodefaults", "-no-user-config", "-no-reboot"),
)
_TAIL_LINES = 40
_NICE = -12
_TEMPLATE = """\
<domain type='xen'>
  <name>{name}</name>
  <memory unit='MiB'>96</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='xenpv'>linux</type>
    <kernel>{kernel}</kernel>
    <initrd>{initramfs}</initrd>
    <cmdline>console=hvc0 quiet panic=1 nokaslr</cmdline>
  </os>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <interface type='bridge'>{mac}
      <source bridge='br0'/>
    </interface>
    <console type='pty'><target type='xen' port='0'/></console>
  </devices>
</domain>
"""


class XenMissing(RuntimeError):
    """This machine's Debian has not what Xen needs; the message says what."""


class Dom0Failed(RuntimeError):
    """A command in domain 0 failed, or domain 0 itself; the message carries what it said."""


@dataclass(frozen=True)
class Parts:
    """What Xen is booted from. `Parts.build()` makes them."""

    hypervisor: Path
    driver: Path

    @classmethod
    def build(cls, cache: Path = CACHE) -> Self:
        """The hypervisor for the Xen tools that are installed here, and libvirt's driver for it.

        Raises:
            XenMissing: There are no Xen tools.
            MirrorFailed: A package cannot be downloaded.
        """
        found = sorted(Path("/").glob(_TOOLS.lstrip("/")))
        if not found:
            raise XenMissing(f"no {_TOOLS}: the package xen-utils-4.* is missing")
        version = found[-1].parts[-3].removeprefix("xen-")
        place = cache / f"xen-{version}"
        cache.mkdir(parents=True, exist_ok=True)
        with alone(cache / f"{place.name}.lock"):
            if not place.exists():
                half = place.with_suffix(".half")
                rmtree(half, ignore_errors=True)
                half.mkdir()
                for package in (f"xen-hypervisor-{version}-amd64", "libvirt-daemon-driver-xen"):
                    unpack(download(archives(cache), package), half / "root")
                image = half / f"root/boot/xen-{version}-amd64.gz"
                (half / "xen").write_bytes(gzip.decompress(image.read_bytes()))  # QEMU does not
                (driver,) = (half / "root").glob(_DRIVER)
                copyfile(driver, half / driver.name)
                rmtree(half / "root")
                half.rename(place)
        return cls(place / "xen", place / Path(_DRIVER).name)


class Xen:
    """One Xen in the server's namespace of a lab. A context manager: leaving it switches the machine off.

    `directory` is the run's, and domain 0 has it in the same place.
    """

    def __init__(self, lab: Lab, directory: Path, *, boot_s: float = BOOT_S) -> None:
        self.lab, self.directory, self.boot_s, self.project = lab, directory, boot_s, ROOT
        self._console = directory / "console.log"
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        try:
            until(self._answers, self.boot_s, "domain 0 to come up", pause_s=LOOK_S)
            until(self._has_libvirt, self.boot_s, "libvirtd of domain 0 to answer", pause_s=LOOK_S)
        except BaseException as error:
            self.close()
            error.add_note(self.console_tail())
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Switch the machine on."""
        parts, debians = Parts.build(), kernel(newest=USUAL)
        shares = {"usr": Path("/usr"), "project": ROOT, "run": self.directory}
        initramfs = self.directory / "initrd-dom0"
        initramfs.write_bytes(_initramfs(parts, shares))
        # QEMU takes a comma in these for the end of a module, so they are known by names of ours.
        for name, file in (("xen", parts.hypervisor), ("vmlinuz-dom0", debians.image)):
            (self.directory / name).symlink_to(file)
        self.lab.server.ip("tuntap add dom0 mode tap", f"link set dom0 master {self.lab.bridge} up")
        command = [
            *_QEMU,
            *("-serial", f"file:{self._console}", "-kernel", "xen", "-append", _XEN_OPTIONS),
            *("-initrd", f"vmlinuz-dom0 {_DOM0_OPTIONS},{initramfs.name}"),
            *("-netdev", "tap,id=net,ifname=dom0,script=no,downscript=no"),
            *("-device", "virtio-net-pci,netdev=net,romfile="),
        ]
        for tag, place in shares.items():
            read_only = "off" if tag == "run" else "on"
            path = str(place).replace(",", ",,")
            command += [
                "-virtfs",
                f"local,path={path},mount_tag={tag},security_model=none,readonly={read_only},multidevs=remap",
            ]
        self._process = self.lab.popen(command, output=self.directory / "qemu.log", cwd=self.directory)
        # Xen's tools give up a device after 10 s, however busy this machine is.
        set_nice(self._process.pid, _NICE)

    def run(self, script: str, *, deadline_s: float = COMMAND_S, status: int = 0) -> str:
        """What a shell script in domain 0 says; it fails unless the script ends with `status` in time."""
        try:
            said, ended = self.attempt(script, deadline_s=deadline_s)
        except OSError as error:
            error.add_note(f"of domain 0, which was to do this within {deadline_s:g} s: {script}")
            raise
        if ended != status:
            raise Dom0Failed(f"status {ended}: {script}\nIt said: {said.strip() or 'nothing'}")
        return said

    def attempt(self, script: str, *, deadline_s: float = COMMAND_S) -> tuple[str, int]:
        """What a shell script in domain 0 says, and how it ended."""
        with self.lab.open_socket(ADDRESS, 24, deadline_s) as sock, sock.makefile("rwb") as stream:
            stream.write(script.encode())
            stream.flush()
            sock.shutdown(socket.SHUT_WR)
            said, mark, status = stream.read().decode(errors="replace").rpartition("status ")
        if not mark:
            raise Dom0Failed(f"domain 0 broke off: {script}\n{self.console_tail()}")
        return said, int(status)

    def virsh(self, *arguments: str, deadline_s: float = COMMAND_S) -> str:
        """Run virsh in domain 0 and return what it printed."""
        return self.run(f"virsh -q -c xen:///system {' '.join(arguments)}", deadline_s=deadline_s)

    def guest_console(self, name: str) -> str:
        """What a guest has written to its console."""
        return self.attempt(f"cat /var/log/xen/console/guest-{name}.log")[0]

    def console_tail(self) -> str:
        """The last lines of Xen and domain 0, for error messages."""
        files = (self.directory / "qemu.log", self._console)
        lines = [
            line for file in files if file.exists() for line in file.read_text(errors="replace").splitlines()
        ]
        return "\n".join(lines[-_TAIL_LINES:])

    def close(self) -> None:
        """Switch it off, as a power cut would. Can be repeated."""
        if self._process is not None:
            self._process.kill_now()

    def _answers(self) -> bool:
        if self._process is None or not self._process.alive:
            raise Dom0Failed(f"Xen has ended:\n{self.console_tail()}")
        try:
            return self.attempt("true", deadline_s=2.0)[1] == 0
        except OSError:
            return False

    def _has_libvirt(self) -> bool:
        return self.attempt("virsh -c xen:///system list")[1] == 0


def guest(place: Path, files: dict[str, str | bytes] | None = None) -> Guest:
    """The lab's guest, for Xen: with a card of Xen's, and Xenstore's tools; `place` is where its initramfs goes."""
    modules = kernel().modules(_GUEST_MODULES)
    tools = [Path("/usr/bin", name) for name in _GUEST_TOOLS]
    more: dict[str, str | bytes] = {str(one).lstrip("/"): one.read_bytes() for one in libraries(tools)}
    more |= {f"bin/{one.name}": one.read_bytes() for one in tools}
    more |= {f"modules/{one.name}": one.read_bytes() for one in modules}
    more["modules/order"] = "".join(f"{one.name}\n" for one in modules)
    return Guest.build().with_files(place, more | (files or {}))


def template(of: Guest, *, name: str = "template", mac: str | None = None) -> str:
    """The XML of a PV guest without disk and with one card; libvirt invents its MAC if there is none."""
    card = f"\n      <mac address='{mac}'/>" if mac else ""
    return _TEMPLATE.format(name=name, kernel=of.kernel, initramfs=of.initramfs, mac=card)


def _initramfs(parts: Parts, shares: dict[str, Path]) -> bytes:
    """Domain 0's root."""
    modules = kernel(newest=USUAL).modules(_MODULES)
    own = [path for path in sorted(_FILES.rglob("*")) if path.is_file()]
    theirs = [path for path in sorted(Path("/etc/xen").rglob("*")) if path.is_file()]
    files: dict[str, str | bytes] = {
        "busybox": Path("/bin/busybox").read_bytes(),
        "address": f"{ADDRESS}/8\n",
    }
    files |= {str(path).lstrip("/"): path.read_bytes() for path in (*theirs, Path("/etc/init.d/xen"))}
    files |= {str(path.relative_to(_FILES)): path.read_bytes() for path in own}
    files |= {f"modules/{module.name}": module.read_bytes() for module in modules}
    files["modules/order"] = "".join(f"{module.name}\n" for module in modules)
    files[f"drivers/{parts.driver.name}"] = parts.driver.read_bytes()
    files["shares"] = "".join(
        f"{tag} {'rw' if tag == 'run' else 'ro,cache=loose'} {place}\n" for tag, place in shares.items()
    )
    links = {name: f"usr/{name}" for name in ("bin", "sbin", "lib", "lib64")}
    links["etc/alternatives/awk"] = "/usr/bin/mawk"
    installed = Path("/usr/lib/x86_64-linux-gnu/libvirt/connection-driver")
    links |= {
        f"drivers/libvirt_driver_{name}.so": str(installed / f"libvirt_driver_{name}.so")
        for name in _OTHER_DRIVERS
    }
    return archive(files, links)
