"""Opens the files of a dhcpd, whoever can write them: nothing else than an ordinary file, and no endless one."""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 2 << 30
"""A larger file is no lease file or configuration of a dhcpd."""
_WHOLE_PIECE_BYTES = 1 << 20
PIECE_BYTES = 1 << 13
"""How much is read, and understood, at a time: a millisecond's work."""


def open_ordinary(path: Path, most: int = MAX_BYTES) -> BinaryIO:
    """Opens a file for reading; nobody who can put a pipe or a device in its place makes us wait.

    Raises:
        OSError: It is not there, not readable, no ordinary file, or larger than ``most`` bytes.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "It is no ordinary file", str(path))
        if found.st_size > most:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return os.fdopen(descriptor, "rb", buffering=0)
    except OSError:
        os.close(descriptor)
        raise


def pieces(file: BinaryIO, size: int = PIECE_BYTES) -> Iterator[bytes]:
    """What is left of an open file, in pieces."""
    while piece := file.read(size):
        yield piece


def read_whole(path: Path, most: int) -> bytes:
    """The whole of a file.

    Raises:
        OSError: As :func:`open_ordinary`.
    """
    found: list[bytes] = []
    with open_ordinary(path, most) as file:
        for piece in pieces(file, _WHOLE_PIECE_BYTES):
            found.append(piece)
            if len(found) * _WHOLE_PIECE_BYTES > most + _WHOLE_PIECE_BYTES:  # it grows as fast as we read
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return b"".join(found)


def commands_to_read(path: Path) -> tuple[str, ...]:
    """The command that lets this process read a file, if one does."""
    blocked = _blocked_at(path)
    if blocked is None:
        return ()
    return (f"chmod o+{_letter(blocked)} {shlex.quote(str(blocked))}",)


def _blocked_at(path: Path) -> Path | None:
    """The first directory on the way to a file, or the file, that keeps this process out."""
    for one in (*reversed(path.parents), path):
        try:
            found = one.stat()
        except OSError:
            return None
        if one == path and not stat.S_ISREG(found.st_mode):
            return None
        wanted = os.X_OK if stat.S_ISDIR(found.st_mode) else os.R_OK
        if not os.access(one, wanted, effective_ids=os.access in os.supports_effective_ids):
            return one
    return None


def _letter(path: Path) -> str:
    return "x" if path.is_dir() else "r"


def how_to_read(path: Path) -> str:
    """What keeps macbind from reading a file, as far as it can be seen, and how to mend that: a hint."""
    for one in (*reversed(path.parents), path):
        try:
            found = one.stat()
        except OSError:
            break
        wanted = os.X_OK if stat.S_ISDIR(found.st_mode) else os.R_OK
        if one == path and stat.S_ISDIR(found.st_mode):
            return "Name the file itself, not a directory."
        if one == path and not stat.S_ISREG(found.st_mode):
            return "Name an ordinary file."
        if not os.access(one, wanted, effective_ids=os.access in os.supports_effective_ids):
            letter = "x" if wanted == os.X_OK else "r"
            return (
                f"{one} has mode {stat.S_IMODE(found.st_mode):04o} and belongs to user {found.st_uid}, group "
                f"{found.st_gid}: let macbind's user in (chmod o+{letter}). If dhcpd made it so, mend dhcpd's umask."
            )
    return "Let macbind's user read it. If dhcpd made it so, mend dhcpd's umask."
