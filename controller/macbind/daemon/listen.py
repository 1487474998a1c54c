"""The service's Unix socket: taken by one service only, with owner and mode set before anybody can connect."""

from __future__ import annotations

import contextlib
import fcntl
import grp
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from macbind.config import ServiceSettings
from macbind.core.errors import ConfigError
from macbind.http.limits import BACKLOG


@contextlib.contextmanager
def listening(settings: ServiceSettings) -> Iterator[socket.socket]:
    """The service's Unix socket, with its owner and mode set before anybody can connect.

    Raises:
        ConfigError: Another service listens there, or the socket cannot be made.
    """
    path = settings.socket
    with contextlib.ExitStack() as undo:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Of two daemons that start together, both could find the other's socket not there yet.
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            undo.callback(os.close, lock)
            if not _is_ours(lock) or _is_taken(path):
                raise ConfigError(
                    f"Another service already listens at {path}.",
                    hint="Stop it first, or use another socket.",
                )
            listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            path.unlink(missing_ok=True)
            undo.callback(path.unlink, missing_ok=True)
            before = os.umask(0o777)  # nobody may connect until mode and group are right
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            if settings.socket_group is not None:
                os.chown(path, -1, grp.getgrnam(settings.socket_group).gr_gid)
            path.chmod(settings.socket_mode)
            listener.listen(BACKLOG)
        except KeyError as error:
            raise ConfigError(
                f"The socket {path} cannot be given to the group '{settings.socket_group}': there is no such "
                "group.",
                hint="Create it with addgroup, or correct socket_group in [service].",
            ) from error
        except OSError as error:
            raise ConfigError(
                f"The socket {path} cannot be made: {error.strerror}.",
                hint="Make its directory writable for macbind's user, or use another socket.",
            ) from error
        yield listener


def _is_ours(lock: int) -> bool:
    """Takes the lock; False if another daemon has it. The kernel frees it when its holder ends."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_taken(path: Path) -> bool:
    """Whether some other program listens there.

    Raises:
        OSError: What is there is no socket left by a killed daemon and must not be removed.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(0, "a file that is no socket is in its place")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            probe.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except BlockingIOError:
        pass  # somebody listens who does not even accept
    return True
