"""The kernel of the guests: Debian's for clouds, unpacked where nobody boots from it.

It is not installed: a workstation would find it in its boot menu. `python -m labkit.kernel` downloads it.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import rmtree

from labkit.alone import alone
from labkit.debian import MirrorFailed, archives, download, unpack
from labkit.netns import CommandFailed, run_command

CACHE = Path(__file__).parents[2] / ".cache"
CLOUD, USUAL = "linux-image-cloud-amd64", "linux-image-amd64"
"""The packages that need the newest kernel of each kind. Only the usual one can be that of Xen's domain 0."""
_PLACES = {CLOUD: "kernel", USUAL: "kernel-usual"}
_DEPENDENCY = re.compile(r"^\s*Depends: (linux-image-[0-9]\S+-amd64)$", re.MULTILINE)


class Kernel:
    """A kernel with its modules, in the directory that its package was unpacked to."""

    def __init__(self, root: Path) -> None:
        (self.image,) = (root / "boot").glob("vmlinuz-*")
        self.version = self.image.name.removeprefix("vmlinuz-")
        self._root = root

    def modules(self, names: Sequence[str]) -> list[Path]:
        """The files of these modules and of all that they need, in the order in which they can be loaded."""
        asked = ["/usr/sbin/modprobe", f"--dirname={self._root}", "--set-version", self.version]
        found: dict[Path, None] = {}
        for name in names:
            said = run_command([*asked, "--show-depends", name]).stdout
            lines = (line.split() for line in said.splitlines())
            found.update({Path(words[1]): None for words in lines if words[0] == "insmod"})
        return list(found)


def kernel(cache: Path = CACHE, newest: str = CLOUD) -> Kernel:
    """The kernel below `cache`; the newest of its kind that apt knows is downloaded and unpacked if there is none.

    Raises:
        MirrorFailed: It could not be downloaded.
    """
    place = cache / _PLACES[newest]
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache / f"{place.name}.lock"):
        if not place.exists():
            half = place.with_suffix(".half")
            rmtree(half, ignore_errors=True)
            half.mkdir()
            unpack(download(archives(cache), newest, _DEPENDENCY), half)
            if not (half / "lib").exists():  # newer: all of it is below /usr, where kmod does not look
                (half / "lib").symlink_to("usr/lib")
            (version,) = (path.name for path in (half / "lib/modules").iterdir())
            run_command(["/usr/sbin/depmod", "--basedir", str(half), version], deadline_s=60)
            half.rename(place)
    return Kernel(place)


def main() -> int:
    """Downloads it if it is not there; 0 if it is there then."""
    try:
        kernel()
    except MirrorFailed as error:
        print(f"The mirror is at fault: {error}", file=sys.stderr)
    except CommandFailed as error:
        print(f"The kernel of the guests cannot be unpacked: {error}", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
