"""Completion of what the service knows: pools, names, groups, addresses.

A completion must never hold up the shell: without an answer in time there is none, and nothing is said.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import typer

if TYPE_CHECKING:
    from macbind.client.places import Place

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


def _answer(place: Place, path: str) -> Any:
    """The JSON of an answer; the connection is this question's own."""
    from macbind.client.connection import Connection  # and no more of the client: that would take too long

    connection = Connection(place, MOST_S)
    try:
        connection.open()
        status, content = connection.exchange("GET", path, None)
        return json.loads(content) if status == 200 else {}
    finally:
        connection.close()


def _allocations(place: Place, incomplete: str) -> Iterator[dict[str, Any]]:
    params: dict[str, Any] = {"limit": _PAGE} | ({"q": incomplete} if incomplete else {})
    for _ in range(_PAGES):
        page = _answer(place, f"/v1/allocations?{urlencode(params)}")
        yield from page.get("allocations", ())
        if page.get("next") is None:
            return
        params["after"] = page["next"]


def _silently(
    find: Callable[[Place, str], Iterable[str | None]],
) -> Callable[[typer.Context, str], list[str]]:
    """What was found until the time was over, without what does not begin as it should."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        found: dict[str, None] = {}
        try:
            with _in_time():
                from macbind.client.places import given_service, places_of

                for one in find(places_of(given_service(ctx.params.get("socket")))[0], incomplete):
                    if one is not None and one.startswith(incomplete) and one.isprintable():
                        found[one] = None
        except (Exception, _Over):  # noqa: BLE001, S110  # a shell wants words or nothing
            pass
        return list(found)

    return complete


def _pools(place: Place, _: str) -> Iterator[str]:
    yield from (one["pool"] for one in _answer(place, "/v1/pools"))


def _names(place: Place, incomplete: str, *, pinned: bool | None = None) -> Iterator[str]:
    yield from (one["name"] for one in _allocations(place, incomplete) if pinned in (None, one["pinned"]))


def _groups(place: Place, incomplete: str) -> Iterator[str | None]:
    yield from (one["group"] for one in _allocations(place, incomplete))


def _anything(place: Place, incomplete: str) -> Iterator[str]:
    """Names and addresses: what `show` and `why` take."""
    for one in _allocations(place, incomplete):
        yield one["name"]
        if incomplete[:1].isdigit():
            yield one["address"]


pools = _silently(_pools)
"""Names of pools."""
names = _silently(_names)
"""Names of allocations."""
held = _silently(lambda place, text: _names(place, text, pinned=False))
"""Names of allocations that are no reservations."""
reserved = _silently(lambda place, text: _names(place, text, pinned=True))
"""Names of reservations."""
groups = _silently(_groups)
"""Groups of allocations."""
anything = _silently(_anything)
"""Names and addresses of allocations."""
