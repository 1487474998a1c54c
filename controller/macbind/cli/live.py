"""A list that stays right: it is shown again whenever something changes."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from macbind.cli.formats import Form
from macbind.cli.output import has_colour, say
from macbind.cli.show import Show
from macbind.core.errors import PeerError

if TYPE_CHECKING:
    from macbind.client.client import Client

_CALM_S = 0.2
"""Changes that come together are shown together."""
_UNSETTLED_S, _SETTLED_S = 1.0, 30.0
"""A confirmation is no event: while one is waited for, it is looked again so soon; else so late."""
_OUT_OF_REACH_S = 0.5


class _Stirred:
    """Says that something has changed: a thread reads the events, over every restart of the service."""

    def __init__(self, client: Client) -> None:
        self._client, self._flag = client, threading.Event()
        self._failure: BaseException | None = None
        threading.Thread(target=self._read, name="events", daemon=True).start()

    def _read(self) -> None:
        while self._failure is None:
            try:
                for _ in self._client.events(give_up_s=0.0):
                    self._flag.set()
            except PeerError:  # looked at by whoever waits; the next connection begins with an event
                self._flag.set()
                time.sleep(_OUT_OF_REACH_S)
            except Exception as error:  # noqa: BLE001  # told where it can be handled
                self._failure = error
                self._flag.set()

    def wait(self, most_s: float) -> None:
        """Waits until something has changed, or for so long.

        Raises:
            MacbindError: The service refuses to say what changes.
        """
        self._flag.wait(most_s)
        self._flag.clear()
        if self._failure is not None:
            raise self._failure


class _Screen:
    """A terminal: each look takes the place of the one before."""

    def __init__(self, show: Show) -> None:
        self._show = show

    def draw(self, rows: Sequence[Any], empty: str, problem: str) -> None:
        """Shows rows; ``problem`` is why they may be old."""
        size = _size()
        lines = list(self._show.lines(rows, colour=False)) if rows else [empty]
        room = max(1, size.lines - 2 - bool(problem))
        left = len(lines) - room
        if left > 0:
            lines = [*lines[: room - 1], f"… {left + 1} more"]
        shown = [one[: size.columns] for one in lines]
        if has_colour() and self._show.headers:
            shown[0] = typer.style(shown[0], bold=True)
        head = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}  (Ctrl-C ends)"
        tail = [f"! {problem}"[: size.columns]] if problem else []
        sys.stdout.write("\x1b[H\x1b[J" + "\n".join([head, *shown, *tail]) + "\n")
        sys.stdout.flush()


def _size() -> os.terminal_size:
    """How large the terminal is now; COLUMNS and LINES of a shell are what it was."""
    try:
        return os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return shutil.get_terminal_size()


class _Paper:
    """A file or a pipe: a look that differs stands below the one before."""

    def __init__(self, show: Show) -> None:
        self._show, self._problem = show, ""
        self._last: list[str] | None = None

    def draw(self, rows: Sequence[Any], empty: str, problem: str) -> None:
        """Appends rows; ``problem`` is why they may be old."""
        if problem and problem != self._problem:
            say(f"macbind: {problem}", err=True)
        self._problem = problem
        lines = list(self._lines(rows, empty))
        if lines == self._last:
            return
        if self._last is not None and self._mark is not None:
            typer.echo(self._mark)
        for line in lines:
            typer.echo(line)
        self._last = lines

    @property
    def _mark(self) -> str | None:
        """What stands between two looks."""
        return {Form.TEXT: "", Form.WIDE: "", Form.YAML: "---"}.get(self._show.form)

    def _lines(self, rows: Sequence[Any], empty: str) -> Iterator[str]:
        if rows or self._show.form not in (Form.TEXT, Form.WIDE):
            return self._show.lines(rows, colour=False)
        return iter([empty])


def keep_showing(
    client: Client, show: Show, look: Callable[[], list[Any]], is_settled: Callable[[Sequence[Any]], bool]
) -> NoReturn:
    """Shows rows again and again, until Ctrl-C; goes on by itself when the service was away.

    Args:
        client: The service.
        show: How they are shown.
        look: Asks for the rows.
        is_settled: Whether nothing but an event can change them.

    Raises:
        PeerError: The service is not there at the first look.
        KeyboardInterrupt: The end.
    """
    is_screen = sys.stdout.isatty() and show.form in (Form.TEXT, Form.WIDE)
    place = _Screen(show) if is_screen else _Paper(show)
    rows, problem = show.pick(look()), ""
    stirred = _Stirred(client)
    while True:
        place.draw(rows, show.table.empty, problem)
        time.sleep(_CALM_S)
        pause_s = _OUT_OF_REACH_S if problem else _SETTLED_S if is_settled(rows) else _UNSETTLED_S
        stirred.wait(pause_s)
        try:
            rows, problem = show.pick(look()), ""
        except PeerError as error:
            problem = error.message
