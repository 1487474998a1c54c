"""The file of the page's tokens: read by the service, changed by `macbind token` as a whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from macbind.core.errors import ConfigError
from macbind.core.page_token import Token

_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


def read_tokens(path: Path) -> dict[str, Token]:
    """All tokens by id.

    Raises:
        ConfigError: The file cannot be read, or a line is no token.
    """
    try:
        return _tokens_in(path, _read(path))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: There is no such file of tokens.", hint="`macbind token add ID` makes it."
        ) from error
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise _unreadable(path, why) from error


def _read(path: Path) -> bytes:
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _FLAGS)
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "it is no ordinary file")
        return file.read()


def _unreadable(path: Path, why: str | None) -> ConfigError:
    return ConfigError(
        f"{path}: The file of tokens cannot be read: {why}.",
        hint="Let the service's user read it, or make it anew with `macbind token add ID`.",
    )


def _tokens_in(path: Path, content: bytes) -> dict[str, Token]:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise _unreadable(path, "it is no UTF-8 text") from error
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


def change_tokens(path: Path, change: Callable[[dict[str, Token]], None]) -> None:
    """Changes the tokens; the file is exchanged as a whole, and is made where there is none.

    A new file belongs to the owner of its directory, so that the service can read what root has made. That owner is
    not trusted: root follows no symbolic link there.

    Raises:
        ConfigError: The file cannot be read or written, or is a symbolic link.
    """
    with _inside(path) as directory, _alone(path, directory):
        with _unwritable(path), _existing(path, directory) as file:
            content = b"" if file is None else file.read()
        tokens = _tokens_in(path, content)
        change(tokens)
        lines = ["# Made by `macbind token`: id, salt and hash, what it may, its end, a note.\n"]
        lines += [f"{one.line}\n" for one in tokens.values()]
        _exchange(path, directory, "".join(lines))


@contextmanager
def _inside(path: Path) -> Iterator[int]:
    """The directory of a file: whoever exchanges it meanwhile changes nothing."""
    with _unwritable(path):
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


@contextmanager
def _alone(path: Path, directory: int) -> Iterator[None]:
    with _unwritable(path):
        lock = os.open(f"{path.name}.lock", os.O_RDWR | os.O_CREAT | _FLAGS, 0o600, dir_fd=directory)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


@contextmanager
def _existing(path: Path, directory: int) -> Iterator[BinaryIO | None]:
    """The file as it is; None where there is none."""
    try:
        number = os.open(path.name, os.O_RDONLY | os.O_NONBLOCK | _FLAGS, dir_fd=directory)
    except FileNotFoundError:
        yield None
        return
    try:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "it is no ordinary file")
        with os.fdopen(number, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(number)


def _exchange(path: Path, directory: int, text: str) -> None:
    """Exchanges a file as a whole. It keeps owner and mode; a new one has those of its directory, and 0640."""
    new = f".{path.name}.{secrets.token_hex(4)}"
    with _unwritable(path):
        with _existing(path, directory) as file:
            known = None if file is None else os.fstat(file.fileno())
        there = os.fstat(directory) if known is None else known
        number = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600, dir_fd=directory)
        try:
            with os.fdopen(number, "w", encoding="utf-8") as made:
                made.write(text)
                made.flush()
                os.fsync(number)
                if os.geteuid() == 0:
                    os.fchown(number, there.st_uid, there.st_gid)
                os.fchmod(number, 0o640 if known is None else known.st_mode & 0o777)
            os.replace(new, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            with suppress(OSError):
                os.unlink(new, dir_fd=directory)
            raise


@contextmanager
def _unwritable(path: Path) -> Iterator[None]:
    """Says of which file the system refuses what is done inside.

    Raises:
        ConfigError: It does.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ConfigError(
                f"{path}: The file, or what macbind keeps beside it, is a symbolic link.",
                hint="Remove the link, or name the file itself for `tokens`.",
            ) from error
        raise ConfigError(
            f"{path}: The file cannot be written: {error.strerror}.",
            hint="Run the command as root, or choose another directory for `tokens`.",
        ) from error


def used_file(path: Path) -> Path:
    """The file beside the tokens that says when each was last used."""
    return path.with_name(f"{path.name}.used")


def read_used(path: Path) -> dict[str, datetime]:
    """When each token was last used (UTC), as far as that is known."""
    try:
        found = json.loads(used_file(path).read_text(encoding="utf-8"))
        return {str(key): datetime.fromtimestamp(float(value), UTC) for key, value in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError):
        return {}  # it is no more than a help


def write_used(path: Path, used: Mapping[str, datetime]) -> None:
    """Writes down when each token was last used.

    Raises:
        ConfigError: That is not possible.
    """
    seconds = {key: round(value.timestamp()) for key, value in sorted(used.items())}
    file = used_file(path)
    with _inside(file) as directory:
        _exchange(file, directory, json.dumps(seconds))
