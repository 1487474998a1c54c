"""A guest with real systemd and real udev, this machine's own, which boots in seconds without KVM.

It is the guest of `labkit.guest` with the few files more that process 1, udevd and their rules need. Its cards have
the names that udev gives them. The greeting is on port 22; what services say is on its console.
"""

import re
from pathlib import Path

from labkit.guest import Guest
from labkit.netns import run_command

_INIT = Path(__file__).with_name("systemdfs") / "init"
_PROGRAMS = ("/lib/systemd/systemd", "/lib/systemd/systemd-udevd", "/bin/systemctl", "/bin/udevadm")
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
    found = [Path(one) for one in _PROGRAMS]
    told = run_command(["ldd", *_PROGRAMS]).stdout
    found += sorted({Path(one) for one in re.findall(r"(?:=> |^\t)(/\S+)", told, re.MULTILINE)})
    found += [Path("/lib/systemd/system", one) for one in _UNITS]
    found += [Path("/lib/udev/rules.d", f"{one}.rules") for one in _RULES]
    found += [Path("/lib/systemd/network/99-default.link")]
    files = {str(one).lstrip("/"): one.read_bytes() for one in found}
    files |= {path: text.encode() for path, text in _TEXTS.items()}
    files |= {
        "systemd-init": _INIT.read_bytes(),
        "usr/local/sbin/mac2ip": script.encode(),
        "etc/systemd/system/mac2ip.service": unit.encode(),
        "etc/udev/rules.d/90-mac2ip.rules": rule.encode(),
        "etc/default/mac2ip": b"MAC2IP_OPTIONS=--hostname=vm-%\n",
    }
    return Guest.build().with_files(place, files)


CMDLINE = "rdinit=/systemd-init"
