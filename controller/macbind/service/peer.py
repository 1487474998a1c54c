"""Who is calling: the kernel's word about the other end of a Unix socket, and what that user may do."""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from macbind.errors import NotPermitted, ServiceUnavailable
from macbind.registry.moving import Mover

_CREDENTIALS = struct.Struct("iII")


@dataclass(frozen=True, slots=True)
class Peer:
    """The calling process.

    Attributes:
        pid: Its process id when it connected.
        uid: Its user.
        gid: Its primary group.
    """

    pid: int
    uid: int
    gid: int

    @property
    def client(self) -> tuple[str, int]:
        """Itself as a ``scope["client"]``; :func:`peer_from` reads it."""
        return f"{self.uid}:{self.gid}", self.pid

    @property
    def mover(self) -> Mover:
        """The calling process as one that moves machines."""
        return Mover(f"{_processes()}/{self.pid}", _has_ended)

    def __str__(self) -> str:
        try:
            name = _user_name(self.uid)
        except KeyError:
            name = "?"
        return f"{name} (uid {self.uid}, pid {self.pid})"

    @classmethod
    def of(cls, connection: socket.socket) -> Peer:
        """Asks the kernel (unix(7), SO_PEERCRED); it cannot be forged."""
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return cls(*_CREDENTIALS.unpack(raw))


@cache
def _processes() -> str:
    """What numbers processes as this one sees them: a boot of a host, and a namespace there."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"


def _has_ended(mover: str) -> bool:
    """Whether a process that moved a machine is known to have ended; one of another host never is.

    A number that was given to another process meanwhile is taken for the mover: it only waits until the move's time
    is over. When it started is no help, for our unit's ProtectProc= hides the processes of others.
    """
    processes, _, pid = mover.rpartition("/")
    if processes != _processes() or int(pid) <= 0:
        return False
    with suppress(PermissionError):  # it is there, and not ours
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return True
    return False


@lru_cache(maxsize=1024)
def _user_name(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name


def peer_from(client: tuple[str, int] | None) -> Peer:
    """Reads what the connection put into the request's scope."""
    if client is None or ":" not in client[0]:
        raise ServiceUnavailable(
            "The caller's credentials are unknown.", hint="Connect over the Unix socket."
        )
    uid, gid = client[0].split(":")
    return Peer(client[1], int(uid), int(gid))


@dataclass(frozen=True, slots=True)
class Access:
    """Who may read and who may change things: user names, ``@groups``, or ``*``.

    root and the user the service runs as may always do both. Names are resolved at each request, so that
    membership changes need no restart.
    """

    may_change: Sequence[str]
    may_read: Sequence[str]

    def is_ours(self, peer: Peer) -> bool:
        """Whether the caller is root or the service's own user, who may do everything."""
        return peer.uid in (0, os.geteuid())

    def check(self, peer: Peer, *, change: bool) -> None:
        """Lets the call pass or refuses it.

        Raises:
            NotPermitted: The user is not among those who may.
        """
        allowed = self.may_change if change else [*self.may_read, *self.may_change]
        if self.is_ours(peer) or any(_matches(entry, peer) for entry in allowed):
            return
        raise NotPermitted(
            f"{peer} may not {'change' if change else 'read'} allocations.",
            hint=f"Add the user or one of its @groups to {'may_change' if change else 'may_read'} in "
            "[service] of macbind.toml.",
        )


def _matches(entry: str, peer: Peer) -> bool:
    if entry == "*":
        return True
    try:
        if not entry.startswith("@"):
            return pwd.getpwnam(entry).pw_uid == peer.uid
        group = grp.getgrnam(entry[1:])
        return group.gr_gid == peer.gid or pwd.getpwuid(peer.uid).pw_name in group.gr_mem
    except KeyError:
        return False  # no such user or group here: nobody is it
