"""A Debian as a directory: made once by debootstrap from the machine's own mirror, and kept."""

import hashlib
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labkit.alone import alone
from labkit.netns import CommandFailed, run_command

_SYSTEM = "systemd systemd-sysv dbus iproute2 apparmor"
_DOCUMENTED = "isc-dhcp-server nftables python3-venv python3-libvirt make"
_MANAGERS = "ifupdown network-manager libpam-systemd netplan.io iputils-arping"
PACKAGES = (*_SYSTEM.split(), "procps", *_DOCUMENTED.split(), *_MANAGERS.split())
"""What every Debian has, what our documentation asks for, and what configures networks in one; none of these
managers starts by itself."""
CLOUD = (*_SYSTEM.split(), "ifupdown", "cloud-init", "python3-cffi-backend")
"""A small machine of a cloud. The last one debootstrap would not find out: others provide what cloud-init needs."""
_NOT_STARTED = ("NetworkManager", "NetworkManager-dispatcher", "NetworkManager-wait-online", "networking")
_BUILD_S = 900.0
_ASK_S = 60.0
_DOWNLOAD_S = 300.0
TRIES = 3


class MirrorFailed(RuntimeError):
    """The mirror did not give what was asked of it, so nothing is known about the project."""


@dataclass(frozen=True, slots=True)
class Source:
    """One archive that apt gets packages from.

    Attributes:
        suite: Its name, as in sources.list: "bookworm", "bookworm-updates".
        origin: Who made it; empty before the first `apt-get update`.
        component: "main" among others.
        site: The URL of the mirror.
    """

    suite: str
    origin: str
    component: str
    site: str


def release() -> str:
    """The release of Debian that this machine has: "bookworm", "trixie"."""
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown")


def image(cache: Path, packages: Sequence[str] = PACKAGES, suite: str | None = None) -> Path:
    """The directory of such a Debian, below `cache`; made now if there is none with exactly these packages.

    Nothing may be changed in it: boot it through an overlay, as `labkit.nspawn.Machine` does. The suite is this
    machine's own by default.

    Raises:
        MirrorFailed: It could not be downloaded.
        CommandFailed: It was downloaded, but could not be installed.
    """
    suite = suite or release()
    key = hashlib.sha256(" ".join([suite, *sorted(packages), *_NOT_STARTED]).encode()).hexdigest()[:12]
    place = cache / f"debian-{suite}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache / f"{place.name}.lock"):
        if not place.exists():
            half = place.with_suffix(".half")
            _debootstrap(half, packages, suite, archives(cache))
            half.rename(place)
    return place


def archives(cache: Path) -> Path:
    """The directory below `cache` that keeps every Debian package downloaded for the lab."""
    place = cache / "debs"
    place.mkdir(parents=True, exist_ok=True)
    return place


def download(debs: Path, package: str, dependency: re.Pattern[str] | None = None) -> Path:
    """The file of a package, downloaded into `debs`, or of what it depends on that fits `dependency`.

    Raises:
        MirrorFailed: It could not be downloaded.
    """
    said = ""
    for _ in range(TRIES):
        name: str | None = package
        if dependency is not None:
            told = run_command(["apt-cache", "depends", package], deadline_s=_ASK_S, check=False).stdout
            found = dependency.search(told)
            name = None if found is None else found[1]
        if name is not None:
            command = ["env", f"--chdir={debs}", "apt-get", "--quiet", "download", name]
            said = run_command(command, deadline_s=_DOWNLOAD_S, check=False).stderr
            files = sorted(debs.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)
            if files:
                return files[-1]
        said = run_command(["apt-get", "update"], deadline_s=_DOWNLOAD_S, check=False).stderr or said
    raise MirrorFailed(f"the package {package} could not be downloaded in {TRIES} tries; apt said: {said}")


def unpack(deb: Path, root: Path) -> None:
    """Unpacks a package into a directory; nothing of it is installed or run."""
    run_command(["dpkg-deb", "--extract", str(deb), str(root)], deadline_s=_ASK_S)


def _debootstrap(target: Path, packages: Sequence[str], suite: str, debs: Path) -> None:
    site = mirror(sources(), suite)
    command = ["debootstrap", "--variant=minbase", f"--cache-dir={debs}", f"--include={','.join(packages)}"]
    log = target.with_suffix(".log")
    for left in reversed(range(TRIES)):
        shutil.rmtree(target, ignore_errors=True)
        if _logged([*command, "--download-only", suite, str(target), site], log):
            break
        if not left:
            raise MirrorFailed(
                f"{site} did not give what a {suite} needs, in {TRIES} tries; {log} ends:\n{_end(log)}"
            )
    shutil.rmtree(target)
    if not _logged([*command, suite, str(target), site], log):
        raise CommandFailed(f"{suite} was downloaded but cannot be installed; {log} ends:\n{_end(log)}")
    there = [one for one in _NOT_STARTED if (target / f"lib/systemd/system/{one}.service").exists()]
    if there:
        run_command(["systemctl", f"--root={target}", "disable", *there])
    for package in (target / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()


def _logged(command: Sequence[str], log: Path) -> bool:
    """Runs it and keeps what it says; whether it ended well."""
    with log.open("wb") as output:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_environment(),
            timeout=_BUILD_S, check=False,
        )  # fmt: skip
    return done.returncode == 0


def _end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def sources() -> list[Source]:
    """The archives of binary packages that apt knows on this machine."""
    form = "$(RELEASE)|$(ORIGIN)|$(COMPONENT)|$(SITE)"
    command = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
    targets = run_command(command, deadline_s=_ASK_S).stdout
    return [Source(*line.split("|", 3)) for line in targets.splitlines()]


def own(among: Sequence[Source]) -> list[Source]:
    """Those of Debian itself. Before the first `apt-get update` nobody's origin is known."""
    return [one for one in among if one.origin in {"", "Debian"} and one.component == "main"]


def mirror(among: Sequence[Source], suite: str) -> str:
    """The mirror that gives this suite: the one apt has for it, or for this machine's own release.

    Raises:
        MirrorFailed: apt knows no mirror of Debian.
    """
    for wanted in (suite, release()):
        for one in own(among):
            if one.suite == wanted:
                return one.site
    raise MirrorFailed(f"apt on this machine has no mirror of Debian, so no {suite} can be made")


def _environment() -> dict[str, str]:
    """Ours, with apt's proxy, which debootstrap does not ask for."""
    command = ["apt-config", "--format", "%v%n", "dump", "Acquire::http::Proxy"]
    proxy = run_command(command, deadline_s=_ASK_S).stdout.strip()
    return {**os.environ, **({"http_proxy": proxy} if proxy else {})}
