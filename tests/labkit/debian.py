"""A Debian with systemd, as a directory to boot from: made once by debootstrap from the machine's own mirror."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from labkit.alone import alone
from labkit.netns import run_command

SUITE = "bookworm"
_SYSTEM = "systemd systemd-sysv dbus iproute2 apparmor"
_DOCUMENTED = "isc-dhcp-server nftables python3-venv python3-libvirt make"
_MANAGERS = "ifupdown network-manager libpam-systemd netplan.io iputils-arping"
PACKAGES = (*_SYSTEM.split(), *_DOCUMENTED.split(), *_MANAGERS.split())
CLOUD = (*_SYSTEM.split(), "ifupdown", "cloud-init", "python3-cffi-backend")
"""A small machine of a cloud. The last one debootstrap would not find out: others provide what cloud-init needs."""
"""What every Debian has, what our documentation asks for, and what configures networks in one; none of these
managers starts by itself."""
_NOT_STARTED = ("NetworkManager", "NetworkManager-dispatcher", "NetworkManager-wait-online", "networking")
_BUILD_S = 900.0


def image(cache: Path, packages: Sequence[str] = PACKAGES) -> Path:
    """The directory of such a Debian, below `cache`; made now if there is none with exactly these packages.

    Nothing may be changed in it: boot it through an overlay, as `labkit.nspawn.Machine` does.
    """
    key = hashlib.sha256(" ".join([SUITE, *sorted(packages), *_NOT_STARTED]).encode()).hexdigest()[:12]
    place = cache / f"debian-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache / f"debian-{key}.lock"):
        if not place.exists():
            half = place.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            _debootstrap(half, packages)
            half.rename(place)
    return place


def _debootstrap(target: Path, packages: Sequence[str]) -> None:
    log = target.with_suffix(".log")
    command = [
        "debootstrap",
        "--variant=minbase",
        f"--include={','.join(packages)}",
        SUITE,
        str(target),
        mirror(),
    ]
    with log.open("wb") as output:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_environment(),
            timeout=_BUILD_S, check=False,
        )  # fmt: skip
    if done.returncode != 0:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise RuntimeError(f"{' '.join(command)}: status {done.returncode}; {log} ends:\n{end}")
    there = [one for one in _NOT_STARTED if (target / f"lib/systemd/system/{one}.service").exists()]
    run_command(["systemctl", f"--root={target}", "disable", *there])
    for package in (target / "var/cache/apt/archives").glob("*.deb"):
        package.unlink()


def mirror() -> str:
    """The mirror that apt gets the suite from on this machine."""
    form = "$(RELEASE)|$(CODENAME)|$(ORIGIN)|$(COMPONENT)|$(SITE)"
    targets = run_command(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]).stdout
    for line in targets.splitlines():
        release, codename, origin, component, site = line.split("|", 4)
        # Before the first `apt-get update` only the names in sources.list are known.
        if SUITE in {release, codename} and origin in {"", "Debian"} and component == "main":
            return site
    raise RuntimeError(f"apt has no source of {SUITE} on this machine, so no {SUITE} can be made")


def _environment() -> dict[str, str]:
    """Ours, with apt's proxy, which debootstrap does not ask for."""
    proxy = run_command(["apt-config", "--format", "%v%n", "dump", "Acquire::http::Proxy"]).stdout.strip()
    return {**os.environ, **({"http_proxy": proxy} if proxy else {})}
