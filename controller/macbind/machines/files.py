"""Reads what a caller names as a file: a template, user-data. Only regular files, and only so much of them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from macbind.core.errors import InvalidRequest


def read_text(path: Path, what: str, limit: int) -> str:
    """The UTF-8 text of a file, line ends as they are, without Windows' mark before it.

    Args:
        path: The file.
        what: What it holds, e.g. "The template".
        limit: Bytes it may have at most.

    Raises:
        InvalidRequest: It cannot be read, is no regular file, is too large, or no UTF-8.
    """
    try:
        # A pipe without a writer would be waited for, and an endless device read for ever.
        with open(path, "rb", opener=_open_at_once) as file:  # Path.open takes no opener
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidRequest(
                    f"{what} {path} is not a regular file.", hint="Write it to a file, and name that."
                )
            content = file.read(limit + 1)
        if len(content) > limit:
            raise InvalidRequest(
                f"{what} {path} has more than {limit >> 10} KiB.", hint="Name the file that is meant."
            )
        return content.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise InvalidRequest(
            f"{what} {path} cannot be read: {error}.", hint="Give the path of a file with UTF-8 text."
        ) from error


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
