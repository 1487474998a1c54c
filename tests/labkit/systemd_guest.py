"""A guest with real systemd and real udev, this machine's own, which boots in seconds without KVM.

It is the guest of `labkit.guest` with the few files more that process 1, udevd and their rules need. Its cards have
the names that udev gives them. The greeting is on port 22; what services say is on its console.
"""

from pathlib import Path

from labkit.cpio import libraries
from labkit.guest import Guest

_INIT = Path(__file__).with_name("systemdfs") / "init"
_PROGRAMS = ("/lib/systemd/systemd", "/lib/systemd/systemd-udevd", "/bin/systemctl", "/bin/udevadm")
_STARTER = Path("/lib/systemd/systemd-executor")  # a program that a newer systemd starts every service with
_UNITS = (
    *("multi-user.target", "basic.target", "sysinit.target", "local-fs.target", "shutdown.target"),
    *("network-pre.target", "systemd-udevd.service", "systemd-udev-trigger.service"),
    *("systemd-udevd-control.socket", "systemd-udevd-kernel.socket"),
)
_RULES = ("50-udev-default", "75-net-description", "80-drivers", "80-net-setup-link", "99-systemd")
_TEXTS = {
    "etc/passwd": "root:x:0:0::/:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/systemd/system.conf": "[Manager]\nDefaultStandardOutput=tty\nDefaultStandardError=tty\n",
    "etc/systemd/system/multi-user.target.d/guest.conf": "[Unit]\nWants=greeting.service mac2ip.service\n",
    "etc/systemd/system/sysinit.target.d/udev.conf": (
        "[Unit]\nWants=systemd-udevd.service systemd-udev-trigger.service\n"
        "Wants=systemd-udevd-control.socket systemd-udevd-kernel.socket\n"
    ),
    "etc/systemd/system/greeting.service": "[Service]\nExecStart=/bin/nc -ll -p 22 -e /greet\n",
}


def build(place: Path, script: str, unit: str, rule: str) -> Guest:
    """Such a guest with mac2ip, its unit and its rule installed; `place` is where its initramfs goes.

    Its template needs `cmdline=CMDLINE`.
    """
    programs = [Path(one) for one in _PROGRAMS] + [_STARTER] * _STARTER.exists()
    found = [*programs, Path("/lib/systemd/network/99-default.link")]
    found += [Path("/lib/systemd/system", one) for one in _UNITS]
    found += [Path("/lib/udev/rules.d", f"{one}.rules") for one in _RULES]
    # A newer systemd looks below /usr only, and twice would be too much for a guest of 128 MiB.
    files = {str(one).lstrip("/"): one.read_bytes() for one in libraries(programs)}
    files |= {f"usr{one}": one.read_bytes() for one in found}
    links = {name: f"/usr/{name}" for name in ("lib/systemd", "lib/udev", "bin/systemctl", "bin/udevadm")}
    files |= {path: text.encode() for path, text in _TEXTS.items()}
    files |= {
        "systemd-init": _INIT.read_bytes(),
        "usr/local/sbin/mac2ip": script.encode(),
        "etc/systemd/system/mac2ip.service": unit.encode(),
        "etc/udev/rules.d/90-mac2ip.rules": rule.encode(),
        "etc/default/mac2ip": b"MAC2IP_OPTIONS=--hostname=vm-%\n",
    }
    return Guest.build().with_files(place, files, links)


CMDLINE = "rdinit=/systemd-init"
