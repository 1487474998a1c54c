"""Completion of what the service knows: pools, names, groups, addresses.

A completion must never hold up the shell: without an answer in time there is none, and nothing is said.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import typer

MOST_S = 0.3
"""So long a completion may wait for the service, in seconds."""
_PAGE, _PAGES = 1000, 5
"""Allocations of a question, and so many questions at most."""


class _Over(BaseException):
    """The time for a completion is over."""


@contextmanager
def _in_time() -> Iterator[None]:
    """Ends what takes too long, wherever it is."""

    def end(*_: object) -> None:
        raise _Over

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, MOST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _answer(socket: Path, path: str) -> Any:
    """The JSON of an answer; the connection is this question's own."""
    from macbind.client.connection import Connection  # and no more of the client: that would take too long

    connection = Connection(socket, MOST_S)
    try:
        connection.open()
        status, content = connection.exchange("GET", path, None)
        return json.loads(content) if status == 200 else {}
    finally:
        connection.close()


def _allocations(socket: Path, incomplete: str) -> Iterator[dict[str, Any]]:
    params: dict[str, Any] = {"limit": _PAGE} | ({"q": incomplete} if incomplete else {})
    for _ in range(_PAGES):
        page = _answer(socket, f"/v1/allocations?{urlencode(params)}")
        yield from page.get("allocations", ())
        if page.get("next") is None:
            return
        params["after"] = page["next"]


def _silently(
    find: Callable[[Path, str], Iterable[str | None]],
) -> Callable[[typer.Context, str], list[str]]:
    """What was found until the time was over, without what does not begin as it should."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        found: dict[str, None] = {}
        try:
            with _in_time():
                from macbind.client.connection import DEFAULT_SOCKET, SOCKET_VARIABLE

                socket = ctx.params.get("socket") or os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET
                for one in find(Path(socket), incomplete):
                    if one is not None and one.startswith(incomplete) and one.isprintable():
                        found[one] = None
        except (Exception, _Over):  # noqa: BLE001, S110  # a shell wants words or nothing
            pass
        return list(found)

    return complete


def _pools(socket: Path, _: str) -> Iterator[str]:
    yield from (one["pool"] for one in _answer(socket, "/v1/pools"))


def _names(socket: Path, incomplete: str, *, pinned: bool | None = None) -> Iterator[str]:
    yield from (one["name"] for one in _allocations(socket, incomplete) if pinned in (None, one["pinned"]))


def _groups(socket: Path, incomplete: str) -> Iterator[str | None]:
    yield from (one["group"] for one in _allocations(socket, incomplete))


def _anything(socket: Path, incomplete: str) -> Iterator[str]:
    """Names and addresses: what `show` and `why` take."""
    for one in _allocations(socket, incomplete):
        yield one["name"]
        if incomplete[:1].isdigit():
            yield one["address"]


pools = _silently(_pools)
"""Names of pools."""
names = _silently(_names)
"""Names of allocations."""
held = _silently(lambda socket, text: _names(socket, text, pinned=False))
"""Names of allocations that are no reservations."""
reserved = _silently(lambda socket, text: _names(socket, text, pinned=True))
"""Names of reservations."""
groups = _silently(_groups)
"""Groups of allocations."""
anything = _silently(_anything)
"""Names and addresses of allocations."""
