"""The file of tokens: read by the service, changed by `macbind token` as a whole or not at all.

root changes it in a directory of the service's user. So no link is followed, neither of the file nor of those
beside it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from macbind.core.errors import ConfigError
from macbind.core.page_token import Token


def read_tokens(path: Path) -> dict[str, Token]:
    """All tokens by id.

    Raises:
        ConfigError: The file cannot be read, or a line is no token.
    """
    try:
        text = _text_of(path)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: There is no such file of tokens.", hint="`macbind token add ID` makes it."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = _reason(error) if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigError(
            f"{path}: The file of tokens cannot be read: {reason}.",
            hint="Let the service's user read it, or make it anew with `macbind token add ID`.",
        ) from error
    found: dict[str, Token] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            one = Token.of_line(line)
        except ValueError as error:
            raise ConfigError(
                f"{path} line {number}: This is no token.",
                hint="Remove the line; `macbind token add ID` makes a new token.",
            ) from error
        if one.id in found:
            raise ConfigError(
                f"{path} line {number}: The token '{one.id}' is there twice.", hint="Remove one of the lines."
            )
        found[one.id] = one
    return found


def _text_of(path: Path) -> str:
    """The text of a plain file, and of nothing else.

    Raises:
        OSError: It cannot be read, is a link, or no plain file.
    """
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(number, encoding="utf-8") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file")
        return file.read()


def _reason(error: OSError) -> str | None:
    return "it is a link" if error.errno == errno.ELOOP else error.strerror


def change_tokens(path: Path, change: Callable[[dict[str, Token]], None]) -> None:
    """Changes the tokens; the file is exchanged as a whole, and is made where there is none.

    A new file belongs to the owner of its directory, so that the service can read what root has made.

    Raises:
        ConfigError: The file cannot be read or written.
    """
    with _alone(path):
        tokens = read_tokens(path) if os.path.lexists(path) else {}
        change(tokens)
        lines = ["# Made by `macbind token`: id, salt and hash, what it may, its end, a note.\n"]
        lines += [f"{one.line}\n" for one in tokens.values()]
        write_beside(path, "".join(lines))


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    try:
        lock = os.open(
            path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def write_beside(path: Path, text: str) -> None:
    """Exchanges a file as a whole. It keeps owner and mode; a new one has those of its directory, and 0640.

    Raises:
        ConfigError: That is not possible.
    """
    new = path.with_name(f"{path.name}.new")
    try:
        known = path.lstat() if os.path.lexists(path) else None
        if known is not None and not stat.S_ISREG(known.st_mode):
            raise OSError(errno.ELOOP, "it is no plain file")
        there = path.parent.stat() if known is None else known
        new.unlink(missing_ok=True)  # left by one that was killed
        number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(number)
            if os.geteuid() == 0:
                os.fchown(number, there.st_uid, there.st_gid)
            os.fchmod(number, 0o640 if known is None else known.st_mode & 0o777)
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{path}: The file cannot be written: {_reason(error)}.",
        hint="Run the command as root, or choose another directory for `tokens`.",
    )


def used_file(path: Path) -> Path:
    """The file beside the tokens that says when each was last used."""
    return path.with_name(f"{path.name}.used")


def read_used(path: Path) -> dict[str, datetime]:
    """When each token was last used (UTC), as far as that is known."""
    try:
        found = json.loads(_text_of(used_file(path)))
        return {str(key): datetime.fromtimestamp(float(value), UTC) for key, value in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError):
        return {}  # it is no more than a help


def write_used(path: Path, used: Mapping[str, datetime]) -> None:
    """Writes down when each token was last used.

    Raises:
        ConfigError: That is not possible.
    """
    seconds = {key: round(value.timestamp()) for key, value in sorted(used.items())}
    write_beside(used_file(path), json.dumps(seconds))
