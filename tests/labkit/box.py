"""A machine that is one network card and a few directories: where the script for Linux runs without being booted."""

import re
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

from labkit.mac2ip import SCHEMES
from labkit.net import Port
from labkit.netns import run_command
from macbind.guest.linux import render

MAC, ADDRESS = "00:16:3e:01:01:03", "10.1.1.3"
_ENTER = """
mount --make-rprivate /
for part in etc run; do mount --no-mtab --bind "$1/$part" "/$part"; done
mount --no-mtab --bind "$1/firmware" /sys/firmware
shift
exec "$@"
"""
_TOOLS = "busybox cat chmod cp dash env grep hostname id ip ls mkdir mv od readlink rm sh sleep"
_XENSTORE = """#!/bin/sh
case $0 in *read) cat "{place}/$1" ;; *list) [ ! -d "{place}/$1" ] || ls "{place}/$1" ;; esac
"""


class Box:
    """A machine with one card in the lab and its own /etc, /run and firmware, as directories below `place`."""

    def __init__(self, port: Port, place: Path) -> None:
        self.port, self.place = port, place
        for part in ("etc", "run", "firmware", "tools", "xenstore"):
            (place / part).mkdir(parents=True)
        self.script = place / "mac2ip"
        self.install()
        for tool in _TOOLS.split():
            found = shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin")
            assert found, tool
            (place / "tools" / tool).symlink_to(found)

    def install(self, *, persist: Collection[str] = (), channels: Collection[str] = ()) -> None:
        """Replaces the script by one with these parts; without any, it is the default script."""
        text = render(SCHEMES, persist=persist, channels=channels)
        # It would look for programs in the usual places, too, and find what this machine is not to have.
        text, found = re.subn(r'(?m)^(export LC_ALL=C) "PATH=.*$', r"\1", text)
        assert found == 1
        self.script.write_text(text)

    def command(self, *arguments: str, shell: str = "dash") -> list[str]:
        """The command line that runs the script in here; it finds no program but _TOOLS and what a test adds."""
        inside = [
            "/usr/bin/env",
            f"PATH={self.place / 'tools'}",
            *shell.split(),
            str(self.script),
            *arguments,
        ]
        return self.port.namespace.argv(
            ["unshare", "--mount", "--uts", "sh", "-euc", _ENTER, "box", str(self.place), *inside]
        )

    def run(
        self, *arguments: str, status: int = 0, shell: str = "dash"
    ) -> "subprocess.CompletedProcess[str]":
        """Runs it; fails unless it exits with `status`."""
        done = run_command(self.command(*arguments, shell=shell), deadline_s=60, check=False)
        assert done.returncode == status, f"status {done.returncode}: {done.stdout}{done.stderr}"
        return done

    def xen(self, **values: str) -> None:
        """Lets a stand-in for Xenstore's tools say this of the machine; there is no Xen here to ask."""
        for tool in ("xenstore-read", "xenstore-list"):
            program = self.place / "tools" / tool
            program.write_text(_XENSTORE.format(place=self.place / "xenstore"))
            program.chmod(0o755)
        for key, value in values.items():
            file = self.place / "xenstore/vm-data/macbind" / key.replace("__", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{value}\n")

    def addresses(self) -> list[str]:
        """The IPv4 addresses of its card."""
        return [str(one) for one in self.port.addresses()]

    def link(self) -> str:
        """Its card, as `ip` shows it: UP or DOWN, among others."""
        return self.port.lab.run(["ip", "-brief", "link", "show", "eth0"], self.port).stdout

    def routes(self) -> list[str]:
        """Its default routes."""
        shown = self.port.lab.run(["ip", "-4", "route", "show", "default"], self.port).stdout
        return [line.strip() for line in shown.splitlines()]
