"""Access control: who is calling, what that user may do, and what a request passes before the service sees it."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import socket
import struct
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from macbind.core.errors import InvariantViolation, MacbindError, NotPermitted, ServiceUnavailable
from macbind.http.errors import Refused, answer
from macbind.http.patience import Patience
from macbind.service.meters import GONE, OK, RequestMeter

_log = structlog.get_logger()
_CREDENTIALS = struct.Struct("iII")
METER = "macbind.meter"
"""Where the scope of a request has what counts it."""
_READING = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Peer:
    """The calling process.

    Attributes:
        pid: Its process id when it connected.
        uid: Its user.
        gid: Its primary group.
        connection: The number of its connection.
        pools: The pools that it may see and change; None for all.
    """

    pid: int
    uid: int
    gid: int
    connection: int = field(default=0, compare=False)
    pools: frozenset[str] | None = field(default=None, kw_only=True)

    @property
    def share(self) -> Hashable:
        """Whose turn a question of it takes: its user's."""
        return self.uid

    @property
    def client(self) -> tuple[str, int]:
        """Itself as a ``scope["client"]``; :func:`peer_from` reads it."""
        return f"{self.uid}:{self.gid}:{self.connection}", self.pid

    def __str__(self) -> str:
        try:
            name = _user_name(self.uid)
        except KeyError:
            name = "?"
        return f"{name} (uid {self.uid}, pid {self.pid})"

    @classmethod
    def of(cls, connection: socket.socket, number: int = 0) -> Peer:
        """Asks the kernel (unix(7), SO_PEERCRED); it cannot be forged."""
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, gid = _CREDENTIALS.unpack(raw)
        return cls(pid, uid, gid, number)


@lru_cache(maxsize=1024)
def _user_name(uid: int) -> str:
    return pwd.getpwuid(uid).pw_name


NO_ACCOUNT = -1
"""Stands for every user id without an account."""


def has_account(uid: int) -> bool:
    """Whether a user id belongs to an account here."""
    try:
        _user_name(uid)
    except KeyError:
        return False
    return True


def peer_from(client: tuple[str, int] | None) -> Peer:
    """Reads what the connection put into the request's scope."""
    if client is None or ":" not in client[0]:
        raise ServiceUnavailable(
            "The caller's credentials are unknown.", hint="Connect over the Unix socket."
        )
    uid, gid, connection = client[0].split(":")
    return Peer(client[1], int(uid), int(gid), int(connection))


@dataclass(slots=True)
class Access:
    """Who may read and who may change things: user names, ``@groups``, or ``*``. A reload exchanges both.

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


class AccessMiddleware:
    """Lets those in who may come in, and answers every error.

    A request that reads needs the permission to read, any other one the permission to change, whatever its path.
    """

    def __init__(self, app: ASGIApp, access: Access, patience: Patience, others: RequestMeter) -> None:
        self._app, self._access, self._patience, self._others = app, access, patience, others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        code, began = GONE, time.monotonic()
        try:
            code = await self._answered(scope, receive, send)
        finally:
            scope.get(METER, self._others)(code, time.monotonic() - began)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> str:
        """Answers one request, and returns the code of its answer."""
        arrived, more = list[Message](), True

        async def again() -> Message:
            nonlocal more
            message = arrived.pop() if arrived else await receive()
            more = bool(message.get("more_body"))
            return message

        try:
            # Before anything that takes time: a request that has arrived is carried out, even if its caller is gone.
            async with self._patience.reading():
                arrived.append(await receive())
            more = bool(arrived[0].get("more_body"))
            peer = peer_from(scope.get("client"))
            if not self._access.is_ours(peer):  # else users and groups are looked up, which may take its time
                change = scope["method"] not in _READING
                await asyncio.to_thread(self._access.check, peer, change=change)
            await self._app(scope, again, send)
        except ClientDisconnect:
            return GONE
        except Exception as error:  # noqa: BLE001  # a defect, too, is answered
            refused = expected(scope, error)
            response = answer(refused)
            if more:
                response.headers["Connection"] = "close"  # nobody reads the rest of the body
            await response(scope, receive, send)
            return refused.error.code if isinstance(refused, Refused) else refused.code
        return OK


def expected(scope: Scope, error: Exception) -> MacbindError | Refused:
    """The error for the caller; a defect of ours is logged."""
    if isinstance(error, Refused) or (
        isinstance(error, MacbindError) and not isinstance(error, InvariantViolation)
    ):
        return error
    _log.critical("defect", path=scope["path"], exc_info=error)
    if isinstance(error, InvariantViolation):
        return error
    return InvariantViolation(
        f"macbind has met a defect of its own: {type(error).__name__} in {scope['method']} {scope['path']}.",
        hint="The service's log has more.",
    )
