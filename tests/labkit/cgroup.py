"""A control group of one's own, for what would otherwise meet others of its kind in ours."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from labkit.wait import until

_MOUNT = Path("/sys/fs/cgroup")


@contextmanager
def control_group(name: str) -> Iterator[list[Path]]:
    """The files to write a process id to, so that the process moves into a new group below that of this process.

    There is one in each hierarchy that systemd uses. Leaving ends the processes that are still in the group, and
    removes it with all that they have made in it.
    """
    groups = [place / name for place in _places()]
    try:
        for group in groups:
            group.mkdir()
        yield [group / "cgroup.procs" for group in groups]
    finally:
        for group in groups:
            until(partial(_is_gone, group), 60, f"the processes in {group} to end")


def _places() -> Iterator[Path]:
    """Where this process is, in systemd's hierarchy and in the unified one; a new kernel has only the latter."""
    unified = _MOUNT if (_MOUNT / "cgroup.controllers").exists() else _MOUNT / "unified"
    mounts = {"": unified, "name=systemd": _MOUNT / "systemd"}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in mounts and mounts[controllers].exists():
            yield mounts[controllers] / path.lstrip("/")


def _is_gone(group: Path) -> bool:
    """Ends who is still in the group, and removes it when nobody is."""
    places = [Path(place) for place, _, _ in os.walk(group, topdown=False)]
    for place in places:
        for pid in map(int, (place / "cgroup.procs").read_text().split()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    with suppress(OSError):  # somebody has not yet ended
        for place in places:
            place.rmdir()
    return not group.exists()
