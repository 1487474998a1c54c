"""A whole Debian in the lab: booted by systemd-nspawn in the server's namespace, with its own systemd.

What it writes goes to memory, in an overlay over the image that is mounted where nobody else sees it: when the
machine's last process ends, nothing of it is left. A reboot keeps it.
"""

import os
import re
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from labkit.cgroup import control_group
from labkit.net import Lab, Port, Process
from labkit.netns import has_ended, run_command
from labkit.wait import until

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
_BOOT_S = 240.0
_BOOT = """
set -e
work=$1 image=$2
shift 2
for group in $GROUPS_TO_JOIN; do echo $$ >"$group"; done
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
[ -z "$ADDED" ] || cp -a "$ADDED/." "$work/upper/"
mount -t overlay overlay -o "lowerdir=$image,upperdir=$work/upper,workdir=$work/work" "$work/root"
# nspawn wants to see a systemd here, and there may be none; the rest of the machine must not see one.
mkdir -p /run/systemd
mount -t tmpfs tmpfs /run/systemd
mkdir /run/systemd/nspawn /run/systemd/system
# Its own view of the network's cards; nspawn's is of the namespace we are in.
mkdir "$work/sys"
nsenter --net="$NETWORK" mount -t sysfs sysfs "$work/sys"
trap exit TERM  # once nspawn, which gets the signal, too, has ended
while :; do
  systemd-nspawn --directory="$work/root" "$@" && exit
  [ $? = 133 ] || exit 1  # its word for "reboot"
done
"""


class Machine:
    """A booted Debian whose network is a namespace of the lab. A context manager: booted inside.

    Args:
        lab: The network.
        image: The directory to boot from, which stays as it is; see `labkit.debian`.
        directory: A directory of the machine's own, for its log.
        shown: Directories of this machine that it sees, read-only, by where it sees them.
        port: The port whose network it has; the server's by default.
        added: A directory whose files lie over the image's, as if they had been installed before the first boot.
    """

    def __init__(
        self,
        lab: Lab,
        image: Path,
        directory: Path,
        shown: Mapping[str, Path] = {},
        *,
        port: Port | None = None,
        added: Path | None = None,
    ) -> None:
        self.added = added
        self.lab, self.image, self.shown = lab, image, shown
        self.namespace = port.namespace if port else lab.server
        self.log_file = directory / "console.log"
        self._work = directory / "machine"
        self._process: Process | None = None
        self._leader = 0
        self._teardown = ExitStack()

    def __enter__(self) -> Self:
        self._work.mkdir()
        try:
            # Its own, as two machines' systemds in one would take each other's processes for theirs.
            groups = self._teardown.enter_context(control_group(self.namespace.name))
            environment = {**os.environ, "GROUPS_TO_JOIN": " ".join(map(str, groups))}
            environment["ADDED"] = str(self.added or "")
            environment["NETWORK"] = f"/run/netns/{self.namespace.name}"
            with self.log_file.open("ab") as output:
                self._process = Process(self._command(), output, {"env": environment})
            self._teardown.callback(self._process.end)
            self._wait_booted()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def end(self) -> None:
        """Switches it off: orderly, and by force after 3 seconds. Harmless when it is off."""
        self._teardown.close()

    def _command(self) -> list[str]:
        # Not inside the namespace: `ip netns exec` hides the control groups.
        return [
            *("unshare", "--mount", "--propagation", "private", "sh", "-c", _BOOT, "sh"),
            *(str(self._work), str(self.image)),
            *("--boot", "--console=pipe", "--register=no", "--keep-unit", "--link-journal=no"),
            *("--resolv-conf=off", "--timezone=off", f"--bind-ro={self._work / 'sys'}:/sys"),
            *(f"--network-namespace-path=/run/netns/{self.namespace.name}", "--capability=CAP_NET_ADMIN"),
            *(f"--bind-ro={here}:{there}" for there, here in self.shown.items()),
        ]

    @property
    def root(self) -> Path:
        """Its file system, seen from here; sockets in it can be connected to."""
        return Path(f"/proc/{self._leader}/root")

    def run(
        self, *argv: str, status: int | None = 0, deadline_s: float = 60.0, stdin: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command in it as root; fails unless it exits with `status` (None: any)."""
        command = [
            "nsenter",
            f"--target={self._leader}",
            "--all",
            "env",
            "-i",
            f"PATH={PATH}",
            "LANG=C.UTF-8",
            *argv,
        ]
        done = run_command(command, stdin=stdin, deadline_s=deadline_s, check=False)
        if status is not None and done.returncode != status:
            raise AssertionError(
                f"{' '.join(argv)} exited with {done.returncode}, not {status}:\n{done.stdout}{done.stderr}"
            )
        return done

    def as_user(self, user: str, *argv: str, status: int | None = 0) -> "subprocess.CompletedProcess[str]":
        """Runs a command in it as a user, with all groups of that user."""
        return self.run("runuser", "-u", user, "--", *argv, status=status)

    def unit(self, name: str, what: str) -> str:
        """A property of a unit, e.g. ActiveState or MainPID."""
        return self.run("systemctl", "show", "--value", "--property", what, name).stdout.strip()

    def pid(self, unit: str) -> int:
        """The process id of a service in the machine; 0 while it has none."""
        return int(self.unit(unit, "MainPID"))

    def wait_restarted(self, unit: str, old_pid: int, deadline_s: float = 60.0) -> int:
        """Waits until a service runs again with another process, and returns its id."""

        def restarted() -> int:
            state, pid = self.unit(unit, "ActiveState"), self.pid(unit)
            return pid if state == "active" and pid not in (0, old_pid) else 0

        try:
            return until(restarted, deadline_s, f"{unit} to be restarted")
        except TimeoutError as error:
            raise TimeoutError(f"{error}; its journal ends:\n{self.journal(unit)[-3000:]}") from None

    def journal(self, unit: str, *options: str) -> str:
        """What the journal has of a unit; `options` are more of journalctl's."""
        self.run("journalctl", "--sync")
        return self.run(
            "journalctl", "--no-pager", "--quiet", "--output=cat", f"--unit={unit}", *options
        ).stdout

    def reboot(self) -> None:
        """Shuts it down and boots it again, with everything it has written."""
        before = self._leader
        self.run("systemctl", "reboot", status=None)
        until(lambda: has_ended(before), _BOOT_S, "the machine to go down")
        self._wait_booted()

    def _wait_booted(self) -> None:
        try:
            self._leader = until(self._find_leader, _BOOT_S, "systemd to start")
            until((self.root / "run/dbus/system_bus_socket").exists, _BOOT_S, "the machine to boot")
            # nspawn gives it a boot id of its own by a mount that services confined by ProtectProc= do not see;
            # `journalctl --follow` in them would look for another boot's entries. One id for all is as on metal.
            self.run("sh", "-c", f"while umount {BOOT_ID}; do :; done; systemctl restart systemd-journald")
            # "degraded" is no failure of the boot: services are judged by the tests.
            self.run("systemctl", "is-system-running", "--wait", status=None, deadline_s=_BOOT_S)
        except (TimeoutError, RuntimeError) as error:
            raise type(error)(
                f"{error}; its console says:\n{self.log_file.read_text(errors='replace')}"
            ) from None

    def _find_leader(self) -> int:
        """The machine's process 1, by its number out here; 0 while there is none."""
        if self._process is not None and not self._process.alive:
            raise RuntimeError(f"systemd-nspawn ended with {self._process.returncode}")
        for pid in self.namespace.pids():
            try:
                numbers = re.search(
                    r"^NSpid:\s+(\d+)\s+1$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
                )
            except OSError:  # ended meanwhile
                continue
            if numbers:
                return pid
        return 0
