"""Who may use the API from another host, and what a request passes before the service sees it.

A token or a client certificate says who asks. Nothing of a body is read before that is known.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Hashable
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from macbind.core.errors import MacbindError, NotPermitted, TokenExpired, TokenInvalid
from macbind.core.page_token import May, Token
from macbind.http.access import METER, Peer, expected
from macbind.http.errors import Refused, answer
from macbind.http.patience import Patience
from macbind.http.tokens import UNAUTHORISED, Tokens
from macbind.service.meters import GONE, OK, RequestMeter

_STATE = "macbind.peer"
_READING = ("GET", "HEAD", "OPTIONS")
_NOBODY = -1
_LOCAL = re.compile(
    r"systemctl|journalctl|macbind (init|render|check|doctor|serve|token)|macbind\.toml|/etc/|/var/"
)
"""What a hint has in it that can be followed on the service's host only."""


@dataclass(frozen=True, slots=True)
class ApiPeer(Peer):
    """Who asks from another host.

    Attributes:
        name: The token's id, or the name in the certificate.
    """

    name: str = ""

    @override
    def __str__(self) -> str:
        return f"api:{self.name}"

    @property
    @override
    def share(self) -> Hashable:
        return str(self)


def api_peer(scope: Scope) -> Peer:
    """Who asks, as :class:`ApiAccess` has found out."""
    peer = scope[_STATE]
    assert isinstance(peer, ApiPeer)
    return peer


def from_afar(error: MacbindError) -> MacbindError:
    """An error for a caller on another host: the hint says where its commands are to be run."""
    if not _LOCAL.search(error.hint):
        return error
    shown = copy(error)
    shown.hint = f"On the service's host: {error.hint}"
    return shown


class ApiAccess:
    """Lets those in who may come in, and answers every error.

    Args:
        app: Answers.
        tokens: Who may come in.
        asked: Called with the number of each connection that asks; returns the name in its certificate.
        patience: Waits for what callers send.
        others: Counts requests that no operation counts.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        asked: Callable[[int], str | None],
        patience: Patience,
        others: RequestMeter,
    ) -> None:
        self._app, self._tokens, self._asked = app, tokens, asked
        self._patience, self._others = patience, others

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
        arrived = list[Message]()

        async def again() -> Message:
            return arrived.pop() if arrived else await receive()

        try:
            number = scope["client"][1]
            certificate = self._asked(number)
            given = [value for name, value in scope["headers"] if name == b"authorization"]
            header = given[0].decode("latin-1") if given else ""
            token = await self._token(header, certificate)
            if scope["method"] not in _READING and token.may is not May.WRITE:
                raise NotPermitted(
                    f"'{token.id}' may only read.",
                    hint="Make a token that may write with `macbind token add ID --write`.",
                    token=token.id,
                )
            scope[_STATE] = ApiPeer(0, _NOBODY, _NOBODY, number, token.id, pools=token.pools)
            async with self._patience.reading():
                arrived.append(await receive())

            async def guarded(message: Message) -> None:
                if message.get("more_body"):  # a stream does not outlive its token
                    await self._token(header, certificate)
                await send(message)

            await self._app(scope, again, guarded)
        except ClientDisconnect:
            return GONE
        except Exception as error:  # noqa: BLE001  # a defect, too, is answered
            return await self._refuse(expected(scope, error), scope, receive, send)
        return OK

    async def _refuse(self, error: MacbindError | Refused, scope: Scope, receive: Receive, send: Send) -> str:
        if isinstance(error, Refused):
            shown: MacbindError | Refused = Refused(from_afar(error.error), error.status, error.headers)
            code = error.error.code
        else:
            shown, code = from_afar(error), error.code
        response = answer(shown)
        if scope["method"] not in _READING or _STATE not in scope:
            response.headers["Connection"] = "close"  # nobody reads the rest, and no stranger keeps a place
        await response(scope, receive, send)
        return code

    async def _token(self, header: str, certificate: str | None) -> Token:
        """What the caller has: a token counts before a certificate.

        Raises:
            Refused: Nothing that counts (TokenInvalid, TokenExpired).
        """
        try:
            now = datetime.now(UTC)
            if header:
                return await asyncio.to_thread(self._tokens.of, header, now)
            if certificate is not None:
                return await asyncio.to_thread(self._tokens.of_certificate, certificate, now)
            raise TokenInvalid(
                "A token or a client certificate is needed.",
                hint="`macbind token add ID` makes a token; clients take it from $MACBIND_TOKEN.",
            )
        except (TokenInvalid, TokenExpired) as error:
            raise Refused(error, 401, UNAUTHORISED) from error
