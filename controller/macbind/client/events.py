"""Following the changes: one connection that is read as it comes, and opened again when it breaks."""

from __future__ import annotations

import http.client
import json
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import urlencode

from pydantic import TypeAdapter

from macbind.client import codec
from macbind.client.answers import Answers
from macbind.client.connection import Connection
from macbind.client.places import Place
from macbind.core.errors import InvariantViolation, PeerError, ServiceUnavailable
from macbind.core.event import Event

SILENCE_S = 45.0
"""A service that sends nothing for so long is gone: it sends something every 15 s."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_KINDS: dict[str, TypeAdapter[Any]] = {
    "change": codec.CHANGE,
    "gap": codec.GAP,
    "findings": codec.FINDINGS_NOW,
}


class _Broken(Exception):
    """The connection ended, or cannot be opened now."""

    def __init__(self, error: PeerError) -> None:
        super().__init__(error.message)
        self.error = error


def follow(
    places: Sequence[Place],
    answers: Answers,
    params: dict[str, Any],
    after: int | None,
    give_up_s: float | None,
) -> Iterator[Event]:
    """Events from a position on; goes on by itself when the connection breaks, at the next place if there is one.

    Args:
        places: Where the service is.
        answers: Reads what comes.
        params: The filters.
        after: The last change that is known; None begins now.
        give_up_s: How long the service may be out of reach; None for ever.

    Raises:
        MacbindError: What the service answered, or a PeerError when it was out of reach for too long.
    """
    stream = _Stream(places, answers, params, after)
    heard_at, pause_s = time.monotonic(), _FIRST_PAUSE_S
    while True:
        try:
            for event in stream.read():
                if event is not None:
                    yield event
                heard_at, pause_s = time.monotonic(), _FIRST_PAUSE_S
            if stream.has_ended:
                return
        except _Broken as broken:
            if give_up_s is not None and time.monotonic() - heard_at + pause_s > give_up_s:
                raise broken.error from broken
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


class _Stream:
    """Reads one connection after the other, and remembers the position."""

    def __init__(
        self, places: Sequence[Place], answers: Answers, params: dict[str, Any], after: int | None
    ) -> None:
        self._places, self._answers, self._params, self._after = deque(places), answers, params, after
        self.has_ended = False
        """Whether the service has said that this was all."""

    def read(self) -> Iterator[Event | None]:
        """The events of one connection; None for a sign of life.

        Raises:
            _Broken: The connection ended, or cannot be opened now.
            MacbindError: What the service answered.
        """
        params = {**self._params} | ({} if self._after is None else {"after": self._after})
        url = f"/v1/events?{urlencode({key: _text(value) for key, value in params.items()}, doseq=True)}"
        place = self._places[0]
        self._places.rotate(-1)
        with closing(Connection(place, SILENCE_S)) as connection:
            try:
                connection.open()
                yield from self._events(connection.lines(url))
                if not self.has_ended:
                    raise ConnectionAbortedError("the connection ended")
            except PeerError as error:
                raise _Broken(error) from error
            except (OSError, http.client.HTTPException) as error:
                why = str(error) or type(error).__name__
                gone = ServiceUnavailable(f"The macbind service at {place} did not go on: {why}.")
                raise _Broken(gone) from error

    def _events(self, lines: Iterator[bytes]) -> Iterator[Event | None]:
        block: dict[str, str] = {}
        for line in lines:
            if line:
                name, _, value = line.decode().partition(": ")
                block[name] = value
                continue
            found = self._event(block)
            self.has_ended = block.get("event") == "end"
            if "id" in block:
                self._after = int(block["id"])
            yield found
            block = {}

    def _event(self, block: dict[str, str]) -> Event | None:
        adapter = _KINDS.get(block.get("event", ""))
        if adapter is None or "data" not in block:
            return None
        try:
            event: Event = self._answers.read(adapter, json.loads(block["data"]))
        except (ValueError, ServiceUnavailable) as error:
            raise InvariantViolation(
                "An event is not what this client understands.",
                hint="Use a client of the same version as the service.",
            ) from error
        return event


def _text(value: object) -> object:
    if isinstance(value, list):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
