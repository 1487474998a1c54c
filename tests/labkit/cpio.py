"""Archives that a kernel unpacks as its first file system, in the format that it calls newc."""

import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from labkit.netns import run_command

_LIBRARY = re.compile(r"(?:=> |^\t)(/\S+)", re.MULTILINE)


def member(name: str, mode: int, content: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """One member of an archive; the path has no slash in front."""
    encoded = name.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, major and minor of the file system and of the device, length
    # of the name, checksum. All inodes are 0: with one link each they are never compared.
    numbers = (0, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(encoded), 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers)
    return _aligned(header + encoded) + _aligned(content)


def archive(
    files: Mapping[str, str | bytes],
    links: Mapping[str, str] = MappingProxyType({}),
    folders: Iterable[str] = (),
) -> bytes:
    """A whole archive of executable files, symbolic links with what they point to, and folders.

    The folders of files and links are made without being named.
    """
    needed = {str(folder) for name in (*files, *links) for folder in Path(name).parents} - {"."}
    members = [member(name, stat.S_IFDIR | 0o755) for name in sorted({*needed, *folders})]
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        members.append(member(name, stat.S_IFREG | 0o755, data))
    members += [member(name, stat.S_IFLNK | 0o777, target.encode()) for name, target in links.items()]
    return b"".join([*members, end()])


def end() -> bytes:
    """The last member of every archive."""
    return member("TRAILER!!!", 0)


def libraries(programs: Iterable[Path]) -> list[Path]:
    """The libraries that programs of this machine need, the loader among them."""
    told = run_command(["ldd", *map(str, programs)]).stdout
    return sorted({Path(one) for one in _LIBRARY.findall(told)})


def _aligned(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
