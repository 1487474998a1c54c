"""The tokens that callers have: who each is, and when it was last used."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from macbind.config.token_file import read_tokens, read_used, write_used
from macbind.core.errors import ConfigError, TokenExpired, TokenInvalid
from macbind.core.page_token import BY_CERTIFICATE, Token

_log = structlog.get_logger()

USED_EVERY = timedelta(minutes=1)
"""The use of a token is written down once in so long."""
UNAUTHORISED = {"WWW-Authenticate": "Bearer"}
"""A header of the answer to whoever has none."""
_SCHEME = "bearer "


class Tokens:
    """The tokens of a file, read again when it changes; notes when each was used. Any thread may ask.

    Args:
        path: The file.

    Raises:
        ConfigError: The file cannot be read, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._stamp = self._stamped()
        self._tokens = read_tokens(path)
        self._used = read_used(path)
        self._is_logged = False

    def of(self, header: str, now: datetime) -> Token:
        """The token of an Authorization header.

        Raises:
            TokenInvalid: There is no such token.
            TokenExpired: Its time is over.
        """
        name, _, secret = header[len(_SCHEME) :].strip().partition(".")
        token = self._current().get(name)
        if not header.lower().startswith(_SCHEME) or token is None or not token.fits(secret):
            raise TokenInvalid(
                "There is no such token.",
                hint="Copy the whole token, as `macbind token add` has printed it; or make another one.",
            )
        return self._valid(token, now)

    def of_certificate(self, name: str, now: datetime) -> Token:
        """What stands in the file for whoever has a client certificate of this name.

        Raises:
            TokenInvalid: Nothing does.
            TokenExpired: Its time is over.
        """
        token = self._current().get(name)
        if token is None or token.hash != BY_CERTIFICATE:
            shown = name[:64] if name.isprintable() else ascii(name[:64])
            raise TokenInvalid(
                f"The client certificate of '{shown}' is not known here.",
                hint="`macbind token add NAME --certificate` lets its common name in.",
            )
        return self._valid(token, now)

    def _valid(self, token: Token, now: datetime) -> Token:
        if token.is_over(now):
            raise TokenExpired(
                f"The token '{token.id}' expired at {token.expires_at:%Y-%m-%d %H:%M:%S} UTC.",
                hint="Make another one with `macbind token add`.",
                token=token.id,
            )
        self._note(token.id, now)
        return token

    def _stamped(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError:
            return 0, 0, 0
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _current(self) -> dict[str, Token]:
        stamp = self._stamped()
        with self._lock:
            if stamp != self._stamp:
                self._stamp = stamp
                try:
                    self._tokens = read_tokens(self._path)
                except ConfigError as error:
                    _log.error("tokens", problem=str(error))
                    self._tokens = {}  # nobody may what nobody can read
            return self._tokens

    def _note(self, name: str, now: datetime) -> None:
        with self._lock:
            last = self._used.get(name)
            if last is not None and now - last < USED_EVERY:
                return
            self._used[name] = now
            used = {key: at for key, at in self._used.items() if key in self._tokens}
            try:
                write_used(self._path, used)
            except ConfigError as error:
                if not self._is_logged:
                    _log.warning("tokens", problem=error.message)
                self._is_logged = True
