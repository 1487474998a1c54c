"""The file system of a bare machine: a copy of a minimal Debian, thrown away when it has been used."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bare.settings import Settings
from labkit.debian import image
from labkit.netns import run_command

PACKAGES = ("python3", "git", "make", "ca-certificates")
"""All that a bare machine has beside what Debian calls essential and required."""
CHECKOUT = "srv/macbind"
"""Where the project lies in it: every user may look there."""
HOSTNAME = "bare"
_COPY_S = 300.0


def pristine(cache: Path, release: str) -> Path:
    """The minimal Debian that copies are made of; nothing is ever changed in it."""
    return image(cache, PACKAGES, release)


@contextmanager
def copy(pristine: Path, places: Path) -> Iterator[Path]:
    """A copy of it, in a directory of its own below `places`; removed at the end, as is what others have left."""
    places.mkdir(parents=True, exist_ok=True)
    for left in places.glob("*.lock"):
        with suppress(BlockingIOError), left.open("w") as lock:  # somebody works there
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(left)
    lock_file = places / f"{os.getpid()}.lock"
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            root = lock_file.with_suffix(".root")
            run_command(["cp", "-a", "--reflink=auto", str(pristine), str(root)], deadline_s=_COPY_S)
            yield root
        finally:
            _remove(lock_file)


def _remove(lock_file: Path) -> None:
    root = lock_file.with_suffix(".root")
    if root.exists():
        shutil.rmtree(root)
    lock_file.unlink()


def set_up(root: Path, settings: Settings) -> None:
    """Writes down how it reaches the network."""
    files = {
        "etc/hostname": f"{HOSTNAME}\n",
        "etc/hosts": f"127.0.0.1 localhost {HOSTNAME}\n",
        "etc/resolv.conf": Path("/etc/resolv.conf").read_text(),
        "etc/apt/sources.list": settings.sources,
        "etc/apt/apt.conf.d/50site": settings.apt,
        "etc/pip.conf": settings.pip,
    }
    for name, text in files.items():
        (root / name).write_text(text)
    for name, certificate in settings.certificates.items():
        (root / "usr/local/share/ca-certificates" / name).write_bytes(certificate)
    if settings.certificates:
        run_command(["chroot", str(root), "update-ca-certificates"], deadline_s=60)


def check_out(repository: Path, root: Path) -> str:
    """Clones what is committed into the root; its commit and first line."""
    place = root / CHECKOUT
    run_command(["git", "clone", "--quiet", "--no-local", str(repository), str(place)], deadline_s=120)
    return run_command(["git", "-C", str(place), "log", "-1", "--format=%h %s"]).stdout.strip()


def uncommitted(repository: Path) -> list[str]:
    """What differs from the commit and is therefore not tried."""
    return run_command(["git", "-C", str(repository), "status", "--porcelain"]).stdout.splitlines()
