"""Who may see the page, and what a request passes before the service sees it: name, method, token."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from macbind.core.errors import InvalidRequest, NotPermitted, TokenExpired, TokenInvalid
from macbind.core.page_token import May
from macbind.http.access import Peer, expected
from macbind.http.errors import Refused, answer
from macbind.http.tokens import UNAUTHORISED, Tokens

_STATE = "macbind.peer"
SECURITY = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    b"img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}
"""Headers of every answer."""


@dataclass(frozen=True, slots=True)
class PagePeer(Peer):
    """Who asks the page: whoever has a token, or anybody on this machine.

    Attributes:
        token: The token's id; empty without one.
        may: What it may.
    """

    token: str = ""
    may: May = May.READ

    @override
    def __str__(self) -> str:
        return f"page:{self.token}" if self.token else "page"

    @property
    @override
    def share(self) -> Hashable:
        return str(self)


def page_peer(scope: Scope) -> Peer:
    """Who asks, as :class:`PageAccess` has found out."""
    peer = scope[_STATE]
    assert isinstance(peer, PagePeer)
    return peer


def names_here(listen: str, more: Collection[str]) -> Callable[[str], bool]:
    """Tells whether a Host header names this machine.

    A page of somebody else whose name leads here (DNS rebinding) has its own name in the header. An IP address is
    nobody's name.

    Args:
        listen: Where the page listens; its address is a name, too.
        more: More names.
    """
    known = {"localhost", socket.gethostname().lower(), *(one.lower().rstrip(".") for one in more), listen}

    def is_ours(host: str) -> bool:
        name = host.strip().lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        try:
            ip_address(name)
        except ValueError:
            return name.rstrip(".") in known
        return True

    return is_ours


class PageAccess:
    """Lets those in who may come in, answers every error, and says to browsers what they must not do.

    Args:
        app: Answers.
        is_ours: Whether a Host header names this machine.
        tokens: All tokens; None if there are none.
        open_to_read: Tells whether nobody needs a token to read; asked each time.
        is_public: Whether a path has no data in it.
        asked: Called with the number of each connection that asks.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        is_ours: Callable[[str], bool],
        tokens: Tokens | None,
        open_to_read: Callable[[], bool],
        is_public: Callable[[str], bool],
        asked: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._app, self._is_ours, self._tokens = app, is_ours, tokens
        self._open, self._is_public, self._asked = open_to_read, is_public, asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        header = ""

        async def guarded(message: Message) -> None:
            if header and self._tokens is not None and message.get("more_body"):
                # A stream does not outlive its token.
                await asyncio.to_thread(self._tokens.of, header, datetime.now(UTC))
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message.get("headers", ())}
                more = (
                    dict(SECURITY)
                    if b"cache-control" in given
                    else SECURITY | {b"cache-control": b"no-store"}
                )
                message["headers"] = [*message.get("headers", ()), *more.items()]
            await send(message)

        try:
            _, number = scope.get("client") or ("", 0)
            self._asked(number)
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            self._check_name(headers.get(b"host", ""))
            if not self._is_public(scope["path"]):
                header = headers.get(b"authorization", "")
                scope[_STATE] = await self._peer(scope, header, number)
            await self._app(scope, receive, guarded)
        except ClientDisconnect:
            return
        except Exception as error:  # noqa: BLE001  # a defect, too, is answered
            response = answer(expected(scope, error))
            if scope["method"] not in ("GET", "HEAD"):
                response.headers["Connection"] = "close"  # nobody reads the rest of the body
            await response(scope, receive, guarded)

    def _check_name(self, host: str) -> None:
        if self._is_ours(host):
            return
        name = host[:100] if host.isprintable() else ascii(host[:100])
        raise Refused(
            InvalidRequest(
                f"This machine is not known as {name or 'nothing'}.",
                hint="Use its IP address, or add the name to `names` in [page] of macbind.toml.",
            ),
            421,
        )

    async def _peer(self, scope: Scope, header: str, number: int) -> PagePeer:
        """Who asks.

        Raises:
            Refused: Nobody who may ask this (TokenInvalid, TokenExpired).
            NotPermitted: The token may only read.
        """
        reads = scope["method"] in ("GET", "HEAD")
        if not header:
            if reads and self._open():
                return PagePeer(0, 0, 0, number)
            raise Refused(
                TokenInvalid(
                    f"A token is needed to {'see' if reads else 'change'} something here.",
                    hint="`macbind token add ID` makes one"
                    + ("." if self._tokens else "; name a file for `tokens` in [page] first."),
                ),
                401,
                UNAUTHORISED,
            )
        if self._tokens is None:
            error = TokenInvalid(
                "There are no tokens here.", hint="Name a file for `tokens` in [page] of macbind.toml."
            )
            raise Refused(error, 401, UNAUTHORISED)
        try:
            token = await asyncio.to_thread(self._tokens.of, header, datetime.now(UTC))
        except (TokenInvalid, TokenExpired) as error:
            raise Refused(error, 401, UNAUTHORISED) from error
        if not reads and token.may is not May.WRITE:
            raise NotPermitted(
                f"The token '{token.id}' may only read.",
                hint="Make one that may write with `macbind token add ID --write`.",
                token=token.id,
            )
        return PagePeer(0, 0, 0, number, token.id, token.may, pools=token.pools)
